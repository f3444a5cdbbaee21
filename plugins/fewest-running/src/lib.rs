//! The default queueing plugin: users with the fewest running jobs come first, and among those who came
//! first is first.
//!
//! A job that is placed counts like one that runs. So the jobs of a user who submits ten at once come one
//! by one between those of the others, and the whole order holds even if nothing ends meanwhile.

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
use std::collections::HashMap;

struct FewestRunning;

impl Guest for FewestRunning {
    fn order(
        _: Context,
        _: Worker,
        running: Vec<RunningJob>,
        waiting: Vec<WaitingJob>,
    ) -> Result<Option<Vec<Place>>, String> {
        let running: Vec<&str> = running.iter().map(|job| job.user.as_str()).collect();
        let waiting: Vec<&str> = waiting.iter().map(|job| job.user.as_str()).collect();
        let places = order(&running, &waiting).into_iter();
        Ok(Some(places.map(|(index, reason)| Place { index, reason }).collect()))
    }
}

/// The order of the jobs that wait, by their places in `waiting`, each with the reason. `running` has the
/// user of each job that runs, `waiting` the user of each job that waits, in the order in which they came.
pub fn order(running: &[&str], waiting: &[&str]) -> Vec<(u32, String)> {
    let mut jobs: HashMap<&str, u32> = HashMap::new();
    for user in running {
        *jobs.entry(user).or_default() += 1;
    }
    let mut places: Vec<(u32, u32)> = (0..)
        .zip(waiting)
        .map(|(index, user)| {
            let before = jobs.entry(user).or_default();
            *before += 1;
            (*before - 1, index)
        })
        .collect();
    places.sort_unstable();
    let reason = |before| match before {
        0 => "no other job of its user runs or comes before it".to_owned(),
        1 => "1 other job of its user runs or comes before it".to_owned(),
        more => format!("{more} other jobs of its user run or come before it"),
    };
    places.into_iter().map(|(before, index)| (index, reason(before))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(running: &[&str], waiting: &[&str], expected: &[u32]) {
        let order: Vec<u32> = order(running, waiting).into_iter().map(|(index, _)| index).collect();
        assert_eq!(order, expected, "{waiting:?}");
    }

    #[test]
    fn users_with_the_fewest_jobs_come_first_and_among_them_who_came_first() {
        check(&[], &[], &[]);
        check(&[], &["ada", "ben"], &[0, 1]);
        check(&["ada"], &["ada", "ben"], &[1, 0]);
        check(&["ada", "ben"], &["ada", "ben", "ada"], &[0, 1, 2]);
        check(&[], &["ada", "ada", "ada", "ben", "cleo"], &[0, 3, 4, 1, 2]);
        check(&["cleo", "cleo"], &["ada", "ada", "cleo", "ben"], &[0, 3, 1, 2]);
    }

    #[test]
    fn the_next_one_stays_the_next_one_after_each_start() {
        let mut running = vec!["ada"];
        let mut waiting = vec!["ada", "ben", "ben", "cleo", "ada"];
        let at_once: Vec<&str> =
            order(&running, &waiting).iter().map(|(index, _)| waiting[*index as usize]).collect();
        let mut one_by_one = Vec::new();
        while let Some((index, _)) = order(&running, &waiting).first() {
            let user = waiting.remove(*index as usize);
            running.push(user);
            one_by_one.push(user);
        }
        assert_eq!(at_once, one_by_one);
    }

    #[test]
    fn every_place_has_its_reason() {
        let reasons: Vec<String> =
            order(&["ada"], &["ada", "ben", "ada"]).into_iter().map(|(_, reason)| reason).collect();
        assert_eq!(
            reasons,
            [
                "no other job of its user runs or comes before it",
                "1 other job of its user runs or comes before it",
                "2 other jobs of its user run or come before it",
            ]
        );
    }
}
