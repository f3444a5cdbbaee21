//! Session strings and job strings: one worker, or one job, as a single text to copy and paste.
//!
//! The Python program defines the form of a session string: `sleap-session:` and the padded URL-safe base64 of
//! `{"r": room, "t": token, "p": peer}`.

use crate::ids::{JobId, JobSecret, PeerId, RoomCredentials, RoomId, Token};
use base64::{Engine, engine::general_purpose};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{fmt, str::FromStr};

const PREFIX: &str = "sleap-session:";
const MAX_LENGTH: usize = 4096;

/// Names a worker and opens its room. Holds the room's token, so `Debug` hides the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionString {
    /// The room and its token.
    pub room: RoomCredentials,
    /// The worker.
    pub worker: PeerId,
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
}

#[derive(Serialize, Deserialize)]
struct Wire {
    r: RoomId,
    t: Token,
    p: PeerId,
}

impl FromStr for SessionString {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, SessionError> {
        let Wire { r, t, p } = decode(text, PREFIX)?;
        Ok(Self { room: RoomCredentials { room_id: r, token: t }, worker: p })
    }
}

impl fmt::Display for SessionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = Wire {
            r: self.room.room_id.clone(),
            t: self.room.token.clone(),
            p: self.worker.clone(),
        };
        encode(f, PREFIX, &wire)
    }
}

const JOB_PREFIX: &str = "sleap-job:";

/// Names one job on one worker and proves the right to it, as a single text to paste on another
/// machine. Holds secrets, so `Debug` hides them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobString {
    /// The room and its token.
    pub room: RoomCredentials,
    /// The worker that has the job.
    pub worker: PeerId,
    /// The job.
    pub job: JobId,
    /// The proof of the right to the job.
    pub secret: JobSecret,
}

#[derive(Serialize, Deserialize)]
struct JobWire {
    r: RoomId,
    t: Token,
    p: PeerId,
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
        let JobWire { r, t, p, j, s } = decode(text, JOB_PREFIX)?;
        let room = RoomCredentials { room_id: r, token: t };
        Ok(Self { room, worker: p, job: j, secret: s })
    }
}

impl fmt::Display for JobString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = JobWire {
            r: self.room.room_id.clone(),
            t: self.room.token.clone(),
            p: self.worker.clone(),
            j: self.job.clone(),
            s: self.secret.clone(),
        };
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

    #[test]
    fn a_python_session_string_is_read_and_written() {
        // json.dumps puts spaces after ':' and ','; base64.urlsafe_b64encode pads.
        let python =
            "sleap-session:eyJyIjogImFiMTJjZDM0IiwgInQiOiAiMGYxZTJkIiwgInAiOiAid29ya2VyLTEifQ==";
        let session: SessionString = python.parse().unwrap();
        assert_eq!(session.room.room_id.as_str(), "ab12cd34");
        assert_eq!(session.worker.as_str(), "worker-1");
        assert_eq!(session.to_string().parse::<SessionString>().unwrap(), session);
        assert!(!format!("{session:?}").contains("0f1e2d"));
    }

    #[test]
    fn a_job_string_survives_the_clipboard_and_hides_its_secrets() {
        let job = JobString {
            room: RoomCredentials {
                room_id: RoomId::new("r").unwrap(),
                token: Token::new("hunter2").unwrap(),
            },
            worker: PeerId::new("w").unwrap(),
            job: JobId::new("j").unwrap(),
            secret: JobSecret::new("hunter3").unwrap(),
        };
        let text = job.to_string();
        assert!(JobString::looks_like_one(&text) && !JobString::looks_like_one("job-1"));
        assert_eq!(format!(" {}\n", text.trim_end_matches('=')).parse::<JobString>().unwrap(), job);
        assert!(!format!("{job:?}").contains("hunter"));
        assert!(text.parse::<SessionString>().is_err());
    }

    #[test]
    fn damaged_strings_are_refused() {
        for bad in ["", "session:abc", "sleap-session:%%%", "sleap-session:e30="] {
            assert!(bad.parse::<SessionString>().is_err(), "{bad:?}");
        }
    }
}
