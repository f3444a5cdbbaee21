//! The link from the server to a peer: a bounded queue in front of its socket, with a share for each
//! sender, and the pending changes of a watched list. Pending changes are merged, so a slow watcher costs little and misses
//! nothing. In a cluster a peer may be at another server instead.

use super::Limits;
use super::cluster::RemoteLink;
use crate::fair_queue::FairQueue;
use crate::rooms::{ListChange, Listener};
use crate::server::pending_changes::PendingChanges;
use parking_lot::{Mutex, MutexGuard};
use sleap_rtc_protocol::ids::PeerId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The shortest time between two `peers_changed` frames to one watcher. The first is sent at once;
/// later changes are sent together.
const CHANGES_EVERY: Duration = Duration::from_millis(200);

/// Why the server closes a peer's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The same identity registered on another socket.
    Replaced,
    /// The peer, or its room, was deleted.
    Deleted,
}

/// The queue of one socket.
#[derive(Debug, Default)]
struct Outbox {
    frames: FairQueue<PeerId, Utf8Bytes>,
    /// Boxed, since most peers watch nothing.
    changes: Option<Box<PendingChanges>>,
    close_reason: Option<CloseReason>,
    /// The socket is gone.
    closed: bool,
}

#[derive(Debug, Default)]
struct LinkState {
    outbox: Mutex<Outbox>,
    filled: Notify,
}

impl LinkState {
    /// Locked only briefly, and never across an `await`.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock()
    }
}

/// How a registered peer is reached.
#[derive(Debug, Clone)]
pub(crate) enum PeerLink {
    /// It has a socket here.
    Here(SocketLink),
    /// It is at another server of the cluster.
    Elsewhere(RemoteLink),
}

impl PeerLink {
    /// Passes a frame of `sender` on, and returns whether that was possible.
    pub(crate) fn deliver(&self, sender: &PeerId, frame: Utf8Bytes, limits: &Limits) -> bool {
        match self {
            Self::Here(link) => link.deliver(sender, frame, limits),
            Self::Elsewhere(link) => link.deliver(&frame),
        }
    }

    /// Asks the socket to close. A peer that was replaced is at another server already.
    pub(crate) fn request_close(&self, why: CloseReason) {
        match self {
            Self::Here(link) => link.request_close(why),
            Self::Elsewhere(link) if why == CloseReason::Deleted => link.close(),
            Self::Elsewhere(_) => {}
        }
    }

    /// Whether the peer has a socket here.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }
}

impl Listener for PeerLink {
    fn notify(&self, peer: &PeerId, change: ListChange) {
        // A peer elsewhere watches at its own server.
        if let Self::Here(link) = self {
            link.notify(peer, change);
        }
    }
}

/// The sending end of a socket's queue.
#[derive(Debug, Clone)]
pub(crate) struct SocketLink(Arc<LinkState>);

/// The socket's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    shared: Arc<LinkState>,
    next_changes: Instant,
}

/// The next thing that the socket does on behalf of other peers.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Deliver(Utf8Bytes),
    Close(CloseReason),
}

pub(crate) fn link() -> (SocketLink, Inbox) {
    let shared = Arc::new(LinkState::default());
    (SocketLink(Arc::clone(&shared)), Inbox { shared, next_changes: Instant::now() })
}

impl SocketLink {
    /// Queues a frame, and returns whether there was room. A peer that reads slowly keeps its socket: what
    /// fills the queue is not its doing. One that does not read at all loses it (`socket::write`).
    pub(crate) fn deliver(&self, sender: &PeerId, frame: Utf8Bytes, limits: &Limits) -> bool {
        let mut outbox = self.0.outbox();
        let size_bytes = frame.len();
        let fits = !outbox.closed && outbox.frames.push(sender, frame, size_bytes, limits.queue());
        drop(outbox);
        if fits {
            self.0.filled.notify_one();
        }
        fits
    }

    /// Asks the socket to close. The first reason wins.
    pub(crate) fn request_close(&self, why: CloseReason) {
        self.0.outbox().close_reason.get_or_insert(why);
        self.0.filled.notify_one();
    }

    /// Drops pending changes after the peer has stopped watching.
    pub(crate) fn drop_pending_changes(&self) {
        self.0.outbox().changes = None;
    }
}

impl Listener for SocketLink {
    fn notify(&self, peer: &PeerId, change: ListChange) {
        let mut outbox = self.0.outbox();
        if !outbox.closed {
            outbox.changes.get_or_insert_default().put(peer, change);
        }
        drop(outbox);
        self.0.filled.notify_one();
    }
}

