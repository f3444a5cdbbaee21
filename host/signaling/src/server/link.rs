//! How the server reaches a peer: a bounded queue in front of its socket, and a board on which the
//! news of a watched list are merged, so that a slow watcher costs little and loses nothing.

use super::Limits;
use crate::rooms::{Listener, News};
use crate::server::board::Board;
use sleap_rtc_protocol::ids::PeerId;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The shortest time between two frames of news to one watcher: the first is told at once, and what
/// happens shortly after it together.
const NEWS_EVERY: Duration = Duration::from_millis(200);

/// Why the server closes a peer's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dismissal {
    /// The same identity registered on another socket.
    Replaced,
    /// The peer, or its room, was deleted.
    Deleted,
    /// It does not read what others send to it.
    TooSlow,
}

/// What waits for one socket.
#[derive(Debug, Default)]
struct Outbox {
    frames: VecDeque<Utf8Bytes>,
    bytes: usize,
    /// Most peers watch nothing: then this is one empty word.
    news: Option<Box<Board>>,
    dismissal: Option<Dismissal>,
    /// The socket is gone.
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    outbox: Mutex<Outbox>,
    filled: Notify,
}

impl Shared {
    /// Locked for moments only, and never across an `await`.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending end.
#[derive(Debug, Clone)]
pub(super) struct Link(Arc<Shared>);

/// The socket's end.
#[derive(Debug)]
pub(super) struct Inbox {
    shared: Arc<Shared>,
    next_news: Instant,
}

/// What a socket is to do for others.
#[derive(Debug)]
pub(super) enum Errand {
    Deliver(Utf8Bytes),
    Leave(Dismissal),
}

pub(super) fn link() -> (Link, Inbox) {
    let shared = Arc::new(Shared::default());
    (Link(Arc::clone(&shared)), Inbox { shared, next_news: Instant::now() })
}

impl Link {
    /// Queues a frame; returns whether it was. A peer whose queue is full loses its socket, so that
    /// it does not cost the server's memory.
    pub(super) fn deliver(&self, frame: Utf8Bytes, limits: &Limits) -> bool {
        let mut outbox = self.0.outbox();
        if outbox.closed {
            return false;
        }
        let bytes = outbox.bytes + frame.len();
        let fits = bytes <= limits.queue_bytes && outbox.frames.len() < limits.queue_frames;
        if fits {
            outbox.bytes = bytes;
            outbox.frames.push_back(frame);
        } else {
            outbox.dismissal.get_or_insert(Dismissal::TooSlow);
        }
        drop(outbox);
        self.0.filled.notify_one();
        fits
    }

    /// Asks the socket to close. The first reason counts.
    pub(super) fn dismiss(&self, why: Dismissal) {
        self.0.outbox().dismissal.get_or_insert(why);
        self.0.filled.notify_one();
    }

    /// Forgets news that nobody wants any more.
    pub(super) fn forget_news(&self) {
        self.0.outbox().news = None;
    }
}

impl Listener for Link {
    fn tell(&self, peer: &PeerId, news: News) {
        let mut outbox = self.0.outbox();
        if !outbox.closed {
            outbox.news.get_or_insert_default().put(peer, news);
        }
        drop(outbox);
        self.0.filled.notify_one();
    }
}

impl Inbox {
    /// Waits until the socket is asked to close. Cancel-safe.
    pub(super) async fn dismissed(&mut self) -> Dismissal {
        loop {
            if let Some(why) = self.shared.outbox().dismissal {
                return why;
            }
            self.shared.filled.notified().await;
        }
    }

    /// Waits for the next errand; leaving comes before what is queued, and news come last.
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Errand {
        loop {
            let news = match self.take() {
                Taken::Errand(errand) => return errand,
                Taken::Nothing { news } => news,
            };
            tokio::select! {
                () = self.shared.filled.notified() => {}
                () = sleep_until(self.next_news), if news => {}
            }
        }
    }

    fn take(&mut self) -> Taken {
        let mut outbox = self.shared.outbox();
        if let Some(why) = outbox.dismissal {
            return Taken::Errand(Errand::Leave(why));
        }
        if let Some(frame) = outbox.frames.pop_front() {
            outbox.bytes -= frame.len();
            if outbox.frames.is_empty() {
                // A queue that was long once keeps nothing of it.
                outbox.frames.shrink_to(8);
            }
            return Taken::Errand(Errand::Deliver(frame));
        }
        let now = Instant::now();
        if now < self.next_news {
            return Taken::Nothing { news: outbox.news.is_some() };
        }
        let Some(board) = outbox.news.take() else { return Taken::Nothing { news: false } };
        drop(outbox);
        self.next_news = now + NEWS_EVERY;
        Taken::Errand(Errand::Deliver(board.frame().into()))
    }
}

enum Taken {
    Errand(Errand),
    /// Nothing now; perhaps there will be news.
    Nothing {
        news: bool,
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

    #[tokio::test]
    async fn a_full_queue_costs_the_socket() {
        for frame in [Utf8Bytes::from("x"), Utf8Bytes::from("x".repeat(1024 * 1024))] {
            let ((link, mut inbox), limits) = (link(), Limits::default());
            let accepted = (0..1000).take_while(|_| link.deliver(frame.clone(), &limits)).count();
            let expected = limits.queue_frames.min(limits.queue_bytes / frame.len());
            assert_eq!(accepted, expected);
            link.dismiss(Dismissal::Replaced);
            assert!(matches!(inbox.next().await, Errand::Leave(Dismissal::TooSlow)));
        }
    }

    #[tokio::test]
    async fn a_reader_makes_room() {
        let (link, mut inbox) = link();
        for _ in 0..100 {
            assert!(link.deliver("x".repeat(1024 * 1024).into(), &Limits::default()));
            assert!(matches!(inbox.next().await, Errand::Deliver(_)));
        }
    }

    #[tokio::test]
    async fn news_are_merged_and_never_cost_the_socket() {
        let (link, mut inbox) = link();
        let peer = |n: usize| PeerId::new(format!("p{n}")).unwrap();
        let read = |errand| match errand {
            Errand::Deliver(frame) => serde_json::from_str::<serde_json::Value>(&frame).unwrap(),
            Errand::Leave(why) => panic!("dismissed: {why:?}"),
        };
        let start = Instant::now();
        link.tell(&peer(1), News::Here(r#"{"peer_id":"p1"}"#.into()));
        assert_eq!(read(inbox.next().await)["peers"][0]["peer_id"], "p1");
        for _ in 0..1000 {
            link.tell(&peer(1), News::Here(r#"{"peer_id":"p1","n":2}"#.into()));
            link.tell(&peer(2), News::Left);
        }
        assert!(link.deliver("x".into(), &Limits::default()));
        assert!(matches!(inbox.next().await, Errand::Deliver(frame) if frame.as_str() == "x"));
        let news = read(inbox.next().await);
        assert!(start.elapsed() >= NEWS_EVERY);
        assert_eq!((news["peers"].as_array().unwrap().len(), &news["left"][0]), (1, &"p2".into()));
        for n in 0..100_000 {
            link.tell(&peer(n), News::Left);
        }
        let news = read(inbox.next().await);
        assert_eq!((&news["list_again"], &news["left"]), (&true.into(), &serde_json::json!([])));
    }
}
