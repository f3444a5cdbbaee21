//! The state that survives a restart, in SQLite: the signing key and the rooms.
//!
//! One thread owns the connection; the async side sends it closures through a bounded queue and
//! waits for the answer, so no database call ever runs on a runtime thread. A room's token is kept
//! only as its SHA-256, so reading the file is not enough to join.

use crate::identity::Key;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use sleap_rtc_base::os::{FileId, for_owner_alone};
use sleap_rtc_base::random;
use sleap_rtc_base::sqlite::{OpenError, Schema};
use sleap_rtc_protocol::ids::{PeerId, RoomCredentials, RoomId, Token};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, oneshot};

/// How long a room outlives its last worker, in seconds.
pub const AFTER_WORKER_S: u64 = 30 * 24 * 60 * 60;
/// How long a room waits for its first worker, in seconds.
pub const BEFORE_WORKER_S: u64 = 24 * 60 * 60;

const QUEUE: usize = 256;
/// `NORMAL` can lose the last moments in a power failure, but never corrupts the file.
const SCHEMA: Schema = Schema {
    version: 1,
    tables: "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS signing_key (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        key BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS room (
        room_id TEXT PRIMARY KEY,
        token_sha256 BLOB NOT NULL,
        creator TEXT NOT NULL,
        expires_at_s INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS room_expiry ON room (expires_at_s);
",
};

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its folder cannot be created.
    #[error("cannot create the state file {path}; choose another with --state")]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite cannot open it, or a newer program wrote it.
    #[error("cannot use the state file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// A call failed.
    #[error("the server's state cannot be read or written")]
    Sqlite(#[from] rusqlite::Error),
    /// The database's thread is gone.
    #[error("the server's state is closed")]
    Closed,
    /// The broker of the cluster does not answer, or not yet.
    #[error(
        "the cluster's broker does not answer questions to its key-value store; nats-server needs JetStream (`-js`)"
    )]
    NoAnswer(#[source] BrokerFailure),
    /// The broker of the cluster refuses.
    #[error("the cluster's key-value store cannot be used; nats-server needs JetStream (`-js`)")]
    Broker(#[source] BrokerFailure),
    /// The cluster's signing key is damaged.
    #[error(
        "the cluster's signing key is damaged; delete the bucket sleap-rtc-keys for a new one, with which all peers \
         get new identities"
    )]
    NoKey,
}

/// What the client of the broker says.
type BrokerFailure = Box<dyn std::error::Error + Send + Sync>;

impl StoreError {
    /// Whether a later attempt may succeed.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::NoAnswer(_))
    }
}

/// The SHA-256 of a room's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether an offered token is the one that is kept. Takes the same time for every guess, also where
    /// none is kept.
    pub(crate) fn opens(&self, kept: Option<Self>) -> bool {
        let known = kept.is_some();
        let kept = kept.unwrap_or(Self([0; 32]));
        bool::from(kept.0.ct_eq(&self.0)) & known
    }
}

/// A room, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRoom {
    pub(crate) room_id: RoomId,
    pub(crate) token_sha256: TokenHash,
    pub(crate) creator: PeerId,
    pub(crate) expires_at_s: u64,
}

type Call = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle onto the state; clones share it. The database closes when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    calls: mpsc::Sender<Call>,
    key: Key,
    file: Arc<StateFile>,
}

/// The file, and its identity when it was opened.
#[derive(Debug, Default)]
struct StateFile {
    path: PathBuf,
    /// `None` for a state in memory.
    identity: Option<FileId>,
}

