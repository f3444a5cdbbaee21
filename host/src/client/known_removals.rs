//! The removed devices of this client's rooms, in one private file. The client passes them to each worker
//! that it connects to, so a server cannot hide a removal for long.

use super::room_notes::{self, RoomNote};
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::ids::RoomId;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::removal::{RemovalNote, Removals};
use std::path::{Path, PathBuf};

/// The most rooms in the file; those go first of which there was no news for the longest time.
const MAX_ROOMS: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
struct OfRoom {
    room: RoomId,
    notes: Vec<RemovalNote>,
}

impl RoomNote for OfRoom {
    const FILE: &'static str = "removals.json";
    const SAYS: &'static str = "which devices are removed";

    fn room(&self) -> &RoomId {
        &self.room
    }
}

/// What this client knows of one room.
#[derive(Debug)]
pub(crate) struct KnownRemovals {
    folder: PathBuf,
    room: RoomId,
    authority: DeviceId,
    removals: Removals,
}

impl KnownRemovals {
    /// Those of `room`, as far as `authority` has signed them. A file that cannot be read counts as empty.
    pub(crate) fn of(folder: &Path, room: &RoomId, authority: DeviceId) -> Self {
        let all: Vec<OfRoom> = room_notes::read(folder);
        let known = all.into_iter().find(|known| known.room == *room);
        let notes = known.map(|known| known.notes).unwrap_or_default();
        let removals = Removals::of(&authority, &notes);
        Self { folder: folder.to_owned(), room: room.clone(), authority, removals }
    }

    /// All of them.
    pub(crate) fn all(&self) -> &Removals {
        &self.removals
    }

    /// Takes what a worker has told, and keeps it for the next conversation. If the file cannot be
    /// written, it counts for this process alone.
    pub(crate) fn take(&mut self, news: &[RemovalNote]) {
        if self.removals.take(&self.authority, news).is_empty() {
            return;
        }
        room_notes::change(&self.folder, |all: &mut Vec<OfRoom>| {
            // Another client may have heard of others since.
            if let Some(at) = all.iter().position(|known| known.room == self.room) {
                self.removals.take(&self.authority, &all.remove(at).notes);
            }
            all.push(OfRoom { room: self.room.clone(), notes: self.removals.notes() });
            all.drain(..all.len().saturating_sub(MAX_ROOMS));
        });
    }
}

/// Forgets those of `room`.
pub(crate) fn forget(folder: &Path, room: &RoomId) {
    room_notes::forget::<OfRoom>(folder, room);
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_trust::device::DeviceKey;
    use sleap_rtc_trust::removal::{JobsLeft, Removal};

    #[test]
    fn what_was_heard_in_a_room_is_known_there_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, eve) =
            (DeviceKey::from_bytes([1; 32]), DeviceKey::from_bytes([2; 32]).id());
        let (room, other) = (RoomId::new("a").unwrap(), RoomId::new("b").unwrap());
        let jobs = JobsLeft::Continue;
        let removal = Removal { at_s: 1, token_number: 1, jobs, device: eve };
        let known = |room| KnownRemovals::of(folder.path(), room, authority.id());
        known(&other).take(&[RemovalNote::issue(&DeviceKey::from_bytes([3; 32]), removal)]);
        assert!(!folder.path().join(OfRoom::FILE).exists(), "a stranger's word");
        known(&room).take(&[RemovalNote::issue(&authority, removal)]);
        assert!(known(&room).all().cover(&eve, None) && known(&other).all().is_empty());
        forget(folder.path(), &room);
        assert!(known(&room).all().is_empty());
        std::fs::write(folder.path().join(OfRoom::FILE), "damaged").unwrap();
        assert!(known(&room).all().is_empty());
    }
}
