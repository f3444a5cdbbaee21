//! The registry of rooms and peers. Pure: no sockets, no clock, no disk.
//!
//! A peer is in at most one room, on one connection. Rooms are isolated: a peer in another room and
//! a peer that does not exist give the same answer.

use crate::filter::Query;
use serde_json::json;
use sleap_rtc_protocol::ids::{PeerId, RoomId};
use sleap_rtc_protocol::signaling::{Metadata, MetadataPatch, Role};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// The longest metadata of a peer, in bytes of JSON. A worker with eight GPUs needs a quarter.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;

/// Distinguishes the sockets of one peer, so that a replaced one can no longer speak for it.
pub type ConnectionId = u64;

/// A peer in its room. `L` is the link to it: a queue in the server, anything in a test.
#[derive(Debug, Clone, PartialEq)]
pub struct Registrant<L> {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its room.
    pub room: RoomId,
    /// Its role.
    pub role: Role,
    /// Its metadata.
    pub metadata: Metadata,
    /// When it registered, in milliseconds since 1970; always later than before.
    pub since_ms: u64,
    /// How often it has changed since then.
    pub revision: u64,
    /// The link to it.
    pub link: L,
}

/// Why the registry refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// The room is full.
    #[error("the room is full: it holds {0} peers at most")]
    Full(usize),
    /// The metadata is too long.
    #[error("a peer's metadata has at most {MAX_METADATA_BYTES} bytes of JSON")]
    MetadataTooLong,
    /// The peer is not in any room on this connection.
    #[error("register first: this connection is in no room")]
    NotInRoom,
}

/// A peer in the JSON of discovery, serialized once for each change rather than for each request.
pub type Listed = Arc<str>;

/// A change of a watched list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListChange {
    /// The peer is new in the watched list, or its metadata has changed.
    Here(Listed),
    /// The peer has left the watched list.
    Left,
}

/// Receives the changes of a watched list. It must return at once, and not call back.
pub trait Listener {
    /// `peer` has changed.
    fn notify(&self, peer: &PeerId, change: ListChange);
}

/// A page of a room's list, ordered by peer id.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// The peers in JSON, with commas between them.
    pub peers: String,
    /// The number of peers.
    pub count: usize,
    /// The last of them, if more follow.
    pub next: Option<PeerId>,
}

/// The requested part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Only peers after this one.
    pub after: Option<PeerId>,
    /// The most peers. At least one is returned.
    pub peers: usize,
    /// The most bytes of JSON, commas included.
    pub bytes: usize,
}

/// A member of a room, with derived data.
#[derive(Debug)]
struct Present<L> {
    member: Registrant<L>,
    listed: Listed,
    watches: Option<Query>,
}

#[derive(Debug)]
struct RoomEntry<L> {
    members: BTreeMap<PeerId, Present<L>>,
    watchers: BTreeSet<PeerId>,
    /// The last page that was requested, valid until a peer of the room changes. Many clients
    /// request the same page, often at the same time.
    asked: Option<(Query, PageRequest, Arc<Page>)>,
}

impl<L> Default for RoomEntry<L> {
    fn default() -> Self {
        Self { members: BTreeMap::new(), watchers: BTreeSet::new(), asked: None }
    }
}

impl<L> RoomEntry<L> {
    fn page(&self, asker: &PeerId, query: &Query, part: &PageRequest) -> Page {
        let from = part.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let members = self.members.range::<PeerId, _>((from, Bound::Unbounded));
        let others = members.filter(|(peer, _)| *peer != asker);
        let (mut page, mut last) =
            (Page { peers: String::new(), count: 0, next: None }, None::<&PeerId>);
        for (peer, present) in others.filter(|(_, present)| query.matches(&present.member)) {
            let bytes = page.peers.len() + present.listed.len() + 1;
            if last.is_some() && (page.count >= part.peers || bytes > part.bytes) {
                page.next = last.cloned();
                break;
            }
            page.peers.extend((page.count > 0).then_some(','));
            page.peers.push_str(&present.listed);
            page.count += 1;
            last = Some(peer);
        }
        page
    }
}

/// All rooms that hold at least one peer.
#[derive(Debug)]
pub struct Rooms<L> {
    /// The members of a room are contiguous, so a list is a single scan.
    rooms: BTreeMap<RoomId, RoomEntry<L>>,
    /// The room of each peer.
    places: HashMap<PeerId, RoomId>,
    /// The most peers of a room.
    room_peers: usize,
}

