//! What the two devices tell each other once they share a key.

use super::PairingError;
use crate::certificate::{Certificate, MemberRole};
use crate::credential::Credential;
use crate::device::DeviceId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::ids::{DeviceName, PeerId, RoomName};

/// The introduction of the joining device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Its key.
    pub device: DeviceId,
    /// For people: its user and its host.
    pub name: DeviceName,
    /// What it wants to be in the room.
    pub role: MemberRole,
}

/// What the worker answers to a device that knows the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The device is in.
    Granted(Box<Grant>),
    /// The code was made for devices of another role.
    OnlyFor(MemberRole),
}

/// What a worker gives to a device that it has met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The room and its token: for a worker with the key of the room's authority, for a client without.
    #[serde(flatten)]
    pub room: Credential,
    /// What its people call the room.
    pub room_name: RoomName,
    /// The worker's peer id.
    pub worker: PeerId,
    /// What people call the worker.
    pub worker_name: DeviceName,
    /// The worker's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_device: Option<DeviceId>,
    /// The certificate for the joining device. `None` in a room without keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

/// The text of a payload, before it is sealed.
pub(crate) fn encode(payload: &impl Serialize) -> Result<Vec<u8>, PairingError> {
    serde_json::to_vec(payload).map_err(|_| PairingError::Malformed)
}

/// A payload from its text. A newer program may have sent keys that are not known here.
pub(crate) fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, PairingError> {
    serde_json::from_slice(text).map_err(|_| PairingError::Malformed)
}
