//! A client's position in the sequence of a job's events, across reconnections.
//!
//! A client follows its job over one connection after another, and briefly over two at once. Each
//! connection delivers the job's events in order, starting after the number that the client named
//! when it attached.

use crate::job::{JobEvent, JobOutcome, NumberedEvent};
use serde::{Deserialize, Serialize};

/// The event after which a client wants to continue. On the wire it is a number, and the largest
/// number stands for [`EventsAfter::Newest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub enum EventsAfter {
    /// Continue after this event; 0 asks for all events.
    Event(u64),
    /// Skip all events so far.
    Newest,
}

impl From<u64> for EventsAfter {
    fn from(number: u64) -> Self {
        if number == u64::MAX { Self::Newest } else { Self::Event(number) }
    }
}

impl From<EventsAfter> for u64 {
    fn from(after: EventsAfter) -> u64 {
        match after {
            EventsAfter::Event(number) => number,
            EventsAfter::Newest => u64::MAX,
        }
    }
}

impl EventsAfter {
    /// The number of the event after which to continue, in a job with `last` events so far.
    pub fn resolve(self, last: u64) -> u64 {
        u64::from(self).min(last)
    }
}

/// One of a client's connections to a job, numbered 1, 2, 3, … in the order in which they opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionNumber(u64);

/// How many of a job's events a client has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCursor {
    position: EventsAfter,
    outcome: Option<JobOutcome>,
    connections: u64,
}

/// What to do with an event that arrived.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrival {
    /// The event is the next one.
    New(NumberedEvent),
    /// The event has arrived before.
    Repeated,
}

/// Why an event is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// Events before it are missing, so the connection that delivered it is broken.
    #[error("received event {arrived}, expected event {expected}")]
    Gap {
        /// The number of the next event.
        expected: u64,
        /// The number of the event that arrived.
        arrived: u64,
    },
    /// The job has already ended.
    #[error("received event {0} after the job's last event")]
    AfterTheEnd(u64),
    /// [`EventCursor::open`] has not returned this connection.
    #[error("received an event over a connection that was never opened")]
    UnknownConnection,
}

impl EventCursor {
    /// A client that wants the events after `position`.
    pub fn new(position: EventsAfter) -> Self {
        Self { position, outcome: None, connections: 0 }
    }

    /// The event after which to continue.
    pub fn position(&self) -> EventsAfter {
        self.position
    }

    /// Fixes a position of [`EventsAfter::Newest`], once the worker has reported the number of the
    /// job's last event.
    pub fn accepted(&mut self, last_event: u64) {
        if self.position == EventsAfter::Newest {
            self.position = EventsAfter::Event(last_event);
        }
    }

    /// Registers a new connection. Returns the number of the event after which to continue on it.
    pub fn open(&mut self) -> (ConnectionNumber, u64) {
        self.connections += 1;
        (ConnectionNumber(self.connections), self.seen())
    }

    /// The number of the last event that has arrived; 0 if there is none, or as long as it is
    /// unknown which event is the newest.
    pub fn seen(&self) -> u64 {
        match self.position {
            EventsAfter::Event(number) => number,
            EventsAfter::Newest => 0,
        }
    }

    /// How the job ended, if its last event has arrived.
    pub fn outcome(&self) -> Option<&JobOutcome> {
        self.outcome.as_ref()
    }

