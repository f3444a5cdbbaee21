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
