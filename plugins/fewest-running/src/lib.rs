//! The default queueing plugin: a slot that becomes free goes to the user with the fewest running jobs, and
//! among those to who came first.
//!
//! The order is what will happen if every job takes as long as is expected: a job that is placed runs from
//! then on, and the one that ends first makes room for the next. With one slot nobody runs a job when it
//! becomes free, so who came first is first.

#[cfg(all(feature = "guest", target_family = "wasm"))]
#[path = "../../largest-gpu/src/bump.rs"]
mod bump;

/// Bindings generated from the WIT package.
#[allow(missing_docs, unsafe_code, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({ world: "queueing-plugin", path: "../../wit" });

    #[cfg(all(feature = "guest", target_family = "wasm"))]
    use super::FewestRunning;
    #[cfg(all(feature = "guest", target_family = "wasm"))]
    export!(FewestRunning);
}

use bindings::exports::sleap_rtc::policy::queueing::{Guest, Place, RunningJob, WaitingJob};
use bindings::sleap_rtc::policy::types::{Context, Worker};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};

/// How long a job probably runs of which that is not known, in seconds.
const UNKNOWN_S: u64 = 3600;

struct FewestRunning;

impl Guest for FewestRunning {
    fn order(
        _: Context,
        worker: Worker,
        running: Vec<RunningJob>,
        waiting: Vec<WaitingJob>,
    ) -> Result<Option<Vec<Place>>, String> {
        let running: Vec<Job> =
            running.iter().map(|job| Job { user: &job.user, takes_s: job.left_s }).collect();
        let waiting: Vec<Job> =
            waiting.iter().map(|job| Job { user: &job.user, takes_s: job.takes_s }).collect();
        let places = order(worker.slots, &running, &waiting).into_iter();
        Ok(Some(places.map(|(index, reason)| Place { index, reason }).collect()))
    }
}

/// A job that runs or waits.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Whose it is.
    pub user: &'a str,
    /// How many seconds it probably still runs, or will run.
    pub takes_s: Option<u64>,
}

/// The order of the jobs that wait, by their places in `waiting`, each with the reason. `waiting` is in the
/// order in which the jobs came.
pub fn order(slots: u32, running: &[Job], waiting: &[Job]) -> Vec<(u32, String)> {
    let mut course = Course::new(slots, waiting);
    running.iter().for_each(|job| course.run(*job));
    waiting.iter().filter_map(|_| course.next()).collect()
}

/// What a user has at the worker.
#[derive(Default)]
struct User {
    running: u32,
    /// The places of the waiting jobs.
    waiting: VecDeque<u32>,
}

/// The jobs of a worker, as time passes.
struct Course<'a> {
    slots: usize,
    waiting: &'a [Job<'a>],
    now_s: u64,
    /// The ends of the jobs that run, the users of these, and the order in which they started.
    ends: BinaryHeap<Reverse<(u64, usize, &'a str)>>,
    started: usize,
    users: HashMap<&'a str, User>,
    /// The users with jobs that wait, by the number of their running jobs, and the first of those that wait.
    order: BTreeSet<(u32, u32, &'a str)>,
}

impl<'a> Course<'a> {
    fn new(slots: u32, waiting: &'a [Job<'a>]) -> Self {
        let mut users: HashMap<&str, User> = HashMap::new();
        for (place, job) in (0..).zip(waiting) {
            users.entry(job.user).or_default().waiting.push_back(place);
        }
        let first = |(user, has): (&&'a str, &User)| Some((0, *has.waiting.front()?, *user));
        let order = users.iter().filter_map(first).collect();
        let slots = usize::try_from(slots.max(1)).unwrap_or(usize::MAX);
        Self { slots, waiting, now_s: 0, ends: BinaryHeap::new(), started: 0, users, order }
    }

    /// Changes what a user has, and keeps the order.
    fn change(&mut self, name: &'a str, change: impl FnOnce(&mut User)) {
        let user = self.users.entry(name).or_default();
        if let Some(first) = user.waiting.front() {
            self.order.remove(&(user.running, *first, name));
        }
        change(user);
        if let Some(first) = user.waiting.front() {
            self.order.insert((user.running, *first, name));
        }
    }

    /// A job runs from now on.
    fn run(&mut self, job: Job<'a>) {
        let end_s = self.now_s.saturating_add(job.takes_s.unwrap_or(UNKNOWN_S));
        self.ends.push(Reverse((end_s, self.started, job.user)));
        self.started += 1;
        self.change(job.user, |user| user.running += 1);
    }

    /// The next job that starts, as soon as a slot is free.
    fn next(&mut self) -> Option<(u32, String)> {
        while self.ends.len() >= self.slots {
            let Reverse((end_s, _, user)) = self.ends.pop()?;
            self.now_s = self.now_s.max(end_s);
            self.change(user, |user| user.running -= 1);
        }
        let (running, place, user) = *self.order.first()?;
        self.change(user, |user| _ = user.waiting.pop_front());
        self.run(*self.waiting.get(usize::try_from(place).ok()?)?);
        let reason = match running {
            0 => "no other job of its user will run then".to_owned(),
            1 => "1 other job of its user will run then".to_owned(),
            more => format!("{more} other jobs of its user will run then"),
        };
        Some((place, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs<'a>(users: &[&'a str]) -> Vec<Job<'a>> {
        users.iter().map(|user| Job { user, takes_s: Some(60) }).collect()
    }

    #[track_caller]
    fn check(slots: u32, running: &[&str], waiting: &[&str], expected: &[u32]) {
        let order = order(slots, &jobs(running), &jobs(waiting));
        let order: Vec<u32> = order.into_iter().map(|(index, _)| index).collect();
        assert_eq!(order, expected, "{slots} slots, {running:?} run, {waiting:?} wait");
    }

    #[test]
    fn users_with_the_fewest_jobs_come_first_and_among_them_who_came_first() {
        check(2, &[], &[], &[]);
        check(2, &[], &["ada", "ben"], &[0, 1]);
        check(2, &["ada"], &["ada", "ben"], &[1, 0]);
        check(3, &["ada", "ben"], &["ada", "ben", "ada"], &[0, 1, 2]);
        check(3, &[], &["ada", "ada", "ada", "ben", "cleo"], &[0, 3, 4, 1, 2]);
        check(2, &["ada", "ada"], &["ada", "ada", "ben"], &[2, 0, 1]);
    }

    #[test]
    fn with_one_slot_who_came_first_is_first() {
        check(1, &["ada"], &["ada", "ben", "ada", "ben"], &[0, 1, 2, 3]);
        check(0, &["ada", "ada"], &["ada", "ben"], &[0, 1]);
    }

    #[test]
    fn the_job_that_ends_first_makes_room() {
        let runs = |user, takes_s| Job { user, takes_s };
        let ends =
            |ada, ben| order(2, &[runs("ada", ada), runs("ben", ben)], &jobs(&["ada", "ben"]))[0].0;
        assert_eq!(ends(Some(10), Some(20)), 0);
        assert_eq!(ends(Some(20), Some(10)), 1);
        assert_eq!(ends(None, Some(10)), 1);
        assert_eq!(ends(Some(u64::MAX), None), 1);
    }

    #[test]
    fn every_place_has_its_reason() {
        let reasons = order(3, &jobs(&["ada"]), &jobs(&["ada", "ben", "ada"]));
        let reasons: Vec<&str> = reasons.iter().map(|(_, reason)| reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "no other job of its user will run then",
                "1 other job of its user will run then",
                "1 other job of its user will run then",
            ]
        );
    }
}
