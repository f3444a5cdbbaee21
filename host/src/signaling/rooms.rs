//! Who is in which room. Pure: no sockets, no clock, no disk.
//!
//! A peer is in one room at most, on one connection. Nothing here reaches from one room into
//! another: a peer elsewhere and a peer that does not exist give the same answer.

use crate::signaling::filter::Query;
use sleap_rtc_protocol::ids::{PeerId, RoomId};
use sleap_rtc_protocol::signaling::{Metadata, MetadataPatch, PeerInfo, Role};
use std::collections::{BTreeMap, BTreeSet};

/// Peers that one room holds at most.
pub const MAX_PEERS_PER_ROOM: usize = 2048;
/// The longest metadata of a peer, in bytes of JSON. A worker with eight GPUs needs a quarter.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;

/// Tells the sockets of one peer apart, so that a replaced one cannot speak for it any more.
pub type ConnectionId = u64;

/// A peer's presence. `L` is how to reach it: a queue in the server, anything in a test.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<L> {
    /// On which connection.
    pub connection: ConnectionId,
    /// In which room.
    pub room: RoomId,
    /// What it is.
    pub role: Role,
    /// What it says of itself.
    pub metadata: Metadata,
    /// Since when, in seconds since 1970.
    pub connected_at_s: u64,
    /// How to reach it.
    pub link: L,
}

/// Why the registry did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// No more peers fit.
    #[error("the room is full: it holds {MAX_PEERS_PER_ROOM} peers at most")]
    Full,
    /// The metadata is too long.
    #[error("a peer's metadata has at most {MAX_METADATA_BYTES} bytes of JSON")]
    MetadataTooLong,
    /// The peer is not in any room on this connection.
    #[error("register first: this connection is in no room")]
    NotInRoom,
}

/// All rooms that hold at least one peer.
#[derive(Debug)]
pub struct Rooms<L> {
    members: BTreeMap<PeerId, Member<L>>,
    rooms: BTreeMap<RoomId, BTreeSet<PeerId>>,
}

impl<L> Default for Rooms<L> {
    fn default() -> Self {
        Self { members: BTreeMap::new(), rooms: BTreeMap::new() }
    }
}

impl<L: Clone> Rooms<L> {
    /// Puts a peer into a room and returns the presence that it replaces, in whatever room.
    pub fn join(
        &mut self,
        peer: PeerId,
        member: Member<L>,
    ) -> Result<Option<Member<L>>, RoomError> {
        check_length(&member.metadata)?;
        let present = self.rooms.get(&member.room);
        if present.is_some_and(|room| room.len() >= MAX_PEERS_PER_ROOM && !room.contains(&peer)) {
            return Err(RoomError::Full);
        }
        let replaced = self.remove(&peer);
        self.rooms.entry(member.room.clone()).or_default().insert(peer.clone());
        self.members.insert(peer, member);
        Ok(replaced)
    }

    /// The end of a connection. Does nothing when another connection has taken the peer over.
    pub fn leave(&mut self, peer: &PeerId, connection: ConnectionId) -> Option<Member<L>> {
        self.member(peer, connection)?;
        self.remove(peer)
    }

    /// Takes a peer out, on whichever connection it is.
    pub fn remove(&mut self, peer: &PeerId) -> Option<Member<L>> {
        let member = self.members.remove(peer)?;
        if let Some(room) = self.rooms.get_mut(&member.room) {
            room.remove(peer);
            if room.is_empty() {
                self.rooms.remove(&member.room);
            }
        }
        Some(member)
    }

    /// Takes everybody out of a room.
    pub fn clear(&mut self, room: &RoomId) -> Vec<Member<L>> {
        let peers = self.rooms.remove(room).unwrap_or_default();
        peers.iter().filter_map(|peer| self.members.remove(peer)).collect()
    }

    /// A peer's presence on this connection.
    pub fn member(&self, peer: &PeerId, connection: ConnectionId) -> Option<&Member<L>> {
        self.members.get(peer).filter(|member| member.connection == connection)
    }

