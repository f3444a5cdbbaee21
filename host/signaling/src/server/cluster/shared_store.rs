//! The rooms and the signing key of a cluster, in the key-value store of the broker (NATS JetStream).
//!
//! Each server remembers the rooms that it has used, so that their peers can register while the broker is
//! lost. A broker that comes back without its rooms and the key gets them from the servers.

use super::buckets::{Bucket, failed, open};
use super::nats::Nats;
use crate::identity::Key;
use crate::store::{AFTER_WORKER_S, BEFORE_WORKER_S, Store, StoreError, StoredRoom, TokenHash};
use async_nats::datetime::DateTime;
use async_nats::jetstream::kv::{CreateErrorKind, Operation, UpdateErrorKind};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_base::random;
use sleap_rtc_protocol::ids::{PeerId, RoomCredentials, RoomId, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The buckets: rooms are forgotten when nobody has extended them for long, the key never is.
const ROOMS: &str = "sleap-rtc-rooms";
const KEYS: &str = "sleap-rtc-keys";
const SIGNING_KEY: &str = "signing-key";
/// The revision of a key that has never had a value.
const NEVER_WRITTEN: u64 = 0;
/// The longest time for which a room is kept that nobody has extended: longer than the rooms themselves say.
const KEPT: Duration = Duration::from_secs(AFTER_WORKER_S + 24 * 60 * 60);
/// A room is extended only by this much at least, so that a worker that comes and goes writes little.
const WORTHWHILE_S: u64 = 60 * 60;
/// The most rooms that are remembered here.
const MAX_REMEMBERED: usize = 10_000;
/// How many ids are tried for a new room.
const MAX_ATTEMPTS: usize = 8;
/// How long the other servers may take to restore what a broker has lost.
const RESTORED_WITHIN: Duration = Duration::from_secs(10);
/// How many rooms are written at the same time.
const AT_ONCE: usize = 64;

/// A room, as the cluster keeps it. Its token is kept only as its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SharedRoom {
    token_sha256: String,
    creator: PeerId,
    expires_at_s: u64,
}

/// The shared state.
pub(crate) struct SharedStore {
    nats: Nats,
    rooms: Bucket,
    key: Key,
    remembered: Mutex<BTreeMap<RoomId, SharedRoom>>,
    /// The buckets that have everything that is remembered here.
    made: Mutex<Made>,
    /// Since when the broker may lack rooms that other servers remember.
    doubted: Mutex<Option<Instant>>,
}

/// When the buckets were made. A broker that has lost its store has younger ones.
type Made = [DateTime; 2];

impl SharedStore {
    /// Opens the shared state. The first server creates it, with the key and the rooms of its own `store`.
    pub(crate) async fn open(nats: &Nats, store: &Store) -> Result<Self, StoreError> {
        let ([rooms, keys], made) = buckets(nats).await?;
        let (key, is_new) = signing_key(&keys, store.signing_key()).await?;
        let (nats, made) = (nats.clone(), Mutex::new(made));
        let (remembered, doubted) = Default::default();
        let shared = Self { nats, rooms, key, remembered, made, doubted };
        if is_new {
            shared.import(store).await?;
        }
        Ok(shared)
    }

    async fn import(&self, store: &Store) -> Result<(), StoreError> {
        let rooms = store.rooms().await?;
        tracing::info!(rooms = rooms.len(), "a new cluster begins with the rooms of this server");
        let shared = |room: StoredRoom| {
            let StoredRoom { room_id, token_sha256, creator, expires_at_s } = room;
            (room_id, SharedRoom::new(token_sha256, creator, expires_at_s))
        };
        self.add(rooms.into_iter().map(shared).collect()).await
    }

    /// Gives a broker that has lost its store the key and the rooms that this server remembers.
    pub(crate) async fn restore(&self, now_s: u64) -> Result<(), StoreError> {
        *self.doubted.lock() = Some(Instant::now());
        let ([_, keys], made) = buckets(&self.nats).await?;
        if *self.made.lock() == made {
            *self.doubted.lock() = None;
            return Ok(());
        }
        let (key, _) = signing_key(&keys, self.key).await?;
        if key != self.key {
            tracing::error!(
                "the broker of the cluster has lost its store, and another server has brought a new signing key: \
                 restart this server"
            );
        }
        let mut rooms: Vec<_> = self.remembered.lock().clone().into_iter().collect();
        rooms.retain(|(_, room)| room.expires_at_s > now_s);
        tracing::warn!(
            rooms = rooms.len(),
            "the broker of the cluster has lost its store; it gets the rooms that this server remembers"
        );
        self.add(rooms).await?;
        *self.made.lock() = made;
        Ok(())
    }

