//! Who has been removed from a room: notes that the room's authority signs. Every peer keeps those that it
//! has seen and hands them on, so that a signaling server that withholds them from a worker withholds
//! them only until a peer calls there that has seen them.

use crate::device::{DeviceId, DeviceKey, SIGNATURE_BYTES};
use crate::encoding;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::{fmt, str::FromStr};

/// The most devices that a room remembers to have removed.
pub const MAX_REMOVALS: usize = 256;
const PURPOSE: &[u8] = b"sleap-rtc removal 1";
/// Device, time, number of the token, what becomes of its jobs.
const NOTE_BYTES: usize = 32 + 8 + 4 + 1;

/// What becomes of the running jobs of a device that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobsLeft {
    /// They run to their end.
    Continue,
    /// They are cancelled.
    Cancel,
}

impl JobsLeft {
    fn byte(self) -> u8 {
        match self {
            Self::Continue => 0,
            Self::Cancel => 1,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Continue, Self::Cancel].into_iter().find(|jobs| jobs.byte() == byte)
    }
}

/// That a device is no member any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Removal {
    /// When, in seconds since 1970: certificates from before do not count.
    pub at_s: u64,
    /// The number of the room's token from then on.
    pub token_number: u32,
    /// What becomes of its jobs.
    pub jobs: JobsLeft,
    /// The device.
    pub device: DeviceId,
}

/// A removal that an authority has signed. As text: URL-safe base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RemovalNote {
    removal: Removal,
    signature: [u8; SIGNATURE_BYTES],
}

/// A text is no such note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a note about a removed device")]
pub struct NotANote;

impl Removal {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.device.as_bytes().to_vec();
        bytes.extend_from_slice(&self.at_s.to_be_bytes());
        bytes.extend_from_slice(&self.token_number.to_be_bytes());
        bytes.push(self.jobs.byte());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (device, rest) = bytes.split_first_chunk::<32>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let (number, jobs) = rest.split_first_chunk::<4>()?;
        let [jobs] = jobs else { return None };
        Some(Self {
            at_s: u64::from_be_bytes(*at),
            token_number: u32::from_be_bytes(*number),
            jobs: JobsLeft::from_byte(*jobs)?,
            device: DeviceId::from_bytes(*device).ok()?,
        })
    }
}

impl RemovalNote {
    /// Signs `removal`.
    pub fn issue(authority: &DeviceKey, removal: Removal) -> Self {
        let signature = authority.sign(&encoding::joined(&[PURPOSE, &removal.to_bytes()]));
        Self { removal, signature }
    }

    /// What it says. Believe it only of notes that [`Removals`] has taken.
    pub fn removal(&self) -> &Removal {
        &self.removal
    }

    fn is_of(&self, authority: &DeviceId) -> bool {
        let signed = encoding::joined(&[PURPOSE, &self.removal.to_bytes()]);
        authority.has_signed(&signed, &self.signature)
    }
}

impl FromStr for RemovalNote {
    type Err = NotANote;

    fn from_str(text: &str) -> Result<Self, NotANote> {
        let parse = || {
            let bytes = encoding::bytes(text)?;
            let (removal, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
            let removal: &[u8; NOTE_BYTES] = removal.try_into().ok()?;
            Some(Self { removal: Removal::parse(removal)?, signature: *signature })
        };
        parse().ok_or(NotANote)
    }
}

impl fmt::Display for RemovalNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.removal.to_bytes();
        bytes.extend_from_slice(&self.signature);
        f.write_str(&encoding::text(&bytes))
    }
}

impl TryFrom<String> for RemovalNote {
    type Error = NotANote;

    fn try_from(text: String) -> Result<Self, NotANote> {
        text.parse()
    }
}

impl From<RemovalNote> for String {
    fn from(note: RemovalNote) -> Self {
        note.to_string()
    }
}

/// The removals of one room that a peer has seen: the newest note of each device, and the newest
/// [`MAX_REMOVALS`] devices. However often and in whatever order notes arrive, the same ones remain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removals(BTreeMap<DeviceId, RemovalNote>);

impl Removals {
    /// Those of `notes` that `authority` has signed.
    pub fn of(authority: &DeviceId, notes: &[RemovalNote]) -> Self {
        let mut removals = Self::default();
        removals.take(authority, notes);
        removals
    }

