//! What both sides must agree on, as bytes.

use crate::device::DeviceId;
use crate::encoding;
use crate::handshake::NONCE_BYTES;
use sleap_rtc_protocol::ids::{PeerId, RoomId};

const PURPOSE: &[u8] = b"sleap-rtc conversation 1";

/// What carries a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    /// QUIC, by iroh.
    Iroh,
    /// A WebRTC data channel.
    Webrtc,
}

impl ConnectionKind {
    fn word(self) -> &'static [u8] {
        match self {
            Self::Iroh => b"iroh",
            Self::Webrtc => b"webrtc",
        }
    }
}

/// The ends of the encrypted connection, as one side sees them: its own by its own key, the other one
/// by what the encryption has verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// What carries it.
    pub transport: ConnectionKind,
    /// The client's end: the public key of its iroh endpoint, or the SHA-256 of its DTLS certificate.
    pub client: [u8; 32],
    /// The worker's end.
    pub worker: [u8; 32],
}

/// What one side knows of a conversation before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    room: RoomId,
    attempt: u64,
    client: PeerId,
    worker: PeerId,
    binding: Binding,
}

impl Scene {
    /// The conversation of the offer number `attempt` from `client` to `worker`.
    pub fn new(
        room: &RoomId,
        attempt: u64,
        client: &PeerId,
        worker: &PeerId,
        binding: Binding,
    ) -> Self {
        Self {
            room: room.clone(),
            attempt,
            client: client.clone(),
            worker: worker.clone(),
            binding,
        }
    }

    pub(crate) fn transcript(&self, client: &Side, worker: &Side) -> Transcript {
        Transcript(encoding::hash(&[
            PURPOSE,
            self.room.as_str().as_bytes(),
            &self.attempt.to_be_bytes(),
            self.client.as_str().as_bytes(),
            self.worker.as_str().as_bytes(),
            self.binding.transport.word(),
            &self.binding.client,
            &self.binding.worker,
            client.device.as_bytes(),
            worker.device.as_bytes(),
            &client.nonce,
            &worker.nonce,
        ]))
    }
}

/// What one side adds to the conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side {
    pub(crate) device: DeviceId,
    pub(crate) nonce: [u8; NONCE_BYTES],
}

/// The hash of everything that both sides agree on. No two conversations have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcript([u8; 32]);

impl Transcript {
    /// The hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}
