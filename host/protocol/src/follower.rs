//! Which of a job's events a client has, whichever connection brought them.
//!
//! A client follows its job over one connection after another, for a moment perhaps over two. Each
//! brings the job's events in order, from the number that the client named when it attached.

use crate::job::{JobEvent, JobOutcome, NumberedEvent};

/// One of a client's connections to a job: 1, 2, 3, … in the order in which they opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkNumber(u64);

/// What a client has of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Follower {
    seen: u64,
    outcome: Option<JobOutcome>,
    links: u64,
}

/// What to do with an event that arrived.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrival {
    /// It is the next one.
    New(JobEvent),
    /// It was here before.
    Repeated,
}

/// Why an event cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// Some events before it are missing: the connection that brought it is of no use any more.
    #[error("event {arrived} came where event {expected} was due")]
    Gap {
        /// The number that was due.
        expected: u64,
        /// The number that came.
        arrived: u64,
    },
    /// The job had ended before.
    #[error("event {0} came after the job's last")]
    AfterTheEnd(u64),
    /// No such connection was opened.
    #[error("an event came over a connection that was never opened")]
    UnknownLink,
}

impl Follower {
    /// A client that has the events up to number `seen`.
    pub fn after(seen: u64) -> Self {
        Self { seen, ..Self::default() }
    }

    /// Opens the next link, over which the events after the returned number are to be asked for.
    pub fn open(&mut self) -> (LinkNumber, u64) {
        self.links += 1;
        (LinkNumber(self.links), self.seen)
    }

    /// Number of the last event that is here.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How the job ended, if its last event is here.
    pub fn outcome(&self) -> Option<&JobOutcome> {
        self.outcome.as_ref()
    }

    /// Takes an event that arrived over `link`, which may be any that was opened: the number
    /// decides. A refused event changes nothing.
    pub fn apply(
        &mut self,
        link: LinkNumber,
        numbered: NumberedEvent,
    ) -> Result<Arrival, Misplaced> {
        if link.0 == 0 || link.0 > self.links {
            return Err(Misplaced::UnknownLink);
        }
        let arrived = numbered.seq;
        if arrived <= self.seen {
            return Ok(Arrival::Repeated);
        }
        if self.outcome.is_some() {
            return Err(Misplaced::AfterTheEnd(arrived));
        }
        if arrived != self.seen + 1 {
            return Err(Misplaced::Gap { expected: self.seen + 1, arrived });
        }
        self.seen = arrived;
        if let JobEvent::Finished { outcome } = &numbered.event {
            self.outcome = Some(outcome.clone());
        }
        Ok(Arrival::New(numbered.event))
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

    /// What can happen between a client, its job and the connections between them.
    #[derive(Debug, Clone)]
    enum Step {
        /// A connection opens.
        Open,
        /// One of them brings its next event.
        Bring(prop::sample::Index),
        /// One of them loses an event on its way, as none should.
        Skip(prop::sample::Index),
        /// One of them is lost with all that it had still to bring.
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
        /// Whatever arrives over whichever connection: what is passed on is 1, 2, 3, … once each,
        /// a refusal changes nothing, and a connection opened at the end brings all that is left.
        #[test]
        fn no_event_is_missed_and_none_comes_twice(
            length in 1..40u64,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let all = history(length);
            let mut follower = Follower::default();
            let mut links: Vec<(LinkNumber, VecDeque<NumberedEvent>)> = Vec::new();
            let mut passed_on = Vec::new();
            let open = |follower: &mut Follower, links: &mut Vec<_>| {
                let (link, after) = follower.open();
                links.push((link, all[after as usize..].iter().cloned().collect()));
            };
            let mut bring = |follower: &mut Follower, link, event: NumberedEvent| {
                let before = follower.clone();
                match follower.apply(link, event.clone()) {
                    Ok(Arrival::New(new)) => {
                        prop_assert_eq!(&new, &event.event);
                        passed_on.push(event.seq);
                    }
                    Ok(Arrival::Repeated) => prop_assert!(event.seq <= before.seen()),
                    Err(_) => prop_assert_eq!(&*follower, &before),
                }
                Ok(())
            };
            for step in steps {
                match step {
                    Step::Open => open(&mut follower, &mut links),
                    _ if links.is_empty() => {}
                    Step::Bring(which) => {
                        let index = which.index(links.len());
                        let (link, queue) = &mut links[index];
                        if let Some(event) = queue.pop_front() {
                            bring(&mut follower, *link, event)?;
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
            open(&mut follower, &mut links);
            let (link, queue) = links.pop().unwrap();
            for event in queue {
                bring(&mut follower, link, event)?;
            }
            prop_assert_eq!(passed_on, (1..=length).collect::<Vec<_>>());
            prop_assert_eq!(follower.outcome(), Some(&JobOutcome::Succeeded));
        }
    }

    #[test]
    fn a_link_that_was_never_opened_brings_nothing() {
        let mut follower = Follower::default();
        let event = history(2).remove(0);
        assert_eq!(follower.apply(LinkNumber(1), event.clone()), Err(Misplaced::UnknownLink));
        let (link, after) = follower.open();
        assert_eq!((after, follower.apply(link, event).is_ok()), (0, true));
    }
}