    /// Adds rooms. Those that are there already, or were deleted, stay as they are.
    async fn add(&self, rooms: Vec<(RoomId, SharedRoom)>) -> Result<(), StoreError> {
        let adding = rooms.into_iter().map(|(room_id, room)| async move {
            let Some(key) = key_of(&room_id) else { return Ok(()) };
            match self.rooms.update(key, bytes(&room), NEVER_WRITTEN).await {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(()),
                Err(error) => Err(failed(error)),
            }
        });
        stream::iter(adding).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// The key that signs identities at all servers.
    pub(crate) fn signing_key(&self) -> Key {
        self.key
    }

    /// Creates a room; see [`Store::create_room`].
    pub(crate) async fn create_room(
        &self,
        creator: PeerId,
        now_s: u64,
    ) -> Result<RoomCredentials, StoreError> {
        let invalid = |_| StoreError::Closed; // Unreachable: hex digits are valid identifiers.
        let token = random::hex::<16>();
        let expires_at_s = now_s.saturating_add(BEFORE_WORKER_S);
        let room = SharedRoom::new(TokenHash::of(&token), creator, expires_at_s);
        self.check_connected()?;
        for _ in 0..MAX_ATTEMPTS {
            let room_id = RoomId::new(random::hex::<4>()).map_err(invalid)?;
            match self.rooms.create(room_id.as_str(), bytes(&room)).await {
                Ok(_) => {
                    self.remember(&room_id, Some(room));
                    let token = Token::new(token).map_err(invalid)?;
                    return Ok(RoomCredentials { room_id, token });
                }
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(StoreError::Broker("all ids that were tried for a new room are taken".into()))
    }

    /// Whether these credentials match a room that has not expired; see [`Store::opens`].
    pub(crate) async fn opens(
        &self,
        credentials: RoomCredentials,
        now_s: u64,
    ) -> Result<bool, StoreError> {
        let room = match self.read(&credentials.room_id).await {
            Ok(found) => found.map(|(room, _)| room),
            Err(error) => Some(self.recall(&credentials.room_id).ok_or(error)?),
        };
        let valid = room.filter(|room| room.expires_at_s > now_s);
        let kept = valid.as_ref().and_then(SharedRoom::token_hash);
        Ok(TokenHash::of(credentials.token.as_str()).opens(kept))
    }

    /// Extends the expiry of rooms; see [`Store::extend`]. While the broker is lost it stays as it is.
    pub(crate) async fn extend(&self, rooms: BTreeSet<RoomId>, now_s: u64) {
        let until_s = now_s.saturating_add(AFTER_WORKER_S);
        for room_id in rooms {
            let extended = self.extend_one(&room_id, until_s).await;
            if let Err(error) = extended {
                tracing::warn!(room = %room_id, %error, "the expiry of a room could not be moved");
            }
        }
    }

    async fn extend_one(&self, room_id: &RoomId, until_s: u64) -> Result<(), StoreError> {
        let Some((room, revision)) = self.read(room_id).await? else { return Ok(()) };
        if room.expires_at_s.saturating_add(WORTHWHILE_S) > until_s {
            return Ok(());
        }
        let room = SharedRoom { expires_at_s: until_s, ..room };
        match self.rooms.update(room_id.as_str(), bytes(&room), revision).await {
            Ok(_) => {
                self.remember(room_id, Some(room));
                Ok(())
            }
            // Another server has moved the expiry, or has deleted the room.
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Deletes a room if `creator` created it; see [`Store::delete_room`].
    pub(crate) async fn delete_room(
        &self,
        room_id: RoomId,
        creator: PeerId,
    ) -> Result<bool, StoreError> {
        let found = self.read(&room_id).await?;
        let Some((_, revision)) = found.filter(|(room, _)| room.creator == creator) else {
            return Ok(false);
        };
        let deleted = self.rooms.delete_expect_revision(room_id.as_str(), Some(revision)).await;
        deleted.map_err(failed)?;
        self.forget(&room_id);
        Ok(true)
    }

    /// Another server has deleted this room.
    pub(crate) fn forget(&self, room_id: &RoomId) {
        self.remember(room_id, None);
    }

    /// A room and the revision of its entry. Remembers what it finds, and restores what the broker has lost.
    async fn read(&self, room_id: &RoomId) -> Result<Option<(SharedRoom, u64)>, StoreError> {
        let Some(key) = key_of(room_id) else { return Ok(None) };
        self.check_connected()?;
        let mut entry = self.rooms.entry(key).await.map_err(failed)?;
        if entry.is_none() {
            let Some(room) = self.recall(room_id) else {
                return self.check_complete().map(|()| None);
            };
            self.add(vec![(room_id.clone(), room)]).await?;
            // Another server may have been faster.
            entry = self.rooms.entry(key).await.map_err(failed)?;
        }
        let Some(entry) = entry else { return Ok(None) };
        let found = (entry.operation == Operation::Put).then_some(entry).and_then(|entry| {
            let room: SharedRoom = serde_json::from_slice(&entry.value)
                .inspect_err(|_| tracing::error!(room = key, "the cluster's entry is damaged"))
                .ok()?;
            Some((room, entry.revision))
        });
        self.remember(room_id, found.as_ref().map(|(room, _)| room.clone()));
        Ok(found)
    }

    /// Fails at once without a broker. async-nats would send the question later, when nobody waits for it.
    fn check_connected(&self) -> Result<(), StoreError> {
        match self.nats.is_connected() {
            true => Ok(()),
            false => Err(StoreError::NoAnswer("the broker is lost".into())),
        }
    }

    /// Fails while another server may be about to restore a missing room.
    fn check_complete(&self) -> Result<(), StoreError> {
        let doubted = *self.doubted.lock();
        match doubted.is_none_or(|since| since.elapsed() > RESTORED_WITHIN) {
            true => Ok(()),
            false => Err(StoreError::NoAnswer("the broker's store is being restored".into())),
        }
    }

    fn remember(&self, room_id: &RoomId, room: Option<SharedRoom>) {
        let mut remembered = self.remembered.lock();
        match room {
            None => drop(remembered.remove(room_id)),
            Some(room) => {
                if remembered.len() >= MAX_REMEMBERED && !remembered.contains_key(room_id) {
                    remembered.pop_first();
                }
                remembered.insert(room_id.clone(), room);
            }
        }
    }

    fn recall(&self, room_id: &RoomId) -> Option<SharedRoom> {
        let remembered = self.remembered.lock();
        remembered.get(room_id).filter(|room| room.expires_at_s > now_s()).cloned()
    }
}

impl SharedRoom {
    fn new(hash: TokenHash, creator: PeerId, expires_at_s: u64) -> Self {
        Self { token_sha256: STANDARD.encode(hash.bytes()), creator, expires_at_s }
    }

    fn token_hash(&self) -> Option<TokenHash> {
        let bytes = STANDARD.decode(&self.token_sha256).ok()?;
        TokenHash::from_bytes(&bytes)
    }
}

/// The key of a room's entry, if it can be a room of ours: those have hex digits as their ids.
fn key_of(room_id: &RoomId) -> Option<&str> {
    let is_ours = room_id.as_str().bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(room_id.as_str()).filter(|id| is_ours && id.len() <= 64)
}

fn bytes(room: &SharedRoom) -> Bytes {
    // Texts and numbers always serialize.
    serde_json::to_vec(room).unwrap_or_default().into()
}

/// The signing key of the cluster, and whether it is the one that this server has brought.
async fn signing_key(keys: &Bucket, own: Key) -> Result<(Key, bool), StoreError> {
    match keys.create(SIGNING_KEY, STANDARD.encode(own).into()).await {
        Ok(_) => return Ok((own, true)),
        Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let value = keys.get(SIGNING_KEY).await.map_err(failed)?;
    let key = value.and_then(|value| STANDARD.decode(value).ok());
    let key = key.and_then(|bytes| Key::try_from(bytes).ok()).ok_or(StoreError::NoKey)?;
    Ok((key, false))
}

/// The buckets of rooms and keys.
async fn buckets(nats: &Nats) -> Result<([Bucket; 2], Made), StoreError> {
    let rooms = open(nats, ROOMS, KEPT).await?;
    let keys = open(nats, KEYS, Duration::ZERO).await?;
    let made = [&rooms, &keys].map(|bucket| bucket.stream.cached_info().created);
    Ok(([rooms, keys], made))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ClusterOptions;
    use support::TestBroker;

    #[tokio::test]
    async fn a_room_that_two_servers_restore_at_once_is_there_for_both() {
        let Some(broker) = TestBroker::start() else { return };
        let broker = ClusterOptions::address(&format!("nats://{}", broker.address())).unwrap();
        let options = ClusterOptions { brokers: vec![broker], token_file: None };
        let nats = Nats::connect(&options.load().unwrap()).await.unwrap();
        let own = Store::ephemeral().unwrap();
        let one = SharedStore::open(&nats, &own).await.unwrap();
        let other = SharedStore::open(&nats, &own).await.unwrap();
        let creator = PeerId::new("creator").unwrap();
        let RoomCredentials { room_id, .. } = one.create_room(creator, now_s()).await.unwrap();
        assert!(other.read(&room_id).await.unwrap().is_some());
        let lost = one.rooms.stream.purge().filter(format!("$KV.{ROOMS}.{room_id}")).await;
        assert_eq!(lost.unwrap().purged, 1);
        let (here, there) = tokio::join!(one.read(&room_id), other.read(&room_id));
        let found = here.unwrap();
        assert!(found.is_some());
        assert_eq!(found, there.unwrap());
    }
}
