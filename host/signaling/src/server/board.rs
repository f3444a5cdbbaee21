//! What a watcher has still to hear: the newest of each peer; when that grows too long, only that
//! the list is to be asked for again.

use crate::rooms::News;
use serde_json::json;
use sleap_rtc_protocol::ids::PeerId;
use std::collections::BTreeMap;

/// Peers of which something is kept.
const MAX_PEERS: usize = 512;
/// Bytes of what is kept, together: a frame of them is far below what any peer accepts.
const MAX_BYTES: usize = 256 * 1024;

/// News for one watcher.
#[derive(Debug)]
pub(super) enum Board {
    /// Of each peer the newest.
    News {
        /// By peer.
        by_peer: BTreeMap<PeerId, News>,
        /// Their length in a frame, about.
        bytes: usize,
    },
    /// Too much has happened.
    ListAgain,
}

impl Default for Board {
    fn default() -> Self {
        Self::News { by_peer: BTreeMap::new(), bytes: 0 }
    }
}

fn length(peer: &PeerId, news: &News) -> usize {
    match news {
        News::Here(listed) => listed.len() + 1,
        // In quotes, each of its bytes escaped at worst.
        News::Left => 6 * peer.as_str().len() + 3,
    }
}

impl Board {
    /// Keeps the newest of a peer instead of what was kept of it before.
    pub(super) fn put(&mut self, peer: &PeerId, news: News) {
        let Self::News { by_peer, bytes } = self else { return };
        *bytes += length(peer, &news);
        if let Some(old) = by_peer.insert(peer.clone(), news) {
            *bytes -= length(peer, &old);
        }
        if by_peer.len() > MAX_PEERS || *bytes > MAX_BYTES {
            *self = Self::ListAgain;
        }
    }

    /// The frame `peers_changed`.
    pub(super) fn frame(self) -> String {
        let (mut peers, mut left) = (Vec::new(), Vec::new());
        let again = matches!(self, Self::ListAgain);
        if let Self::News { by_peer, .. } = self {
            for (peer, news) in by_peer {
                match news {
                    News::Here(listed) => peers.push(listed),
                    News::Left => left.push(peer),
                }
            }
        }
        let (peers, left) = (peers.join(","), json!(left));
        format!(
            r#"{{"type":"peers_changed","peers":[{peers}],"left":{left},"list_again":{again}}}"#
        )
    }
}
