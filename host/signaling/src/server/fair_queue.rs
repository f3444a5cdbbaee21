//! The frames that wait for one peer. Each sender has a queue of its own, and they take turns: what a
//! flood fills and delays is its own queue.

use super::Limits;
use sleap_rtc_protocol::ids::PeerId;
use std::collections::VecDeque;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The waiting frames of one sender.
#[derive(Debug)]
struct Backlog {
    sender: PeerId,
    frames: VecDeque<Utf8Bytes>,
    bytes: usize,
}

/// All waiting frames.
#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    /// The first one has its turn. None is empty.
    backlogs: VecDeque<Backlog>,
    frames: usize,
    bytes: usize,
}

impl FairQueue {
    /// Queues a frame, and returns whether there was room. A sender may use as much as it leaves free,
    /// so there is room for one more, however many senders are at their limit.
    pub(crate) fn push(&mut self, sender: &PeerId, frame: Utf8Bytes, limits: &Limits) -> bool {
        let free_frames = limits.queue_frames.saturating_sub(self.frames);
        let free_bytes = limits.queue_bytes.saturating_sub(self.bytes);
        let own = self.backlogs.iter_mut().find(|backlog| backlog.sender == *sender);
        let (own_frames, own_bytes) =
            own.as_ref().map_or((0, 0), |backlog| (backlog.frames.len(), backlog.bytes));
        if own_frames + 1 > free_frames || own_bytes + frame.len() > free_bytes {
            return false;
        }
        self.frames += 1;
        self.bytes += frame.len();
        match own {
            Some(backlog) => {
                backlog.bytes += frame.len();
                backlog.frames.push_back(frame);
            }
            None => {
                let (sender, bytes) = (sender.clone(), frame.len());
                self.backlogs.push_back(Backlog { sender, frames: [frame].into(), bytes });
            }
        }
        true
    }

    /// The next frame: the oldest one of the sender whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Utf8Bytes> {
        let mut backlog = self.backlogs.pop_front()?;
        let frame = backlog.frames.pop_front()?;
        self.frames -= 1;
        self.bytes -= frame.len();
        backlog.bytes -= frame.len();
        if !backlog.frames.is_empty() {
            self.backlogs.push_back(backlog);
        } else if self.backlogs.is_empty() {
            // Release the memory of a queue that was long once.
            self.backlogs.shrink_to(1);
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: usize) -> PeerId {
        PeerId::new(format!("p{n}")).unwrap()
    }

    fn flood(queue: &mut FairQueue, sender: &PeerId, frame: &Utf8Bytes) -> usize {
        let limits = Limits::default();
        (0..10_000).take_while(|_| queue.push(sender, frame.clone(), &limits)).count()
    }

    #[test]
    fn a_flood_leaves_half_of_the_room_and_further_ones_half_of_the_rest() {
        let limits = Limits::default();
        for frame in [Utf8Bytes::from("x"), Utf8Bytes::from("x".repeat(64 * 1024))] {
            let room = limits.queue_frames.min(limits.queue_bytes / frame.len());
            let mut queue = FairQueue::default();
            assert_eq!(flood(&mut queue, &peer(0), &frame), room / 2);
            assert_eq!(flood(&mut queue, &peer(1), &frame), room / 4);
            assert!(queue.push(&peer(2), frame.clone(), &limits));
            assert!(!queue.push(&peer(0), frame.clone(), &limits));
            // What is taken makes room again.
            while queue.pop().is_some() {}
            assert_eq!((queue.frames, queue.bytes, queue.backlogs.len()), (0, 0, 0));
            assert_eq!(flood(&mut queue, &peer(0), &frame), room / 2);
        }
    }

    #[test]
    fn senders_take_turns_and_each_ones_frames_stay_in_order() {
        let (mut queue, limits) = (FairQueue::default(), Limits::default());
        for n in 0..3 {
            assert!(queue.push(&peer(1), format!("a{n}").into(), &limits));
        }
        assert!(queue.push(&peer(2), "b0".into(), &limits));
        assert!(queue.push(&peer(3), "c0".into(), &limits));
        assert!(queue.push(&peer(2), "b1".into(), &limits));
        let all: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let texts: Vec<&str> = all.iter().map(Utf8Bytes::as_str).collect();
        assert_eq!(texts, ["a0", "b0", "c0", "a1", "b1", "a2"]);
    }
}