    /// Records an event that arrived over `connection`. The event's number decides, not the
    /// connection. A rejected event changes nothing.
    pub fn apply(
        &mut self,
        connection: ConnectionNumber,
        numbered: NumberedEvent,
    ) -> Result<Arrival, Misplaced> {
        if connection.0 == 0 || connection.0 > self.connections {
            return Err(Misplaced::UnknownConnection);
        }
        let arrived = numbered.seq;
        let expected = self.seen() + 1;
        if arrived < expected {
            return Ok(Arrival::Repeated);
        }
        if self.outcome.is_some() {
            return Err(Misplaced::AfterTheEnd(arrived));
        }
        if arrived > expected {
            return Err(Misplaced::Gap { expected, arrived });
        }
        self.position = EventsAfter::Event(arrived);
        if let JobEvent::Finished { outcome } = &numbered.event {
            self.outcome = Some(outcome.clone());
        }
        Ok(Arrival::New(numbered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn history(length: u64) -> Vec<NumberedEvent> {
        let event = |seq: u64| match seq {
            _ if seq == length => JobEvent::Finished { outcome: JobOutcome::Succeeded },
            _ => JobEvent::Log { text: seq.to_string() },
        };
        (1..=length).map(|seq| NumberedEvent { seq, at_ms: seq, event: event(seq) }).collect()
    }

    /// What can happen to the connections between a client and its job.
    #[derive(Debug, Clone)]
    enum Step {
        /// A connection opens.
        Open,
        /// A connection delivers its next event.
        Bring(prop::sample::Index),
        /// A connection skips an event, which no real connection does.
        Skip(prop::sample::Index),
        /// A connection is lost with its undelivered events.
        Lose(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        let one = any::<prop::sample::Index>;
        prop_oneof![
            2 => Just(Step::Open),
            12 => one().prop_map(Step::Bring),
            1 => one().prop_map(Step::Skip),
            1 => one().prop_map(Step::Lose),
        ]
    }

    proptest! {
        /// In any order of arrival, the accepted events are 1, 2, 3, …, each once. A rejected event
        /// changes nothing, and a connection opened at the end delivers the rest.
        #[test]
        fn no_event_is_missed_and_none_comes_twice(
            length in 1..40u64,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let all = history(length);
            let mut cursor = EventCursor::new(EventsAfter::Event(0));
            let mut links: Vec<(ConnectionNumber, VecDeque<NumberedEvent>)> = Vec::new();
            let mut passed_on = Vec::new();
            let open = |cursor: &mut EventCursor, links: &mut Vec<_>| {
                let (link, after) = cursor.open();
                links.push((link, all[after as usize..].iter().cloned().collect()));
            };
            let mut bring = |cursor: &mut EventCursor, link, event: NumberedEvent| {
                let before = cursor.clone();
                match cursor.apply(link, event.clone()) {
                    Ok(Arrival::New(new)) => {
                        prop_assert_eq!(&new, &event);
                        passed_on.push(event.seq);
                    }
                    Ok(Arrival::Repeated) => prop_assert!(event.seq <= before.seen()),
                    Err(_) => prop_assert_eq!(&*cursor, &before),
                }
                Ok(())
            };
            for step in steps {
                match step {
                    Step::Open => open(&mut cursor, &mut links),
                    _ if links.is_empty() => {}
                    Step::Bring(which) => {
                        let index = which.index(links.len());
                        let (link, queue) = &mut links[index];
                        if let Some(event) = queue.pop_front() {
                            bring(&mut cursor, *link, event)?;
                        }
                    }
                    Step::Skip(which) => {
                        let index = which.index(links.len());
                        links[index].1.pop_front();
                    }
                    Step::Lose(which) => {
                        let index = which.index(links.len());
                        links.swap_remove(index);
                    }
                }
            }
            open(&mut cursor, &mut links);
            let (link, queue) = links.pop().unwrap();
            for event in queue {
                bring(&mut cursor, link, event)?;
            }
            prop_assert_eq!(passed_on, (1..=length).collect::<Vec<_>>());
            prop_assert_eq!(cursor.outcome(), Some(&JobOutcome::Succeeded));
        }
    }

    #[test]
    fn events_over_an_unknown_connection_are_rejected() {
        let mut cursor = EventCursor::new(EventsAfter::Event(0));
        let event = history(2).remove(0);
        assert_eq!(
            cursor.apply(ConnectionNumber(1), event.clone()),
            Err(Misplaced::UnknownConnection)
        );
        let (link, after) = cursor.open();
        assert_eq!((after, cursor.apply(link, event).is_ok()), (0, true));
    }

    #[test]
    fn the_newest_event_is_the_largest_number_on_the_wire() {
        let after = |json: &str| serde_json::from_str::<EventsAfter>(json).unwrap();
        assert_eq!(after("7"), EventsAfter::Event(7));
        assert_eq!(after("18446744073709551615"), EventsAfter::Newest);
        assert_eq!(serde_json::to_string(&EventsAfter::Newest).unwrap(), u64::MAX.to_string());
        assert_eq!((EventsAfter::Event(9).resolve(4), EventsAfter::Newest.resolve(4)), (4, 4));
        assert_eq!(EventsAfter::Event(2).resolve(4), 2);
    }

    #[test]
    fn a_cursor_at_the_newest_event_waits_for_its_number() {
        let mut cursor = EventCursor::new(EventsAfter::Newest);
        cursor.accepted(1);
        assert_eq!((cursor.position(), cursor.seen()), (EventsAfter::Event(1), 1));
        cursor.accepted(9);
        let (connection, after) = cursor.open();
        assert_eq!(after, 1);
        let last = history(2).remove(1);
        assert!(matches!(cursor.apply(connection, last), Ok(Arrival::New(_))));
    }
}
