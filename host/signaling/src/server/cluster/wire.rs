//! What the servers of a cluster tell each other, as bytes. Each message is checked before it counts: anyone
//! who can publish to the broker can send anything.

use crate::rooms::{MAX_METADATA_BYTES, Registrant};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::ids::{PeerId, RoomId};
use sleap_rtc_protocol::pairing::MailboxNumber;
use sleap_rtc_protocol::signaling::{MAX_FRAME_BYTES, Metadata, Role};
use std::fmt;
use std::str::FromStr;

/// The longest message without a frame.
pub(crate) const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// A piece of a list ends once it has this many bytes; one more peer fits.
pub(crate) const PIECE_BYTES: usize = MAX_MESSAGE_BYTES - 4 * MAX_METADATA_BYTES;
/// The longest head of a forwarded frame: a peer, a room and a server.
const MAX_HEAD_BYTES: usize = 4 * 1024;

/// A server, from its start to its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServerId(u64);

impl ServerId {
    pub(crate) fn new_random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ServerId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let is_whole = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = is_whole.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or(Malformed::Server)
    }
}

/// What a server tells all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum News {
    /// It is there.
    Beat(Beat),
    /// These peers are registered at it, or have changed.
    Here { peers: Vec<Presence> },
    /// This peer is no longer registered at it.
    Left { peer: PeerId, since_ms: u64, on_purpose: bool },
    /// The list of all its peers begins.
    ListBegins,
    /// Whoever was not in the list is not there.
    ListEnds,
    /// This room was deleted.
    RoomDeleted { room: RoomId },
    /// It stops.
    Gone,
}

/// A sign of life, again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// The digest of its peers; see [`super::ledger::Ledger`].
    pub(crate) digest: u64,
    /// Its open mailboxes, so that no other server opens one of the same number.
    pub(crate) mailboxes: Vec<MailboxNumber>,
}

/// A peer that is registered at a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Presence {
    pub(crate) peer: PeerId,
    pub(crate) room: RoomId,
    pub(crate) role: Role,
    pub(crate) metadata: Metadata,
    pub(crate) since_ms: u64,
    pub(crate) revision: u64,
}

impl Presence {
    pub(crate) fn new<L>(peer: &PeerId, member: &Registrant<L>) -> Self {
        Self {
            peer: peer.clone(),
            room: member.room.clone(),
            role: member.role,
            metadata: member.metadata.clone(),
            since_ms: member.since_ms,
            revision: member.revision,
        }
    }
}

/// What a server asks of one other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Order {
    /// To list its peers.
    List,
    /// To close the socket of this peer, which was deleted.
    Close { peer: PeerId, since_ms: u64 },
    /// To deliver a frame.
    Deliver { head: DeliveryHead, frame: String },
    /// To say that a frame was not delivered.
    Undelivered(Undelivered),
}

/// Whom a forwarded frame is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryHead {
    pub(crate) to: PeerId,
    pub(crate) room: RoomId,
    /// The server of the sender, as text.
    pub(crate) from: String,
}

/// A frame that did not reach its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undelivered {
    /// Its sender.
    pub(crate) to: PeerId,
    pub(crate) room: RoomId,
    pub(crate) target: PeerId,
    /// The number of the offer that it was about.
    pub(crate) attempt: Option<u64>,
    pub(crate) why: WhyUndelivered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WhyUndelivered {
    /// The target is not in the room.
    NotThere,
    /// It does not read.
    NotRead,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum OrderHead {
    List,
    Close { peer: PeerId, since_ms: u64 },
    Deliver(DeliveryHead),
    Undelivered(Undelivered),
}

/// Why a message is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it is too long")]
    TooLong,
    #[error("it is not JSON of the expected form")]
    Form,
    #[error("its frame is not text")]
    Text,
    #[error("it names no server")]
    Server,
}

pub(crate) fn encode(news: &News) -> Vec<u8> {
    // Maps of texts and JSON values always serialize.
    serde_json::to_vec(news).unwrap_or_default()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<News, Malformed> {
    parse(bytes, MAX_MESSAGE_BYTES)
}

pub(crate) fn encode_order(order: Order) -> Vec<u8> {
    let head = match order {
        Order::List => OrderHead::List,
        Order::Close { peer, since_ms } => OrderHead::Close { peer, since_ms },
        Order::Undelivered(undelivered) => OrderHead::Undelivered(undelivered),
        Order::Deliver { head, frame } => return encode_delivery(head, &frame),
    };
    serde_json::to_vec(&head).unwrap_or_default()
}

/// A head in JSON; after a line feed the frame as it is, because it is long and need not be quoted.
pub(crate) fn encode_delivery(head: DeliveryHead, frame: &str) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(&OrderHead::Deliver(head)).unwrap_or_default();
    bytes.reserve_exact(1 + frame.len());
    bytes.push(b'\n');
    bytes.extend_from_slice(frame.as_bytes());
    bytes
}

