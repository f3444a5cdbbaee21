//! Identifiers, validated when they arrive, and secrets that are never printed.

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{kind} is empty")]
    Empty {
        /// Which identifier was being read.
        kind: &'static str,
    },
    /// The text is too long.
    #[error("{kind} has {length} characters, at most {limit} are allowed")]
    TooLong {
        /// Which identifier was being read.
        kind: &'static str,
        /// Characters given.
        length: usize,
        /// Characters allowed.
        limit: usize,
    },
    /// The text contains a character that is not allowed.
    #[error("{kind} contains the character {character:?}, which is not allowed")]
    BadCharacter {
        /// Which identifier was being read.
        kind: &'static str,
        /// The first such character.
        character: char,
    },
}

fn check(
    kind: &'static str,
    text: &str,
    limit: usize,
    allowed: fn(char) -> bool,
) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    let length = text.chars().count();
    if length > limit {
        return Err(IdError::TooLong { kind, length, limit });
    }
    match text.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(IdError::BadCharacter { kind, character }),
        None => Ok(()),
    }
}

fn printable(c: char) -> bool {
    !c.is_control() && !c.is_whitespace()
}

fn file_name_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

fn hex_digit(c: char) -> bool {
    c.is_ascii_hexdigit()
}

fn plain(c: char) -> bool {
    c.is_alphanumeric() || PLAIN_MARKS.contains(c)
}

/// The marks that a name for people may have.
const PLAIN_MARKS: &str = "-_.@+";

/// The nearest valid name to `text`, of at most `limit` characters. `otherwise` if nothing is left.
fn simplify(text: &str, limit: usize, otherwise: &str) -> String {
    let simple: String = text.trim().chars().map(|c| if plain(c) { c } else { '-' }).collect();
    let simple: String = simple.trim_matches('-').chars().take(limit).collect();
    if simple.is_empty() { otherwise.to_owned() } else { simple }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $limit:literal, $allowed:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Validates `text`.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check($kind, &text, $limit, $allowed)?;
                Ok(Self(text))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

macro_rules! visible {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

macro_rules! secret {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
        impl $name {
            /// Compares in constant time, so that the duration does not show how much of a guess is
            /// correct.
            pub fn matches(&self, other: &Self) -> bool {
                self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
            }
        }
    };
}

identifier!(
    /// A peer: the user name that sign-in gave out. At most 128 printable characters.
    PeerId, "a peer id", 128, printable
);
identifier!(
    /// A room: 8 hex digits from the old server, any printable text of up to 128 characters here.
    RoomId, "a room id", 128, printable
);
identifier!(
    /// A job. Also the name of its folder, so only letters, digits, `-` and `_`, at most 64.
    JobId, "a job id", 64, file_name_safe
);
identifier!(
    /// The token of a room. Its `Debug` hides it, and it has no `Display`.
    Token, "a token", 256, printable
);
identifier!(
    /// The signed token that proves a peer's identity to the signaling server (a JWT from others).
    IdToken, "an identity token", 8192, printable
);
identifier!(
    /// The token that admits one peer to the relay of the signaling server while it is registered.
    RelayToken, "a relay token", 4096, printable
);
identifier!(
    /// A pseudonym for the address of a peer, assigned by the signaling server. Equal addresses in
    /// a room have equal tags, and a tag does not reveal the address.
    AddressTag, "an address tag", 64, file_name_safe
);
identifier!(
    /// A proof that the sender of an offer has the secret of its job, valid only for this offer:
    /// 128 hexadecimal digits.
    OfferProof, "an offer proof", 128, hex_digit
);
identifier!(
    /// The name under which a worker caches received files. Only one user on one machine knows it,
    /// and it differs for each worker.
    CacheOwner, "the owner of cached files", 64, file_name_safe
);
identifier!(
    /// The secret that gives the right to a job. The client creates it at submission, and keeps it
    /// in its record.
    JobSecret, "a job secret", 128, file_name_safe
);

identifier!(
    /// The verifier of the right to a job, which cannot prove that right: 64 hexadecimal digits,
    /// which the worker keeps.
    JobVerifier, "a job's verifier", 64, hex_digit
);
identifier!(
    /// A proof of the right to a job, valid in one conversation: 128 hexadecimal digits.
    JobProof, "a proof of the right to a job", 128, hex_digit
);
identifier!(
    /// A user's name for a room on one machine: at most 32 letters, digits and `-_.@+`.
    RoomName, "a room's name", 32, plain
);
identifier!(
    /// A user's name for a device: at most 64 letters, digits and `-_.@+`.
    DeviceName, "a device's name", 64, plain
);

impl RoomName {
    /// The nearest valid name to any text, such as the name of a host.
    pub fn nearest(text: &str) -> Self {
        Self(simplify(text, 32, "room"))
    }

    /// The same name with a number, to distinguish it from others.
    pub fn numbered(&self, number: u32) -> Self {
        let end = format!("-{number}");
        Self(self.0.chars().take(32 - end.len()).collect::<String>() + &end)
    }
}

impl DeviceName {
    /// The nearest valid name to any text, such as a user and a host.
    pub fn nearest(text: &str) -> Self {
        Self(simplify(text, 64, "device"))
    }
}

impl JobId {
    /// The id of a new job, from a random number.
    pub fn from_random(random: u64) -> Self {
        Self(format!("job-{random:016x}"))
    }
}

impl JobVerifier {
    /// The verifier of these bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }
}

impl JobProof {
    /// The proof of these bytes.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        Self(hex::encode(bytes))
    }
}

