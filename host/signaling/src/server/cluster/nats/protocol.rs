//! The bytes of NATS' protocol: lines that end with CR LF, some of which a payload follows. Pure.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The longest line. The broker's first one names everything that it can do.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// The longest payload with its headers: a frame of a peer, and what is said about it.
const MAX_PAYLOAD_BYTES: usize = 4 * 1024 * 1024;

/// What the broker says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Info(BrokerInfo),
    Message(Delivered),
    Ping,
    Pong,
    /// It accepts, or says something that does not matter.
    Other,
    Error(String),
}

/// A message for a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) subject: String,
    pub(crate) subscription: u64,
    /// Without its headers.
    pub(crate) payload: Bytes,
}

/// What the broker says of itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct BrokerInfo {
    #[serde(default)]
    pub(crate) max_payload: usize,
    #[serde(default)]
    pub(crate) tls_required: bool,
}

/// The credentials and wishes of this side.
#[derive(Serialize)]
pub(crate) struct ConnectOptions<'a> {
    pub(crate) verbose: bool,
    pub(crate) pedantic: bool,
    pub(crate) echo: bool,
    pub(crate) headers: bool,
    pub(crate) no_responders: bool,
    pub(crate) tls_required: bool,
    pub(crate) name: &'a str,
    pub(crate) lang: &'a str,
    pub(crate) version: &'a str,
    pub(crate) protocol: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pass: Option<&'a str>,
}

/// A message to publish.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) subject: String,
    pub(crate) reply: Option<String>,
    /// Lines `Name: value`, each with CR LF; empty for none.
    pub(crate) headers: String,
    pub(crate) payload: Bytes,
}

/// Bytes that are not NATS' protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what it says is not NATS' protocol")]
pub struct NotNats;

impl Publication {
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let Self { subject, reply, headers, payload } = self;
        let reply = reply.as_ref().map(|reply| format!("{reply} ")).unwrap_or_default();
        let bytes = payload.len();
        if headers.is_empty() {
            out.extend_from_slice(format!("PUB {subject} {reply}{bytes}\r\n").as_bytes());
        } else {
            let headers = format!("NATS/1.0\r\n{headers}\r\n");
            let (head, all) = (headers.len(), headers.len() + bytes);
            out.extend_from_slice(format!("HPUB {subject} {reply}{head} {all}\r\n").as_bytes());
            out.extend_from_slice(headers.as_bytes());
        }
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }
}

