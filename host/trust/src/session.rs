//! Session strings and job strings: one worker, or one job, as a single text to copy and paste.
//!
//! The Python program defines the form of a session string: `sleap-session:` and the padded URL-safe base64 of
//! `{"r": room, "t": token, "p": peer}`. The part of the token that the signaling server must not see has a
//! key of its own, `k`, which Python programs ignore, and so has the worker's device, `d`.

use crate::credential::{Credential, RoomToken, TokenError};
use crate::device::DeviceId;
use base64::{Engine, engine::general_purpose};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId, RoomId, Token};
use std::{fmt, str::FromStr};

const PREFIX: &str = "sleap-session:";
const JOB_PREFIX: &str = "sleap-job:";
const ROOM_PREFIX: &str = "sleap-room:";
const MAX_LENGTH: usize = 4096;

/// Names a worker and opens its room. Holds the room's token, so `Debug` hides the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionString {
    /// The room and its token.
    pub room: Credential,
    /// The worker.
    pub worker: PeerId,
    /// The worker's device. Absent from Python workers and older programs.
    pub device: Option<DeviceId>,
}

/// Why a text is not a session string.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The prefix is missing.
    #[error("expected a session string or job string that begins with `{0}`; copy the whole line")]
    Prefix(&'static str),
    /// Longer than any valid string.
    #[error("the session string or job string is longer than {MAX_LENGTH} characters")]
    TooLong,
    /// Not base64.
    #[error("the session string or job string is damaged (not base64); copy the whole line again")]
    Base64(#[source] base64::DecodeError),
    /// Not the JSON object, or one of its parts is not an identifier.
    #[error("the session string or job string is damaged; copy the whole line again")]
    Json(#[source] serde_json::Error),
    /// Its token is damaged.
    #[error("the session string or job string is damaged; copy the whole line again")]
    Token(#[from] TokenError),
}

/// The room, as both kinds of strings have it.
#[derive(Serialize, Deserialize)]
struct RoomWire {
    r: RoomId,
    t: Token,
    /// The second part of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<String>,
    p: PeerId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    d: Option<DeviceId>,
}

impl RoomWire {
    /// Clients read these strings: they get no authority.
    fn new(room: &Credential, worker: &PeerId, device: Option<DeviceId>) -> Self {
        let (r, t) = (room.room_id.clone(), room.token.server().clone());
        let k = room.token.for_clients().peer_text().map(|text| (*text).clone());
        Self { r, t, k, p: worker.clone(), d: device }
    }

    fn room(&self) -> Result<Credential, TokenError> {
        room(self.r.clone(), self.t.clone(), self.k.clone())
    }
}

fn room(room_id: RoomId, server: Token, peer: Option<String>) -> Result<Credential, TokenError> {
    let token = match peer {
        Some(peer) => RoomToken::from_parts(server, &peer)?,
        None => RoomToken::keyless(server),
    };
    Ok(Credential { room_id, token })
}

impl FromStr for SessionString {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, SessionError> {
        let wire: RoomWire = decode(text, PREFIX)?;
        Ok(Self { room: wire.room()?, worker: wire.p, device: wire.d })
    }
}

impl fmt::Display for SessionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        encode(f, PREFIX, &RoomWire::new(&self.room, &self.worker, self.device))
    }
}

/// Opens a room, in a link to the signaling server's page. Holds the room's token, so `Debug` hides the
/// text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomString {
    /// The room and its token.
    pub room: Credential,
}

/// As [`RoomWire`], without a worker.
#[derive(Serialize, Deserialize)]
struct OpenRoomWire {
    r: RoomId,
    t: Token,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<String>,
}

impl RoomString {
    /// The link to the page of the server at `server`, which opens this room. The room is in the link's
    /// fragment, which browsers do not send.
    pub fn link(&self, server: &str) -> String {
        format!("{}/app/#{self}", server.trim_end_matches('/'))
    }
}

impl FromStr for RoomString {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, SessionError> {
        let OpenRoomWire { r, t, k } = decode(text, ROOM_PREFIX)?;
        Ok(Self { room: room(r, t, k)? })
    }
}

impl fmt::Display for RoomString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (r, t) = (self.room.room_id.clone(), self.room.token.server().clone());
        let k = self.room.token.for_clients().peer_text().map(|text| (*text).clone());
        encode(f, ROOM_PREFIX, &OpenRoomWire { r, t, k })
    }
}

/// Names one job on one worker and proves the right to it, as a single text to paste on another
/// machine. Holds secrets, so `Debug` hides them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobString {
    /// The room and its token.
    pub room: Credential,
    /// The worker that has the job.
    pub worker: PeerId,
    /// The worker's device. Absent where the worker could not prove it.
    pub device: Option<DeviceId>,
    /// The job.
    pub job: JobId,
    /// The proof of the right to the job.
    pub secret: JobSecret,
}

#[derive(Serialize, Deserialize)]
struct JobWire {
    #[serde(flatten)]
    room: RoomWire,
    j: JobId,
    s: JobSecret,
}

impl JobString {
    /// Whether `text` looks like a job string rather than a job id.
    pub fn looks_like_one(text: &str) -> bool {
        text.trim_start().starts_with(JOB_PREFIX)
    }
}

