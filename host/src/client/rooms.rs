//! The rooms that this device has paired with: one file in the client's state folder. Only its
//! owner can read it, because it contains the rooms' tokens.

use super::known_removals;
use super::known_workers::{self, KnownWorkers};
use serde::{Deserialize, Serialize};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_base::folder::private;
use sleap_rtc_base::{json_file, lock};
use sleap_rtc_protocol::ids::{DeviceName, PeerId, RoomId, RoomName};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_signaling::client::Servers;
use sleap_rtc_trust::certificate::Certificate;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::pairing::Grant;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The most characters of a worker's name that are kept.
const MAX_NAME_CHARS: usize = 64;
const FILE: &str = "rooms.json";
const LOCK: &str = "rooms.lock";
/// How long to wait for another program that has locked the file, normally only for moments.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Why the saved rooms cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RoomsError {
    /// The file or its folder cannot be used.
    #[error("cannot use the saved rooms in {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is damaged, or comes from a newer program.
    #[error("{path} is damaged; move it away and pair again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// Another program has locked the file.
    #[error("another sleap-rtc is changing the saved rooms; try again")]
    Busy,
    /// No room has that name.
    #[error("this device knows no room {name}; {}", known_ones(.known))]
    Unknown {
        /// The name.
        name: RoomName,
        /// The names of the known rooms.
        known: Vec<RoomName>,
    },
    /// Another room has that name.
    #[error("another room is already called {0}")]
    Taken(RoomName),
    /// Several rooms are known, and none was named.
    #[error("this device knows several rooms ({}); choose one", list(.0))]
    Several(Vec<RoomName>),
    /// This device has not paired with any room.
    #[error("this device knows no room")]
    NoRoom,
}

fn list(names: &[RoomName]) -> String {
    names.iter().map(RoomName::as_str).collect::<Vec<_>>().join(", ")
}

fn known_ones(names: &[RoomName]) -> String {
    match names.is_empty() {
        true => "it has paired with none".to_owned(),
        false => format!("it knows {}", list(names)),
    }
}

/// A room that this device has paired with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRoom {
    /// Its name on this device.
    pub name: RoomName,
    /// Its credentials.
    #[serde(flatten)]
    pub credential: Credential,
    /// The signaling servers where the room is.
    #[serde(flatten)]
    pub servers: Servers,
    /// The certificate that the room's authority issued to this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// When it was paired, in seconds since 1970.
    pub paired_s: u64,
    /// The workers that this device has paired with.
    #[serde(default)]
    pub workers: Vec<PairedWorker>,
}

/// A worker that this device has paired with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairedWorker {
    /// The name that it gives itself.
    pub name: DeviceName,
    /// Its peer id.
    pub peer: PeerId,
}

/// The saved rooms, in the order in which they were paired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SavedRooms(Vec<SavedRoom>);

impl SavedRooms {
    /// Reads the rooms in `folder`. None if there is no file.
    pub fn load(folder: &Path) -> Result<Self, RoomsError> {
        let path = folder.join(FILE);
        match json_file::load(&path) {
            Ok(rooms) => Ok(rooms.unwrap_or_default()),
            Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                Err(RoomsError::Damaged { path, source })
            }
            Err(source) => Err(RoomsError::Io { path, source }),
        }
    }

    /// Changes the rooms in `folder`, under a lock.
    pub(crate) async fn change<T>(
        folder: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, RoomsError>,
    ) -> Result<T, RoomsError> {
        let failed = |source| RoomsError::Io { path: folder.join(FILE), source };
        private(folder).map_err(failed)?;
        let _lock = locked(&folder.join(LOCK)).await?;
        let mut rooms = Self::load(folder)?;
        let changed = change(&mut rooms)?;
        json_file::save(&folder.join(FILE), &rooms).map_err(failed)?;
        Ok(changed)
    }

    /// All saved rooms.
    pub fn iter(&self) -> impl Iterator<Item = &SavedRoom> {
        self.0.iter()
    }

    fn names(&self) -> Vec<RoomName> {
        self.0.iter().map(|room| room.name.clone()).collect()
    }

    /// The room of that name, or the only one if no name is given.
    pub fn find(&self, name: Option<&RoomName>) -> Result<&SavedRoom, RoomsError> {
        match (name, self.0.as_slice()) {
            (Some(name), rooms) => rooms
                .iter()
                .find(|room| room.name == *name)
                .ok_or_else(|| RoomsError::Unknown { name: name.clone(), known: self.names() }),
            (None, [only]) => Ok(only),
            (None, []) => Err(RoomsError::NoRoom),
            (None, _) => Err(RoomsError::Several(self.names())),
        }
    }

    /// What the authority of the room with that id says of `device`.
    pub(crate) fn certificate(&self, room: &RoomId, device: &DeviceId) -> Option<&Certificate> {
        let rooms = self.0.iter().filter(|saved| saved.credential.room_id == *room);
        let mut certificates = rooms.filter_map(|saved| saved.certificate.as_ref());
        certificates.find(|of| of.subject().device == *device)
    }

    /// Adds what a worker has granted, or renews what is known of the same room. Returns the name that
    /// the room has here: its own, with a number where another room has that.
    pub(crate) fn add(&mut self, grant: Grant, servers: &Servers) -> RoomName {
        let worker = PairedWorker { name: grant.worker_name, peer: grant.worker };
        let known = self.0.iter().position(|room| {
            room.credential.room_id == grant.room.room_id && room.servers.share_with(servers)
        });
        let (name, mut workers) = match known.map(|at| self.0.remove(at)) {
            Some(room) => (room.name, room.workers),
            None => (self.free_name(grant.room_name), Vec::new()),
        };
        workers.retain(|known| known.peer != worker.peer);
        workers.push(worker);
        self.0.push(SavedRoom {
            name: name.clone(),
            credential: grant.room,
            servers: servers.clone(),
            certificate: grant.certificate,
            paired_s: now_s(),
            workers,
        });
        name
    }

    fn free_name(&self, wanted: RoomName) -> RoomName {
        let is_free = |name: &RoomName| self.0.iter().all(|room| room.name != *name);
        let numbered = (2..).map(|number| wanted.numbered(number));
        std::iter::once(wanted.clone()).chain(numbered).find(is_free).unwrap_or(wanted)
    }

    /// Gives a room another name.
    pub(crate) fn rename(&mut self, old: &RoomName, new: RoomName) -> Result<(), RoomsError> {
        self.find(Some(old))?;
        if *old != new && self.0.iter().any(|room| room.name == new) {
            return Err(RoomsError::Taken(new));
        }
        self.0.iter_mut().filter(|room| room.name == *old).for_each(|room| room.name = new.clone());
        Ok(())
    }

    /// Forgets a room and its token. Returns its id.
    pub(crate) fn forget(&mut self, name: &RoomName) -> Result<RoomId, RoomsError> {
        let id = self.find(Some(name))?.credential.room_id.clone();
        self.0.retain(|room| room.name != *name);
        Ok(id)
    }
}

