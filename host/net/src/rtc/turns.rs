//! One message at a time, for sockets that hold no more.
//!
//! A browser's UDP socket holds 64 KiB, some 57 packets. A worker sends them faster than a browser reads:
//! where nothing on the way slows them down, more are dropped, and SCTP may then wait for a second. So a
//! message waits until nearly all of the last one has arrived. On a long path that would be slower than
//! the usual network, and the path itself spreads the packets.

use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How much of the last message may be unacknowledged, so that the other side always has something to read.
pub(crate) const LEFT_BYTES: usize = 8 << 10;
/// On a short path the quickest message arrives sooner: one at a time are more than 6 MB/s there.
const SHORT: Duration = Duration::from_millis(10);
/// How many messages are timed before a path counts as long.
const TRIES: u32 = 8;
/// The event that all has arrived reaches only a side that receives as well.
const POLL: Duration = Duration::from_millis(5);

/// When the next message may be sent.
pub(crate) struct Turns {
    drained: Notify,
    timed: Mutex<Timed>,
}

/// How long messages have taken.
struct Timed {
    sent_at: Instant,
    is_awaited: bool,
    messages: u32,
    quickest: Duration,
}

impl Turns {
    pub(crate) fn new() -> Self {
        let (sent_at, quickest) = (Instant::now(), Duration::MAX);
        let timed = Timed { sent_at, is_awaited: false, messages: 0, quickest };
        Self { drained: Notify::new(), timed: Mutex::new(timed) }
    }

    /// No more than [`LEFT_BYTES`] are unacknowledged.
    pub(crate) fn drained(&self) {
        self.drained.notify_one();
    }

    /// Whether the next message must wait while so much is unacknowledged. If not, it is sent now.
    pub(crate) fn holds_back(&self, unacknowledged_bytes: usize) -> bool {
        let mut timed = self.timed.lock();
        if timed.is_short() && unacknowledged_bytes > LEFT_BYTES {
            timed.is_awaited = true;
            return true;
        }
        if timed.is_awaited {
            timed.messages = timed.messages.saturating_add(1);
            timed.quickest = timed.quickest.min(timed.sent_at.elapsed());
        }
        (timed.is_awaited, timed.sent_at) = (false, Instant::now());
        false
    }

    /// Waits until it is worth asking again. Cancel safe.
    pub(crate) async fn news(&self) {
        let _ = tokio::time::timeout(POLL, self.drained.notified()).await;
    }
}

impl Timed {
    /// As far as is known.
    fn is_short(&self) -> bool {
        self.messages < TRIES || self.quickest < SHORT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a message is still held back after others, each of which took this long.
    fn holds_back_after(messages: u32, each: Duration) -> bool {
        let turns = Turns::new();
        for _ in 0..messages {
            assert!(turns.holds_back(LEFT_BYTES + 1));
            std::thread::sleep(each);
            assert!(!turns.holds_back(LEFT_BYTES));
        }
        turns.holds_back(LEFT_BYTES + 1)
    }

    #[test]
    fn messages_take_turns_until_the_path_has_proven_long() {
        assert!(holds_back_after(3 * TRIES, Duration::ZERO));
        assert!(holds_back_after(TRIES - 1, SHORT));
        assert!(!holds_back_after(TRIES, SHORT));
    }
}
