//! Unregistered connections. If all sockets are in use, the oldest unregistered one is closed for a new
//! connection, so that silent connections cannot lock out peers.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// All strangers, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<OldestFirst>);

#[derive(Debug, Default)]
struct OldestFirst {
    next: u64,
    by_age: BTreeMap<u64, CancellationToken>,
}

/// A stranger, until it registers or ends.
#[derive(Debug)]
pub(crate) struct Stranger {
    strangers: Arc<Strangers>,
    number: u64,
    evicted: CancellationToken,
}

impl Strangers {
    fn waiting(&self) -> MutexGuard<'_, OldestFirst> {
        self.0.lock()
    }

    /// Adds a new connection.
    pub(crate) fn enter(self: &Arc<Self>) -> Stranger {
        let evicted = CancellationToken::new();
        let mut waiting = self.waiting();
        let number = waiting.next;
        waiting.next += 1;
        waiting.by_age.insert(number, evicted.clone());
        drop(waiting);
        Stranger { strangers: Arc::clone(self), number, evicted }
    }

    /// Asks the oldest one to end. Returns whether there was one.
    pub(crate) fn evict_oldest(&self) -> bool {
        let oldest = self.waiting().by_age.pop_first();
        oldest.is_some_and(|(_, evicted)| {
            evicted.cancel();
            true
        })
    }
}

impl Stranger {
    /// Waits until this connection must end to make room.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// The peer has registered, so the connection is no longer a stranger.
    pub(crate) fn becomes_a_peer(&self) {
        self.strangers.waiting().by_age.remove(&self.number);
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.becomes_a_peer();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_stranger_goes_first_and_a_peer_never() {
        let strangers = Arc::new(Strangers::default());
        let (peer, gone, old, young) =
            (strangers.enter(), strangers.enter(), strangers.enter(), strangers.enter());
        peer.becomes_a_peer();
        drop(gone);
        assert!(strangers.evict_oldest());
        let evicted = [&peer, &old, &young].map(|stranger| stranger.evicted.is_cancelled());
        assert_eq!(evicted, [false, true, false]);
        assert!(strangers.evict_oldest() && !strangers.evict_oldest());
        drop((old, young));
        assert!(strangers.waiting().by_age.is_empty());
    }
}
