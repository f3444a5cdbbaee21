//! What opens a room.

use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::pairing::Code;
use sleap_rtc_trust::session::{JobString, RoomString, SessionString};

/// What the user has typed or pasted, or a link has in its fragment.
pub enum Key {
    /// A code, by which this browser pairs.
    Code(Code),
    /// A room.
    Room(Credential),
    /// A job, and its room.
    Job(Box<JobString>),
}

impl Key {
    /// Reads it.
    ///
    /// # Errors
    /// It is none of these. The text says so to the user.
    pub fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = text.rsplit_once("/app/#").map_or(text, |(_, fragment)| fragment);
        if JobString::looks_like_one(text) {
            return text.parse().map(Box::new).map(Self::Job).map_err(|e: _| text_of(&e));
        }
        if text.starts_with("sleap-session:") {
            let session: SessionString = text.parse().map_err(|error| text_of(&error))?;
            return Ok(Self::Room(session.room));
        }
        if text.starts_with("sleap-room:") {
            let room: RoomString = text.parse().map_err(|error| text_of(&error))?;
            return Ok(Self::Room(room.room));
        }
        if Code::looks_like_one(text) {
            return text.parse().map(Self::Code).map_err(|error| text_of(&error));
        }
        // As the worker prints them, or just the two.
        let words: Vec<&str> = text.split_whitespace().collect();
        let after = |label: &str| {
            let place = words.iter().position(|word| *word == label)?;
            words.get(place + 1).copied()
        };
        let (room, token) = match (after("ID:"), after("Token:"), &words[..]) {
            (Some(room), Some(token), _) => (room, token),
            (_, _, [room, token]) => (*room, *token),
            _ => {
                return Err(
                    "type a pairing code, or paste a link or a session string of a worker, or a room and \
                     its token with a space between them"
                        .into(),
                );
            }
        };
        Ok(Self::Room(Credential {
            room_id: room.parse().map_err(|error| text_of(&error))?,
            token: token.parse().map_err(|error| text_of(&error))?,
        }))
    }
}

fn text_of(error: &dyn std::error::Error) -> String {
    error.to_string()
}
