//! The workers that this user has accepted although no authority certifies them: one file, readable
//! only by its owner.

use super::room_notes::{self, RoomNote};
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::ids::RoomId;
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_trust::device::DeviceId;
use std::path::{Path, PathBuf};

/// An accepted worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownWorker {
    room: RoomId,
    device: DeviceId,
    /// The name that it gave itself.
    name: String,
    /// When it was accepted, in seconds since 1970.
    since_s: u64,
}

impl RoomNote for KnownWorker {
    const FILE: &'static str = "known-workers.json";
    const SAYS: &'static str = "which workers are accepted";

    fn room(&self) -> &RoomId {
        &self.room
    }
}

/// The accepted workers of one room.
#[derive(Debug)]
pub(crate) struct KnownWorkers {
    folder: PathBuf,
    room: RoomId,
    devices: Vec<DeviceId>,
}

impl KnownWorkers {
    /// The accepted workers of `room`, from the file in `folder`. An unreadable file counts as
    /// empty.
    pub(crate) fn of(folder: &Path, room: &RoomId) -> Self {
        let all: Vec<KnownWorker> = room_notes::read(folder);
        let of_room = all.into_iter().filter(|worker| worker.room == *room);
        let devices = of_room.map(|worker| worker.device).collect();
        Self { folder: folder.to_owned(), room: room.clone(), devices }
    }

    pub(crate) fn contains(&self, device: &DeviceId) -> bool {
        self.devices.contains(device)
    }

    /// Accepts a worker at `now_s`, in seconds since 1970. If the file cannot be written, only this
    /// process accepts it.
    pub(crate) fn add(&mut self, device: DeviceId, name: &Printable, now_s: u64) {
        self.devices.push(device);
        let (room, name) = (self.room.clone(), name.to_string());
        room_notes::change(&self.folder, |all: &mut Vec<KnownWorker>| {
            all.push(KnownWorker { room, device, name, since_s: now_s });
        });
    }
}

/// Forgets the workers of `room`.
pub(crate) fn forget(folder: &Path, room: &RoomId) {
    room_notes::forget::<KnownWorker>(folder, room);
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_trust::device::DeviceKey;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_worker_is_accepted_in_one_room_and_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let (room, other) = (RoomId::new("a").unwrap(), RoomId::new("b").unwrap());
        let device = DeviceKey::from_bytes([1; 32]).id();
        let mut known = KnownWorkers::of(folder.path(), &room);
        assert!(!known.contains(&device));
        known.add(device, &Printable::line("gpu7", 64), 1);
        assert!(known.contains(&device));
        assert!(KnownWorkers::of(folder.path(), &room).contains(&device));
        assert!(!KnownWorkers::of(folder.path(), &other).contains(&device));
        let mode = folder.path().join(KnownWorker::FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        KnownWorkers::of(folder.path(), &other).add(device, &Printable::line("gpu7", 64), 1);
        forget(folder.path(), &room);
        assert!(!KnownWorkers::of(folder.path(), &room).contains(&device));
        assert!(KnownWorkers::of(folder.path(), &other).contains(&device));
        std::fs::write(folder.path().join(KnownWorker::FILE), "damaged").unwrap();
        assert!(!KnownWorkers::of(folder.path(), &room).contains(&device));
    }
}
