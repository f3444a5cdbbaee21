//! How two peers prove who they are, bound to their connection. Three messages, before anything else
//! is said on it:
//!
//! ```text
//! client                                            worker
//! hello (device, nonce) ──────────────────────────▶
//!         ◀──────────── hello (device, nonce, name, certificate, removals, signature, mac)
//! proof (certificate, removals, signature, mac) ──▶
//! ```
//!
//! Both sides sign the hash of everything that they believe about the conversation: the room, the offer,
//! both ends of the encrypted connection as each sees them, both devices and both nonces. A signaling
//! server that puts itself in the middle has connections of its own to each side, so that the two
//! disagree, and neither accepts. A proof that was seen once fits no other conversation.
//!
//! The client accepts a worker that is certified by the room's authority; of one that is not certified but
//! knows the room's secret it learns so ([`Certification`]), and decides. The worker accepts a client that
//! knows the secret, or is certified, unless it has been removed from the room. Each side tells the other
//! which devices it knows to be removed.

mod belief;
mod client;
mod fingerprint;
mod messages;
mod scene;
#[cfg(test)]
mod tests;
mod worker;

pub use belief::Disbelief;
pub use client::ClientHandshake;
pub use fingerprint::certificate_hash;
pub use messages::{
    ClientHello, ClientMessage, ClientProof, Fixed, Seal, WorkerHello, WorkerMessage,
};
pub use scene::{Binding, ConnectionKind, Scene, Transcript};
pub use worker::WorkerHandshake;

use crate::certificate::{Certificate, CertificateError, MemberRole, Subject, printable_name};
use crate::credential::PeerPart;
use crate::device::{DeviceId, DeviceKey};
use crate::removal::{RemovalNote, Removals};
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
    removals: Removals,
}

impl Identity {
    /// A device with what the room's peers share, and with its certificate if it has one.
    pub fn new(device: DeviceKey, peer: PeerPart, certificate: Option<Certificate>) -> Self {
        let (name, removals) = (Printable::default(), Removals::default());
        Self { device, peer, certificate, name, removals }
    }

    /// A worker of this name, for people. One that has the room's authority certifies itself.
    pub fn worker(device: DeviceKey, peer: PeerPart, name: &str, now_s: u64) -> Self {
        let subject = Subject::new(device.id(), MemberRole::Worker, name, now_s);
        let certificate = peer.authority_key().map(|key| Certificate::issue(key, subject));
        let (name, removals) = (printable_name(name), Removals::default());
        Self { device, peer, certificate, name, removals }
    }

    /// The same with what it knows of devices that have been removed from the room.
    #[must_use]
    pub fn knowing(self, removals: Removals) -> Self {
        Self { removals, ..self }
    }

    /// Its device.
    pub fn device(&self) -> DeviceId {
        self.device.id()
    }

    /// What it shows, if it is certified.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }
}

/// Whom a worker lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admits {
    /// Members of the room.
    Members,
    /// Holders of a job's secret, even if they are not members. The caller checks the secret.
    JobHolders,
}

/// What is proven of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The device.
    pub device: DeviceId,
    /// What it calls itself; what the authority calls it, if it is certified.
    pub name: Printable,
    /// What the room's authority says of it.
    pub certification: Certification,
    /// What it has shown, if it is certified.
    pub certificate: Option<Certificate>,
    /// The removals that this side did not know yet.
    pub news: Vec<RemovalNote>,
    /// What both sides have agreed on: proofs in this conversation are bound to it.
    pub transcript: Transcript,
}

/// Whether a room's authority certifies a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certification {
    /// It is certified for its role.
    Certified,
    /// Nothing: the device knows the room's secret, and no more.
    Uncertified,
    /// It is no member, and may return to a job of its own.
    JobHolder,
}

/// Why the other side is not believed. Each text continues a sentence about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// What it signed is not this conversation.
    #[error(
        "signed a different connection: the signaling server, or somebody on the way, intercepts this connection \
         or replays an earlier proof"
    )]
    OtherConnection,
    /// It does not know the room's secret.
    #[error(
        "does not know this room's secret, so it is no member, or has another token of the room"
    )]
    NoMember,
    /// It knows the secret of an earlier token.
    #[error(
        "has an old token of this room: it changed when a member was removed; get the new one from a worker of the room"
    )]
    OldToken,
    /// It has been removed from the room.
    #[error("was removed from this room")]
    Removed,
    /// Its certificate does not count.
    #[error("has no valid certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// It sends a malformed message.
    #[error("sent a malformed proof")]
    Malformed,
}