impl Store {
    /// Opens or creates the state in this file, readable only by its owner.
    ///
    /// # Errors
    /// It cannot be created, is damaged, or comes from a newer program.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let create = |source| StoreError::Create { path: path.into(), source };
        create_private(path).map_err(create)?;
        let identity = FileId::at(path).map_err(create)?;
        let store = Self::start(path, SCHEMA.open(path))?;
        let file = StateFile { path: path.into(), identity: Some(identity) };
        Ok(Self { file: Arc::new(file), ..store })
    }

    /// A state that ends with the program.
    ///
    /// # Errors
    /// When SQLite cannot start.
    pub fn ephemeral() -> Result<Self, StoreError> {
        Self::start(Path::new(":memory:"), SCHEMA.in_memory())
    }

    fn start(path: &Path, opened: Result<Connection, OpenError>) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.into(), source };
        let mut connection = opened.map_err(open)?;
        let key = signing_key(&connection).map_err(|error| open(error.into()))?;
        let (calls, mut queue) = mpsc::channel::<Call>(QUEUE);
        // Ends when the last handle is dropped, after all queued calls.
        std::thread::spawn(move || {
            while let Some(call) = queue.blocking_recv() {
                call(&mut connection);
            }
        });
        Ok(Self { calls, key, file: Arc::default() })
    }

    /// The state's file; empty for a state in memory.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Whether the file is still in its place. Writes to a removed file are lost at the end. Reads
    /// the file system.
    pub fn is_in_place(&self) -> bool {
        let StateFile { path, identity } = &*self.file;
        identity.as_ref().is_none_or(|opened| FileId::at(path).is_ok_and(|now| now == *opened))
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, result) = oneshot::channel();
        let call: Call = Box::new(move |connection| {
            // The receiver is gone when the socket that asked has closed.
            let _ = answer.send(work(connection));
        });
        self.calls.send(call).await.map_err(|_| StoreError::Closed)?;
        Ok(result.await.map_err(|_| StoreError::Closed)??)
    }

    /// The key that signs identities.
    pub fn signing_key(&self) -> Key {
        self.key
    }

    /// Creates a room with an 8-digit id and a token of 128 bits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_room(
        &self,
        creator: PeerId,
        now_s: u64,
    ) -> Result<RoomCredentials, StoreError> {
        let token = random::hex::<16>();
        let hash = TokenHash::of(&token);
        let room_id = self
            .call(move |connection| {
                loop {
                    let room_id = random::hex::<4>();
                    let made = connection.execute(
                        "INSERT OR IGNORE INTO room VALUES (?1, ?2, ?3, ?4)",
                        params![
                            room_id,
                            hash.bytes(),
                            creator.as_str(),
                            sql_time(now_s.saturating_add(BEFORE_WORKER_S))
                        ],
                    )?;
                    if made == 1 {
                        return Ok(room_id);
                    }
                }
            })
            .await?;
        let valid = |_| StoreError::Closed; // Unreachable: hex digits are valid identifiers.
        Ok(RoomCredentials {
            room_id: RoomId::new(room_id).map_err(valid)?,
            token: Token::new(token).map_err(valid)?,
        })
    }

    /// Whether these credentials match a room that has not expired. A wrong token and an unknown
    /// room take the same path, and the comparison takes the same time for every guess.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn opens(&self, room: RoomCredentials, now_s: u64) -> Result<bool, StoreError> {
        let offered = TokenHash::of(room.token.as_str());
        let kept: Option<Vec<u8>> = self
            .call(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT token_sha256 FROM room WHERE room_id = ?1 AND expires_at_s > ?2",
                    )?
                    .query_row(params![room.room_id.as_str(), sql_time(now_s)], |row| row.get(0))
                    .optional()
            })
            .await?;
        Ok(offered.opens(kept.and_then(|bytes| TokenHash::from_bytes(&bytes))))
    }

    /// All rooms. One that no version of this program has written is left out.
    pub(crate) async fn rooms(&self) -> Result<Vec<StoredRoom>, StoreError> {
        self.call(|connection| {
            let mut all = connection.prepare("SELECT * FROM room")?;
            let rows = all.query_map([], |row| {
                let (id, hash): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                let (creator, expires): (String, i64) = (row.get(2)?, row.get(3)?);
                Ok(stored(id, &hash, creator, expires))
            })?;
            let rooms: Result<Vec<Option<StoredRoom>>, _> = rows.collect();
            Ok(rooms?.into_iter().flatten().collect())
        })
        .await
    }

    /// Extends the expiry of rooms that have, or just had, a worker to 30 days from now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn extend(&self, rooms: BTreeSet<RoomId>, now_s: u64) -> Result<(), StoreError> {
        let until = sql_time(now_s.saturating_add(AFTER_WORKER_S));
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            for room in &rooms {
                transaction
                    .prepare_cached("UPDATE room SET expires_at_s = ?2 WHERE room_id = ?1")?
                    .execute(params![room.as_str(), until])?;
            }
            transaction.commit()
        })
        .await
    }

    /// Deletes expired rooms. Returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn purge(&self, now_s: u64) -> Result<usize, StoreError> {
        self.call(move |connection| {
            connection.execute("DELETE FROM room WHERE expires_at_s <= ?1", [sql_time(now_s)])
        })
        .await
    }

    /// Deletes a room if `creator` created it. Returns whether it was deleted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_room(&self, room: RoomId, creator: PeerId) -> Result<bool, StoreError> {
        self.call(move |connection| {
            let gone = connection.execute(
                "DELETE FROM room WHERE room_id = ?1 AND creator = ?2",
                params![room.as_str(), creator.as_str()],
            )?;
            Ok(gone == 1)
        })
        .await
    }
}

fn stored(id: String, hash: &[u8], creator: String, expires: i64) -> Option<StoredRoom> {
    Some(StoredRoom {
        room_id: RoomId::new(id).ok()?,
        token_sha256: TokenHash::from_bytes(hash)?,
        creator: PeerId::new(creator).ok()?,
        expires_at_s: u64::try_from(expires).ok()?,
    })
}

