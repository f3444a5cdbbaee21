//! How two peers prove who they are, bound to their connection. Three messages, before anything else
//! is said on it:
//!
//! ```text
//! client                                            worker
//! hello (device, nonce) ──────────────────────────▶
//!         ◀──────────── hello (device, nonce, name, certificate, signature, mac)
//! proof (certificate, signature, mac) ────────────▶
//! ```
//!
//! Both sides sign the hash of everything that they believe about the conversation: the room, the offer,
//! both ends of the encrypted connection as each sees them, both devices and both nonces. A signaling
//! server that puts itself in the middle has connections of its own to each side, so that the two
//! disagree, and neither accepts. A proof that was seen once fits no other conversation.
//!
//! The client accepts a worker that knows the room's secret and is certified by the room's authority; of
//! one that is not certified it learns so ([`Standing`]), and decides. The worker accepts a client that
//! knows the secret, or is certified.

mod client;
mod messages;
mod scene;
#[cfg(test)]
mod tests;
mod worker;

pub use client::ClientHandshake;
pub use messages::{
    ClientHello, ClientMessage, ClientProof, Fixed, Seal, WorkerHello, WorkerMessage,
};
pub use scene::{Binding, Scene, Transcript, Transport};
pub use worker::WorkerHandshake;

use crate::certificate::{Certificate, CertificateError, MemberRole, Subject, printable_name};
use crate::credential::PeerPart;
use crate::device::{DeviceId, DeviceKey};
use sleap_rtc_protocol::text::Printable;

/// The length of a nonce, in bytes.
pub const NONCE_BYTES: usize = 32;

/// What each side's signature is for.
const CLIENT_PURPOSE: &[u8] = b"sleap-rtc client 1";
const WORKER_PURPOSE: &[u8] = b"sleap-rtc worker 1";

/// Who one side is, and what it knows of the room.
#[derive(Debug, Clone)]
pub struct Identity {
    device: DeviceKey,
    peer: PeerPart,
    certificate: Option<Certificate>,
    name: Printable,
}

impl Identity {
    /// A device with what the room's peers share, and with its certificate if it has one.
    pub fn new(device: DeviceKey, peer: PeerPart, certificate: Option<Certificate>) -> Self {
        Self { device, peer, certificate, name: Printable::default() }
    }

    /// A worker of this name, for people. One that has the room's authority certifies itself.
    pub fn worker(device: DeviceKey, peer: PeerPart, name: &str, now_s: u64) -> Self {
        let subject = Subject::new(device.id(), MemberRole::Worker, name, now_s);
        let certificate = peer.authority_key().map(|key| Certificate::issue(key, subject));
        Self { device, peer, certificate, name: printable_name(name) }
    }

    /// Its device.
    pub fn device(&self) -> DeviceId {
        self.device.id()
    }

    /// Whether it can show a certificate.
    pub fn is_certified(&self) -> bool {
        self.certificate.is_some()
    }
}

/// What is proven of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The device.
    pub device: DeviceId,
    /// What it calls itself; what the authority calls it, if it is certified.
    pub name: Printable,
    /// What the room's authority says of it.
    pub standing: Standing,
    /// What both sides have agreed on: proofs in this conversation are bound to it.
    pub transcript: Transcript,
}

/// Whether a room's authority certifies a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is certified for its role.
    Certified,
    /// Nothing: the device knows the room's secret, and no more.
    Uncertified,
}

/// Why the other side is not believed. Each text continues a sentence about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// What it signed is not this conversation.
    #[error(
        "signed another connection than this one: the signaling server, or somebody between, has put \
         itself in the middle, or repeats an earlier proof"
    )]
    OtherConnection,
    /// It does not know the room's secret.
    #[error(
        "does not know this room's secret, so it is no member, or has another token of the room"
    )]
    NoMember,
    /// Its certificate does not count.
    #[error("cannot show what it is: {0}")]
    Certificate(#[from] CertificateError),
    /// It sends a malformed message.
    #[error("sent a malformed proof")]
    Malformed,
}
