//! What the workers of a room tell each other through the signaling server, which cannot read it: sealed
//! with a key that follows from the room's authority.

use crate::device::DeviceKey;
use crate::encoding;
use aes_gcm::{AeadInPlace, Aes256Gcm, KeyInit, Nonce, Tag};
use sleap_rtc_protocol::ids::{PeerId, RoomId};

/// The length of a nonce, in bytes.
pub const NOTE_NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const PURPOSE: &[u8] = b"sleap-rtc between workers 1";

/// A room's workers, as one of them writes to another.
#[derive(Debug, Clone, Copy)]
pub struct NoteRoute<'a> {
    /// The room.
    pub room: &'a RoomId,
    /// Who writes.
    pub from: &'a PeerId,
    /// Who reads.
    pub to: &'a PeerId,
}

impl NoteRoute<'_> {
    fn context(&self) -> Vec<u8> {
        let Self { room, from, to } = self;
        let parts = [room.as_str(), from.as_str(), to.as_str()].map(str::as_bytes);
        encoding::joined(&[PURPOSE, parts[0], parts[1], parts[2]])
    }

    /// `text` for the reader alone, as URL-safe base64. `nonce` is fresh and random. `None` for a text
    /// that is too long to be sealed.
    pub fn seal(
        &self,
        authority: &DeviceKey,
        nonce: [u8; NOTE_NONCE_BYTES],
        text: &[u8],
    ) -> Option<String> {
        let mut sealed = text.to_vec();
        let (at, context) = (Nonce::from(nonce), self.context());
        let tag = cipher(authority).encrypt_in_place_detached(&at, &context, &mut sealed).ok()?;
        Some(encoding::text(&[&nonce[..], &sealed, &tag].concat()))
    }

    /// What the writer has sealed. `None` if it comes from elsewhere.
    pub fn open(&self, authority: &DeviceKey, note: &str) -> Option<Vec<u8>> {
        let bytes = encoding::bytes(note)?;
        let (nonce, rest) = bytes.split_first_chunk::<NOTE_NONCE_BYTES>()?;
        let (sealed, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let (mut text, at, tag) = (sealed.to_vec(), Nonce::from(*nonce), Tag::from(*tag));
        let context = self.context();
        cipher(authority).decrypt_in_place_detached(&at, &context, &mut text, &tag).ok()?;
        Some(text)
    }
}

fn cipher(authority: &DeviceKey) -> Aes256Gcm {
    Aes256Gcm::new(&encoding::hash(&[PURPOSE, &authority.to_bytes()[..]]).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_for_one_reader_of_one_room() {
        let (room, other): (RoomId, RoomId) = ("r".parse().unwrap(), "s".parse().unwrap());
        let (a, b): (PeerId, PeerId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let key = DeviceKey::from_bytes([1; 32]);
        let route = NoteRoute { room: &room, from: &a, to: &b };
        let note = route.seal(&key, [3; 12], b"hello").unwrap();
        assert!(!note.contains("hello"));
        assert_eq!(route.open(&key, &note).as_deref(), Some(&b"hello"[..]));
        let stranger = DeviceKey::from_bytes([2; 32]);
        assert_eq!(route.open(&stranger, &note), None);
        for wrong in [
            NoteRoute { from: &b, to: &a, ..route },
            NoteRoute { to: &a, ..route },
            NoteRoute { room: &other, ..route },
        ] {
            assert_eq!(wrong.open(&key, &note), None);
        }
        let mut damaged = note.clone();
        damaged.replace_range(20..21, if &note[20..21] == "A" { "B" } else { "A" });
        assert_eq!(route.open(&key, &damaged), None);
        for nonsense in ["", "AAAA", "%"] {
            assert_eq!(route.open(&key, nonsense), None);
        }
    }
}
