//! Whether a connection to a worker is still alive, judged by its messages and the state of its path.

use crate::connection::ConnectionState;
use web_time::{Duration, Instant};

/// A client pings its worker after this much silence.
pub const PING_AFTER: Duration = Duration::from_millis(1_500);
/// A connection becomes suspect when nothing has arrived for this long. The client then opens
/// another one beside it.
pub const SILENCE: Duration = Duration::from_secs(5);
/// A path that ICE reports as disconnected may recover within this time. ICE itself needs several
/// seconds to notice, so there is little left to wait for.
const PATH_GRACE: Duration = Duration::from_secs(1);

/// Tracks whether one connection to a worker is alive.
///
/// Silence counts only while an answer is due, because a worker that receives or checks files may
/// have nothing to send. In that phase only the state of the path matters. A suspect connection
/// becomes healthy again when a message arrives, not when its path recovers: a path can recover long
/// before data flows again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    last_heard: Instant,
    unanswered_since: Option<Instant>,
    last_ping: Option<Instant>,
    path_doubted_since: Option<Instant>,
    dead: bool,
}

/// An observation about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LivenessEvent {
    /// A message arrived.
    Heard,
    /// A ping was sent.
    PingSent,
    /// The path changed its state.
    Path(ConnectionState),
    /// Either side closed the connection.
    Closed,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing indicates a problem.
    Healthy,
    /// The connection may be lost. It can still recover, but it is time to open another one.
    Suspect,
    /// The connection does not recover.
    Dead,
}

impl Liveness {
    /// A connection that has just opened.
    pub fn new(now: Instant) -> Self {
        Self {
            last_heard: now,
            unanswered_since: None,
            last_ping: None,
            path_doubted_since: None,
            dead: false,
        }
    }

    /// Records an observation. A dead connection stays dead.
    pub fn apply(&mut self, event: LivenessEvent, now: Instant) {
        match event {
            LivenessEvent::Heard => {
                self.last_heard = now;
                self.unanswered_since = None;
                self.path_doubted_since = None;
            }
            LivenessEvent::PingSent => {
                self.unanswered_since.get_or_insert(now);
                self.last_ping = Some(now);
            }
            LivenessEvent::Path(ConnectionState::Disconnected) => {
                self.path_doubted_since.get_or_insert(now);
            }
            LivenessEvent::Path(state) => self.dead |= state.is_over(),
            LivenessEvent::Closed => self.dead = true,
        }
    }

    /// The state of the connection at `now`.
    pub fn health(&self, now: Instant) -> Health {
        match self.suspect_at() {
            _ if self.dead => Health::Dead,
            Some(at) if at <= now => Health::Suspect,
            _ => Health::Healthy,
        }
    }

    /// When the connection becomes suspect unless a message arrives first.
    pub fn suspect_at(&self) -> Option<Instant> {
        let unanswered = self.unanswered_since.map(|at| at + (SILENCE - PING_AFTER));
        let doubted = self.path_doubted_since.map(|at| at + PATH_GRACE);
        unanswered.into_iter().chain(doubted).min()
    }

    /// When the next ping is due.
    pub fn ping_at(&self) -> Instant {
        self.last_ping.map_or(self.last_heard, |ping| ping.max(self.last_heard)) + PING_AFTER
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
    fn five_seconds_of_silence_make_a_connection_suspect_until_a_message_arrives() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        assert_eq!(liveness.ping_at(), at(1_500, start));
        for ping in [1_500, 3_000, 4_500] {
            liveness.apply(LivenessEvent::PingSent, at(ping, start));
        }
        assert_eq!(liveness.health(at(4_999, start)), Health::Healthy);
        assert_eq!(liveness.health(at(5_000, start)), Health::Suspect);
        liveness.apply(LivenessEvent::Heard, at(5_100, start));
        assert_eq!(liveness.health(at(60_000, start)), Health::Healthy);
    }

    #[test]
    fn a_recovered_path_does_not_make_the_connection_healthy() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.apply(LivenessEvent::Path(ConnectionState::Disconnected), at(100, start));
        assert_eq!(liveness.health(at(1_099, start)), Health::Healthy);
        liveness.apply(LivenessEvent::Path(ConnectionState::Connected), at(500, start));
        assert_eq!(liveness.health(at(1_100, start)), Health::Suspect);
        liveness.apply(LivenessEvent::Heard, at(1_200, start));
        assert_eq!(liveness.health(at(1_200, start)), Health::Healthy);
        liveness.apply(LivenessEvent::Path(ConnectionState::Failed), at(1_300, start));
        liveness.apply(LivenessEvent::Heard, at(1_400, start));
        assert_eq!(liveness.health(at(1_400, start)), Health::Dead);
    }

    fn event() -> impl Strategy<Value = LivenessEvent> {
        use ConnectionState::*;
        prop_oneof![
            4 => Just(LivenessEvent::Heard),
            4 => Just(LivenessEvent::PingSent),
            2 => prop_oneof![Just(Disconnected), Just(Connected), Just(Connecting)]
                .prop_map(LivenessEvent::Path),
            1 => prop_oneof![Just(LivenessEvent::Closed), Just(LivenessEvent::Path(Failed)), Just(LivenessEvent::Path(Closed))],
        ]
    }

    proptest! {
        /// Dead stays dead, and a message makes any other connection healthy. A connection becomes
        /// suspect only after a second of silence, and only after a ping or a disconnected path.
        #[test]
        fn health_follows_from_the_observations(events in prop::collection::vec((event(), 0..3_000u64), 0..60)) {
            let start = Instant::now();
            let (mut liveness, mut now, mut heard, mut dead) = (Liveness::new(start), 0, 0, false);
            let mut suspicious = false;
            for (event, later) in events {
                now += later;
                liveness.apply(event, at(now, start));
                dead |= matches!(event, LivenessEvent::Closed | LivenessEvent::Path(ConnectionState::Failed | ConnectionState::Closed));
                match event {
                    LivenessEvent::Heard => (heard, suspicious) = (now, false),
                    LivenessEvent::PingSent | LivenessEvent::Path(ConnectionState::Disconnected) => suspicious = true,
                    _ => {}
                }
                match liveness.health(at(now, start)) {
                    Health::Dead => prop_assert!(dead),
                    Health::Suspect => prop_assert!(!dead && suspicious && now - heard >= 1_000),
                    Health::Healthy => prop_assert!(!dead),
                }
                prop_assert!(liveness.ping_at() > at(heard, start));
            }
        }
    }
}