pub(crate) fn decode_order(bytes: &[u8]) -> Result<Order, Malformed> {
    let end = bytes.iter().take(MAX_HEAD_BYTES).position(|byte| *byte == b'\n');
    let (head, frame) = match end {
        Some(end) => (&bytes[..end], Some(&bytes[end + 1..])),
        None => (bytes, None),
    };
    match (parse(head, MAX_HEAD_BYTES)?, frame) {
        (OrderHead::List, None) => Ok(Order::List),
        (OrderHead::Close { peer, since_ms }, None) => Ok(Order::Close { peer, since_ms }),
        (OrderHead::Undelivered(undelivered), None) => Ok(Order::Undelivered(undelivered)),
        (OrderHead::Deliver(_), Some(frame)) if frame.len() > MAX_FRAME_BYTES => {
            Err(Malformed::TooLong)
        }
        (OrderHead::Deliver(head), Some(frame)) => {
            let frame = std::str::from_utf8(frame).map_err(|_| Malformed::Text)?;
            Ok(Order::Deliver { head, frame: frame.to_owned() })
        }
        _ => Err(Malformed::Form),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], longest: usize) -> Result<T, Malformed> {
    match bytes.len() > longest {
        true => Err(Malformed::TooLong),
        false => serde_json::from_slice(bytes).map_err(|_| Malformed::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostile_input::{damaged, each};
    use proptest::prelude::*;

    fn peer() -> PeerId {
        PeerId::new("peer-1").unwrap()
    }

    fn room() -> RoomId {
        RoomId::new("0a1b2c3d").unwrap()
    }

    fn news() -> Vec<News> {
        let metadata: Metadata = serde_json::from_str(
            r#"{"tags": ["t"], "properties": {"status": "available", "deep": {"gpus": [1, 2]}}}"#,
        )
        .unwrap();
        let (peer, room, role) = (peer(), room(), Role::Worker);
        let presence = Presence { peer, room, role, metadata, since_ms: 7, revision: 3 };
        let mailboxes = vec![MailboxNumber::try_from(4).unwrap()];
        vec![
            News::Beat(Beat { digest: u64::MAX, mailboxes }),
            News::Here { peers: vec![presence.clone(), presence] },
            News::Left { peer: super::tests::peer(), since_ms: u64::MAX, on_purpose: true },
            News::ListBegins,
            News::ListEnds,
            News::RoomDeleted { room: super::tests::room() },
            News::Gone,
        ]
    }

    fn orders() -> Vec<Order> {
        let head =
            DeliveryHead { to: peer(), room: room(), from: ServerId::new_random().to_string() };
        let frame = "{\"type\":\"offer\",\n\"sdp\":\"ä\"}".to_owned();
        let close = Order::Close { peer: peer(), since_ms: 9 };
        let undelivered = Order::Undelivered(Undelivered {
            to: peer(),
            room: room(),
            target: peer(),
            attempt: Some(3),
            why: WhyUndelivered::NotRead,
        });
        vec![Order::List, close, undelivered, Order::Deliver { head, frame }]
    }

    #[test]
    fn everything_that_is_said_is_understood() {
        for news in news() {
            assert_eq!(decode(&encode(&news)), Ok(news));
        }
        for order in orders() {
            assert_eq!(decode_order(&encode_order(order.clone())), Ok(order));
        }
        let id = ServerId::new_random();
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "0", "00000000000000001", "000000000000000g", "+00000000000000f"] {
            assert_eq!(wrong.parse::<ServerId>(), Err(Malformed::Server));
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_read() {
        let long = vec![b' '; MAX_MESSAGE_BYTES + 1];
        assert_eq!(decode(&long), Err(Malformed::TooLong));
        let Some(Order::Deliver { head, .. }) = orders().pop() else { panic!() };
        let frame = "x".repeat(MAX_FRAME_BYTES + 1);
        let long = encode_order(Order::Deliver { head, frame });
        assert_eq!(decode_order(&long), Err(Malformed::TooLong));
    }

    #[test]
    fn the_decoder_of_other_servers() {
        let whole: Vec<String> = news()
            .iter()
            .map(encode)
            .chain(orders().into_iter().map(encode_order))
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect();
        each("messages of other servers", damaged(whole), |text| {
            if let Ok(news) = decode(text.as_bytes()) {
                prop_assert_eq!(decode(&encode(&news)), Ok(news));
            }
            if let Ok(order) = decode_order(text.as_bytes()) {
                prop_assert_eq!(decode_order(&encode_order(order.clone())), Ok(order));
            }
            Ok(())
        });
    }
}
