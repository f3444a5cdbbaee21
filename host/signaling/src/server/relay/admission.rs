//! Admits endpoints to the relay: [`admit_token`], then [`Relays::admit_peer`], then
//! [`check_registration`]; and counts the connections to it.

use super::{Admitted, Relays, RoomRelay};
use crate::server::Server;
use hyper::header::{AUTHORIZATION, HeaderMap};
use iroh_base::EndpointId;
use iroh_relay::protos::handshake;
use iroh_relay::server::clients::Clients;
use iroh_relay::server::{ConnectionId, OnDisconnectGuard};
use parking_lot::Mutex;
use sleap_rtc_protocol::ids::{PeerId, RoomId};
use sleap_rtc_protocol::signaling::endpoint_id;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Why a connection to the relay is refused. The reason reaches the user of the other program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RelayRefusal {
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
pub(crate) fn check_registration(
    server: &Server,
    peer: &PeerId,
    room: &RoomId,
    endpoint: EndpointId,
) -> Result<(), RelayRefusal> {
    let rooms = server.rooms();
    let member = rooms.present(peer).filter(|member| member.room == *room);
    let published = endpoint_id(&member.ok_or(RelayRefusal::NotRegistered)?.metadata);
    let is_same = published.is_some_and(|id| id == endpoint.to_string());
    if is_same { Ok(()) } else { Err(RelayRefusal::OtherKey) }
}

impl Relays {
    /// Admits a connection: checks its peer, and reserves a permit. The room's relay exists while a permit
    /// is held.
    fn admit_peer(
        &self,
        server: &Server,
        peer: &PeerId,
        room: &RoomId,
        endpoint: EndpointId,
    ) -> Result<(RelayPermit, OnDisconnectGuard, Clients), RelayRefusal> {
        check_registration(server, peer, room, endpoint)?;
        let held = Arc::clone(&self.places).try_acquire_owned().map_err(|_| RelayRefusal::Full)?;
        // The guard reports nothing: dropping the permit removes the connection already.
        let guard = OnDisconnectGuard::empty(endpoint);
        let mut rooms = self.rooms();
        let relay = rooms.entry(room.clone()).or_default();
        let connection = guard.connection_id();
        relay.admitted.insert(connection, Admitted { peer: peer.clone(), endpoint });
        let clients = relay.clients.clone();
        drop(rooms);
        let permit = RelayPermit::new(held, Arc::clone(&self.rooms), room.clone(), connection);
        Ok((permit, guard, clients))
    }
}

/// An admitted connection.
pub(crate) struct Admission {
    pub(crate) peer: PeerId,
    pub(crate) room: RoomId,
    pub(crate) permit: RelayPermit,
    pub(crate) guard: OnDisconnectGuard,
    /// The connections of the room's relay.
    pub(crate) clients: Clients,
}

/// Admits the endpoint that has proved its key, by the token in its request.
pub(crate) fn admit_token(
    server: &Server,
    headers: &HeaderMap,
    proved: &handshake::SuccessfulAuthentication,
) -> Result<Admission, RelayRefusal> {
    let relay = server.relay.as_ref().ok_or(RelayRefusal::Full)?;
    let admitted = token(headers).and_then(|token| {
        let (peer, room) = server.signer.verify_relay(token).map_err(|_| RelayRefusal::Token)?;
        let (permit, guard, clients) = relay.admit_peer(server, &peer, &room, proved.client_key)?;
        Ok(Admission { peer, room, permit, guard, clients })
    });
    admitted.inspect_err(|_| server.counters.relay_refused.count())
}

fn token(headers: &HeaderMap) -> Result<&str, RelayRefusal> {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = value.and_then(|text| text.split_once(' '));
    let token = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.map(|(_, token)| token.trim()).ok_or(RelayRefusal::Token)
}

/// The right of one connection to be relayed. Dropping it removes the connection.
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
