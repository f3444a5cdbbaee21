//! The key of a device, and the id by which others know it.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use zeroize::Zeroizing;

/// The length of a signature, in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// An Ed25519 key. `Debug` shows its id only, and the memory is cleared when it is dropped.
#[derive(Clone)]
pub struct DeviceKey(SigningKey);

impl DeviceKey {
    /// The key of a seed of 32 random bytes.
    pub fn from_bytes(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&Zeroizing::new(seed)))
    }

    /// The seed.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The id of this device.
    pub fn id(&self) -> DeviceId {
        DeviceId(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`, which begins with a word for its purpose: a signature for one purpose must
    /// not serve another.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({})", self.id())
    }
}

impl PartialEq for DeviceKey {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for DeviceKey {}

/// The public half of a device's key: 64 hexadecimal digits as text, 32 bytes otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId([u8; 32]);

/// The text or the bytes are not a device's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a device's id: expected the 64 hexadecimal digits of an Ed25519 public key")]
pub struct NotADevice;

impl DeviceId {
    /// Checks that `bytes` are a key that can verify.
    ///
    /// # Errors
    /// The bytes are not a point of the curve, not its canonical encoding, or a weak key under which many
    /// signatures are valid.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, NotADevice> {
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| NotADevice)?;
        // A few points have two encodings, of which the shorter one is canonical.
        let is_canonical = key.to_edwards().compress().to_bytes() == bytes;
        if is_canonical && !key.is_weak() { Ok(Self(bytes)) } else { Err(NotADevice) }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first ten digits: enough for a person to tell devices apart, not to identify one.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..5])
    }

    /// Whether `signature` is this device's for `message`.
    pub fn has_signed(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.0) else { return false };
        key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({self})")
    }
}

impl FromStr for DeviceId {
    type Err = NotADevice;

    fn from_str(text: &str) -> Result<Self, NotADevice> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotADevice)?;
        Self::from_bytes(bytes)
    }
}

impl TryFrom<String> for DeviceId {
    type Error = NotADevice;

    fn try_from(text: String) -> Result<Self, NotADevice> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_device_and_one_message() {
        let (one, other) = (DeviceKey::from_bytes([1; 32]), DeviceKey::from_bytes([2; 32]));
        let signature = one.sign(b"message");
        assert!(one.id().has_signed(b"message", &signature));
        assert!(!one.id().has_signed(b"massage", &signature));
        assert!(!other.id().has_signed(b"message", &signature));
    }

    #[test]
    fn an_id_survives_as_text_and_a_key_hides_its_seed() {
        let key = DeviceKey::from_bytes([1; 32]);
        assert_eq!(key.id().to_string().parse(), Ok(key.id()));
        assert_eq!(format!("{key:?}"), format!("DeviceKey({})", key.id()));
        let weak = format!("01{}", "00".repeat(31));
        for bad in ["", "zz", &weak, &"f".repeat(64), &key.id().to_string()[1..]] {
            assert_eq!(bad.parse::<DeviceId>(), Err(NotADevice), "{bad:?}");
        }
    }
}
