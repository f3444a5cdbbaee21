//! The states of a peer connection, the pulse of what is said on it, and what an offer asks for.

use crate::ids::JobId;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// A client asks whether its worker is there after this much silence.
pub const PING_AFTER: Duration = Duration::from_millis(1_500);
/// After this much silence a client makes another connection beside the silent one.
pub const SILENCE: Duration = Duration::from_secs(5);
/// A path that has gone silent (which takes [`SILENCE`] to notice) may come back within this time
/// before anything is done about it.
const HEALING: Duration = Duration::from_secs(1);

/// The W3C states of an `RTCPeerConnection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// Nothing has been exchanged yet.
    New,
    /// Candidates are being tried, or keys agreed.
    Connecting,
    /// Data can flow.
    Connected,
    /// The path has been silent for some seconds; it may come back by itself.
    Disconnected,
    /// The path is gone for good.
    Failed,
    /// Closed by either side.
    Closed,
}

impl ConnectionState {
    /// Whether `next` may follow: `Closed` and `Failed` are final (`Failed` may still be closed).
    pub fn can_become(self, next: Self) -> bool {
        use ConnectionState::*;
        match self {
            Closed => false,
            Failed => next == Closed,
            New => next != New,
            Connecting => !matches!(next, New | Connecting),
            Connected => matches!(next, Disconnected | Failed | Closed),
            Disconnected => matches!(next, Connecting | Connected | Failed | Closed),
        }
    }

    /// Whether no data will ever flow again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Closed)
    }
}

/// What the sender of an offer wants: the key `purpose` of our own offers.
///
/// A job is admitted, not a connection: only a new job needs a free slot. An offer without the
/// key (a Python client's) is for a new job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Purpose {
    /// Submit a job that the worker does not know yet.
    #[default]
    NewJob,
    /// Come back to a job that the worker has.
    KnownJob {
        /// Which one; the right to it is proved on the data channel.
        job: JobId,
    },
    /// Something newer than this program.
    #[serde(other)]
    Unknown,
}

/// How one connection to a worker is doing, from what is heard on it and of its path.
///
/// Silence counts only where an answer is due: while files are sent or checked a worker may have
/// nothing to say. Then the path itself tells. Only words show that a connection is well again: a
/// path may be back long before data flows on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulse {
    heard: Instant,
    /// Since when an answer is due.
    unanswered: Option<Instant>,
    asked: Option<Instant>,
    /// Since when the path is in doubt.
    doubted: Option<Instant>,
    over: bool,
}

/// Something that tells how a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// A message arrived.
    Heard,
    /// A ping was sent.
    Asked,
    /// The path changed its state.
    Path(ConnectionState),
    /// One side has done with it.
    Over,
}

/// How a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// As far as can be told.
    Well,
    /// Another one should be made beside it; it may still come back.
    Quiet,
    /// It will not come back.
    Over,
}

impl Pulse {
    /// The pulse of a connection that has just opened.
    pub fn new(now: Instant) -> Self {
        Self { heard: now, unanswered: None, asked: None, doubted: None, over: false }
    }

    /// Takes a sign in. Nothing brings back a connection that is over.
    pub fn apply(&mut self, sign: Sign, now: Instant) {
        match sign {
            Sign::Heard => {
                self.heard = now;
                (self.unanswered, self.doubted) = (None, None);
            }
            Sign::Asked => {
                self.unanswered.get_or_insert(now);
                self.asked = Some(now);
            }
            Sign::Path(ConnectionState::Disconnected) => {
                self.doubted.get_or_insert(now);
            }
            Sign::Path(state) => self.over |= state.is_over(),
            Sign::Over => self.over = true,
        }
    }

    /// How the connection is doing.
    pub fn beat(&self, now: Instant) -> Beat {
        match self.quiet_at() {
            _ if self.over => Beat::Over,
            Some(at) if at <= now => Beat::Quiet,
            _ => Beat::Well,
        }
    }

    /// When it counts as quiet, if nothing is heard before.
    pub fn quiet_at(&self) -> Option<Instant> {
        let unanswered = self.unanswered.map(|at| at + (SILENCE - PING_AFTER));
        let doubted = self.doubted.map(|at| at + HEALING);
        unanswered.into_iter().chain(doubted).min()
    }

    /// When to ask next.
    pub fn ping_at(&self) -> Instant {
        self.asked.map_or(self.heard, |asked| asked.max(self.heard)) + PING_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64, start: Instant) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn five_seconds_of_silence_are_quiet_and_a_word_ends_them() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert_eq!(pulse.ping_at(), at(1_500, start));
        for ping in [1_500, 3_000, 4_500] {
            pulse.apply(Sign::Asked, at(ping, start));
        }
        assert_eq!(pulse.beat(at(4_999, start)), Beat::Well);
        assert_eq!(pulse.beat(at(5_000, start)), Beat::Quiet);
        pulse.apply(Sign::Heard, at(5_100, start));
        assert_eq!(pulse.beat(at(60_000, start)), Beat::Well);
    }

    #[test]
    fn a_path_that_is_back_is_not_yet_a_connection_that_is_well() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        pulse.apply(Sign::Path(ConnectionState::Disconnected), at(100, start));
        assert_eq!(pulse.beat(at(1_099, start)), Beat::Well);
        pulse.apply(Sign::Path(ConnectionState::Connected), at(500, start));
        assert_eq!(pulse.beat(at(1_100, start)), Beat::Quiet);
        pulse.apply(Sign::Heard, at(1_200, start));
        assert_eq!(pulse.beat(at(1_200, start)), Beat::Well);
        pulse.apply(Sign::Path(ConnectionState::Failed), at(1_300, start));
        pulse.apply(Sign::Heard, at(1_400, start));
        assert_eq!(pulse.beat(at(1_400, start)), Beat::Over);
    }

    fn sign() -> impl Strategy<Value = Sign> {
        use ConnectionState::*;
        prop_oneof![
            4 => Just(Sign::Heard),
            4 => Just(Sign::Asked),
            2 => prop_oneof![Just(Disconnected), Just(Connected), Just(Connecting)]
                .prop_map(Sign::Path),
            1 => prop_oneof![Just(Sign::Over), Just(Sign::Path(Failed)), Just(Sign::Path(Closed))],
        ]
    }

    proptest! {
        /// Over stays over; a word makes any other connection well; and a connection is called
        /// quiet neither before a second of silence nor when nothing was asked and nothing seen.
        #[test]
        fn the_pulse_is_honest(signs in prop::collection::vec((sign(), 0..3_000u64), 0..60)) {
            let start = Instant::now();
            let (mut pulse, mut now, mut heard, mut over) = (Pulse::new(start), 0, 0, false);
            let mut suspicious = false;
            for (sign, later) in signs {
                now += later;
                pulse.apply(sign, at(now, start));
                over |= matches!(sign, Sign::Over | Sign::Path(ConnectionState::Failed | ConnectionState::Closed));
                match sign {
                    Sign::Heard => (heard, suspicious) = (now, false),
                    Sign::Asked | Sign::Path(ConnectionState::Disconnected) => suspicious = true,
                    _ => {}
                }
                match pulse.beat(at(now, start)) {
                    Beat::Over => prop_assert!(over),
                    Beat::Quiet => prop_assert!(!over && suspicious && now - heard >= 1_000),
                    Beat::Well => prop_assert!(!over),
                }
                prop_assert!(pulse.ping_at() > at(heard, start));
            }
        }
    }
}
