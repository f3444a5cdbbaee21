//! Decides who may use the relay, and counts the connections to it.

use super::RoomRelay;
use crate::server::Server;
use iroh_base::EndpointId;
use iroh_relay::server::ConnectionId;
use parking_lot::Mutex;
use sleap_rtc_protocol::ids::{PeerId, RoomId};
use sleap_rtc_protocol::signaling::endpoint_id;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Why a connection to the relay is refused. The reason reaches the user of the other program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    #[error("the relay needs the token that this server gives with a registration; register first")]
    Token,
    #[error("not a registered member of the room; register first, and stay registered")]
    NotRegistered,
    #[error("registered with another key; register again with the key of this device")]
    OtherKey,
    #[error("the relay has no place left; try later, or raise `relay_connections` on the server")]
    Full,
}

/// Checks that `peer` is registered in `room` now, as the endpoint that it claims to be.
pub(crate) fn entitled(
    server: &Server,
    peer: &PeerId,
    room: &RoomId,
    endpoint: EndpointId,
) -> Result<(), Denial> {
    let rooms = server.rooms();
    let member = rooms.present(peer).filter(|member| member.room == *room);
    let published = endpoint_id(&member.ok_or(Denial::NotRegistered)?.metadata);
    let is_same = published.is_some_and(|id| id == endpoint.to_string());
    if is_same { Ok(()) } else { Err(Denial::OtherKey) }
}

/// The place of one connection. Dropping it frees the place.
pub(crate) struct RelayPermit {
    _permit: OwnedSemaphorePermit,
    rooms: Arc<Mutex<HashMap<RoomId, RoomRelay>>>,
    room: RoomId,
    connection: ConnectionId,
}

impl RelayPermit {
    pub(crate) fn new(
        permit: OwnedSemaphorePermit,
        rooms: Arc<Mutex<HashMap<RoomId, RoomRelay>>>,
        room: RoomId,
        connection: ConnectionId,
    ) -> Self {
        Self { _permit: permit, rooms, room, connection }
    }
}

impl Drop for RelayPermit {
    fn drop(&mut self) {
        let mut rooms = self.rooms.lock();
        let Some(relay) = rooms.get_mut(&self.room) else { return };
        relay.admitted.remove(&self.connection);
        if relay.admitted.is_empty() {
            rooms.remove(&self.room);
        }
    }
}
