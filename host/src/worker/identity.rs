//! The identity of this worker, which survives restarts, so that session strings stay valid.

use super::WorkerRoom;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::folder::private;
use sleap_rtc_base::json_file;
use sleap_rtc_base::lock;
use sleap_rtc_base::os::host_name;
use sleap_rtc_protocol::ids::{IdToken, PeerId, RoomId};
use sleap_rtc_signaling::client::{Endpoints, HttpApi, PeerIdentity, Servers};
use sleap_rtc_trust::credential::{Credential, PeerPart, RoomToken};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const FILE: &str = "identity.json";
/// The worker that uses the folder locks this file, and writes into it which worker it is.
const LOCK: &str = "lock";
/// The secrets of the rooms. A file of its own, because older versions send the whole identity file to the
/// server.
const KEYS: &str = "room-keys.json";

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another worker uses it.
    #[error("another worker ({holder}) uses the state folder {path}; {}", .holder.advice())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Which worker.
        holder: RunningWorker,
    },
    /// It cannot be read or written.
    #[error("cannot use the state folder {path}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A worker that holds its state folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningWorker {
    host: String,
    /// `None` if its version is too old to say.
    pid: Option<u32>,
    #[serde(skip)]
    room: Option<RoomId>,
}

impl RunningWorker {
    /// The worker that uses the state folder, if one does.
    #[cfg(feature = "signaling")]
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let file = File::open(folder.join(LOCK)).ok()?;
        let locked = lock::exclusive(&file, folder);
        let is_held = locked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        is_held.then(|| Self::read(folder))
    }

    /// What the folder says about the worker that holds it. Older versions write nothing there.
    fn read(folder: &Path) -> Self {
        let holder: Option<Self> = json_file::load(&folder.join(LOCK)).ok().flatten();
        let saved: Option<SavedIdentities> = json_file::load(&folder.join(FILE)).ok().flatten();
        Self { room: saved.map(|saved| saved.last.room.room_id), ..holder.unwrap_or_default() }
    }

    /// What its user can do.
    pub(crate) fn advice(&self) -> String {
        let end = match (self.pid, self.host == host_name()) {
            (None, _) => "stop it".to_owned(),
            (Some(pid), true) => format!("end it with `kill {pid}`"),
            (Some(pid), false) => format!("end it with `kill {pid}` on {}", self.host),
        };
        format!(
            "it keeps running after its terminal closes: {end} (its jobs continue), or give this one a state \
             folder of its own with --state-dir"
        )
    }
}

impl fmt::Display for RunningWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            None => f.write_str("of an older version")?,
            Some(pid) => write!(f, "process {pid}")?,
        }
        match &self.room {
            Some(room) => write!(f, ", room {room}"),
            None => Ok(()),
        }
    }
}

/// The worker's state folder, locked for as long as this value lives.
#[derive(Debug)]
pub(crate) struct StateFolder {
    path: PathBuf,
    _lock: File,
}

/// The most servers whose identities are kept, so that the worker returns to its room at each of
/// them.
const MAX_SERVERS: usize = 8;

/// The file: the identity of the last run, and those at other servers.
#[derive(Serialize, Deserialize)]
struct SavedIdentities {
    #[serde(flatten)]
    last: SavedIdentity,
    /// The latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    elsewhere: Vec<SavedIdentity>,
}

#[derive(Serialize, Deserialize)]
struct SavedIdentity {
    /// The server that issued this identity.
    server: String,
    peer_id: PeerId,
    id_token: IdToken,
    /// With the room's authority, if this worker has it.
    room: Credential,
}