fn create_private(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    for_owner_alone(options.create(true).append(true)).open(path).map(drop)
}

fn signing_key(connection: &Connection) -> rusqlite::Result<Key> {
    let fresh: Key = rand::random();
    connection.execute("INSERT OR IGNORE INTO signing_key VALUES (1, ?1)", [fresh])?;
    connection.query_row("SELECT key FROM signing_key", [], |row| row.get(0))
}

/// SQLite has only signed integers; later times are clamped.
fn sql_time(time_s: u64) -> i64 {
    i64::try_from(time_s).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerId {
        PeerId::new(name).unwrap()
    }

    #[tokio::test]
    async fn a_room_expires_unless_a_worker_was_there() {
        let store = Store::ephemeral().unwrap();
        let used = store.create_room(peer("a"), 0).await.unwrap();
        let unused = store.create_room(peer("a"), 0).await.unwrap();
        assert_eq!((used.room_id.as_str().len(), used.token.as_str().len()), (8, 32));
        store.extend(BTreeSet::from([used.room_id.clone()]), 10).await.unwrap();
        assert!(store.opens(unused.clone(), BEFORE_WORKER_S - 1).await.unwrap());
        assert!(!store.opens(unused, BEFORE_WORKER_S).await.unwrap());
        assert!(store.opens(used.clone(), 9 + AFTER_WORKER_S).await.unwrap());
        assert!(!store.opens(used, 10 + AFTER_WORKER_S).await.unwrap());
        assert_eq!(store.purge(BEFORE_WORKER_S).await.unwrap(), 1);
        assert_eq!(store.purge(10 + AFTER_WORKER_S).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn only_both_parts_open_a_room_and_only_its_creator_deletes_it() {
        let store = Store::ephemeral().unwrap();
        let room = store.create_room(peer("a"), 0).await.unwrap();
        let other = store.create_room(peer("b"), 0).await.unwrap();
        let mixed = RoomCredentials { token: other.token.clone(), ..room.clone() };
        assert!(!store.opens(mixed, 0).await.unwrap());
        let unknown = RoomCredentials { room_id: RoomId::new("nowhere").unwrap(), ..room.clone() };
        assert!(!store.opens(unknown, 0).await.unwrap());
        assert!(!store.delete_room(room.room_id.clone(), peer("b")).await.unwrap());
        assert!(store.opens(room.clone(), 0).await.unwrap());
        assert!(store.delete_room(room.room_id.clone(), peer("a")).await.unwrap());
        assert!(!store.opens(room, 0).await.unwrap());
    }

    #[tokio::test]
    async fn the_file_is_private_keeps_key_and_rooms_and_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/state.sqlite");
        let store = Store::open(&path).unwrap();
        let key = store.signing_key();
        let room = store.create_room(peer("a"), 0).await.unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.signing_key(), key);
        assert!(store.opens(room.clone(), 0).await.unwrap());
        let [stored] = &store.rooms().await.unwrap()[..] else { panic!("not one room") };
        assert_eq!((&stored.room_id, &stored.creator), (&room.room_id, &peer("a")));
        assert_eq!(stored.token_sha256, TokenHash::of(room.token.as_str()));
        assert_eq!(stored.expires_at_s, BEFORE_WORKER_S);
        for file in std::fs::read_dir(path.parent().unwrap()).unwrap() {
            let file = file.unwrap();
            #[cfg(unix)]
            {
                let mode = std::os::unix::fs::PermissionsExt::mode(
                    &file.metadata().unwrap().permissions(),
                );
                assert_eq!(mode & 0o077, 0, "{file:?}");
            }
            let bytes = std::fs::read(file.path()).unwrap();
            let token = room.token.as_str().as_bytes();
            assert!(!bytes.windows(token.len()).any(|window| window == token));
        }
    }

    #[test]
    fn a_file_that_was_removed_or_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.sqlite");
        let store = Store::open(&path).unwrap();
        assert!(store.is_in_place() && Store::ephemeral().unwrap().is_in_place());
        let kept = folder.path().join("kept.sqlite");
        std::fs::rename(&path, &kept).unwrap();
        assert!(!store.is_in_place());
        std::fs::write(&path, "").unwrap();
        assert!(!store.is_in_place());
        std::fs::rename(&kept, &path).unwrap();
        assert!(store.is_in_place());
    }

    #[test]
    fn a_damaged_or_newer_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.sqlite");
        std::fs::write(&path, "this is no database, and long enough to be read as one".repeat(99))
            .unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Open { .. })));
        let path = folder.path().join("newer.sqlite");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
        let newer = OpenError::Newer { found: 2, known: 1 }.to_string();
        let Err(StoreError::Open { source, .. }) = Store::open(&path) else { panic!() };
        assert_eq!(source.to_string(), newer);
    }
}
