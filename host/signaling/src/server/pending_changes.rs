//! The changes of a watched list that are not sent yet: the latest for each peer. When they grow too
//! long, all that is kept is that the watcher must ask for the whole list again.

use crate::rooms::ListChange;
use serde_json::json;
use sleap_rtc_protocol::ids::PeerId;
use std::collections::BTreeMap;

/// Peers whose changes are kept.
const MAX_PEERS: usize = 512;
/// Bytes of all changes together. A frame with them is far below what any peer accepts.
const MAX_BYTES: usize = 256 * 1024;

/// The changes for one watcher.
#[derive(Debug)]
pub(crate) enum PendingChanges {
    /// The latest change of each peer.
    Changes {
        /// By peer.
        by_peer: BTreeMap<PeerId, ListChange>,
        /// Approximately their length in a frame.
        bytes: usize,
    },
    /// Too much has changed: the watcher asks for the list again.
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
    /// Replaces what was kept of a peer by its latest change.
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
