//! The rooms and the signing key of a cluster, in the key-value store of the broker (NATS JetStream).
//!
//! A room that is used here is also remembered here, so that its peers can register while the broker is lost.

use super::nats::{Bucket, BucketEntry, BucketError, Nats};
use crate::identity::Key;
use crate::store::{AFTER_WORKER_S, BEFORE_WORKER_S, Store, StoreError, StoredRoom, TokenHash};
use base64::{Engine, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::random;
use sleap_rtc_protocol::ids::{PeerId, RoomCredentials, RoomId, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The buckets: rooms are forgotten when nobody has extended them for long, the key never is.
const ROOMS: &str = "sleap-rtc-rooms";
const KEYS: &str = "sleap-rtc-keys";
const SIGNING_KEY: &str = "signing-key";
/// The longest time for which a room is kept that nobody has extended: longer than the rooms themselves say.
const KEPT: Duration = Duration::from_secs(AFTER_WORKER_S + 24 * 60 * 60);
/// A room is extended only by this much at least, so that a worker that comes and goes writes little.
const WORTHWHILE_S: u64 = 60 * 60;
/// The most rooms that are remembered here.
const MAX_REMEMBERED: usize = 10_000;
/// How many ids are tried for a new room.
const MAX_ATTEMPTS: usize = 8;

/// A room, as the cluster keeps it. Its token is kept only as its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SharedRoom {
    token_sha256: String,
    creator: PeerId,
    expires_at_s: u64,
}

/// A handle onto the shared state; clones share it.
#[derive(Clone)]
pub(crate) struct SharedStore {
    rooms: Bucket,
    key: Key,
    remembered: Arc<Mutex<BTreeMap<RoomId, SharedRoom>>>,
}

impl SharedStore {
    /// Opens the shared state. The first server creates it, with the key and the rooms of its own `store`.
    pub(crate) async fn open(nats: &Nats, store: &Store) -> Result<Self, StoreError> {
        let rooms = Bucket::open(nats, ROOMS, KEPT).await?;
        let keys = Bucket::open(nats, KEYS, Duration::ZERO).await?;
        let (key, is_new) = signing_key(&keys, store.signing_key()).await?;
        let shared = Self { rooms, key, remembered: Arc::default() };
        if is_new {
            shared.import(store).await?;
        }
        Ok(shared)
    }

    async fn import(&self, store: &Store) -> Result<(), StoreError> {
        let rooms = store.rooms().await?;
        tracing::info!(rooms = rooms.len(), "a new cluster begins with the rooms of this server");
        for StoredRoom { room_id, token_sha256, creator, expires_at_s } in rooms {
            let Some(key) = key_of(&room_id) else { continue };
            let room = SharedRoom::new(token_sha256, creator, expires_at_s);
            match self.rooms.create(key, bytes(&room)).await {
                // One that is there already stays as it is.
                Ok(()) | Err(BucketError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
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
        for _ in 0..MAX_ATTEMPTS {
            let room_id = RoomId::new(random::hex::<4>()).map_err(invalid)?;
            match self.rooms.create(room_id.as_str(), bytes(&room)).await {
                Ok(()) => {
                    self.remember(&room_id, Some(room));
                    let token = Token::new(token).map_err(invalid)?;
                    return Ok(RoomCredentials { room_id, token });
                }
                Err(BucketError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(BucketError::Conflict.into())
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
            // Another server has moved the expiry, or has deleted the room.
            Ok(()) | Err(BucketError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a room if `creator` created it; see [`Store::delete_room`].
    pub(crate) async fn delete_room(
        &self,
        room_id: RoomId,
        creator: PeerId,
    ) -> Result<bool, StoreError> {
        let found = self.read(&room_id).await?;
        if found.is_none_or(|(room, _)| room.creator != creator) {
            return Ok(false);
        }
        self.rooms.delete(room_id.as_str()).await?;
        self.forget(&room_id);
        Ok(true)
    }

    /// Another server has deleted this room.
    pub(crate) fn forget(&self, room_id: &RoomId) {
        self.remember(room_id, None);
    }

    /// A room and the revision of its entry. Remembers what it finds.
    async fn read(&self, room_id: &RoomId) -> Result<Option<(SharedRoom, u64)>, StoreError> {
        let Some(key) = key_of(room_id) else { return Ok(None) };
        let found = self.rooms.read(key).await?.and_then(|BucketEntry { value, revision }| {
            let room: SharedRoom = serde_json::from_slice(&value?)
                .inspect_err(|_| tracing::error!(room = key, "the cluster's entry is damaged"))
                .ok()?;
            Some((room, revision))
        });
        self.remember(room_id, found.as_ref().map(|(room, _)| room.clone()));
        Ok(found)
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
        self.remembered.lock().get(room_id).cloned()
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

fn bytes(room: &SharedRoom) -> Vec<u8> {
    // Texts and numbers always serialize.
    serde_json::to_vec(room).unwrap_or_default()
}

/// The signing key of the cluster, and whether it is the one that this server has brought.
async fn signing_key(keys: &Bucket, own: Key) -> Result<(Key, bool), StoreError> {
    match keys.create(SIGNING_KEY, STANDARD.encode(own).into_bytes()).await {
        Ok(()) => return Ok((own, true)),
        Err(BucketError::Conflict) => {}
        Err(error) => return Err(error.into()),
    }
    let value = keys.read(SIGNING_KEY).await?.and_then(|entry| entry.value);
    let key = value.and_then(|value| STANDARD.decode(value).ok());
    let key = key.and_then(|bytes| Key::try_from(bytes).ok()).ok_or(StoreError::NoKey)?;
    Ok((key, false))
}

impl From<BucketError> for StoreError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::NoAnswer(_) => Self::NoAnswer,
            error => Self::broker(error),
        }
    }
}
