//! Frames at `/pair`: JSON objects in WebSocket text messages, between the signaling server and two
//! devices that pair.
//!
//! One device opens a mailbox and learns its number; another one joins it by that number. From then
//! on the server passes parcels from one to the other, and reads none of them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The path of the WebSocket.
pub const PATH: &str = "/pair";
/// The longest parcel, in bytes.
pub const MAX_PARCEL_BYTES: usize = 8 * 1024;
/// The longest frame, in bytes: a parcel in base64, and the JSON around it.
pub const MAX_PAIRING_FRAME_BYTES: usize = 12 * 1024;

/// The number of a mailbox: the first part of a pairing code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct MailboxNumber(u16);

impl MailboxNumber {
    /// The largest one: four digits.
    pub const MAX: u16 = 9999;
}

/// The number of a mailbox is 1 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mailbox has a number from 1 to {}", MailboxNumber::MAX)]
pub struct MailboxNumberError;

impl TryFrom<u16> for MailboxNumber {
    type Error = MailboxNumberError;

    fn try_from(number: u16) -> Result<Self, MailboxNumberError> {
        match number {
            1..=Self::MAX => Ok(Self(number)),
            _ => Err(MailboxNumberError),
        }
    }
}

impl From<MailboxNumber> for u16 {
    fn from(number: MailboxNumber) -> u16 {
        number.0
    }
}

impl fmt::Display for MailboxNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message from one device to the other, of at most [`MAX_PARCEL_BYTES`]. Its `Debug` shows only
/// the length.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Parcel(Vec<u8>);

/// Why a parcel is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParcelError {
    /// Too long.
    #[error("a parcel has {0} bytes; at most {MAX_PARCEL_BYTES} are allowed")]
    TooLong(usize),
    /// Not base64.
    #[error("a parcel is written in URL-safe base64 without padding")]
    Base64(#[from] base64::DecodeError),
}

impl Parcel {
    /// A parcel with these bytes.
    ///
    /// # Errors
    /// The parcel is too long.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ParcelError> {
        match bytes.len() {
            0..=MAX_PARCEL_BYTES => Ok(Self(bytes)),
            length => Err(ParcelError::TooLong(length)),
        }
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<String> for Parcel {
    type Error = ParcelError;

    fn try_from(text: String) -> Result<Self, ParcelError> {
        Self::new(URL_SAFE_NO_PAD.decode(text)?)
    }
}

impl From<Parcel> for String {
    fn from(parcel: Parcel) -> String {
        URL_SAFE_NO_PAD.encode(parcel.0)
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parcel({} bytes)", self.0.len())
    }
}

/// A frame to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MailboxRequest {
    /// Asks for a new mailbox. The socket's first frame.
    Open,
    /// Joins a mailbox. The socket's first frame.
    Join {
        /// Which.
        mailbox: MailboxNumber,
    },
    /// Passes a parcel to the other device.
    Send {
        /// The parcel.
        parcel: Parcel,
    },
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MailboxEvent {
    /// Answers `Open`.
    Opened {
        /// The mailbox.
        mailbox: MailboxNumber,
        /// After this time the server closes it, in seconds.
        expires_s: u64,
    },
    /// Answers `Join`. Also sent to the device that opened the mailbox.
    Joined,
    /// A parcel of the other device.
    Received {
        /// The parcel.
        parcel: Parcel,
    },
    /// The other device is gone.
    Left,
    /// The server refuses the previous frame, and closes the socket.
    Error {
        /// Why.
        code: MailboxErrorCode,
        /// For people.
        #[serde(default)]
        message: String,
    },
    /// A frame that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Why the server refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailboxErrorCode {
    /// The mailbox does not exist, or not any more.
    NoMailbox,
    /// Another device is in that mailbox at the moment.
    Occupied,
    /// The mailbox's time is over.
    Expired,
    /// Too many devices have joined that mailbox.
    TooManyTries,
    /// The address has tried too often.
    TooManyFromAddress,
    /// The server has no mailbox left.
    Full,
    /// The frame does not belong here.
    InvalidFrame,
    /// A reason that this version does not know.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_the_documentation_says() {
        let parcel = Parcel::new(vec![0xfb, 0xff]).unwrap();
        let mailbox = MailboxNumber(4);
        for (request, text) in [
            (MailboxRequest::Open, r#"{"type":"open"}"#),
            (MailboxRequest::Join { mailbox }, r#"{"type":"join","mailbox":4}"#),
            (MailboxRequest::Send { parcel }, r#"{"type":"send","parcel":"-_8"}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<MailboxRequest>(text).unwrap(), request);
        }
        let event: MailboxEvent = serde_json::from_str(r#"{"type":"someday","x":1}"#).unwrap();
        assert_eq!(event, MailboxEvent::Unknown);
    }

    #[test]
    fn bounds_hold() {
        assert!(serde_json::from_str::<MailboxNumber>("0").is_err());
        assert!(serde_json::from_str::<MailboxNumber>("10000").is_err());
        assert!(Parcel::new(vec![0; MAX_PARCEL_BYTES + 1]).is_err());
        let longest = Parcel::new(vec![0; MAX_PARCEL_BYTES]).unwrap();
        let frame = serde_json::to_string(&MailboxRequest::Send { parcel: longest.clone() });
        assert!(frame.unwrap().len() < MAX_PAIRING_FRAME_BYTES);
        assert_eq!(format!("{longest:?}"), "Parcel(8192 bytes)");
    }
}
