//! Which peers are at one server, and since when. Pure. The server itself and all others keep one each; the
//! digest shows whether theirs are the same.

use sha2::{Digest, Sha256};
use sleap_rtc_protocol::ids::PeerId;
use std::collections::HashMap;

/// The most peers of one server.
pub(crate) const MAX_PEERS: usize = 100_000;

/// The peers of one server.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    peers: HashMap<PeerId, Noted>,
    digest: u64,
}

#[derive(Debug, Clone, Copy)]
struct Noted {
    since_ms: u64,
    revision: u64,
    /// Whether it was in the list that is under way.
    is_listed: bool,
}

/// What an entry adds to the digest. The same on every machine and for every version.
fn mark(peer: &PeerId, since_ms: u64, revision: u64) -> u64 {
    let hash = Sha256::new()
        .chain_update(since_ms.to_be_bytes())
        .chain_update(revision.to_be_bytes())
        .chain_update(peer.as_str())
        .finalize();
    hash.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
}

impl Ledger {
    /// A peer is there, or has changed. Returns whether that is news.
    pub(crate) fn put(&mut self, peer: &PeerId, since_ms: u64, revision: u64) -> bool {
        if let Some(known) = self.peers.get_mut(peer) {
            known.is_listed = true;
            if (since_ms, revision) <= (known.since_ms, known.revision) {
                return false;
            }
            self.digest ^= mark(peer, known.since_ms, known.revision);
        } else if self.peers.len() >= MAX_PEERS {
            return false;
        }
        self.digest ^= mark(peer, since_ms, revision);
        self.peers.insert(peer.clone(), Noted { since_ms, revision, is_listed: true });
        true
    }

    /// A peer has left that was there since then. Returns whether that is news.
    pub(crate) fn remove(&mut self, peer: &PeerId, since_ms: u64) -> bool {
        let Some(known) = self.peers.get(peer).filter(|known| known.since_ms == since_ms) else {
            return false;
        };
        self.digest ^= mark(peer, known.since_ms, known.revision);
        self.peers.remove(peer);
        true
    }

    /// A list of all peers begins.
    pub(crate) fn list_begins(&mut self) {
        self.peers.values_mut().for_each(|entry| entry.is_listed = false);
    }

    /// The list is complete. Removes and returns the peers that were not in it, with the times since when
    /// they had been there.
    pub(crate) fn list_ends(&mut self) -> Vec<(PeerId, u64)> {
        let unlisted = self.peers.iter().filter(|(_, entry)| !entry.is_listed);
        let unlisted: Vec<_> =
            unlisted.map(|(peer, entry)| (peer.clone(), entry.since_ms)).collect();
        for (peer, since_ms) in &unlisted {
            self.remove(peer, *since_ms);
        }
        unlisted
    }

    /// Equal for equal ledgers, and hardly ever for others.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// All peers, and since when they are there.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (&PeerId, u64)> {
        self.peers.iter().map(|(peer, entry)| (peer, entry.since_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn peer(n: u8) -> PeerId {
        PeerId::new(format!("p{n}")).unwrap()
    }

    #[derive(Debug, Clone)]
    enum Change {
        Here(u8, u64, u64),
        Left(u8, u64),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let here = (0..8_u8, 0..6_u64, 0..4_u64).prop_map(|(p, s, r)| Change::Here(p, s, r));
        let left = (0..8_u8, 0..6_u64).prop_map(|(p, s)| Change::Left(p, s));
        prop::collection::vec(prop_oneof![here, left], 0..60)
    }

    fn apply(ledger: &mut Ledger, change: &Change) {
        match *change {
            Change::Here(p, since_ms, revision) => drop(ledger.put(&peer(p), since_ms, revision)),
            Change::Left(p, since_ms) => drop(ledger.remove(&peer(p), since_ms)),
        }
    }

    fn content(ledger: &Ledger) -> BTreeMap<PeerId, (u64, u64)> {
        let entries = ledger.peers.iter();
        entries.map(|(peer, entry)| (peer.clone(), (entry.since_ms, entry.revision))).collect()
    }

    proptest! {
        /// Whatever was lost, doubled or late before: after a whole list both have the same.
        #[test]
        fn a_list_makes_both_the_same(own in changes(), heard in changes(), during in changes()) {
            let (mut source, mut copy) = (Ledger::default(), Ledger::default());
            own.iter().for_each(|change| apply(&mut source, change));
            heard.iter().for_each(|change| apply(&mut copy, change));
            // Since times only grow at a real server; a copy with a later one is of another life of it.
            copy.peers.retain(|peer, entry| source.peers.get(peer).is_none_or(|own| {
                (entry.since_ms, entry.revision) <= (own.since_ms, own.revision)
            }));
            copy.digest = copy.peers.iter().map(|(peer, entry)| mark(peer, entry.since_ms, entry.revision))
                .fold(0, |digest, mark| digest ^ mark);
            let snapshot = content(&source);
            copy.list_begins();
            for (peer, (since_ms, revision)) in &snapshot {
                copy.put(peer, *since_ms, *revision);
            }
            copy.list_ends();
            prop_assert_eq!(content(&copy), content(&source));
            prop_assert_eq!(copy.digest(), source.digest());
            // Afterwards the same changes keep them the same.
            for change in &during {
                apply(&mut source, change);
                apply(&mut copy, change);
            }
            prop_assert_eq!(copy.digest(), source.digest());
        }

        #[test]
        fn the_digest_depends_on_the_content_alone(changes in changes()) {
            let mut ledger = Ledger::default();
            changes.iter().for_each(|change| apply(&mut ledger, change));
            let mut again = Ledger::default();
            for (peer, (since_ms, revision)) in content(&ledger) {
                again.put(&peer, since_ms, revision);
            }
            prop_assert_eq!(ledger.digest(), again.digest());
            let all: Vec<_> = ledger.peers().map(|(peer, since_ms)| (peer.clone(), since_ms)).collect();
            all.iter().for_each(|(peer, since_ms)| assert!(ledger.remove(peer, *since_ms)));
            prop_assert_eq!((ledger.digest(), ledger.len()), (0, 0));
        }
    }

    #[test]
    fn the_newest_registration_counts_and_old_news_of_it_do_not() {
        let mut ledger = Ledger::default();
        assert!(ledger.put(&peer(1), 5, 0) && ledger.put(&peer(1), 5, 1));
        assert!(!ledger.put(&peer(1), 5, 1) && !ledger.put(&peer(1), 4, 9));
        assert!(!ledger.remove(&peer(1), 4) && !ledger.remove(&peer(2), 5));
        assert!(ledger.put(&peer(1), 6, 0) && !ledger.remove(&peer(1), 5));
        assert!(ledger.remove(&peer(1), 6));
        assert_eq!((ledger.digest(), ledger.len()), (0, 0));
    }
}
