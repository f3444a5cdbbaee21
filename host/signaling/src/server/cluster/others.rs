//! The other servers of the cluster: which are there, and whether what is known of them is complete. Pure:
//! times are arguments.

use super::ledger::Ledger;
use super::wire::{Beat, ServerId};
use sleap_rtc_protocol::pairing::MailboxNumber;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How often a server says that it is there.
pub(crate) const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A server that was silent for this long is gone.
pub(crate) const EXPIRY: Duration = Duration::from_secs(5);
/// How many beats in a row may show other peers than are known: news may be on their way.
const DIFFERENT_BEATS: u32 = 2;
/// How long a list that was asked for may take, before it is asked for again.
const LIST_LIMIT: Duration = Duration::from_secs(3);
/// The most servers of a cluster.
const MAX_SERVERS: usize = 64;

/// The other servers.
#[derive(Debug, Default)]
pub(crate) struct Others(BTreeMap<ServerId, Other>);

/// What is known of another server.
#[derive(Debug)]
pub(crate) struct Other {
    /// Its peers.
    pub(crate) ledger: Ledger,
    mailboxes: BTreeSet<MailboxNumber>,
    heard: Instant,
    different_beats: u32,
    /// When it was asked for its list, until the list is complete.
    asked: Option<Instant>,
}

impl Others {
    /// A server is there. Returns whether it must be asked for its list.
    pub(crate) fn beat(&mut self, from: ServerId, beat: Beat, now: Instant) -> bool {
        if !self.0.contains_key(&from) && self.0.len() >= MAX_SERVERS {
            return false;
        }
        let is_new = !self.0.contains_key(&from);
        let other = self.0.entry(from).or_insert_with(|| Other {
            ledger: Ledger::default(),
            mailboxes: BTreeSet::new(),
            heard: now,
            different_beats: 0,
            asked: None,
        });
        other.heard = now;
        other.mailboxes = beat.mailboxes.into_iter().collect();
        if beat.digest == other.ledger.digest() {
            (other.different_beats, other.asked) = (0, None);
            return false;
        }
        other.different_beats += 1;
        let is_due = is_new || other.different_beats >= DIFFERENT_BEATS;
        let waits = other.asked.is_some_and(|asked| now.duration_since(asked) < LIST_LIMIT);
        let asks = is_due && !waits;
        if asks {
            other.asked = Some(now);
        }
        asks
    }

    /// A server that is there.
    pub(crate) fn get(&mut self, server: ServerId) -> Option<&mut Other> {
        self.0.get_mut(&server)
    }

    /// Forgets a server. Returns its peers.
    pub(crate) fn remove(&mut self, server: ServerId) -> Option<Ledger> {
        self.0.remove(&server).map(|other| other.ledger)
    }

    /// Forgets the servers that were silent for too long.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(ServerId, Ledger)> {
        let is_silent = |other: &Other| now.duration_since(other.heard) > EXPIRY;
        let silent = self.0.iter().filter(|(_, other)| is_silent(other));
        let silent: Vec<ServerId> = silent.map(|(server, _)| *server).collect();
        let forget = |server| self.0.remove(&server).map(|other| (server, other.ledger));
        silent.into_iter().filter_map(forget).collect()
    }

    /// This server did not run for a while, so silence means nothing.
    pub(crate) fn heard_all(&mut self, now: Instant) {
        self.0.values_mut().for_each(|other| other.heard = now);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The numbers of the mailboxes that are open at them.
    pub(crate) fn mailboxes(&self) -> BTreeSet<MailboxNumber> {
        self.0.values().flat_map(|other| other.mailboxes.iter().copied()).collect()
    }
}

impl Other {
    /// Its list is complete.
    pub(crate) fn list_is_complete(&mut self) {
        (self.different_beats, self.asked) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::ids::PeerId;

    fn beat(digest: u64) -> Beat {
        Beat { digest, mailboxes: vec![MailboxNumber::try_from(4).unwrap()] }
    }

    #[test]
    fn a_new_server_is_asked_at_once_and_a_known_one_after_two_beats() {
        let (mut others, server, start) =
            (Others::default(), ServerId::new_random(), Instant::now());
        assert!(others.get(server).is_none());
        assert!(others.beat(server, beat(7), start));
        // The list is on its way.
        assert!(!others.beat(server, beat(7), start + BEAT_EVERY));
        assert!(others.beat(server, beat(7), start + LIST_LIMIT));
        let other = others.get(server).unwrap();
        let peer = PeerId::new("p").unwrap();
        other.ledger.put(&peer, 1, 0);
        other.list_is_complete();
        let digest = other.ledger.digest();
        assert!(!others.beat(server, beat(digest), start + LIST_LIMIT));
        assert!(!others.beat(server, beat(digest + 1), start + LIST_LIMIT));
        assert!(others.beat(server, beat(digest + 1), start + LIST_LIMIT));
        assert_eq!((others.count(), others.mailboxes().len()), (1, 1));
    }

    #[test]
    fn a_silent_server_is_forgotten_unless_this_one_slept() {
        let (mut others, start) = (Others::default(), Instant::now());
        let [silent, alive] = [ServerId::new_random(), ServerId::new_random()];
        others.beat(silent, beat(0), start);
        others.beat(alive, beat(0), start + EXPIRY);
        assert!(others.expire(start + EXPIRY).is_empty());
        let later = start + EXPIRY + BEAT_EVERY;
        let gone: Vec<_> = others.expire(later).into_iter().map(|(server, _)| server).collect();
        assert_eq!(gone, [silent]);
        others.heard_all(start + 3 * EXPIRY);
        assert!(others.expire(start + 3 * EXPIRY).is_empty());
        assert!(others.remove(alive).is_some() && others.count() == 0);
    }

    #[test]
    fn there_is_a_limit_to_servers() {
        let (mut others, now) = (Others::default(), Instant::now());
        for _ in 0..2 * MAX_SERVERS {
            others.beat(ServerId::new_random(), beat(1), now);
        }
        assert_eq!(others.count(), MAX_SERVERS);
    }
}
