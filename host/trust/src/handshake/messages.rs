//! The messages of the handshake, as JSON. Binary values are URL-safe base64 without padding.

use crate::certificate::Certificate;
use crate::credential::RoomSecret;
use crate::device::{DeviceId, DeviceKey, SIGNATURE_BYTES};
use crate::encoding;
use crate::handshake::{NONCE_BYTES, ProofError, Transcript};
use crate::removal::RemovalNote;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::Sha256;

const MAC_BYTES: usize = 32;

/// What a client sends.
#[allow(clippy::large_enum_variant, reason = "each conversation has one of each")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "kebab-case")]
pub enum ClientMessage {
    /// Begins.
    Hello(ClientHello),
    /// Ends.
    Proof(ClientProof),
}

/// What a worker sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "kebab-case")]
pub enum WorkerMessage {
    /// Answers.
    Hello(WorkerHello),
}

impl ClientMessage {
    /// As text.
    pub fn encode(&self) -> String {
        json(self)
    }

    /// Reads a text. `None` if it is something else than a message of the handshake.
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl WorkerMessage {
    /// As text.
    pub fn encode(&self) -> String {
        json(self)
    }

    /// Reads a text. `None` if it is something else than a message of the handshake.
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

fn json(message: &impl Serialize) -> String {
    // Texts and bytes alone: nothing that JSON does not have.
    serde_json::to_string(message).unwrap_or_default()
}

/// What the client begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHello {
    /// The client's device.
    pub device: DeviceId,
    /// Fresh random bytes.
    pub nonce: Fixed<NONCE_BYTES>,
}

/// The worker's answer, which proves who the worker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerHello {
    /// The worker's device.
    pub device: DeviceId,
    /// Fresh random bytes.
    pub nonce: Fixed<NONCE_BYTES>,
    /// What the worker calls itself.
    pub name: String,
    /// What the room's authority says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Which devices have been removed from the room, as far as the worker knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removals: Vec<RemovalNote>,
    /// What proves all of it.
    #[serde(flatten)]
    pub seal: Seal,
}

/// Proves who the client is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientProof {
    /// What the room's authority says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Which devices have been removed from the room, beyond those that the worker has named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removals: Vec<RemovalNote>,
    /// What proves it.
    #[serde(flatten)]
    pub seal: Seal,
}

/// A side's signature over the transcript and its name, and the same by the room's secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// By the device's key.
    pub signature: Fixed<SIGNATURE_BYTES>,
    /// By the room's secret: HMAC-SHA-256. Zeros from a member that enters by its certificate.
    pub mac: Fixed<MAC_BYTES>,
}

impl Seal {
    pub(crate) fn new(
        purpose: &[u8],
        device: &DeviceKey,
        secret: Option<&RoomSecret>,
        transcript: &Transcript,
        name: &str,
    ) -> Self {
        let message = message(purpose, transcript, name);
        let mac = |secret| keyed(secret, &message).finalize().into_bytes().into();
        Self {
            signature: Fixed(device.sign(&message)),
            mac: Fixed(secret.map_or([0; MAC_BYTES], mac)),
        }
    }

    /// Checks that `device` has signed exactly this. Returns what tells whether it knows a secret.
    pub(crate) fn check(
        &self,
        purpose: &[u8],
        device: &DeviceId,
        transcript: &Transcript,
        name: &str,
    ) -> Result<Keyed<'_>, ProofError> {
        let message = message(purpose, transcript, name);
        if !device.has_signed(&message, &self.signature.0) {
            return Err(ProofError::OtherConnection);
        }
        Ok(Keyed { message, mac: &self.mac.0 })
    }
}

/// What a side has signed, and its MAC.
pub(crate) struct Keyed<'s> {
    message: Vec<u8>,
    mac: &'s [u8; MAC_BYTES],
}

impl Keyed<'_> {
    /// Whether `secret` has made it. Takes the same time however near it was.
    pub(crate) fn by(&self, secret: Option<&RoomSecret>) -> bool {
        secret.is_some_and(|secret| keyed(secret, &self.message).verify_slice(self.mac).is_ok())
    }
}

fn message(purpose: &[u8], transcript: &Transcript, name: &str) -> Vec<u8> {
    encoding::joined(&[purpose, transcript.as_bytes(), name.as_bytes()])
}

fn keyed(secret: &RoomSecret, message: &[u8]) -> Hmac<Sha256> {
    #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(message);
    mac
}

/// `N` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Fixed<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encoding::text(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Fixed<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = encoding::bytes(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom(format!("expected {N} bytes of base64")))
    }
}