/// Forgets a room, its token, and the workers and removals that are known there.
pub(crate) async fn forget(folder: &Path, name: &RoomName) -> Result<(), RoomsError> {
    let room = SavedRooms::change(folder, |rooms| rooms.forget(name)).await?;
    known_workers::forget(folder, &room);
    known_removals::forget(folder, &room);
    Ok(())
}

/// Trusts the worker that has granted this from now on, even if the room's authority does not certify it.
pub(crate) fn believe(folder: &Path, grant: &Grant) {
    if let Some(device) = grant.worker_device {
        let name = Printable::line(grant.worker_name.as_str(), MAX_NAME_CHARS);
        KnownWorkers::of(folder, &grant.room.room_id).add(device, &name, now_s());
    }
}

async fn locked(path: &Path) -> Result<File, RoomsError> {
    let failed = |source| RoomsError::Io { path: path.to_owned(), source };
    let file = File::options().create(true).append(true).open(path).map_err(failed)?;
    let start = Instant::now();
    loop {
        match lock::exclusive(&file, path) {
            Ok(_) => return Ok(file),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(failed(error)),
            Err(_) if start.elapsed() > LOCK_DEADLINE => return Err(RoomsError::Busy),
            Err(_) => tokio::time::sleep(LOCK_POLL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::ids::{RoomCredentials, Token};
    use std::os::unix::fs::PermissionsExt;

    fn name(text: &str) -> RoomName {
        RoomName::new(text).unwrap()
    }

    fn grant(room: &str, called: &str, worker: &str) -> Grant {
        let room_id = RoomId::new(room).unwrap();
        Grant {
            room: Credential::keyless(RoomCredentials { room_id, token: Token::new("t").unwrap() }),
            room_name: name(called),
            worker: PeerId::new(worker).unwrap(),
            worker_name: DeviceName::nearest(worker),
            worker_device: None,
            certificate: None,
        }
    }

    fn server(text: &str) -> Servers {
        Servers::from_texts(&[text.to_owned()]).unwrap()
    }

    #[test]
    fn names_are_unique_and_a_room_that_is_paired_again_keeps_its_own() {
        let (mut rooms, here) = (SavedRooms::default(), server("ws://a"));
        assert!(matches!(rooms.find(None), Err(RoomsError::NoRoom)));
        assert_eq!(rooms.add(grant("1", "lab", "w1"), &here), name("lab"));
        assert_eq!(rooms.find(None).unwrap().name, name("lab"));
        assert_eq!(rooms.add(grant("2", "lab", "w2"), &here), name("lab-2"));
        assert_eq!(rooms.add(grant("1", "lab", "w1"), &server("ws://b")), name("lab-3"));
        rooms.rename(&name("lab"), name("north")).unwrap();
        assert_eq!(rooms.add(grant("1", "other", "w3"), &here), name("north"));
        assert_eq!(rooms.find(Some(&name("north"))).unwrap().workers.len(), 2);
        let several = rooms.find(None).unwrap_err().to_string();
        assert!(several.contains("lab-2, lab-3, north"), "{several}");
        let taken = rooms.rename(&name("north"), name("lab-2")).unwrap_err();
        assert!(matches!(taken, RoomsError::Taken(_)));
        rooms.forget(&name("lab-2")).unwrap();
        let unknown = rooms.forget(&name("lab-2")).unwrap_err().to_string();
        assert!(unknown.contains("it knows lab-3, north"), "{unknown}");
    }

    #[tokio::test]
    async fn the_file_is_private_and_many_programs_change_it() {
        let folder = tempfile::tempdir().unwrap();
        let here = server("ws://a");
        let changes = (0..20).map(|at| {
            let (folder, here) = (folder.path().to_owned(), here.clone());
            tokio::spawn(async move {
                let grant = grant(&at.to_string(), "lab", "w");
                SavedRooms::change(&folder, |rooms| Ok(rooms.add(grant, &here))).await.unwrap()
            })
        });
        for change in changes.collect::<Vec<_>>() {
            change.await.unwrap();
        }
        let rooms = SavedRooms::load(folder.path()).unwrap();
        assert_eq!(rooms.iter().count(), 20);
        let mode = folder.path().join(FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(folder.path().join(FILE), "[{").unwrap();
        assert!(matches!(SavedRooms::load(folder.path()), Err(RoomsError::Damaged { .. })));
    }
}