impl JobSecret {
    /// The secret of a new job, from a random number.
    pub fn from_random(random: u128) -> Self {
        Self(format!("{random:032x}"))
    }
}

/// The domain of the owners of cached files, so that no other use of a secret yields the same bytes.
const CACHE_OWNER: &[u8] = b"sleap-rtc owner of cached files";

impl CacheOwner {
    /// The name that the holder of `secret` has at `worker`. No other worker can use it.
    pub fn of(secret: &[u8], worker: &PeerId) -> Self {
        Self(keyed(secret, &[CACHE_OWNER, worker.0.as_bytes()], &[]))
    }
}

impl OfferProof {
    /// The proof of these bytes.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        Self(hex::encode(bytes))
    }
}

/// A keyed hash of `parts` and `rest`, as hexadecimal digits.
fn keyed(key: &[u8], parts: &[&[u8]], rest: &[u8]) -> String {
    // A key of any length is allowed.
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(error) => unreachable!("{error}"),
    };
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac.update(rest);
    hex::encode(mac.finalize().into_bytes())
}

visible!(PeerId);
visible!(RoomId);
visible!(JobId);
visible!(JobVerifier);
visible!(JobProof);
visible!(OfferProof);
visible!(AddressTag);
visible!(RoomName);
visible!(DeviceName);
secret!(Token);
secret!(IdToken);
secret!(RelayToken);
secret!(JobSecret);
secret!(CacheOwner);

/// The credentials of a room: its id and its token, always together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomCredentials {
    /// The room.
    pub room_id: RoomId,
    /// The room's token.
    pub token: Token,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_is_always_a_plain_file_name() {
        for bad in ["", "..", "a/b", "a b", "a:b", "ä", "a\0"] {
            assert!(JobId::new(bad).is_err(), "{bad:?}");
        }
        assert!(JobId::new("job_1-a").is_ok());
        assert!(JobId::new("a".repeat(65)).is_err());
    }

    #[test]
    fn a_name_can_be_made_of_any_text() {
        for (text, name) in [
            ("gpu2.lab.example.org", "gpu2.lab.example.org"),
            ("Ada's MacBook\u{202e}", "Ada-s-MacBook"),
            (" \n ", "room"),
            ("Küche", "Küche"),
        ] {
            let nearest = RoomName::nearest(text);
            assert_eq!(nearest.as_str(), name);
            assert_eq!(RoomName::new(name), Ok(nearest));
        }
        let long = RoomName::nearest(&"ä".repeat(99));
        assert_eq!(RoomName::new(long.numbered(12).as_str()), Ok(long.numbered(12)));
        assert!(long.numbered(12).as_str().ends_with("ä-12"));
        assert!(DeviceName::new("a b").is_err() && DeviceName::new("ada@laptop").is_ok());
    }

    #[test]
    fn secrets_do_not_print() {
        let token = Token::new("hunter2").unwrap();
        assert_eq!(format!("{token:?}"), "Token(redacted)");
        assert!(token.matches(&Token::new("hunter2").unwrap()));
        assert!(!token.matches(&Token::new("hunter3").unwrap()));
    }
}
