//! How the server reaches a peer: a bounded queue in front of its socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Frames that wait for a slow reader.
const MAX_QUEUED_FRAMES: usize = 256;
/// Their bytes, together.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

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

/// The sending end.
#[derive(Debug, Clone)]
pub(super) struct Link {
    queue: mpsc::Sender<Utf8Bytes>,
    queued_bytes: Arc<AtomicUsize>,
    dismissal: watch::Sender<Option<Dismissal>>,
}

/// The socket's end.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: mpsc::Receiver<Utf8Bytes>,
    queued_bytes: Arc<AtomicUsize>,
    dismissal: watch::Receiver<Option<Dismissal>>,
}

/// What a socket is to do for others.
#[derive(Debug)]
pub(super) enum Errand {
    Deliver(Utf8Bytes),
    Leave(Dismissal),
}

pub(super) fn link() -> (Link, Inbox) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_FRAMES);
    let (dismissal, dismissed) = watch::channel(None);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let link = Link { queue: sender, queued_bytes: Arc::clone(&queued_bytes), dismissal };
    (link, Inbox { queue: receiver, queued_bytes, dismissal: dismissed })
}

impl Link {
    /// Queues a frame; returns whether it was. A peer whose queue is full loses its socket, so that
    /// it does not cost the server's memory.
    pub(super) fn deliver(&self, frame: Utf8Bytes) -> bool {
        let length = frame.len();
        let queued = self.queued_bytes.fetch_add(length, Ordering::Relaxed) + length;
        let fits = queued <= MAX_QUEUED_BYTES;
        let sent = fits.then(|| self.queue.try_send(frame));
        if matches!(sent, Some(Ok(()))) {
            return true;
        }
        self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
        if !matches!(sent, Some(Err(mpsc::error::TrySendError::Closed(_)))) {
            self.dismiss(Dismissal::TooSlow);
        }
        false
    }

    /// Asks the socket to close. The first reason counts.
    pub(super) fn dismiss(&self, why: Dismissal) {
        self.dismissal.send_if_modified(|present| {
            let first = present.is_none();
            present.get_or_insert(why);
            first
        });
    }
}

impl Inbox {
    /// Waits until the socket is asked to close. Cancel-safe.
    pub(super) async fn dismissed(&mut self) -> Dismissal {
        dismissed(&mut self.dismissal).await
    }

    /// Waits for the next errand; leaving comes before what is queued. Cancel-safe.
    pub(super) async fn next(&mut self) -> Errand {
        tokio::select! {
            biased;
            why = dismissed(&mut self.dismissal) => Errand::Leave(why),
            Some(frame) = self.queue.recv() => {
                self.queued_bytes.fetch_sub(frame.len(), Ordering::Relaxed);
                Errand::Deliver(frame)
            }
        }
    }
}

async fn dismissed(dismissal: &mut watch::Receiver<Option<Dismissal>>) -> Dismissal {
    match dismissal.wait_for(Option::is_some).await.map(|why| *why) {
        Ok(Some(why)) => why,
        // All links are gone; the session holds one, so the socket is ending anyway.
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_costs_the_socket() {
        for frame in [Utf8Bytes::from("x"), Utf8Bytes::from("x".repeat(1024 * 1024))] {
            let (link, mut inbox) = link();
            let accepted = (0..1000).take_while(|_| link.deliver(frame.clone())).count();
            let expected = MAX_QUEUED_FRAMES.min(MAX_QUEUED_BYTES / frame.len());
            assert_eq!(accepted, expected);
            link.dismiss(Dismissal::Replaced);
            assert!(matches!(inbox.next().await, Errand::Leave(Dismissal::TooSlow)));
        }
    }

    #[tokio::test]
    async fn a_reader_makes_room() {
        let (link, mut inbox) = link();
        for _ in 0..100 {
            assert!(link.deliver("x".repeat(1024 * 1024).into()));
            assert!(matches!(inbox.next().await, Errand::Deliver(_)));
        }
    }
}
