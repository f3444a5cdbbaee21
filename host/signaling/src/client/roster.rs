//! A list of peers that is kept up to date: by what the server says of its changes, and by asking
//! again where an old server says nothing.

use super::{SignalingClient, SignalingError};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::{Filters, PeerInfo, PeersChanged};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// How often a server that tells nothing is asked.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// How often one that tells is asked nevertheless.
const ASK_SELDOM: Duration = Duration::from_secs(60);

/// What the connection has heard of a watched list.
#[derive(Debug)]
pub(super) enum Change {
    /// The server will tell.
    Pushed,
    /// Some peers are new, different or gone.
    Peers(PeersChanged),
}

/// A room's list, or the part of it that a filter describes.
#[derive(Debug)]
pub struct Roster {
    client: SignalingClient,
    filters: Filters,
    peers: BTreeMap<PeerId, PeerInfo>,
    changes: mpsc::Receiver<Change>,
    ask_every: Duration,
    ask_at: Instant,
}

impl Roster {
    pub(super) async fn new(
        client: SignalingClient,
        filters: Filters,
    ) -> Result<Self, SignalingError> {
        // Watched first: what happens between is told, and taken over after the list.
        let changes = client.watch(filters.clone()).await?;
        let ask_at = Instant::now() + ASK_EVERY;
        let peers = BTreeMap::new();
        let mut roster = Self { client, filters, peers, changes, ask_every: ASK_EVERY, ask_at };
        roster.ask().await?;
        Ok(roster)
    }

    /// Who is in the list, by id.
    pub fn peers(&self) -> impl Iterator<Item = &PeerInfo> {
        self.peers.values()
    }

    /// Asks for the whole list now; returns whether it was different.
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

    /// Waits until the list is different. A lost connection is waited for. Cancel-safe: a change
    /// that was heard of is in the list, whether this returned or not.
    ///
    /// # Errors
    /// When the client is closed for good.
    pub async fn changed(&mut self) -> Result<(), SignalingError> {
        loop {
            let different = tokio::select! {
                change = self.changes.recv() => match change {
                    Some(change) => self.take(change),
                    // Not read for too long.
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
                        tracing::debug!(%error, "the list of peers is as old as it was");
                        false
                    }
                },
            };
            if different {
                return Ok(());
            }
        }
    }

    /// Takes over a change; returns whether the list is different.
    fn take(&mut self, change: Change) -> bool {
        let PeersChanged { peers, left, list_again } = match change {
            Change::Peers(changed) => changed,
            Change::Pushed => {
                self.ask_every = ASK_SELDOM;
                self.ask_at = Instant::now() + ASK_SELDOM;
                return false;
            }
        };
        if list_again {
            self.ask_at = Instant::now();
        }
        let mut different = false;
        for peer in peers {
            let old = self.peers.insert(peer.peer_id.clone(), peer.clone());
            different |= old.is_none_or(|old| old != peer);
        }
        for peer in left {
            different |= self.peers.remove(&peer).is_some();
        }
        different
    }
}
