//! The head of a frame, which is the only part of a forwarded frame that the server reads; and the
//! error frames that it sends.

use crate::filter::FilterError;
use crate::identity::IdentityError;
use crate::rooms::RoomError;
use crate::store::StoreError;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::ids::{AddressTag, PeerId};
use sleap_rtc_protocol::signaling::MAX_FRAME_BYTES;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The most characters of a parser's message that an error frame repeats, because the message may
/// quote the frame.
const MAX_QUOTE: usize = 200;

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Register,
    DiscoverPeers,
    WatchPeers,
    UnwatchPeers,
    GetIceServers,
    UpdateMetadata,
    Offer,
    Answer,
    Candidate,
    PeerMessage,
    Error,
    Quit,
    #[serde(other)]
    Unknown,
}

impl Kind {
    /// Whether frames of this kind are passed on to another peer.
    pub(crate) fn is_forwarded(self) -> bool {
        match self {
            Self::Offer
            | Self::Answer
            | Self::Candidate
            | Self::PeerMessage
            | Self::Error
            | Self::Quit => true,
            Self::Register
            | Self::DiscoverPeers
            | Self::WatchPeers
            | Self::UnwatchPeers
            | Self::GetIceServers
            | Self::UpdateMetadata
            | Self::Unknown => false,
        }
    }

    /// The keys that name the sender and the target of a forwarded frame.
    fn address_keys(self) -> (&'static str, &'static str) {
        match self {
            Self::PeerMessage => ("from_peer_id", "to_peer_id"),
            _ => ("sender", "target"),
        }
    }
}

/// The keys that name sender and target. The parser refuses duplicate keys, so the server and the
/// receiver cannot read two different senders.
#[derive(Debug, Deserialize)]
pub(crate) struct Head {
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    #[serde(default, deserialize_with = "not_null")]
    sender: Option<PeerId>,
    #[serde(default, deserialize_with = "not_null")]
    from_peer_id: Option<PeerId>,
    #[serde(default, deserialize_with = "not_null")]
    peer_id: Option<PeerId>,
    #[serde(default)]
    target: Option<PeerId>,
    #[serde(default)]
    to_peer_id: Option<PeerId>,
    #[serde(default)]
    attempt: Value,
    /// Whether the sender has set its address, which only the server may do.
    #[serde(default, deserialize_with = "present")]
    sender_address: bool,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Refuses `null`: treating it as absent would add a second key when the frame is forwarded.
fn not_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PeerId>, D::Error> {
    PeerId::deserialize(deserializer).map(Some)
}

impl Head {
    /// Whether every sender that the frame names is `peer`.
    pub(crate) fn speaks_as(&self, peer: &PeerId) -> bool {
        [&self.sender, &self.from_peer_id, &self.peer_id]
            .into_iter()
            .flatten()
            .all(|named| named == peer)
    }

    /// The peer that has sent a forwarded frame.
    pub(crate) fn sender(&self) -> Option<&PeerId> {
        match self.kind {
            Kind::PeerMessage => self.from_peer_id.as_ref(),
            _ => self.sender.as_ref(),
        }
    }

    /// The peer that the frame is for.
    pub(crate) fn target(&self) -> Result<&PeerId, FrameRefusal> {
        let (_, key) = self.kind.address_keys();
        let target = match self.kind {
            Kind::PeerMessage => &self.to_peer_id,
            _ => &self.target,
        };
        target.as_ref().ok_or_else(|| FrameRefusal::invalid(format!("the frame has no {key}")))
    }

    /// The number of the offer that this frame is about, if it has one.
    pub(crate) fn attempt(&self) -> Option<u64> {
        self.attempt.as_u64()
    }

    /// Whether the server adds the sender's address to this frame.
    pub(crate) fn asks_a_worker(&self) -> bool {
        matches!(self.kind, Kind::Offer | Kind::PeerMessage)
    }

