//! What a WebRTC session description says of its sender's certificate.

/// The SHA-256 hash of the DTLS certificate that a session description names. `None` if it names several:
/// then it is not known which of them the handshake has accepted.
pub fn certificate_hash(description: &str) -> Option<[u8; 32]> {
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
        assert_eq!(certificate_hash(&format!("v=0\r\n{}", line(&ones))), expected);
        assert_eq!(certificate_hash(&(line(&ones) + &line(&ones.to_uppercase()))), expected);
        assert_eq!(certificate_hash(&(line(&ones) + &line(&twos))), None);
        for text in ["", "a=fingerprint:sha-256 11", "a=fingerprint:sha-1 11:22"] {
            assert_eq!(certificate_hash(text), None);
        }
        assert_eq!(certificate_hash(&line(&(ones + ":11"))), None);
    }
}