impl Inbox {
    /// Waits until the socket is asked to close. Cancel-safe.
    pub(crate) async fn close_requested(&mut self) -> CloseReason {
        loop {
            if let Some(why) = self.shared.outbox().close_reason {
                return why;
            }
            self.shared.filled.notified().await;
        }
    }

    /// Waits for the next thing to do. A request to close comes before queued frames, and pending
    /// changes come last. Cancel safe.
    pub(crate) async fn next(&mut self) -> Outgoing {
        loop {
            let pending = match self.take() {
                Taken::Outgoing(outgoing) => return outgoing,
                Taken::Nothing { pending } => pending,
            };
            tokio::select! {
                () = self.shared.filled.notified() => {}
                () = sleep_until(self.next_changes), if pending => {}
            }
        }
    }

    fn take(&mut self) -> Taken {
        let mut outbox = self.shared.outbox();
        if let Some(why) = outbox.close_reason {
            return Taken::Outgoing(Outgoing::Close(why));
        }
        if let Some(frame) = outbox.frames.pop() {
            return Taken::Outgoing(Outgoing::Deliver(frame));
        }
        let now = Instant::now();
        if now < self.next_changes {
            return Taken::Nothing { pending: outbox.changes.is_some() };
        }
        let Some(changes) = outbox.changes.take() else {
            return Taken::Nothing { pending: false };
        };
        drop(outbox);
        self.next_changes = now + CHANGES_EVERY;
        Taken::Outgoing(Outgoing::Deliver(changes.frame().into()))
    }
}

enum Taken {
    Outgoing(Outgoing),
    /// Nothing yet.
    Nothing {
        /// Changes are pending, and may be sent a little later.
        pending: bool,
    },
}

impl Drop for Inbox {
    fn drop(&mut self) {
        *self.shared.outbox() = Outbox { closed: true, ..Outbox::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: usize) -> PeerId {
        PeerId::new(format!("p{n}")).unwrap()
    }

    #[tokio::test]
    async fn a_full_queue_refuses_frames_and_keeps_the_socket() {
        let ((link, mut inbox), limits) = (link(), Limits::default());
        let accepted = (0..1000).take_while(|_| link.deliver(&peer(1), "x".into(), &limits));
        assert_eq!(accepted.count(), limits.queue_frames / 2);
        assert!(link.deliver(&peer(2), "y".into(), &limits));
        for expected in ["x", "y"] {
            assert!(matches!(inbox.next().await, Outgoing::Deliver(it) if it.as_str() == expected));
        }
        link.request_close(CloseReason::Replaced);
        link.request_close(CloseReason::Deleted);
        assert!(matches!(inbox.next().await, Outgoing::Close(CloseReason::Replaced)));
        drop(inbox);
        assert!(!link.deliver(&peer(2), "y".into(), &limits));
    }

    #[tokio::test]
    async fn a_reader_makes_room() {
        let (link, mut inbox) = link();
        for _ in 0..100 {
            let frame = "x".repeat(1024 * 1024).into();
            assert!(link.deliver(&peer(1), frame, &Limits::default()));
            assert!(matches!(inbox.next().await, Outgoing::Deliver(_)));
        }
    }

    #[tokio::test]
    async fn news_are_merged_and_never_cost_the_socket() {
        let (link, mut inbox) = link();
        let read = |outgoing| match outgoing {
            Outgoing::Deliver(frame) => serde_json::from_str::<serde_json::Value>(&frame).unwrap(),
            Outgoing::Close(why) => panic!("closed: {why:?}"),
        };
        let start = Instant::now();
        link.notify(&peer(1), ListChange::Here(r#"{"peer_id":"p1"}"#.into()));
        assert_eq!(read(inbox.next().await)["peers"][0]["peer_id"], "p1");
        for _ in 0..1000 {
            link.notify(&peer(1), ListChange::Here(r#"{"peer_id":"p1","n":2}"#.into()));
            link.notify(&peer(2), ListChange::Left);
        }
        assert!(link.deliver(&peer(1), "x".into(), &Limits::default()));
        assert!(matches!(inbox.next().await, Outgoing::Deliver(frame) if frame.as_str() == "x"));
        let change = read(inbox.next().await);
        assert!(start.elapsed() >= CHANGES_EVERY);
        assert_eq!(
            (change["peers"].as_array().unwrap().len(), &change["left"][0]),
            (1, &"p2".into())
        );
        for n in 0..100_000 {
            link.notify(&peer(n), ListChange::Left);
        }
        let change = read(inbox.next().await);
        assert_eq!(
            (&change["list_again"], &change["left"]),
            (&true.into(), &serde_json::json!([]))
        );
    }
}
