//! The unsent changes of a watched list: the latest one for each peer. If they grow too long, they
//! are dropped, and the watcher must request the whole list again.

use crate::rooms::ListChange;
use serde_json::json;
use sleap_rtc_protocol::ids::PeerId;
use std::collections::BTreeMap;

/// The most peers whose changes are kept.
const MAX_PEERS: usize = 512;
/// The most bytes of all changes together, far below the longest frame that peers accept.
const MAX_BYTES: usize = 256 * 1024;

/// The changes for one watcher.
#[derive(Debug)]
pub(crate) enum PendingChanges {
    /// The latest change of each peer.
    Changes {
        /// By peer.
        by_peer: BTreeMap<PeerId, ListChange>,
        /// Their approximate length in a frame.
        bytes: usize,
    },
    /// Too much has changed; the watcher must request the list again.
    ListAgain,
}

impl Default for PendingChanges {
    fn default() -> Self {
        Self::Changes { by_peer: BTreeMap::new(), bytes: 0 }
    }
}

fn length(peer: &PeerId, change: &ListChange) -> usize {
    match change {
        ListChange::Here(listed) => listed.len() + 1,
        // In quotes, and at worst with every byte escaped.
        ListChange::Left => 6 * peer.as_str().len() + 3,
    }
}

impl PendingChanges {
    /// Replaces the pending change of a peer by its latest one.
    pub(crate) fn put(&mut self, peer: &PeerId, change: ListChange) {
        let Self::Changes { by_peer, bytes } = self else { return };
        *bytes += length(peer, &change);
        if let Some(old) = by_peer.insert(peer.clone(), change) {
            *bytes -= length(peer, &old);
        }
        if by_peer.len() > MAX_PEERS || *bytes > MAX_BYTES {
            *self = Self::ListAgain;
        }
    }

    /// The frame `peers_changed`.
    pub(crate) fn frame(self) -> String {
        let (mut peers, mut left) = (Vec::new(), Vec::new());
        let again = matches!(self, Self::ListAgain);
        if let Self::Changes { by_peer, .. } = self {
            for (peer, change) in by_peer {
                match change {
                    ListChange::Here(listed) => peers.push(listed),
                    ListChange::Left => left.push(peer),
                }
            }
        }
        let (peers, left) = (peers.join(","), json!(left));
        format!(
            r#"{{"type":"peers_changed","peers":[{peers}],"left":{left},"list_again":{again}}}"#
        )
    }
}
