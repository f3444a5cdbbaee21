//! The server without its sockets: tests create sessions and requests directly.

mod crowd;
mod decoders;

use super::{Server, ServerOptions};
use crate::server::Limits;
use crate::server::state::ServerState;
use crate::store::Store;
use serde_json::{Value, json};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_protocol::ids::{IdToken, PeerId, RoomCredentials};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_util::sync::CancellationToken;

/// A server without sockets.
fn server(limits: Limits) -> Arc<Server> {
    let options = ServerOptions { limits, ..ServerOptions::default() };
    let state = ServerState::Own(Store::ephemeral().unwrap());
    Arc::new(Server::new((state, None), options, None, CancellationToken::new()))
}

/// A new address each time, because the guesses from one address would be answered later and later.
fn fresh_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(u32::from_be_bytes([10, 0, 0, 0]));
    IpAddr::from(NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes())
}

fn identity(server: &Server, name: &str) -> (PeerId, IdToken) {
    let peer = PeerId::new(name).unwrap();
    let token = server.signer.sign(&peer, now_s()).unwrap();
    (peer, token)
}

fn registration(who: &(PeerId, IdToken), room: &RoomCredentials) -> Value {
    json!({
        "type": "register", "peer_id": who.0, "id_token": who.1, "room_id": room.room_id,
        "token": room.token, "role": "worker",
        "metadata": {"tags": ["a"], "properties": {"n": 1}},
    })
}