    /// The frame as it is forwarded: unchanged, except that a missing sender is added, so that the
    /// receiver always knows who sent it, and the sender's address if it is given.
    pub(crate) fn signed(
        &self,
        text: Utf8Bytes,
        peer: &PeerId,
        address: Option<&AddressTag>,
    ) -> Result<Utf8Bytes, FrameRefusal> {
        if self.sender_address {
            return Err(FrameRefusal::invalid("only the server sets the address of a peer"));
        }
        let (key, _) = self.kind.address_keys();
        let is_missing = match self.kind {
            Kind::PeerMessage => self.from_peer_id.is_none(),
            _ => self.sender.is_none(),
        };
        let sender = is_missing.then(|| format!("{key:?}:{},", json!(peer.as_str())));
        let address = address.map(|tag| format!("\"sender_address\":{},", json!(tag.as_str())));
        if sender.is_none() && address.is_none() {
            return Ok(text);
        }
        let Some((_, rest)) = text.split_once('{') else {
            return Err(FrameRefusal::invalid("a frame is a JSON object"));
        };
        let added = [sender, address].map(Option::unwrap_or_default).concat();
        let signed = format!("{{{added}{rest}");
        if signed.len() > MAX_FRAME_BYTES {
            return Err(FrameRefusal::invalid("with its sender the frame would be too long"));
        }
        Ok(signed.into())
    }
}

/// Refuses a frame in which lists and objects are nested deeper than `limit`. The server would forward
/// it unread, and the receiver's parser might not survive it.
pub(crate) fn check_depth(text: &str, limit: usize) -> Result<(), FrameRefusal> {
    let opening = |byte: &&u8| matches!(byte, b'{' | b'[');
    if text.as_bytes().iter().filter(opening).count() <= limit {
        return Ok(());
    }
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return Err(FrameRefusal::invalid(format!("a frame is nested {limit} deep at most")));
        }
    }
    Ok(())
}

/// Reads a frame or a part of it.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, FrameRefusal> {
    let parsed = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|error| error.to_string()),
        // serde would also accept a list, field by field.
        false => Err("a frame is a JSON object".to_owned()),
    };
    parsed.map_err(|why| {
        let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
        let code = if is_json { Code::InvalidMessage } else { Code::InvalidJson };
        FrameRefusal::new(code, why.chars().take(MAX_QUOTE).collect::<String>())
    })
}

/// The values of an error frame's `code` and `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidJson,
    InvalidMessage,
    UnknownMessageType,
    NotInRoom,
    RoomNotFound,
    RoomFull,
    PeerNotFound,
    DeliveryFailed,
    IdentityRefused,
    IdentityExpired,
    SenderMismatch,
    /// A registration of a later version of the Python program, which uses accounts.
    WantsAccounts,
    Internal,
}

impl Code {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "INVALID_JSON",
            Self::InvalidMessage | Self::WantsAccounts => "INVALID_MESSAGE",
            Self::UnknownMessageType => "UNKNOWN_MESSAGE_TYPE",
            Self::NotInRoom => "NOT_IN_ROOM",
            Self::RoomNotFound => "ROOM_NOT_FOUND",
            Self::RoomFull => "ROOM_FULL",
            Self::PeerNotFound => "PEER_NOT_FOUND",
            Self::DeliveryFailed => "DELIVERY_FAILED",
            Self::IdentityRefused => "IDENTITY_REFUSED",
            Self::IdentityExpired => "IDENTITY_EXPIRED",
            Self::SenderMismatch => "SENDER_MISMATCH",
            Self::Internal => "INTERNAL_ERROR",
        }
    }

    /// Whether only an incorrect program can cause it.
    pub(crate) fn is_abuse(self) -> bool {
        matches!(
            self,
            Self::InvalidJson
                | Self::InvalidMessage
                | Self::UnknownMessageType
                | Self::SenderMismatch
        )
    }
}

/// Why a frame is refused; becomes an error frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FrameRefusal {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) attempt: Option<u64>,
}

impl FrameRefusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), attempt: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidMessage, message)
    }

    /// The answer where the sender's share of the target's queue is full.
    pub(crate) fn not_read(target: &PeerId) -> Self {
        let message =
            format!("{target} has not read yet what you sent it before; send less, or wait");
        Self::new(Code::DeliveryFailed, message)
    }

    /// The answer to a program that tries to log in with an account.
    pub(crate) fn wants_accounts() -> Self {
        Self::new(
            Code::WantsAccounts,
            "this server has no accounts: Python sleap-rtc 0.0.7 and newer log in with GitHub or an \
             API key and need their own server; here, use the worker and client of this server's \
             program, or a Python sleap-rtc that signs in anonymously",
        )
    }

    /// The frame, with the fields of all three shapes that peers read.
    pub(crate) fn frame(&self) -> String {
        let code = self.code.as_str();
        // Programs with accounts show only the reason to their user.
        let reason = if self.code == Code::WantsAccounts { &self.message } else { code };
        let mut frame =
            json!({"type": "error", "code": code, "reason": reason, "message": self.message});
        if let Some(attempt) = self.attempt {
            frame["attempt"] = attempt.into();
        }
        frame.to_string()
    }
}

