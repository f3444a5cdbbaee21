//! A list of peers that stays up to date: through changes that the server pushes, or through
//! polling if an older server pushes none.

use super::{SignalingClient, SignalingError};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::{Filters, PeerInfo, PeersChanged};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// How often a server that pushes nothing is polled.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// How often a server that pushes is polled as well.
const ASK_SELDOM: Duration = Duration::from_secs(60);

/// News about a watched list.
#[derive(Debug)]
pub(crate) enum RosterChange {
    /// The server pushes changes.
    Pushed,
    /// Peers were added, changed or removed.
    Peers(PeersChanged),
}

/// The list of a room, or of the peers that match a filter.
#[derive(Debug)]
pub struct Roster {
    client: SignalingClient,
    filters: Filters,
    peers: BTreeMap<PeerId, PeerInfo>,
    changes: mpsc::Receiver<RosterChange>,
    ask_every: Duration,
    ask_at: Instant,
}

impl Roster {
    pub(crate) async fn new(
        client: SignalingClient,
        filters: Filters,
    ) -> Result<Self, SignalingError> {
        // Watch first: changes between the two requests are applied after the list.
        let changes = client.watch(filters.clone()).await?;
        let ask_at = Instant::now() + ASK_EVERY;
        let peers = BTreeMap::new();
        let mut roster = Self { client, filters, peers, changes, ask_every: ASK_EVERY, ask_at };
        roster.ask().await?;
        Ok(roster)
    }

    /// The peers in the list, by id.
    pub fn peers(&self) -> impl Iterator<Item = &PeerInfo> {
        self.peers.values()
    }

    /// Requests the whole list now. Returns whether it has changed.
    ///
    /// # Errors
    /// When the connection is down, or no answer comes in time. The list stays as it was.
    pub async fn ask(&mut self) -> Result<bool, SignalingError> {
        self.ask_at = Instant::now() + self.ask_every;
        let found = self.client.discover(self.filters.clone()).await?;
        let found = found.into_iter().map(|peer| (peer.peer_id.clone(), peer)).collect();
        let different = found != self.peers;
        self.peers = found;
        Ok(different)
    }

    /// Waits until the list changes, also across a lost connection. Cancel safe: a change that has
    /// arrived is in the list even if this call was cancelled.
    ///
    /// # Errors
    /// When the client is closed.
    pub async fn changed(&mut self) -> Result<(), SignalingError> {
        loop {
            let different = tokio::select! {
                change = self.changes.recv() => match change {
                    Some(change) => self.apply(change),
                    // The list was not read for too long.
                    None => {
                        self.ask_every = ASK_EVERY;
                        self.ask_at = Instant::now();
                        self.changes = self.client.watch(self.filters.clone()).await?;
                        false
                    }
                },
                () = sleep_until(self.ask_at) => match self.ask().await {
                    Ok(different) => different,
                    Err(SignalingError::Closed) => return Err(SignalingError::Closed),
                    Err(error) => {
                        tracing::debug!(%error, "cannot refresh the list of peers");
                        false
                    }
                },
            };
            if different {
                return Ok(());
            }
        }
    }

    /// Applies a change. Returns whether the list has changed.
    fn apply(&mut self, change: RosterChange) -> bool {
        let changed = match change {
            RosterChange::Peers(changed) => changed,
            RosterChange::Pushed => {
                self.ask_every = ASK_SELDOM;
                self.ask_at = Instant::now() + ASK_SELDOM;
                return false;
            }
        };
        if changed.list_again {
            self.ask_at = Instant::now();
        }
        changed.apply(&mut self.peers)
    }
}