impl StateFolder {
    pub(crate) fn lock(path: &Path) -> Result<Self, IdentityError> {
        let io = |source| IdentityError::Io { path: path.to_owned(), source };
        private(path).map_err(io)?;
        let kept = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
        let mut file = kept.map_err(io)?;
        match lock::exclusive(&file, path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let (path, holder) = (path.to_owned(), RunningWorker::read(path));
                return Err(IdentityError::Locked { path, holder });
            }
            Err(error) => return Err(io(error)),
        }
        let own = RunningWorker { host: host_name(), pid: Some(std::process::id()), room: None };
        let own = serde_json::to_vec(&own).unwrap_or_default();
        if let Err(error) = file.set_len(0).and_then(|()| file.write_all(&own)) {
            // Only messages need it, and a worker must also start on a full disk.
            tracing::debug!(%error, "the lock does not name this worker");
        }
        Ok(Self { path: path.to_owned(), _lock: file })
    }

    /// The identities of earlier runs, the last one first. A damaged file counts as none.
    fn all(&self) -> Result<Vec<SavedIdentity>, IdentityError> {
        let saved = match json_file::load(&self.path.join(FILE)) {
            Ok(Some(SavedIdentities { last, elsewhere })) => [last].into_iter().chain(elsewhere),
            Ok(None) => return Ok(Vec::new()),
            Err(error) => {
                // Without the details, which may quote the file's secrets.
                tracing::warn!(reason = %error.kind(), "cannot read {FILE}; starting as a new worker");
                return Ok(Vec::new());
            }
        };
        let keys = self.keys()?;
        let whole = |mut saved: SavedIdentity| {
            let is_its = |known: &&Credential| known.for_server() == saved.room.for_server();
            if let Some(known) = keys.iter().find(is_its).filter(|_| saved.room.peer().is_none()) {
                saved.room = known.clone();
            }
            saved
        };
        Ok(saved.map(whole).collect())
    }

    /// The rooms with what their peers share. Without this file the worker would trust the server from
    /// now on, so a damaged one is an error.
    fn keys(&self) -> Result<Vec<Credential>, IdentityError> {
        let path = self.path.join(KEYS);
        let keys = json_file::load(&path).map(Option::unwrap_or_default);
        // Without the details, which may quote the file's secrets.
        keys.map_err(|error| IdentityError::Io { path, source: error.kind().into() })
    }

    /// The identity of the last run at one of these servers, which share what they know.
    fn load(&self, servers: &Servers) -> Result<Option<SavedIdentity>, IdentityError> {
        let is_theirs = |saved: &SavedIdentity| {
            servers.iter().any(|server| saved.server == server.http.as_str())
        };
        Ok(self.all()?.into_iter().find(is_theirs))
    }

    fn save(&self, last: SavedIdentity) -> Result<(), IdentityError> {
        let mut elsewhere = self.all()?;
        elsewhere.retain(|saved| saved.server != last.server);
        elsewhere.truncate(MAX_SERVERS - 1);
        let rooms = [&last].into_iter().chain(&elsewhere).map(|saved| saved.room.clone());
        let keys: Vec<Credential> = rooms.filter(|room| room.peer().is_some()).collect();
        let keyless = |saved: SavedIdentity| {
            let room = Credential::keyless(saved.room.for_server());
            SavedIdentity { room, ..saved }
        };
        let elsewhere = elsewhere.into_iter().map(keyless).collect();
        // The keys first: an identity without them would do without from then on.
        self.write(KEYS, &keys)?;
        self.write(FILE, &SavedIdentities { last: keyless(last), elsewhere })
    }

    fn write(&self, name: &str, content: &impl Serialize) -> Result<(), IdentityError> {
        let path = self.path.join(name);
        json_file::save(&path, content).map_err(|source| IdentityError::Io { path, source })
    }
}

/// Signs in, with the identity of the last run if possible. Returns it with the room to enter: the one of
/// the options, of the last run, or a new one. Also returns the server that has answered.
pub(crate) async fn join(
    state: &StateFolder,
    servers: &Servers,
    wanted: &WorkerRoom,
) -> Result<(Endpoints, PeerIdentity, Credential), super::WorkerError> {
    let saved = if *wanted == WorkerRoom::New { None } else { state.load(servers)? };
    // The server replaces an identity that it does not know. Other errors end the worker and keep it.
    let renew = saved.as_ref().map(|saved| &saved.id_token);
    let (server, identity) = servers.sign_in(renew).await?;
    if let Some(saved) = saved.as_ref().filter(|saved| saved.peer_id != identity.peer_id) {
        tracing::warn!(
            before = %saved.peer_id,
            now = %identity.peer_id,
            "the server issued a new identity instead of the saved one (a Python server always does): \
             this is a new worker in a new room, and earlier session strings and room credentials do \
             not lead to it"
        );
    }
    let kept = saved.filter(|saved| saved.peer_id == identity.peer_id).map(|saved| saved.room);
    let room = match (wanted, kept) {
        // A worker with the authority keeps it, even if it joins again with the token for clients.
        (WorkerRoom::Join(room), Some(kept)) if *room == kept.for_clients() => kept,
        (WorkerRoom::Join(room), _) => room.clone(),
        (WorkerRoom::Kept, Some(room)) => room,
        _ => new_room(&server, &identity).await?,
    };
    Ok((server, identity, room))
}

/// Creates a room. The server learns only its own part of the token.
pub(crate) async fn new_room(
    server: &Endpoints,
    identity: &PeerIdentity,
) -> Result<Credential, super::WorkerError> {
    let room = HttpApi::new(&server.http).create_room(&identity.id_token).await?;
    let mut random = [0; 48];
    rand::fill(&mut random[..]);
    let token = RoomToken::new(room.token, PeerPart::from_random(random))?;
    Ok(Credential { room_id: room.room_id, token })
}

/// Saves both for the next run. Call it once the room has admitted this worker: a mistyped token must not
/// replace the saved room.
pub(crate) fn remember(
    state: &StateFolder,
    servers: &Servers,
    identity: &PeerIdentity,
    room: &Credential,
) -> Result<(), IdentityError> {
    state.save(SavedIdentity {
        server: servers.first().http.to_string(),
        peer_id: identity.peer_id.clone(),
        id_token: identity.id_token.clone(),
        room: room.clone(),
    })
}
