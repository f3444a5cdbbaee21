//! What waits between a peer's connection and its owner: bounded, with a share for each peer of the room, so
//! that one that floods loses its own messages and nobody else's.

use super::SignalingEvent;
use crate::fair_queue::{Bounds, FairQueue};
use parking_lot::Mutex;
use sleap_rtc_protocol::ids::PeerId;
use std::sync::Arc;
use tokio::sync::Notify;

/// The most that waits for the owner.
const BOUNDS: Bounds = Bounds { frames: 1024, bytes: 32 * 1024 * 1024 };

/// `None` is the server.
type Sender = Option<PeerId>;

#[derive(Debug, Default)]
struct EventQueue {
    events: FairQueue<Sender, SignalingEvent>,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct EventChannel {
    waiting: Mutex<EventQueue>,
    filled: Notify,
}

/// The connection's end.
#[derive(Debug)]
pub(crate) struct EventSender(Arc<EventChannel>);

/// The owner's end: what happens on a connection.
#[derive(Debug)]
pub struct Events(Arc<EventChannel>);

pub(crate) fn events() -> (EventSender, Events) {
    let shared = Arc::new(EventChannel::default());
    (EventSender(shared.clone()), Events(shared))
}

impl EventSender {
    /// Queues an event of a frame of this size, and returns whether there was room. It never waits: that would
    /// stall the connection, and any peer in the room could cause it.
    pub(crate) fn send(&self, event: SignalingEvent, size_bytes: usize) -> bool {
        let sender = match &event {
            SignalingEvent::Message(message) => message.sender().cloned(),
            SignalingEvent::Lost | SignalingEvent::Restored => None,
        };
        let mut waiting = self.0.waiting.lock();
        let fits = waiting.is_closed || waiting.events.push(&sender, event, size_bytes, BOUNDS);
        drop(waiting);
        self.0.filled.notify_one();
        fits
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.0.waiting.lock().is_closed = true;
        self.0.filled.notify_one();
    }
}

impl Events {
    /// The next event; peers take turns, and the messages of each stay in order. `None` once the client is
    /// closed and nothing is left. Cancel-safe.
    pub async fn recv(&mut self) -> Option<SignalingEvent> {
        // Somebody who always finds an event must not keep the thread from the connection.
        tokio::task::coop::consume_budget().await;
        loop {
            {
                let mut waiting = self.0.waiting.lock();
                match waiting.events.pop() {
                    None if waiting.is_closed => return None,
                    None => {}
                    event => return event,
                }
            }
            self.0.filled.notified().await;
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        *self.0.waiting.lock() = EventQueue { is_closed: true, ..EventQueue::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::signaling::{ErrorFrame, ServerMessage};

    fn from(sender: &str) -> SignalingEvent {
        let sender = Some(PeerId::new(sender).unwrap());
        let frame = ErrorFrame { sender, ..ErrorFrame::default() };
        SignalingEvent::Message(ServerMessage::Error(frame))
    }

    #[tokio::test]
    async fn whoever_floods_keeps_nobody_out_and_is_not_served_first() {
        let (sender, mut events) = events();
        assert_eq!((0..5000).filter(|_| sender.send(from("mallory"), 1)).count(), 512);
        assert_eq!((0..5000).filter(|_| sender.send(from("mallory-2"), 1)).count(), 256);
        assert!(sender.send(from("alice"), 1000));
        assert!(sender.send(SignalingEvent::Lost, 0));
        let mut first = Vec::new();
        for _ in 0..4 {
            first.push(events.recv().await.unwrap());
        }
        assert_eq!(first[2..], [from("alice"), SignalingEvent::Lost]);
        // Large frames are bounded as well.
        let large = (0..5000).filter(|_| sender.send(from("mallory-3"), 1024 * 1024)).count();
        assert!((10..=16).contains(&large), "{large}");
    }

    #[tokio::test]
    async fn what_came_before_the_end_is_read_and_then_the_end() {
        let (sender, mut events) = events();
        assert!(sender.send(from("alice"), 1));
        drop(sender);
        assert_eq!(events.recv().await, Some(from("alice")));
        assert_eq!(events.recv().await, None);
        assert_eq!(events.recv().await, None);
    }
}
