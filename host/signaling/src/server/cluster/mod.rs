//! Several servers that share their rooms through a NATS broker.
//!
//! Rooms and the signing key are in the broker's key-value store ([`SharedStore`]). Who is present is not:
//! each server tells the others again and again who is registered at it, and puts the peers of the others
//! into its own registry, with a [`RemoteLink`] instead of a socket. So discovery, watched lists, routing and
//! the relay treat all peers alike. If the broker is lost, each server goes on alone with its own peers.
//!
//! | module | what it is |
//! |---|---|
//! | `wire` | the messages as bytes |
//! | `ledger` | the peers of one server, with a digest: pure |
//! | `others` | the other servers, and whether what is known of them is complete: pure |
//! | `apply` | what a message changes in the registry |
//! | `broker` | the tasks of a server on its connection to the broker |
//! | `nats` | the connection to the broker |
//! | `buckets` | the broker's key-value stores |
//! | `shared_store` | rooms and the signing key |

mod apply;
mod broker;
mod buckets;
mod ledger;
mod nats;
mod options;
mod others;
mod shared_store;
mod wire;

pub use broker::ClusterError;
pub(crate) use broker::run;
pub use options::{Brokers, ClusterOptions, TokenFileError};
pub(crate) use shared_store::SharedStore;

use crate::rooms::Registrant;
use crate::server::link::PeerLink;
use ledger::Ledger;
use nats::Nats;
use others::Others;
use parking_lot::{Mutex, MutexGuard};
use sleap_rtc_protocol::ids::{PeerId, RoomId};
use sleap_rtc_protocol::pairing::MailboxNumber;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, mpsc};
use wire::{DeliveryHead, News, Order, Presence, ServerId, Undelivered};

/// The most messages that wait to be published. A broker that is too slow for more loses some: presence is
/// repaired by the next list, and a frame counts as not delivered.
const QUEUE: usize = 4096;

/// A message that waits to be published.
#[derive(Debug)]
pub(crate) struct ToPublish {
    /// Which server it is for; `None` for all.
    to: Option<ServerId>,
    bytes: Vec<u8>,
}

/// This server's part in the cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    id: ServerId,
    nats: Nats,
    own: Mutex<Ledger>,
    others: Mutex<Others>,
    outgoing: mpsc::Sender<ToPublish>,
    /// Another server has asked for the list of peers.
    list_wanted: Notify,
    /// A server is new, and knows nobody yet.
    beat_wanted: Notify,
    /// Messages of others that were dropped.
    refused: AtomicU64,
}

impl Cluster {
    /// The cluster behind a broker. Whoever has the receiver publishes what comes out of it.
    fn new(nats: Nats) -> (Arc<Self>, mpsc::Receiver<ToPublish>) {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let cluster = Self {
            id: ServerId::new_random(),
            nats,
            own: Mutex::default(),
            others: Mutex::default(),
            outgoing,
            list_wanted: Notify::new(),
            beat_wanted: Notify::new(),
            refused: AtomicU64::new(0),
        };
        (Arc::new(cluster), queue)
    }

    /// Locked only briefly, and never across an `await` or while taking another lock.
    fn own(&self) -> MutexGuard<'_, Ledger> {
        self.own.lock()
    }

    /// Likewise.
    fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock()
    }

    /// A peer is registered here, or has changed.
    pub(crate) fn here(&self, peer: &PeerId, member: &Registrant<PeerLink>) {
        if self.own().put(peer, member.since_ms, member.revision) {
            self.tell(&News::Here { peers: vec![Presence::new(peer, member)] });
        }
    }

    /// Says again that a peer is registered here, to a server that believes an older registration.
    fn repeat(&self, peer: &PeerId, member: &Registrant<PeerLink>) {
        self.tell(&News::Here { peers: vec![Presence::new(peer, member)] });
    }

    /// A peer is no longer registered here.
    pub(crate) fn left(&self, peer: &PeerId, since_ms: u64, on_purpose: bool) {
        if self.own().remove(peer, since_ms) {
            self.tell(&News::Left { peer: peer.clone(), since_ms, on_purpose });
        }
    }

    /// A room was deleted here.
    pub(crate) fn room_deleted(&self, room: &RoomId) {
        self.tell(&News::RoomDeleted { room: room.clone() });
    }

    /// The numbers of the mailboxes that are open elsewhere.
    pub(crate) fn mailboxes(&self) -> BTreeSet<MailboxNumber> {
        self.others().mailboxes()
    }

    /// Whether the broker can be reached.
    pub(crate) fn is_connected(&self) -> bool {
        self.nats.is_connected()
    }

    /// How many other servers there are.
    pub(crate) fn servers(&self) -> usize {
        self.others().count()
    }

    /// How many peers are registered here.
    pub(crate) fn own_peers(&self) -> usize {
        self.own().len()
    }

    /// How many messages of others were dropped.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Tells all others. A message that is lost is repaired by the next list.
    fn tell(&self, news: &News) {
        let _ = self.send(ToPublish { to: None, bytes: wire::encode(news) });
    }

    /// Asks a server for something. Returns whether it can be asked.
    fn ask(&self, server: ServerId, order: Order) -> bool {
        self.send(ToPublish { to: Some(server), bytes: wire::encode_order(order) })
    }

    fn send(&self, outgoing: ToPublish) -> bool {
        // Nothing fits while the broker is lost.
        let fits = outgoing.bytes.len() <= self.nats.max_message_bytes();
        fits && self.outgoing.try_send(outgoing).is_ok()
    }

    fn refuse(&self, why: &dyn std::fmt::Display) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%why, "a message from another server is dropped");
    }

    fn say_undelivered(&self, server: ServerId, undelivered: Undelivered) {
        self.ask(server, Order::Undelivered(undelivered));
    }
}

/// The link to a peer at another server.
#[derive(Debug, Clone)]
pub(crate) struct RemoteLink {
    cluster: Arc<Cluster>,
    server: ServerId,
    peer: PeerId,
    room: RoomId,
    since_ms: u64,
}

impl RemoteLink {
    /// Sends a frame to the peer's server. Returns whether it can be reached.
    pub(crate) fn deliver(&self, frame: &str) -> bool {
        let (to, room) = (self.peer.clone(), self.room.clone());
        let head = DeliveryHead { to, room, from: self.cluster.id.to_string() };
        let bytes = wire::encode_delivery(head, frame);
        self.cluster.send(ToPublish { to: Some(self.server), bytes })
    }

    /// Has its server close its socket, because the peer was deleted.
    pub(crate) fn close(&self) {
        let (peer, since_ms) = (self.peer.clone(), self.since_ms);
        self.cluster.ask(self.server, Order::Close { peer, since_ms });
    }
}