impl<L: Clone + Listener> Rooms<L> {
    /// An empty registry, whose rooms hold up to `room_peers` peers.
    pub fn new(room_peers: usize) -> Self {
        Self { rooms: BTreeMap::new(), places: HashMap::new(), room_peers }
    }

    /// Puts a peer into a room. Returns the presence that it replaces, in any room.
    pub fn join(
        &mut self,
        peer: PeerId,
        member: Registrant<L>,
    ) -> Result<Option<Registrant<L>>, RoomError> {
        let listed = list(&peer, &member)?;
        let others = self.rooms.get(&member.room).map(|room| &room.members);
        if others.is_some_and(|o| o.len() >= self.room_peers && !o.contains_key(&peer)) {
            return Err(RoomError::Full(self.room_peers));
        }
        let replaced = self.take(&peer);
        if let Some(old) = replaced.as_ref().filter(|old| old.member.room != member.room) {
            self.announce(&peer, Some(&old.member), None);
        }
        let before = replaced.as_ref().map(|old| &old.member);
        let before = before.filter(|old| old.room == member.room);
        let present = Present { member, listed, watches: None };
        self.announce(&peer, before, Some(&present));
        self.put(peer, present);
        Ok(replaced.map(|old| old.member))
    }

    /// Removes the peer of a connection that has ended. Does nothing if another connection has
    /// taken over the peer.
    pub fn leave(&mut self, peer: &PeerId, connection: ConnectionId) -> Option<Registrant<L>> {
        self.member(peer, connection)?;
        self.remove(peer)
    }

    /// Removes a peer, on any connection.
    pub fn remove(&mut self, peer: &PeerId) -> Option<Registrant<L>> {
        let Present { member, .. } = self.take(peer)?;
        self.announce(peer, Some(&member), None);
        Some(member)
    }

    fn put(&mut self, peer: PeerId, present: Present<L>) {
        let place = present.member.room.clone();
        let room = self.rooms.entry(place.clone()).or_default();
        room.asked = None;
        room.members.insert(peer.clone(), present);
        self.places.insert(peer, place);
    }

    fn take(&mut self, peer: &PeerId) -> Option<Present<L>> {
        let place = self.places.remove(peer)?;
        let room = self.rooms.get_mut(&place)?;
        let present = room.members.remove(peer);
        room.asked = None;
        room.watchers.remove(peer);
        if room.members.is_empty() {
            self.rooms.remove(&place);
        }
        present
    }

    /// Removes all peers of a room.
    pub fn clear(&mut self, room: &RoomId) -> Vec<(PeerId, Registrant<L>)> {
        let Some(RoomEntry { members, .. }) = self.rooms.remove(room) else { return Vec::new() };
        members.keys().for_each(|peer| drop(self.places.remove(peer)));
        members.into_iter().map(|(peer, present)| (peer, present.member)).collect()
    }

    /// The presence of a peer on this connection.
    pub fn member(&self, peer: &PeerId, connection: ConnectionId) -> Option<&Registrant<L>> {
        self.present(peer).filter(|member| member.connection == connection)
    }

    /// The presence of a peer, on any connection.
    pub fn present(&self, peer: &PeerId) -> Option<&Registrant<L>> {
        let room = self.rooms.get(self.places.get(peer)?)?;
        room.members.get(peer).map(|present| &present.member)
    }

    /// The room of a peer, on any connection.
    pub fn room_of(&self, peer: &PeerId) -> Option<RoomId> {
        self.places.get(peer).cloned()
    }

    /// The link to `to`, if it is in the room of `from`.
    pub fn route(
        &self,
        from: &PeerId,
        connection: ConnectionId,
        to: &PeerId,
    ) -> Result<Option<L>, RoomError> {
        let from = self.member(from, connection).ok_or(RoomError::NotInRoom)?;
        let target = self.rooms.get(&from.room).and_then(|room| room.members.get(to));
        Ok(target.map(|target| target.member.link.clone()))
    }

    /// Whether `from` may dismiss `to`. Only a worker may dismiss a client; a dismissed worker
    /// would end.
    pub fn may_send_away(&self, from: &PeerId, to: &PeerId) -> bool {
        let role = |peer| {
            let room = self.rooms.get(self.places.get(peer)?)?;
            Some(room.members.get(peer)?.member.role)
        };
        role(from) == Some(Role::Worker) && role(to).is_some_and(|role| role != Role::Worker)
    }

