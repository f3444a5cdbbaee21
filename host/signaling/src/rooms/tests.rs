//! Compares the registry with a plain list, and checks what its watchers receive.

use super::*;
use crate::filter::Query;
use proptest::prelude::*;
use serde_json::json;
use sleap_rtc_protocol::signaling::{Filters, PeerInfo};
use std::sync::Mutex;

const ROOM_PEERS: usize = 50;

/// A link that keeps the list as its watcher knows it.
#[derive(Debug, Clone, Default)]
struct Watcher {
    id: u64,
    list: Arc<Mutex<BTreeMap<PeerId, Listed>>>,
}

impl PartialEq for Watcher {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Listener for Watcher {
    fn notify(&self, peer: &PeerId, change: ListChange) {
        let mut list = self.list.lock().unwrap();
        match change {
            ListChange::Here(listed) => drop(list.insert(peer.clone(), listed)),
            ListChange::Left => assert!(list.remove(peer).is_some(), "{peer} was not in the list"),
        }
    }
}

const WHOLE: PageRequest = PageRequest { after: None, peers: usize::MAX, bytes: usize::MAX };

fn peer(n: u8) -> PeerId {
    PeerId::new(format!("p{n}")).unwrap()
}

fn room(n: u8) -> RoomId {
    RoomId::new(format!("r{n}")).unwrap()
}

fn member(connection: u64, room_number: u8) -> Registrant<Watcher> {
    Registrant {
        connection,
        room: room(room_number),
        role: if connection.is_multiple_of(3) { Role::Client } else { Role::Worker },
        metadata: Metadata::default(),
        since_ms: 0,
        revision: 0,
        link: Watcher { id: connection, ..Watcher::default() },
    }
}

fn infos(page: &Page) -> Vec<PeerInfo> {
    let infos: Vec<PeerInfo> = serde_json::from_str(&format!("[{}]", page.peers)).unwrap();
    assert_eq!(infos.len(), page.count);
    infos
}

fn ids(page: &Page) -> Vec<PeerId> {
    infos(page).into_iter().map(|info| info.peer_id).collect()
}

fn patch(properties: serde_json::Value) -> MetadataPatch {
    MetadataPatch { tags: None, properties: properties.as_object().cloned() }
}

fn query(filters: serde_json::Value) -> Query {
    Query::new(serde_json::from_value::<Filters>(filters).unwrap()).unwrap()
}

#[test]
fn a_replaced_connection_has_no_say() {
    let mut rooms = Rooms::new(ROOM_PEERS);
    assert_eq!(rooms.join(peer(1), member(1, 1)), Ok(None));
    rooms.join(peer(2), member(2, 1)).unwrap();
    assert_eq!(rooms.join(peer(1), member(3, 1)).unwrap().unwrap().connection, 1);
    assert_eq!(rooms.leave(&peer(1), 1), None);
    let reached = |rooms: &Rooms<Watcher>, from, connection, to| {
        rooms.route(&peer(from), connection, &peer(to)).map(|link| link.map(|link| link.id))
    };
    assert_eq!(reached(&rooms, 1, 1, 2), Err(RoomError::NotInRoom));
    assert_eq!(reached(&rooms, 1, 3, 2), Ok(Some(2)));
    assert_eq!(reached(&rooms, 2, 2, 1), Ok(Some(3)));
    assert_eq!(rooms.update(&peer(1), 1, MetadataPatch::default()), Err(RoomError::NotInRoom));
    assert_eq!(rooms.watch(&peer(1), 1, Some(Query::default())), Err(RoomError::NotInRoom));
}

#[test]
fn metadata_cannot_grow_piece_by_piece() {
    let mut rooms = Rooms::new(ROOM_PEERS);
    rooms.join(peer(1), member(1, 1)).unwrap();
    let more = |n: usize| patch(json!({ format!("k{n}"): "x".repeat(1000) }));
    let refused = (0..100).find(|n| rooms.update(&peer(1), 1, more(*n)).is_err()).unwrap();
    assert!(refused < 17);
    let kept = rooms.update(&peer(1), 1, MetadataPatch::default()).unwrap();
    assert_eq!(kept.properties.len(), refused);
}

#[test]
fn a_room_is_full_some_day() {
    let mut rooms = Rooms::new(ROOM_PEERS);
    for n in 0..ROOM_PEERS as u64 {
        rooms.join(PeerId::new(format!("p{n}")).unwrap(), member(n, 1)).unwrap();
    }
    assert_eq!(
        rooms.join(PeerId::new("late").unwrap(), member(9999, 1)),
        Err(RoomError::Full(ROOM_PEERS))
    );
    assert!(rooms.join(PeerId::new("p7").unwrap(), member(9999, 1)).is_ok());
}

#[test]
fn a_watcher_hears_of_its_own_list_only() {
    let mut rooms = Rooms::new(ROOM_PEERS);
    let watcher = member(1, 1);
    let list = watcher.link.list.clone();
    rooms.join(peer(1), watcher).unwrap();
    let free = query(json!({"role": "worker", "properties": {"status": "available"}}));
    rooms.watch(&peer(1), 1, Some(free)).unwrap();
    let says = |status| patch(json!({ "status": status }));
    let listed = || list.lock().unwrap().keys().cloned().collect::<Vec<_>>();
    rooms.join(peer(2), member(2, 1)).unwrap();
    assert_eq!(listed(), []);
    rooms.update(&peer(2), 2, says("available")).unwrap();
    assert_eq!(listed(), [peer(2)]);
    rooms.join(peer(3), member(3, 2)).unwrap();
    rooms.update(&peer(3), 3, says("available")).unwrap();
    assert_eq!(listed(), [peer(2)], "another room");
    rooms.update(&peer(2), 2, says("busy")).unwrap();
    assert_eq!(listed(), []);
    rooms.watch(&peer(1), 1, None).unwrap();
    rooms.update(&peer(2), 2, says("available")).unwrap();
    assert_eq!(listed(), [], "no longer watched");
}

proptest! {
    /// The pages add up to the whole list, without repetitions, and no page exceeds its limit.
    #[test]
    fn pages_are_the_list(
        lengths in prop::collection::vec(0usize..300, 0..40),
        peers in 1usize..10,
        bytes in 1usize..2000,
    ) {
        let mut rooms = Rooms::new(ROOM_PEERS);
        let asker = PeerId::new("p20").unwrap();
        rooms.join(asker.clone(), member(0, 1)).unwrap();
        let mut expected = Vec::new();
        for (n, length) in (1u64..).zip(lengths) {
            let peer = PeerId::new(format!("p{}", 100 + n)).unwrap();
            rooms.join(peer.clone(), member(n, 1)).unwrap();
            rooms.update(&peer, n, patch(json!({ "x": "x".repeat(length) }))).unwrap();
            expected.push(peer);
        }
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let part = PageRequest { after, peers, bytes };
            let page = rooms.discover(&asker, 0, Query::default(), part).unwrap();
            prop_assert!(page.count <= peers);
            prop_assert!(page.peers.len() <= bytes || page.count == 1);
            seen.extend(ids(&page));
            after = page.next.clone();
            if after.is_none() {
                break;
            }
        }
        prop_assert_eq!(seen, expected);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Join(u8, u8),
    Update(u8, u8),
    Leave(u8),
    Remove(u8),
    Clear(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u8, 0..3u8).prop_map(|(p, r)| Step::Join(p, r)),
        2 => (0..6u8, 0..3u8).prop_map(|(p, value)| Step::Update(p, value)),
        2 => (0..6u8).prop_map(Step::Leave),
        1 => (0..6u8).prop_map(Step::Remove),
        1 => (0..3u8).prop_map(Step::Clear),
    ]
}

