//! Who this worker is: kept from one start to the next, so that a session string given out last
//! week still works.

use super::WorkerRoom;
use crate::signaling::client::{HttpApi, Identity, SignalingError};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::ids::{IdToken, PeerId, RoomCredentials};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use url::Url;

const FILE: &str = "identity.json";

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another worker holds it.
    #[error(
        "another worker uses the state folder {0}; stop it, or give this one its own with --state-dir"
    )]
    Locked(PathBuf),
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

/// The worker's state folder, locked for as long as this value lives.
#[derive(Debug)]
pub(super) struct StateFolder {
    path: PathBuf,
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    /// The server that knows this identity: another server would not.
    server: String,
    peer_id: PeerId,
    id_token: IdToken,
    room: RoomCredentials,
}

impl StateFolder {
    pub(super) fn lock(path: &Path) -> Result<Self, IdentityError> {
        let io = |source| IdentityError::Io { path: path.to_owned(), source };
        create_private(path).map_err(io)?;
        let lock = File::create(path.join("lock")).map_err(io)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(IdentityError::Locked(path.to_owned())),
            Err(error) => Err(io(error.into())),
        }
    }

    /// The identity of the last start. A damaged file counts as none: it is only a convenience.
    fn load(&self, server: &str) -> Option<Saved> {
        let text = fs::read(self.path.join(FILE)).ok()?;
        let saved = serde_json::from_slice::<Saved>(&text)
            .inspect_err(|_| tracing::warn!("{FILE} is damaged; starting as a new worker"))
            .ok()?;
        Some(saved).filter(|saved| saved.server == server)
    }

    fn save(&self, saved: &Saved) -> Result<(), IdentityError> {
        let path = self.path.join(FILE);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            file.write_all(&serde_json::to_vec_pretty(saved)?)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| IdentityError::Io { path: path.clone(), source })
    }
}

fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Signs in as before where possible, and joins the room of the options, of the last start, or a
/// new one.
pub(super) async fn join(
    state: &StateFolder,
    api: &HttpApi,
    server: &Url,
    wanted: &WorkerRoom,
) -> Result<(Identity, RoomCredentials), super::WorkerError> {
    let saved = if *wanted == WorkerRoom::New { None } else { state.load(server.as_str()) };
    let identity = sign_in(api, saved.as_ref()).await?;
    let kept = saved.filter(|saved| saved.peer_id == identity.peer_id).map(|saved| saved.room);
    let room = match (wanted, kept) {
        (WorkerRoom::Join(room), _) => room.clone(),
        (WorkerRoom::Kept, Some(room)) => room,
        _ => api.create_room(&identity.id_token).await?,
    };
    remember(state, server, &identity, &room)?;
    Ok((identity, room))
}

/// A room in place of one that the server no longer has, for the same peer.
pub(super) async fn replace_room(
    state: &StateFolder,
    api: &HttpApi,
    server: &Url,
    identity: &Identity,
) -> Result<RoomCredentials, super::WorkerError> {
    let room = api.create_room(&identity.id_token).await?;
    remember(state, server, identity, &room)?;
    Ok(room)
}

fn remember(
    state: &StateFolder,
    server: &Url,
    identity: &Identity,
    room: &RoomCredentials,
) -> Result<(), IdentityError> {
    state.save(&Saved {
        server: server.to_string(),
        peer_id: identity.peer_id.clone(),
        id_token: identity.id_token.clone(),
        room: room.clone(),
    })
}

/// Renews the identity of the last start; one that the server no longer accepts is replaced.
async fn sign_in(api: &HttpApi, saved: Option<&Saved>) -> Result<Identity, SignalingError> {
    if let Some(saved) = saved {
        match api.sign_in(Some(&saved.id_token)).await {
            Ok(identity) => return Ok(identity),
            Err(error @ SignalingError::Unreachable { .. }) => return Err(error),
            Err(error) => tracing::warn!(%error, "the old identity is no longer accepted"),
        }
    }
    api.sign_in(None).await
}
