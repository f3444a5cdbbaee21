//! What a message of another server changes here.

use super::wire::{DeliveryHead, News, Order, Presence, ServerId, Undelivered, WhyUndelivered};
use super::{Cluster, RemoteLink};
use crate::rooms::Registrant;
use crate::server::Server;
use crate::server::frame::{Code, FrameRefusal, Head, Kind, check_depth, parse};
use crate::server::link::{CloseReason, PeerLink};
use crate::server::relay::{self, Whose};
use sleap_rtc_protocol::ids::{PeerId, RoomId};
use std::sync::Arc;
use std::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// What another server tells all.
pub(crate) fn news(server: &Arc<Server>, cluster: &Arc<Cluster>, from: ServerId, news: News) {
    match news {
        News::Beat(beat) => {
            let (is_new, asks) = {
                let mut others = cluster.others();
                (others.get(from).is_none(), others.beat(from, beat, Instant::now()))
            };
            if is_new {
                cluster.beat_wanted.notify_one();
            }
            if asks {
                cluster.ask(from, Order::List);
            }
        }
        News::Here { peers } => {
            peers.into_iter().for_each(|presence| here(server, cluster, from, presence));
        }
        News::Left { peer, since_ms, on_purpose } => {
            let is_news =
                cluster.others().get(from).is_some_and(|it| it.ledger.remove(&peer, since_ms));
            if is_news {
                left(server, from, &peer, since_ms, on_purpose);
            }
        }
        News::ListBegins => {
            if let Some(other) = cluster.others().get(from) {
                other.ledger.list_begins();
            }
        }
        News::ListEnds => {
            let unlisted = cluster.others().get(from).map(|other| {
                other.list_is_complete();
                other.ledger.list_ends()
            });
            for (peer, since_ms) in unlisted.unwrap_or_default() {
                left(server, from, &peer, since_ms, false);
            }
        }
        News::RoomDeleted { room } => room_deleted(server, &room),
        News::Gone => {
            if let Some(ledger) = cluster.others().remove(from) {
                tracing::info!(server = %from, "another server of the cluster has stopped");
                forget(server, from, ledger.peers());
            }
        }
    }
}

/// A peer is registered at another server. The newest registration of a peer counts.
fn here(server: &Arc<Server>, cluster: &Arc<Cluster>, from: ServerId, presence: Presence) {
    let Presence { peer, room, role, metadata, since_ms, revision } = presence;
    let is_news =
        cluster.others().get(from).is_some_and(|other| other.ledger.put(&peer, since_ms, revision));
    if !is_news {
        return;
    }
    let link = RemoteLink {
        cluster: Arc::clone(cluster),
        server: from,
        peer: peer.clone(),
        room: room.clone(),
        since_ms,
    };
    let connection = server.next_connection();
    let link = PeerLink::Elsewhere(link);
    let member = Registrant { connection, room, role, metadata, since_ms, revision, link };
    let mut rooms = server.rooms();
    let known = rooms.present(&peer).map(|known| (known.since_ms, place(cluster, known)));
    if known.is_some_and(|known| (since_ms, from) < known) {
        let own = rooms.present(&peer).filter(|own| own.link.is_here()).cloned();
        drop(rooms);
        // The other server has not heard of it, or has forgotten it.
        own.inspect(|own| cluster.repeat(&peer, own));
        return;
    }
    let replaced = match rooms.join(peer.clone(), member) {
        Ok(replaced) => replaced,
        Err(error) => {
            drop(rooms);
            return cluster.refuse(&error);
        }
    };
    drop(rooms);
    let Some(old) = replaced else { return };
    if old.link.is_here() {
        old.link.request_close(CloseReason::Replaced);
        cluster.left(&peer, old.since_ms, false);
    }
    relay::review(server, &old.room, Whose::Peer(&peer));
}

/// The server at which a registered peer is.
fn place(cluster: &Cluster, member: &Registrant<PeerLink>) -> ServerId {
    match &member.link {
        PeerLink::Here(_) => cluster.id,
        PeerLink::Elsewhere(link) => link.server,
    }
}

/// Whether the peer is registered at that server, since then.
fn is_at(member: &Registrant<PeerLink>, server: ServerId, since_ms: u64) -> bool {
    matches!(&member.link, PeerLink::Elsewhere(link) if link.server == server)
        && member.since_ms == since_ms
}