/// For each peer its connection, its room, and its link.
type Model = BTreeMap<u8, (u64, u8, Watcher)>;

fn listed(info: &PeerInfo) -> Listed {
    serde_json::to_string(info).unwrap().into()
}

/// Joins, and watches from the current list on.
fn join(rooms: &mut Rooms<Watcher>, model: &mut Model, connection: u64, p: u8, r: u8) {
    let member = member(connection, r);
    let link = member.link.clone();
    let replaced = rooms.join(peer(p), member).unwrap();
    let was = model.insert(p, (connection, r, link.clone()));
    assert_eq!(replaced.map(|member| member.connection), was.map(|(connection, ..)| connection));
    let every = Query::default();
    rooms.watch(&peer(p), connection, Some(every.clone())).unwrap();
    let page = rooms.discover(&peer(p), connection, every, WHOLE).unwrap();
    let list = infos(&page).into_iter().map(|info| (info.peer_id.clone(), listed(&info)));
    link.list.lock().unwrap().extend(list);
}

/// No peer sees, reaches or is notified of a peer in another room.
fn check(rooms: &mut Rooms<Watcher>, model: &Model) {
    assert_eq!(rooms.peers(), model.len());
    let used: BTreeSet<u8> = model.values().map(|(_, r, _)| *r).collect();
    assert_eq!(rooms.rooms(), used.len());
    for (a, (connection, in_room, link)) in model {
        let others = model.iter().filter(|(b, (_, other, _))| *b != a && other == in_room);
        let expected: Vec<PeerId> = others.map(|(b, _)| peer(*b)).collect();
        for b in 0..6 {
            let reached = rooms.route(&peer(*a), *connection, &peer(b)).unwrap();
            assert_eq!(reached.is_some(), b == *a || expected.contains(&peer(b)));
        }
        let page = rooms.discover(&peer(*a), *connection, Query::default(), WHOLE).unwrap();
        assert_eq!(ids(&page), expected);
        let watched: Vec<Listed> = link.list.lock().unwrap().values().cloned().collect();
        assert_eq!(watched.join(","), page.peers, "what {a} put together is not the list");
        // The shared page of clients is as recent as a worker's own page.
        let workers = query(json!({"role": "worker"}));
        let found = rooms.discover(&peer(*a), *connection, workers, WHOLE).unwrap();
        let is_worker = |info: &PeerInfo| info.role == Role::Worker;
        let expected: Vec<PeerInfo> = infos(&page).into_iter().filter(is_worker).collect();
        assert_eq!(infos(&found), expected);
    }
}