impl FromStr for JobString {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, SessionError> {
        let JobWire { room: wire, j, s } = decode(text, JOB_PREFIX)?;
        let (room, device) = (wire.room()?, wire.d);
        Ok(Self { room, worker: wire.p, device, job: j, secret: s })
    }
}

impl fmt::Display for JobString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = RoomWire::new(&self.room, &self.worker, self.device);
        let wire = JobWire { room, j: self.job.clone(), s: self.secret.clone() };
        encode(f, JOB_PREFIX, &wire)
    }
}

/// The object in base64 after `prefix`.
fn decode<W: DeserializeOwned>(text: &str, prefix: &'static str) -> Result<W, SessionError> {
    let text = text.trim();
    if text.len() > MAX_LENGTH {
        return Err(SessionError::TooLong);
    }
    let body = text.strip_prefix(prefix).ok_or(SessionError::Prefix(prefix))?;
    // Padding is optional, because terminals and chat programs drop a trailing `=`.
    let json = general_purpose::URL_SAFE_NO_PAD
        .decode(body.trim_end_matches('='))
        .map_err(SessionError::Base64)?;
    serde_json::from_slice(&json).map_err(SessionError::Json)
}

fn encode<W: Serialize>(f: &mut fmt::Formatter<'_>, prefix: &str, wire: &W) -> fmt::Result {
    let json = serde_json::to_vec(wire).map_err(|_| fmt::Error)?;
    write!(f, "{prefix}{}", general_purpose::URL_SAFE.encode(json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::PeerPart;
    use crate::device::DeviceKey;

    fn room(token: RoomToken) -> Credential {
        Credential { room_id: RoomId::new("r").unwrap(), token }
    }

    fn keyed() -> Credential {
        let token = RoomToken::new(Token::new("hunter2").unwrap(), PeerPart::from_random([9; 48]));
        room(token.unwrap())
    }

    fn keyless() -> Credential {
        room(RoomToken::keyless(Token::new("hunter2").unwrap()))
    }

    #[test]
    fn a_python_session_string_is_read_and_written() {
        // json.dumps puts spaces after ':' and ','; base64.urlsafe_b64encode pads.
        let python =
            "sleap-session:eyJyIjogImFiMTJjZDM0IiwgInQiOiAiMGYxZTJkIiwgInAiOiAid29ya2VyLTEifQ==";
        let session: SessionString = python.parse().unwrap();
        assert_eq!(session.room.room_id.as_str(), "ab12cd34");
        assert_eq!(session.worker.as_str(), "worker-1");
        assert_eq!(session.room.peer(), None);
        assert_eq!(session.to_string().parse::<SessionString>().unwrap(), session);
        assert!(!format!("{session:?}").contains("0f1e2d"));
    }

    #[test]
    fn a_python_program_finds_its_keys_and_the_servers_part_only() {
        let (worker, device) = (PeerId::new("w").unwrap(), DeviceKey::from_bytes([1; 32]).id());
        let session = SessionString { room: keyed(), worker, device: Some(device) };
        let text = session.to_string();
        let json = general_purpose::URL_SAFE.decode(text.strip_prefix(PREFIX).unwrap()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            (&json["r"], &json["t"], &json["p"]),
            (&"r".into(), &"hunter2".into(), &"w".into())
        );
        let read: SessionString = text.parse().unwrap();
        assert_eq!(read, SessionString { room: keyed().for_clients(), ..session });
        assert!(read.room.peer().unwrap().authority_key().is_none());
    }

    #[test]
    fn a_link_opens_the_room_and_gives_no_authority() {
        for room in [keyed(), keyless()] {
            let link = RoomString { room: room.clone() }.link("http://gpu2:8080/");
            let (server, fragment) = link.split_once("/app/#").unwrap();
            assert_eq!(server, "http://gpu2:8080");
            let read: RoomString = fragment.parse().unwrap();
            assert_eq!(read.room, room.for_clients());
        }
    }

    #[test]
    fn a_job_string_survives_the_clipboard_and_hides_its_secrets() {
        for room in [keyed().for_clients(), keyless()] {
            let job = JobString {
                room,
                worker: PeerId::new("w").unwrap(),
                device: Some(DeviceKey::from_bytes([1; 32]).id()),
                job: JobId::new("j").unwrap(),
                secret: JobSecret::new("hunter3").unwrap(),
            };
            let text = job.to_string();
            assert!(JobString::looks_like_one(&text) && !JobString::looks_like_one("job-1"));
            let copied = format!(" {}\n", text.trim_end_matches('='));
            assert_eq!(copied.parse::<JobString>().unwrap(), job);
            assert!(!format!("{job:?}").contains("hunter"));
            assert!(text.parse::<SessionString>().is_err());
        }
    }

    #[test]
    fn damaged_strings_are_refused() {
        for bad in ["", "session:abc", "sleap-session:%%%", "sleap-session:e30="] {
            assert!(bad.parse::<SessionString>().is_err(), "{bad:?}");
        }
        let json = r#"{"r":"r","t":"t","p":"p","k":"AAAA"}"#;
        let text = format!("{PREFIX}{}", general_purpose::URL_SAFE.encode(json));
        assert!(matches!(text.parse::<SessionString>(), Err(SessionError::Token(_))));
    }
}