impl From<RoomError> for FrameRefusal {
    fn from(error: RoomError) -> Self {
        let code = match error {
            RoomError::Full(_) => Code::RoomFull,
            RoomError::MetadataTooLong => Code::InvalidMessage,
            RoomError::NotInRoom => Code::NotInRoom,
        };
        Self::new(code, error.to_string())
    }
}

impl From<FilterError> for FrameRefusal {
    fn from(error: FilterError) -> Self {
        Self::invalid(error.to_string().chars().take(MAX_QUOTE).collect::<String>())
    }
}

impl From<IdentityError> for FrameRefusal {
    fn from(error: IdentityError) -> Self {
        let code = match error {
            IdentityError::Invalid => Code::IdentityRefused,
            IdentityError::Expired => Code::IdentityExpired,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for FrameRefusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %WithCauses(&error), "a frame could not be handled");
        Self::new(Code::Internal, "the server cannot use its state; try again later")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(name: &str) -> PeerId {
        PeerId::new(name).unwrap()
    }

    #[test]
    fn a_missing_sender_is_added_and_a_present_one_left_alone() {
        for (text, wanted) in [
            (
                r#" {"type":"error","target":"b"}"#,
                r#"{"sender":"a\"","type":"error","target":"b"}"#,
            ),
            (
                r#"{"type":"peer_message","to_peer_id":"b"}"#,
                r#"{"from_peer_id":"a\"","type":"peer_message","to_peer_id":"b"}"#,
            ),
            (r#"{"sender":"a\"","type":"offer"}"#, r#"{"sender":"a\"","type":"offer"}"#),
        ] {
            let head: Head = parse(text).unwrap();
            assert_eq!(head.signed(text.into(), &peer("a\""), None).unwrap().as_str(), wanted);
        }
    }

    #[test]
    fn two_senders_or_none_at_all_are_refused() {
        for text in [
            r#"{"type":"offer","sender":"a","sender":"b"}"#,
            r#"{"type":"offer","sender":null}"#,
            r#"{"type":"offer","sender":7}"#,
            r#"{"type":7}"#,
            r#"{}"#,
            r#"[]"#,
            r#"["offer","a",null,null,"b"]"#,
        ] {
            assert_eq!(parse::<Head>(text).unwrap_err().code, Code::InvalidMessage, "{text}");
        }
        for text in ["", "{", "nonsense", r#"{"type":"offer"}}"#] {
            assert_eq!(parse::<Head>(text).unwrap_err().code, Code::InvalidJson, "{text}");
        }
        let deep = format!("{{\"type\":\"offer\",\"x\":{}", "[".repeat(100_000));
        assert_eq!(parse::<Head>(&deep).unwrap_err().code, Code::InvalidJson);
    }

    #[test]
    fn depth_is_counted_outside_of_texts() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(check_depth(&nested(8), 8), Ok(()));
        assert_eq!(check_depth(&nested(9), 8).unwrap_err().code, Code::InvalidMessage);
        assert_eq!(check_depth(&format!(r#"{{"a":"{}\"["}}"#, "[".repeat(99)), 8), Ok(()));
        assert_eq!(check_depth(&"[]".repeat(99), 8), Ok(()));
    }

    proptest! {
        /// A forwarded frame is unchanged, except that it names its sender exactly once.
        #[test]
        fn signing_keeps_every_key(
            value in "\\PC{0,40}",
            key in "[a-z]{1,8}",
            id in "[!-~]{1,20}",
            is_told in any::<bool>(),
        ) {
            let tag = is_told.then(|| AddressTag::new("0123abcd").unwrap());
            prop_assume!(!["type", "sender", "target", "attempt"].contains(&key.as_str()));
            let frame = json!({"type": "answer", "target": "b", key.clone(): value.clone()});
            let text = frame.to_string();
            prop_assume!(parse::<Head>(&text).is_ok());
            let head: Head = parse(&text).unwrap();
            let signed = head.signed(text.into(), &peer(&id), tag.as_ref()).unwrap();
            let read: Value = serde_json::from_str(&signed).unwrap();
            prop_assert_eq!(&read["sender"], &id);
            prop_assert_eq!(&read[&key], &value);
            let address = read.get("sender_address").and_then(Value::as_str);
            prop_assert_eq!(address, tag.as_ref().map(AddressTag::as_str));
            let added = 1 + usize::from(is_told);
            prop_assert_eq!(read.as_object().unwrap().len(), frame.as_object().unwrap().len() + added);
        }
    }
}