proptest! {
    /// After any sequence of events, the registry equals a plain list of (peer, connection, room),
    /// and a watcher that applied all changes has the same list.
    #[test]
    fn rooms_are_the_boundary(steps in prop::collection::vec(step(), 0..60)) {
        let mut rooms = Rooms::new(ROOM_PEERS);
        let mut model = Model::new();
        for (connection, step) in (0u64..).zip(steps) {
            match step {
                Step::Join(p, r) => join(&mut rooms, &mut model, connection, p, r),
                Step::Update(p, value) => {
                    let present = model.get(&p).map(|(current, ..)| *current);
                    let change = patch(json!({ "value": value }));
                    let updated = rooms.update(&peer(p), present.unwrap_or(0), change);
                    prop_assert_eq!(updated.is_ok(), present.is_some());
                }
                Step::Leave(p) => {
                    if let Some((current, ..)) = model.remove(&p) {
                        prop_assert!(rooms.leave(&peer(p), current + 1000).is_none());
                        prop_assert!(rooms.leave(&peer(p), current).is_some());
                    }
                }
                Step::Remove(p) => {
                    prop_assert_eq!(rooms.remove(&peer(p)).is_some(), model.remove(&p).is_some());
                }
                Step::Clear(r) => {
                    let before = model.len();
                    model.retain(|_, (_, at, _)| *at != r);
                    prop_assert_eq!(rooms.clear(&room(r)).len(), before - model.len());
                }
            }
            check(&mut rooms, &model);
        }
    }
}
