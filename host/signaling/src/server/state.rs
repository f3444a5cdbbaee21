//! The rooms and the signing key: this server's own, or those of its cluster.

use crate::identity::Key;
use crate::server::cluster::SharedStore;
use crate::store::{Store, StoreError};
use sleap_rtc_protocol::ids::{PeerId, RoomCredentials, RoomId};
use std::collections::BTreeSet;

/// Where the state is that survives a restart.
pub(crate) enum ServerState {
    /// In a file of this server.
    Own(Store),
    /// At the broker.
    Shared(Box<SharedStore>),
}

impl ServerState {
    /// See [`Store::signing_key`].
    pub(crate) fn signing_key(&self) -> Key {
        match self {
            Self::Own(store) => store.signing_key(),
            Self::Shared(shared) => shared.signing_key(),
        }
    }

    /// See [`Store::create_room`].
    pub(crate) async fn create_room(
        &self,
        creator: PeerId,
        now_s: u64,
    ) -> Result<RoomCredentials, StoreError> {
        match self {
            Self::Own(store) => store.create_room(creator, now_s).await,
            Self::Shared(shared) => shared.create_room(creator, now_s).await,
        }
    }

    /// See [`Store::opens`].
    pub(crate) async fn opens(
        &self,
        room: RoomCredentials,
        now_s: u64,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Own(store) => store.opens(room, now_s).await,
            Self::Shared(shared) => shared.opens(room, now_s).await,
        }
    }

    /// See [`Store::extend`].
    pub(crate) async fn extend(
        &self,
        rooms: BTreeSet<RoomId>,
        now_s: u64,
    ) -> Result<(), StoreError> {
        match self {
            Self::Own(store) => store.extend(rooms, now_s).await,
            Self::Shared(shared) => {
                shared.extend(rooms, now_s).await;
                Ok(())
            }
        }
    }

    /// See [`Store::purge`]. The broker deletes by itself what nobody extends.
    pub(crate) async fn purge(&self, now_s: u64) -> Result<usize, StoreError> {
        match self {
            Self::Own(store) => store.purge(now_s).await,
            Self::Shared(_) => Ok(0),
        }
    }

    /// See [`Store::delete_room`].
    pub(crate) async fn delete_room(
        &self,
        room: RoomId,
        creator: PeerId,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Own(store) => store.delete_room(room, creator).await,
            Self::Shared(shared) => shared.delete_room(room, creator).await,
        }
    }

    /// Another server has deleted this room.
    pub(crate) fn forget(&self, room: &RoomId) {
        if let Self::Shared(shared) = self {
            shared.forget(room);
        }
    }

    /// See [`SharedStore::restore`].
    pub(crate) async fn restore(&self, now_s: u64) -> Result<(), StoreError> {
        match self {
            Self::Own(_) => Ok(()),
            Self::Shared(shared) => shared.restore(now_s).await,
        }
    }

    /// The file that must stay in its place, if there is one.
    pub(crate) fn own(&self) -> Option<&Store> {
        match self {
            Self::Own(store) => Some(store),
            Self::Shared(_) => None,
        }
    }
}