    /// The room that a peer is in, on whichever connection.
    pub fn room_of(&self, peer: &PeerId) -> Option<RoomId> {
        self.members.get(peer).map(|member| member.room.clone())
    }

    /// How to reach `to`, if it is in the room of `from`.
    pub fn route(
        &self,
        from: &PeerId,
        connection: ConnectionId,
        to: &PeerId,
    ) -> Result<Option<L>, RoomError> {
        let from = self.member(from, connection).ok_or(RoomError::NotInRoom)?;
        let target = self.members.get(to).filter(|target| target.room == from.room);
        Ok(target.map(|target| target.link.clone()))
    }

    /// Merges a change into a peer's metadata and returns all of it.
    pub fn update(
        &mut self,
        peer: &PeerId,
        connection: ConnectionId,
        patch: MetadataPatch,
    ) -> Result<Metadata, RoomError> {
        let member = self.members.get_mut(peer).filter(|member| member.connection == connection);
        let member = member.ok_or(RoomError::NotInRoom)?;
        let mut metadata = member.metadata.clone();
        metadata.merge(patch);
        check_length(&metadata)?;
        member.metadata.clone_from(&metadata);
        Ok(metadata)
    }

    /// The other peers of the asker's room that `query` is about, by id.
    pub fn discover(
        &self,
        asker: &PeerId,
        connection: ConnectionId,
        query: &Query,
    ) -> Result<Vec<PeerInfo>, RoomError> {
        let own = self.member(asker, connection).ok_or(RoomError::NotInRoom)?;
        let others = self.rooms.get(&own.room).into_iter().flatten().filter(|peer| *peer != asker);
        let members = others.filter_map(|peer| Some((peer, self.members.get(peer)?)));
        let wanted = members.filter(|(_, member)| query.matches(member));
        Ok(wanted.map(|(peer, member)| member.info(peer)).collect())
    }

    /// The rooms in which a worker is now.
    pub fn with_workers(&self) -> BTreeSet<RoomId> {
        let workers = self.members.values().filter(|member| member.role == Role::Worker);
        workers.map(|member| member.room.clone()).collect()
    }

    /// How many peers are present.
    pub fn peers(&self) -> usize {
        self.members.len()
    }

    /// How many rooms hold at least one peer.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }
}

impl<L> Member<L> {
    fn info(&self, peer: &PeerId) -> PeerInfo {
        PeerInfo {
            peer_id: peer.clone(),
            role: self.role,
            metadata: self.metadata.clone(),
            connected_at: self.connected_at_s.into(),
        }
    }
}

