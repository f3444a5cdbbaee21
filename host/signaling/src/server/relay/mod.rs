//! The relay: carries packets between two peers of one room that have no direct path.
//!
//! It speaks iroh's relay protocol at `/relay`, on the server's own ports. An endpoint proves that
//! it has the key that is its address. It is admitted while a peer is registered with that key, and
//! shows the relay token of the registration. Each room has its own relay, so no packet passes
//! between rooms. The server cannot read the packets.

mod address_discovery;
mod admission;
mod socket;
mod upgrade;

pub(crate) use address_discovery::AddressDiscovery;
pub(crate) use upgrade::upgrade;

use crate::server::Server;
use admission::check_registration;
use iroh_base::EndpointId;
use iroh_relay::KeyCache;
use iroh_relay::server::ConnectionId;
use iroh_relay::server::Metrics;
use iroh_relay::server::clients::Clients;
use parking_lot::{Mutex, MutexGuard};
use sleap_rtc_protocol::ids::{PeerId, RoomId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a peer keeps its connections after its socket was lost.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// The most keys that are cached in parsed form.
const KEY_CACHE: usize = 4 * 1024;

/// The relays of all rooms.
pub(crate) struct Relays {
    rooms: Arc<Mutex<HashMap<RoomId, RoomRelay>>>,
    places: Arc<Semaphore>,
    key_cache: KeyCache,
    /// The metrics of the library.
    pub(crate) traffic: Arc<Metrics>,
}

/// The relay of one room. It exists while a peer is connected to it.
#[derive(Default)]
struct RoomRelay {
    clients: Clients,
    admitted: HashMap<ConnectionId, Admitted>,
}

/// One connection to the relay.
struct Admitted {
    peer: PeerId,
    endpoint: EndpointId,
}

impl Relays {
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            rooms: Arc::default(),
            places: Arc::new(Semaphore::new(connections)),
            key_cache: KeyCache::new(KEY_CACHE),
            traffic: Arc::default(),
        }
    }

    /// Locked briefly, and never across an `await`. The lock of the rooms' registry may be taken
    /// inside it, but not the other way round.
    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomId, RoomRelay>> {
        self.rooms.lock()
    }

    /// The admitted connections.
    pub(crate) fn connections(&self) -> usize {
        self.rooms().values().map(|room| room.admitted.len()).sum()
    }

    /// Closes all connections.
    pub(crate) async fn stop(&self) {
        let rooms: Vec<Clients> = self.rooms().values().map(|room| room.clients.clone()).collect();
        for clients in rooms {
            clients.shutdown().await;
        }
    }
}

/// The connections to review.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    Peer(&'a PeerId),
    Everybody,
}

/// Closes the connections to the relay of `room` whose peers are no longer registered there with
/// the same key.
pub(crate) fn review(server: &Server, room: &RoomId, whose: Whose<'_>) {
    let Some(relay) = &server.relay else { return };
    let rooms = relay.rooms();
    let Some(RoomRelay { clients, admitted }) = rooms.get(room) else { return };
    for (connection, Admitted { peer, endpoint }) in admitted {
        let meant = match whose {
            Whose::Peer(wanted) => wanted == peer,
            Whose::Everybody => true,
        };
        if meant && check_registration(server, peer, room, *endpoint).is_err() {
            tracing::debug!(%peer, %room, "cut off from the relay");
            clients.disconnect(*endpoint, Some(*connection));
        }
    }
}

/// Reviews the connections of all rooms.
pub(crate) fn review_all(server: &Server) {
    let Some(relay) = &server.relay else { return };
    let rooms: Vec<RoomId> = relay.rooms().keys().cloned().collect();
    rooms.iter().for_each(|room| review(server, room, Whose::Everybody));
}

/// Like [`review`], for a peer whose socket was lost. It has time to register again, so that a
/// short interruption of signaling does not end its connections.
pub(crate) fn review_later(server: &Arc<Server>, room: RoomId, peer: PeerId) {
    if server.relay.is_none() {
        return;
    }
    let reviewed = Arc::clone(server);
    server.tasks.spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(GRACE) => review(&reviewed, &room, Whose::Peer(&peer)),
            () = reviewed.shutdown.cancelled() => {}
        }
    });
}