    /// Takes what is new and signed by `authority`, and returns it.
    pub fn take(&mut self, authority: &DeviceId, notes: &[RemovalNote]) -> Vec<RemovalNote> {
        let mut news: Vec<RemovalNote> = Vec::new();
        for note in notes {
            let device = note.removal.device;
            let is_newer = self.0.get(&device).is_none_or(|known| known < note);
            if is_newer && note.is_of(authority) {
                self.0.insert(device, *note);
                news.push(*note);
            }
        }
        while self.0.len() > MAX_REMOVALS {
            let oldest = self.0.values().min().map(|note| note.removal.device);
            oldest.and_then(|device| self.0.remove(&device));
        }
        news.retain(|note| self.0.get(&note.removal.device) == Some(note));
        news
    }

    /// All of them, by device.
    pub fn notes(&self) -> Vec<RemovalNote> {
        self.0.values().copied().collect()
    }

    /// Those that a peer has not that has `others`.
    pub fn beyond(&self, others: &[RemovalNote]) -> Vec<RemovalNote> {
        self.0.values().filter(|note| !others.contains(note)).copied().collect()
    }

    /// The removal of `device`, whether or not it was admitted again later.
    pub fn of_device(&self, device: &DeviceId) -> Option<&Removal> {
        self.0.get(device).map(|note| &note.removal)
    }

    /// Whether `device` is removed. A certificate that was issued afterwards, in seconds since 1970,
    /// admits it again.
    pub fn cover(&self, device: &DeviceId, issued_s: Option<u64>) -> bool {
        let removal = self.of_device(device);
        removal.is_some_and(|removal| issued_s.is_none_or(|issued_s| issued_s <= removal.at_s))
    }

    /// The number of the room's token: each removal replaces it.
    pub fn token_number(&self) -> u32 {
        self.0.values().map(|note| note.removal.token_number).max().unwrap_or(0)
    }

    /// Whether nobody has been removed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether no further device can be removed.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_REMOVALS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u16) -> DeviceKey {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&seed.to_be_bytes());
        DeviceKey::from_bytes(bytes)
    }

    fn note(device: u16, at_s: u64, token_number: u32) -> RemovalNote {
        let jobs = JobsLeft::Continue;
        let removal = Removal { at_s, token_number, jobs, device: key(device).id() };
        RemovalNote::issue(&key(0), removal)
    }

    #[test]
    fn a_removed_device_is_a_member_again_by_a_later_certificate_only() {
        let removals = Removals::of(&key(0).id(), &[note(1, 1_000, 3)]);
        let (removed, other) = (key(1).id(), key(2).id());
        assert!(removals.cover(&removed, None) && removals.cover(&removed, Some(1_000)));
        assert!(!removals.cover(&removed, Some(1_001)) && !removals.cover(&other, None));
        assert_eq!(removals.token_number(), 3);
    }

    #[test]
    fn a_note_of_another_room_is_not_taken() {
        let mut removals = Removals::default();
        assert_eq!(removals.take(&key(9).id(), &[note(1, 1_000, 1)]), []);
        assert!(removals.is_empty());
    }

    #[test]
    fn a_room_remembers_the_newest() {
        let notes: Vec<RemovalNote> =
            (1..=MAX_REMOVALS as u16 + 2).map(|device| note(device, device.into(), 1)).collect();
        let removals = Removals::of(&key(0).id(), &notes);
        assert!(removals.is_full() && removals.notes().len() == MAX_REMOVALS);
        assert!(!removals.cover(&key(2).id(), None) && removals.cover(&key(3).id(), None));
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(
            notes in prop::collection::vec((1..5u16, 0..4u64, 0..3u32), 0..12), at in 0..12usize,
        ) {
            let notes: Vec<RemovalNote> =
                notes.into_iter().map(|(device, at_s, number)| note(device, at_s, number)).collect();
            let authority = key(0).id();
            let all = Removals::of(&authority, &notes);
            let (one, other) = notes.split_at(at.min(notes.len()));
            let (mut here, mut there) =
                (Removals::of(&authority, other), Removals::of(&authority, one));
            let news = here.take(&authority, &there.beyond(&here.notes()));
            prop_assert!(news.iter().all(|note| here.notes().contains(note)));
            there.take(&authority, &here.beyond(&there.notes()));
            prop_assert_eq!(&here, &all);
            prop_assert_eq!(&there, &all);
            prop_assert!(here.take(&authority, &notes).is_empty());
        }

        #[test]
        fn what_is_changed_is_not_taken(at in 0..NOTE_BYTES + SIGNATURE_BYTES, bit in 0..8u32) {
            let mut bytes = encoding::bytes(&note(1, 1_000, 1).to_string()).unwrap();
            bytes[at] ^= 1 << bit;
            if let Ok(changed) = encoding::text(&bytes).parse::<RemovalNote>() {
                prop_assert!(Removals::of(&key(0).id(), &[changed]).is_empty());
            }
        }
    }
}
