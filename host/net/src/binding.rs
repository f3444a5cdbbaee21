//! What ties a proof of identity to one connection.

use sha2::{Digest, Sha256};

/// The keys with which both ends have encrypted a connection, as this end knows them from its handshake.
///
/// Both ends know the same two keys, in opposite places. A peer in the middle relays between two
/// connections and has its own key in each, so a signature over the pair of keys is valid on only
/// one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// The public keys of both endpoints.
    Iroh {
        /// This end's.
        local: [u8; 32],
        /// The other end's.
        remote: [u8; 32],
    },
    /// The SHA-256 hashes of both DTLS certificates.
    Webrtc {
        /// This end's.
        local: [u8; 32],
        /// The other end's.
        remote: [u8; 32],
    },
}

/// The hash of a certificate.
pub(crate) fn hash(certificate: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// The hash of the certificate in a session description. `None` if the description lists several,
/// because it is then unknown which one the handshake accepted.
pub(crate) fn certificate(description: &str) -> Option<[u8; 32]> {
    let named = description.lines().filter_map(|line| line.strip_prefix("a=fingerprint:"));
    let mut named = named.map(sha256);
    let first = named.next()??;
    named.all(|other| other == Some(first)).then_some(first)
}

fn sha256(fingerprint: &str) -> Option<[u8; 32]> {
    let (algorithm, hash) = fingerprint.trim_end().split_once(' ')?;
    let mut digits = hash.split(':');
    let mut bytes = [0; 32];
    for byte in &mut bytes {
        *byte = u8::from_str_radix(digits.next()?, 16).ok()?;
    }
    (algorithm.eq_ignore_ascii_case("sha-256") && digits.next().is_none()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_names_one_certificate_or_none() {
        let (ones, twos) = ("11:".repeat(31) + "1f", "22:".repeat(31) + "22");
        let line = |hash: &str| format!("a=fingerprint:sha-256 {hash}\r\n");
        let expected = {
            let mut bytes = [0x11; 32];
            bytes[31] = 0x1f;
            Some(bytes)
        };
        assert_eq!(certificate(&format!("v=0\r\n{}", line(&ones))), expected);
        assert_eq!(certificate(&(line(&ones) + &line(&ones.to_uppercase()))), expected);
        assert_eq!(certificate(&(line(&ones) + &line(&twos))), None);
        for text in ["", "a=fingerprint:sha-256 11", "a=fingerprint:sha-1 11:22"] {
            assert_eq!(certificate(text), None);
        }
        assert_eq!(certificate(&line(&(ones + ":11"))), None);
    }
}