fn check_length(metadata: &Metadata) -> Result<(), RoomError> {
    // A map of texts and JSON values always serialises.
    let length = serde_json::to_vec(metadata).map_or(usize::MAX, |json| json.len());
    if length > MAX_METADATA_BYTES { Err(RoomError::MetadataTooLong) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn peer(n: u8) -> PeerId {
        PeerId::new(format!("p{n}")).unwrap()
    }

    fn room(n: u8) -> RoomId {
        RoomId::new(format!("r{n}")).unwrap()
    }

    fn member(connection: u64, room_number: u8) -> Member<u64> {
        Member {
            connection,
            room: room(room_number),
            role: Role::Worker,
            metadata: Metadata::default(),
            connected_at_s: 0,
            link: connection,
        }
    }

    #[test]
    fn a_replaced_connection_has_no_say() {
        let mut rooms = Rooms::default();
        assert_eq!(rooms.join(peer(1), member(1, 1)), Ok(None));
        rooms.join(peer(2), member(2, 1)).unwrap();
        assert_eq!(rooms.join(peer(1), member(3, 1)).unwrap().unwrap().connection, 1);
        assert_eq!(rooms.leave(&peer(1), 1), None);
        assert_eq!(rooms.route(&peer(1), 1, &peer(2)), Err(RoomError::NotInRoom));
        assert_eq!(rooms.route(&peer(1), 3, &peer(2)), Ok(Some(2)));
        assert_eq!(rooms.route(&peer(2), 2, &peer(1)), Ok(Some(3)));
        assert_eq!(rooms.update(&peer(1), 1, MetadataPatch::default()), Err(RoomError::NotInRoom));
    }

    #[test]
    fn metadata_cannot_grow_piece_by_piece() {
        let mut rooms = Rooms::default();
        rooms.join(peer(1), member(1, 1)).unwrap();
        let patch = |n: usize| MetadataPatch {
            tags: None,
            properties: json!({ format!("k{n}"): "x".repeat(1000) }).as_object().cloned(),
        };
        let refused = (0..100).find(|n| rooms.update(&peer(1), 1, patch(*n)).is_err()).unwrap();
        assert!(refused < 17);
        assert_eq!(
            rooms.update(&peer(1), 1, MetadataPatch::default()).unwrap().properties.len(),
            refused
        );
    }

    #[test]
    fn a_room_is_full_some_day() {
        let mut rooms = Rooms::default();
        for n in 0..MAX_PEERS_PER_ROOM as u64 {
            rooms.join(PeerId::new(format!("p{n}")).unwrap(), member(n, 1)).unwrap();
        }
        assert_eq!(rooms.join(PeerId::new("late").unwrap(), member(9999, 1)), Err(RoomError::Full));
        assert!(rooms.join(PeerId::new("p7").unwrap(), member(9999, 1)).is_ok());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(u8, u8),
        Leave(u8),
        Remove(u8),
        Clear(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6u8, 0..3u8).prop_map(|(p, r)| Step::Join(p, r)),
            2 => (0..6u8).prop_map(Step::Leave),
            1 => (0..6u8).prop_map(Step::Remove),
            1 => (0..3u8).prop_map(Step::Clear),
        ]
    }

    proptest! {
        /// Whatever happens, the registry is what a plain list of (peer, connection, room) is,
        /// and nobody sees or reaches beyond its room.
        #[test]
        fn rooms_are_the_boundary(steps in prop::collection::vec(step(), 0..60)) {
            let mut rooms = Rooms::default();
            let mut model: BTreeMap<u8, (u64, u8)> = BTreeMap::new();
            for (connection, step) in (0u64..).zip(steps) {
                match step {
                    Step::Join(p, r) => {
                        let replaced = rooms.join(peer(p), member(connection, r)).unwrap();
                        let was = model.insert(p, (connection, r));
                        prop_assert_eq!(replaced.map(|m| m.connection), was.map(|(c, _)| c));
                    }
                    Step::Leave(p) => {
                        if let Some((current, _)) = model.get(&p).copied() {
                            prop_assert!(rooms.leave(&peer(p), current + 1000).is_none());
                            prop_assert!(rooms.leave(&peer(p), current).is_some());
                            model.remove(&p);
                        }
                    }
                    Step::Remove(p) => {
                        prop_assert_eq!(rooms.remove(&peer(p)).is_some(), model.remove(&p).is_some());
                    }
                    Step::Clear(r) => {
                        let before = model.len();
                        model.retain(|_, (_, at)| *at != r);
                        prop_assert_eq!(rooms.clear(&room(r)).len(), before - model.len());
                    }
                }
                prop_assert_eq!(rooms.peers(), model.len());
                let used: BTreeSet<u8> = model.values().map(|(_, r)| *r).collect();
                prop_assert_eq!(rooms.rooms(), used.len());
                for (a, (connection, in_room)) in &model {
                    let seen = rooms.discover(&peer(*a), *connection, &Query::default()).unwrap();
                    let seen: Vec<PeerId> = seen.into_iter().map(|info| info.peer_id).collect();
                    let expected: Vec<PeerId> = model.iter()
                        .filter(|(b, (_, other))| b != &a && other == in_room)
                        .map(|(b, _)| peer(*b)).collect();
                    for b in 0..6 {
                        let reached = rooms.route(&peer(*a), *connection, &peer(b)).unwrap();
                        prop_assert_eq!(reached.is_some(), b == *a || expected.contains(&peer(b)));
                    }
                    prop_assert_eq!(seen, expected);
                }
            }
        }
    }
}