/// Takes the next thing that was said out of `buffer`. `None` if more bytes must come first.
pub(crate) fn read(buffer: &mut BytesMut) -> Result<Option<Said>, NotNats> {
    let searched = &buffer[..buffer.len().min(MAX_LINE_BYTES)];
    let Some(end) = searched.windows(2).position(|pair| pair == b"\r\n") else {
        return if buffer.len() >= MAX_LINE_BYTES { Err(NotNats) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&buffer[..end]).map_err(|_| NotNats)?;
    let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let said = match word.to_ascii_uppercase().as_str() {
        "MSG" => return message(buffer, end, Shape::Plain),
        "HMSG" => return message(buffer, end, Shape::WithHeaders),
        "INFO" => Said::Info(serde_json::from_str(rest).map_err(|_| NotNats)?),
        "PING" => Said::Ping,
        "PONG" => Said::Pong,
        "+OK" => Said::Other,
        "-ERR" => Said::Error(rest.trim_matches([' ', '\'']).chars().take(200).collect()),
        _ => return Err(NotNats),
    };
    buffer.advance(end + 2);
    Ok(Some(said))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Plain,
    WithHeaders,
}

/// A message whose first line ends at `end`.
fn message(buffer: &mut BytesMut, end: usize, shape: Shape) -> Result<Option<Said>, NotNats> {
    let line = std::str::from_utf8(&buffer[..end]).map_err(|_| NotNats)?;
    let words: Vec<&str> = line.split_ascii_whitespace().skip(1).collect();
    let number = |word: &str| word.parse::<usize>().map_err(|_| NotNats);
    let (subject, subscription, head, all) = match (shape, words.as_slice()) {
        (Shape::Plain, [subject, sid, all] | [subject, sid, _, all]) => {
            (*subject, *sid, 0, number(all)?)
        }
        (Shape::WithHeaders, [subject, sid, head, all] | [subject, sid, _, head, all]) => {
            (*subject, *sid, number(head)?, number(all)?)
        }
        _ => return Err(NotNats),
    };
    if head > all || all > MAX_PAYLOAD_BYTES {
        return Err(NotNats);
    }
    let start = end + 2;
    if buffer.len() < start + all + 2 {
        return Ok(None);
    }
    let subscription = subscription.parse().map_err(|_| NotNats)?;
    let subject = subject.to_owned();
    buffer.advance(start);
    let mut payload = buffer.split_to(all).freeze();
    if !buffer.starts_with(b"\r\n") {
        return Err(NotNats);
    }
    buffer.advance(2);
    payload.advance(head);
    Ok(Some(Said::Message(Delivered { subject, subscription, payload })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostile_input::{damaged, each};
    use proptest::prelude::*;

    const WHOLE: [&str; 6] = [
        "INFO {\"max_payload\":1048576,\"tls_required\":true,\"else\":[1]}\r\n",
        "MSG a.b 7 5\r\nhello\r\nPING\r\n",
        "MSG a.b 7 _INBOX.x.1 0\r\n\r\n+OK\r\n",
        "HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPONG\r\n",
        "HMSG a 1 reply 28 28\r\nNATS/1.0 503\r\nA: b\r\nC: d\r\n\r\n\r\n",
        "-ERR 'Authorization Violation'\r\n",
    ];

    fn all(text: &[u8]) -> Result<Vec<Said>, NotNats> {
        let (mut buffer, mut said) = (BytesMut::from(text), Vec::new());
        while let Some(next) = read(&mut buffer)? {
            said.push(next);
        }
        Ok(said)
    }

    #[test]
    fn everything_that_a_broker_says_is_understood() {
        let said: Vec<Said> = WHOLE.iter().flat_map(|text| all(text.as_bytes()).unwrap()).collect();
        let delivered = |subject: &str, subscription, payload: &'static str| {
            let (subject, payload) = (subject.to_owned(), Bytes::from(payload));
            Said::Message(Delivered { subject, subscription, payload })
        };
        assert_eq!(
            said,
            [
                Said::Info(BrokerInfo { max_payload: 1_048_576, tls_required: true }),
                delivered("a.b", 7, "hello"),
                Said::Ping,
                delivered("a.b", 7, ""),
                Said::Other,
                delivered("a", 1, "hi"),
                Said::Pong,
                delivered("a", 1, ""),
                Said::Error("Authorization Violation".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_published_has_its_lengths() {
        let written = |reply: Option<&str>, headers: &str| {
            let (subject, payload) = ("a.b".to_owned(), Bytes::from("hello"));
            let (reply, headers) = (reply.map(str::to_owned), headers.to_owned());
            let mut out = BytesMut::new();
            Publication { subject, reply, headers, payload }.write(&mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(written(None, ""), "PUB a.b 5\r\nhello\r\n");
        assert_eq!(written(Some("r"), ""), "PUB a.b r 5\r\nhello\r\n");
        let with_headers = "HPUB a.b r 18 23\r\nNATS/1.0\r\nA: b\r\n\r\nhello\r\n";
        assert_eq!(written(Some("r"), "A: b\r\n"), with_headers);
    }

    #[test]
    fn lengths_that_are_absurd_are_refused_at_once() {
        for wrong in ["MSG a 1 99999999\r\n", "MSG a 1 -1\r\n", "HMSG a 1 9 2\r\n", "HELLO\r\n"] {
            assert_eq!(all(wrong.as_bytes()), Err(NotNats), "{wrong}");
        }
        assert_eq!(all(&vec![b'x'; MAX_LINE_BYTES]), Err(NotNats));
        assert_eq!(all(b"MSG a 1 2\r\nhi!!"), Err(NotNats));
    }

    #[test]
    fn the_decoder_of_brokers() {
        let whole = WHOLE.map(str::to_owned).to_vec();
        each("what a broker says", damaged(whole), |text| {
            let whole = all(text.as_bytes());
            // In pieces it means the same.
            let (mut buffer, mut said) = (BytesMut::new(), Ok(Vec::new()));
            'pieces: for piece in text.as_bytes().chunks(1 + text.len() / 40) {
                buffer.extend_from_slice(piece);
                loop {
                    match (read(&mut buffer), &mut said) {
                        (Ok(Some(next)), Ok(said)) => said.push(next),
                        (Ok(None), _) => break,
                        (Err(error), _) => {
                            said = Err(error);
                            break 'pieces;
                        }
                        (Ok(Some(_)), Err(_)) => unreachable!("it has ended"),
                    }
                }
            }
            prop_assert_eq!(whole, said);
            Ok(())
        });
    }
}