    /// Merges a change into a peer's metadata and returns all of it.
    pub fn update(
        &mut self,
        peer: &PeerId,
        connection: ConnectionId,
        patch: MetadataPatch,
    ) -> Result<Metadata, RoomError> {
        let member = self.member(peer, connection).ok_or(RoomError::NotInRoom)?;
        let mut changed = member.clone();
        changed.metadata.merge(patch);
        changed.revision += 1;
        let listed = list(peer, &changed)?;
        let metadata = changed.metadata.clone();
        let room = self.rooms.get_mut(&changed.room).ok_or(RoomError::NotInRoom)?;
        let present = room.members.get_mut(peer).ok_or(RoomError::NotInRoom)?;
        let watches = present.watches.take();
        room.asked = None;
        let before = std::mem::replace(present, Present { member: changed, listed, watches });
        let after = self.rooms.get(&before.member.room).and_then(|room| room.members.get(peer));
        self.announce(peer, Some(&before.member), after);
        Ok(metadata)
    }

    /// Notifies the peer of changes in the list of `query` from now on. `None` stops the
    /// notifications.
    pub fn watch(
        &mut self,
        peer: &PeerId,
        connection: ConnectionId,
        query: Option<Query>,
    ) -> Result<(), RoomError> {
        let place = self.member(peer, connection).ok_or(RoomError::NotInRoom)?.room.clone();
        let room = self.rooms.get_mut(&place).ok_or(RoomError::NotInRoom)?;
        match &query {
            Some(_) => room.watchers.insert(peer.clone()),
            None => room.watchers.remove(peer),
        };
        if let Some(present) = room.members.get_mut(peer) {
            present.watches = query;
        }
        Ok(())
    }

    /// Notifies the room's watchers of a change of `peer`, each by its own query.
    fn announce(&self, peer: &PeerId, before: Option<&Registrant<L>>, after: Option<&Present<L>>) {
        let member = after.map(|present| &present.member).or(before);
        let Some(room) = member.and_then(|member| self.rooms.get(&member.room)) else { return };
        let watchers = room.watchers.iter().filter(|watcher| *watcher != peer);
        for watcher in watchers.filter_map(|watcher| room.members.get(watcher)) {
            let Some(query) = &watcher.watches else { continue };
            let listed = after.filter(|present| query.matches(&present.member));
            match listed {
                Some(present) => {
                    watcher.member.link.notify(peer, ListChange::Here(present.listed.clone()));
                }
                None if before.is_some_and(|before| query.matches(before)) => {
                    watcher.member.link.notify(peer, ListChange::Left);
                }
                None => {}
            }
        }
    }

    /// The other peers in the requester's room that match `query`, by id.
    pub fn discover(
        &mut self,
        asker: &PeerId,
        connection: ConnectionId,
        query: Query,
        part: PageRequest,
    ) -> Result<Arc<Page>, RoomError> {
        let own = self.member(asker, connection).ok_or(RoomError::NotInRoom)?;
        // A peer is not in its own list, so this page cannot be shared with others.
        let shared = !query.matches(own);
        let place = own.room.clone();
        let room = self.rooms.get_mut(&place).ok_or(RoomError::NotInRoom)?;
        match &room.asked {
            Some((asked, which, page)) if shared && *asked == query && *which == part => {
                return Ok(Arc::clone(page));
            }
            _ => {}
        }
        let page = Arc::new(room.page(asker, &query, &part));
        if shared {
            room.asked = Some((query, part, Arc::clone(&page)));
        }
        Ok(page)
    }

    /// The rooms that have a worker now.
    pub fn with_workers(&self) -> BTreeSet<RoomId> {
        let has_worker = |room: &RoomEntry<L>| {
            room.members.values().any(|present| present.member.role == Role::Worker)
        };
        let rooms = self.rooms.iter().filter(|(_, room)| has_worker(room));
        rooms.map(|(id, _)| id.clone()).collect()
    }

    /// How many peers are present.
    pub fn peers(&self) -> usize {
        self.places.len()
    }

    /// How many rooms hold at least one peer.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }
}

/// A peer as discovery shows it; see [`PeerInfo`](sleap_rtc_protocol::signaling::PeerInfo).
fn list<L>(peer: &PeerId, member: &Registrant<L>) -> Result<Listed, RoomError> {
    // A map of texts and JSON values always serialises.
    let metadata = serde_json::to_string(&member.metadata).unwrap_or_default();
    if metadata.len() > MAX_METADATA_BYTES {
        return Err(RoomError::MetadataTooLong);
    }
    let (peer, role) = (json!(peer.as_str()), json!(member.role.as_str()));
    let since = member.since_ms / 1000;
    let listed = format!(
        r#"{{"peer_id":{peer},"role":{role},"metadata":{metadata},"connected_at":{since}}}"#
    );
    Ok(listed.into())
}