/// A peer is no longer registered at another server.
fn left(server: &Arc<Server>, from: ServerId, peer: &PeerId, since_ms: u64, on_purpose: bool) {
    let mut rooms = server.rooms();
    let is_it = rooms.present(peer).is_some_and(|known| is_at(known, from, since_ms));
    let Some(member) = is_it.then(|| rooms.remove(peer)).flatten() else { return };
    drop(rooms);
    match on_purpose {
        true => relay::review(server, &member.room, Whose::Peer(peer)),
        false => relay::review_later(server, member.room, peer.clone()),
    }
}

/// Another server is gone, and nobody knows about its peers. They keep their places in the relay for a while.
pub(crate) fn forget<'p>(
    server: &Server,
    from: ServerId,
    peers: impl Iterator<Item = (&'p PeerId, u64)>,
) {
    let mut rooms = server.rooms();
    for (peer, since_ms) in peers {
        if rooms.present(peer).is_some_and(|known| is_at(known, from, since_ms)) {
            rooms.remove(peer);
        }
    }
}

fn room_deleted(server: &Arc<Server>, room: &RoomId) {
    server.state.forget(room);
    let members = server.rooms().clear(room);
    for (peer, member) in members.iter().filter(|(_, member)| member.link.is_here()) {
        server.close_deleted(peer, member);
    }
    relay::review(server, room, Whose::Everybody);
}

/// What another server asks of this one.
pub(crate) fn order(server: &Arc<Server>, cluster: &Cluster, order: Order) {
    match order {
        Order::List => cluster.list_wanted.notify_one(),
        Order::Close { peer, since_ms } => {
            let mut rooms = server.rooms();
            let own = rooms.present(&peer);
            let is_it = own.is_some_and(|own| own.link.is_here() && own.since_ms == since_ms);
            let Some(member) = is_it.then(|| rooms.remove(&peer)).flatten() else { return };
            drop(rooms);
            server.close_deleted(&peer, &member);
            relay::review(server, &member.room, Whose::Peer(&peer));
        }
        Order::Deliver { head, frame } => {
            if let Err(refusal) = deliver(server, cluster, head, frame) {
                cluster.refuse(&refusal.message);
            }
        }
        Order::Undelivered(undelivered) => say_undelivered(server, undelivered),
    }
}

/// Passes a frame of another server on, if it is one that a peer may get.
fn deliver(
    server: &Server,
    cluster: &Cluster,
    head: DeliveryHead,
    frame: String,
) -> Result<(), FrameRefusal> {
    check_depth(&frame, server.options.limits.nesting)?;
    let parsed: Head = parse(&frame)?;
    let DeliveryHead { to, room, from } = head;
    let sender = parsed.sender().filter(|_| parsed.kind.is_forwarded()).cloned();
    let Some(sender) = sender.filter(|_| parsed.target() == Ok(&to)) else {
        return Err(FrameRefusal::invalid("a frame for another peer, or from nobody"));
    };
    let from: ServerId =
        from.parse().map_err(|_| FrameRefusal::invalid("a frame of an unknown server"))?;
    let link = {
        let rooms = server.rooms();
        if parsed.kind == Kind::Quit && !rooms.may_send_away(&sender, &to) {
            return Err(FrameRefusal::invalid("only a worker sends a client away"));
        }
        let target = rooms.present(&to).filter(|it| it.room == room && it.link.is_here());
        target.map(|target| target.link.clone())
    };
    let why = match link {
        None => WhyUndelivered::NotThere,
        Some(link) if !link.deliver(&sender, frame.into(), &server.options.limits) => {
            WhyUndelivered::NotRead
        }
        Some(_) => return Ok(()),
    };
    // An error that does not arrive is nobody's question.
    if parsed.kind != Kind::Error {
        let attempt = parsed.attempt();
        cluster.say_undelivered(from, Undelivered { to: sender, room, target: to, attempt, why });
    }
    Ok(())
}

/// Tells a sender here that its frame did not arrive.
fn say_undelivered(server: &Server, undelivered: Undelivered) {
    let Undelivered { to, room, target, attempt, why } = undelivered;
    let refusal = match why {
        WhyUndelivered::NotThere => {
            FrameRefusal::new(Code::PeerNotFound, format!("{target} is not in your room"))
        }
        WhyUndelivered::NotRead => FrameRefusal::not_read(&target),
    };
    let frame = FrameRefusal { attempt, ..refusal }.frame();
    let rooms = server.rooms();
    let sender = rooms.present(&to).filter(|it| it.room == room && it.link.is_here());
    let link = sender.map(|sender| sender.link.clone());
    drop(rooms);
    if let Some(link) = link {
        // There is no room if it does not read.
        let _ = link.deliver(&target, Utf8Bytes::from(frame), &server.options.limits);
    }
}
