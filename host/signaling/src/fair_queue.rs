//! What waits for a peer that reads slowly. Each sender has a queue of its own, and they take turns: what a
//! flood fills and delays is its own queue.

use std::collections::VecDeque;

/// The most that may wait, of all senders together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

/// What waits of one sender: frames, each with its size in bytes.
#[derive(Debug)]
struct Backlog<S, F> {
    sender: S,
    frames: VecDeque<(F, usize)>,
    bytes: usize,
}

/// All waiting frames.
#[derive(Debug)]
pub(crate) struct FairQueue<S, F> {
    /// The first one has its turn. None is empty.
    backlogs: VecDeque<Backlog<S, F>>,
    frames: usize,
    bytes: usize,
}

impl<S, F> Default for FairQueue<S, F> {
    fn default() -> Self {
        Self { backlogs: VecDeque::new(), frames: 0, bytes: 0 }
    }
}

impl<S: Clone + PartialEq, F> FairQueue<S, F> {
    /// Queues a frame, and returns whether there was room. A sender may use as much as it leaves free,
    /// so there is room for one more, however many senders are at their limit.
    pub(crate) fn push(&mut self, sender: &S, frame: F, size_bytes: usize, bounds: Bounds) -> bool {
        let free_frames = bounds.frames.saturating_sub(self.frames);
        let free_bytes = bounds.bytes.saturating_sub(self.bytes);
        let own = self.backlogs.iter_mut().find(|backlog| backlog.sender == *sender);
        let (own_frames, own_bytes) =
            own.as_ref().map_or((0, 0), |backlog| (backlog.frames.len(), backlog.bytes));
        if own_frames + 1 > free_frames || own_bytes + size_bytes > free_bytes {
            return false;
        }
        self.frames += 1;
        self.bytes += size_bytes;
        match own {
            Some(backlog) => {
                backlog.bytes += size_bytes;
                backlog.frames.push_back((frame, size_bytes));
            }
            None => {
                let (sender, frames) = (sender.clone(), [(frame, size_bytes)].into());
                self.backlogs.push_back(Backlog { sender, frames, bytes: size_bytes });
            }
        }
        true
    }

    /// The next frame: the oldest one of the sender whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<F> {
        let mut backlog = self.backlogs.pop_front()?;
        let (frame, size_bytes) = backlog.frames.pop_front()?;
        self.frames -= 1;
        self.bytes -= size_bytes;
        backlog.bytes -= size_bytes;
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

    const BOUNDS: Bounds = Bounds { frames: 256, bytes: 4 * 1024 * 1024 };

    fn flood(queue: &mut FairQueue<u8, ()>, sender: u8, size_bytes: usize) -> usize {
        (0..10_000).take_while(|_| queue.push(&sender, (), size_bytes, BOUNDS)).count()
    }

    #[test]
    fn a_flood_leaves_half_of_the_room_and_further_ones_half_of_the_rest() {
        for size_bytes in [1, 64 * 1024] {
            let room = BOUNDS.frames.min(BOUNDS.bytes / size_bytes);
            let mut queue = FairQueue::default();
            assert_eq!(flood(&mut queue, 0, size_bytes), room / 2);
            assert_eq!(flood(&mut queue, 1, size_bytes), room / 4);
            assert!(queue.push(&2, (), size_bytes, BOUNDS));
            assert!(!queue.push(&0, (), size_bytes, BOUNDS));
            // What is taken makes room again.
            while queue.pop().is_some() {}
            assert_eq!((queue.frames, queue.bytes, queue.backlogs.len()), (0, 0, 0));
            assert_eq!(flood(&mut queue, 0, size_bytes), room / 2);
        }
    }

    #[test]
    fn senders_take_turns_and_each_ones_frames_stay_in_order() {
        let mut queue = FairQueue::default();
        for (sender, frame) in [(1, "a0"), (1, "a1"), (1, "a2"), (2, "b0"), (3, "c0"), (2, "b1")] {
            assert!(queue.push(&sender, frame, frame.len(), BOUNDS));
        }
        let all: Vec<&str> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(all, ["a0", "b0", "c0", "a1", "b1", "a2"]);
    }
}
