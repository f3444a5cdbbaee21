//! How peers have used their reserved slots. Peers that let reservations expire come after peers
//! that do not.
//!
//! A fault is a reservation that its holder let end without a job. It counts against the peer and its
//! address, because anybody can sign in as a new peer. Faults are forgotten after a while. Time is an
//! argument.

use crate::ids::{AddressTag, PeerId};
use std::collections::HashMap;
use std::hash::Hash;
use web_time::{Duration, Instant};

/// How long a fault counts.
const REMEMBERED: Duration = Duration::from_secs(600);
/// How long a peer waits after its first fault. The wait doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// The most peers, and the most addresses, that are remembered. Further ones displace the oldest.
const MAX_REMEMBERED: usize = 1024;

/// The sender of a request: a peer, and its address if the signaling server provides it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The peer.
    pub peer: PeerId,
    /// Its address.
    pub address: Option<AddressTag>,
}

/// How good the standing of a caller is. A lower rank is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    address_faults: u32,
    peer_faults: u32,
}

impl Rank {
    /// Whether the caller's address has any faults.
    pub fn has_faulty_address(self) -> bool {
        self.address_faults > 0
    }
}

/// The faults of all callers.
#[derive(Debug, Default)]
pub struct Standing {
    peers: Faults<PeerId>,
    addresses: Faults<AddressTag>,
}

impl Standing {
    /// Counts a fault.
    pub fn fault(&mut self, caller: &Caller, now: Instant) {
        self.peers.add(&caller.peer, now);
        if let Some(address) = &caller.address {
            self.addresses.add(address, now);
        }
    }

    /// The caller's rank.
    pub fn rank(&self, caller: &Caller, now: Instant) -> Rank {
        let address = caller.address.as_ref();
        Rank {
            address_faults: address.map_or(0, |address| self.addresses.count(address, now)),
            peer_faults: self.peers.count(&caller.peer, now),
        }
    }

    /// How long a peer has to wait before it may reserve a slot again.
    pub fn must_wait(&self, peer: &PeerId, now: Instant) -> Option<Duration> {
        let faults = self.peers.count(peer, now).checked_sub(1)?;
        let wait = FIRST_WAIT.saturating_mul(1 << faults.min(16)).min(REMEMBERED);
        let since = now.saturating_duration_since(self.peers.last(peer)?);
        wait.checked_sub(since).filter(|left| !left.is_zero())
    }
}

/// The number of faults of each key, and the time of its last one.
#[derive(Debug)]
struct Faults<K>(HashMap<K, (u32, Instant)>);

impl<K> Default for Faults<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Clone + Eq + Hash> Faults<K> {
    fn add(&mut self, key: &K, now: Instant) {
        let count = self.count(key, now).saturating_add(1);
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(key) {
            let oldest = self.0.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(key.clone(), (count, now));
    }

    fn count(&self, key: &K, now: Instant) -> u32 {
        match self.0.get(key) {
            Some((count, last)) if now.saturating_duration_since(*last) < REMEMBERED => *count,
            _ => 0,
        }
    }

    fn last(&self, key: &K) -> Option<Instant> {
        self.0.get(key).map(|(_, last)| *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn caller(peer: u16, address: Option<u8>) -> Caller {
        Caller {
            peer: PeerId::new(format!("p{peer}")).unwrap(),
            address: address.map(|number| AddressTag::new(format!("a{number}")).unwrap()),
        }
    }

    #[test]
    fn the_wait_doubles_with_each_fault_and_ends() {
        let (mut standing, start, peer) = (Standing::default(), Instant::now(), caller(1, None));
        let mut waits = Vec::new();
        for _ in 0..9 {
            standing.fault(&peer, start);
            waits.push(standing.must_wait(&peer.peer, start).unwrap().as_secs());
        }
        assert_eq!(waits, [15, 30, 60, 120, 240, 480, 600, 600, 600]);
        let almost = start + REMEMBERED - Duration::from_secs(1);
        assert_eq!(standing.must_wait(&peer.peer, almost), Some(Duration::from_secs(1)));
        assert_eq!(standing.must_wait(&peer.peer, start + REMEMBERED), None);
        assert_eq!(
            standing.rank(&peer, start + REMEMBERED),
            standing.rank(&caller(2, None), start)
        );
    }

    #[test]
    fn a_new_name_at_the_same_address_is_not_a_new_start() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        standing.fault(&caller(1, Some(1)), now);
        let [again, same_address, elsewhere] =
            [caller(1, Some(1)), caller(2, Some(1)), caller(3, Some(2))]
                .map(|caller| standing.rank(&caller, now));
        assert!(elsewhere < same_address && same_address < again);
        assert_eq!(standing.must_wait(&caller(2, Some(1)).peer, now), None);
    }

    proptest! {
        /// Memory is bounded, and only a fault makes a peer wait.
        #[test]
        fn memory_is_bounded(faults in prop::collection::vec((0..3000u16, 0..200u8), 0..4000)) {
            let (mut standing, now) = (Standing::default(), Instant::now());
            for (peer, address) in &faults {
                standing.fault(&caller(*peer, Some(*address)), now);
            }
            prop_assert!(standing.peers.0.len() <= MAX_REMEMBERED);
            prop_assert!(standing.addresses.0.len() <= MAX_REMEMBERED);
            prop_assert!(standing.must_wait(&caller(5000, None).peer, now).is_none());
        }
    }
}
