//! What a simulation says about its policies, in numbers.

use super::trace::Trace;
use super::{JobResult, Simulated};
use sleap_rtc_protocol::job::JobType;
use std::collections::BTreeMap;

/// Waiting times of a group of jobs, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// How many jobs ran.
    pub jobs: usize,
    /// Half of them waited at most this long.
    pub median_ms: u64,
    /// 95 % of them waited at most this long.
    pub p95_ms: u64,
}

/// A GPU, or a slot without one, and the share of the time in which a job held it.
#[derive(Debug, Clone, PartialEq)]
pub struct Use {
    /// The worker's name and the GPU.
    pub name: String,
    /// 0 to 1.
    pub share: f64,
}

/// The numbers of one simulation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// All jobs.
    pub all: Waits,
    /// By user, in the order of their names. Jobs without a user are `-`.
    pub by_user: BTreeMap<String, Waits>,
    /// By kind of job.
    pub by_kind: BTreeMap<String, Waits>,
    /// The GPUs, in the order of the trace.
    pub gpus: Vec<Use>,
    /// Jobs that no worker took.
    pub refused: usize,
    /// The longest that a job waited after a later one was started before it, in milliseconds.
    pub passed_over_ms: u64,
    /// Jain's index over the users: how evenly their jobs wait, from 1/users to 1.
    pub fairness: f64,
    /// From the first arrival to the last end, in milliseconds.
    pub makespan_ms: u64,
}

/// A job that ran.
struct Ran<'a> {
    user: &'a str,
    kind: JobType,
    wait_ms: u64,
    took_ms: u64,
}

impl Statistics {
    /// The numbers of `simulated`, which is a simulation of `trace`.
    pub fn new(trace: &Trace, simulated: &Simulated) -> Self {
        let mut ran: Vec<Ran<'_>> = Vec::new();
        let (mut refused, mut passed_over_ms, mut last_ms) = (0, 0, 0);
        for (job, result) in trace.jobs.iter().zip(&simulated.jobs) {
            let JobResult::Ran { start_ms, end_ms, passed_over_ms: passed, .. } = result else {
                refused += 1;
                continue;
            };
            ran.push(Ran {
                user: job.description.user.as_deref().unwrap_or("-"),
                kind: job.description.job_type,
                wait_ms: start_ms - job.at_ms,
                took_ms: end_ms - start_ms,
            });
            passed_over_ms = passed_over_ms.max(*passed);
            last_ms = last_ms.max(*end_ms);
        }
        let makespan_ms = last_ms.saturating_sub(trace.jobs.first().map_or(0, |job| job.at_ms));
        Self {
            all: Waits::of(ran.iter().collect()),
            by_user: grouped(&ran, |ran| ran.user),
            by_kind: grouped(&ran, |ran| ran.kind.as_str()),
            gpus: used(trace, simulated, makespan_ms),
            refused,
            passed_over_ms,
            fairness: jain(&service(&ran)),
            makespan_ms,
        }
    }
}

impl Waits {
    fn of(ran: Vec<&Ran<'_>>) -> Self {
        let mut waits_ms: Vec<u64> = ran.into_iter().map(|ran| ran.wait_ms).collect();
        waits_ms.sort_unstable();
        Self {
            jobs: waits_ms.len(),
            median_ms: quantile(&waits_ms, 50),
            p95_ms: quantile(&waits_ms, 95),
        }
    }
}

/// The smallest value that at least `percent` of the sorted values do not exceed; 0 if there are none.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn grouped<'a>(ran: &'a [Ran<'a>], key: impl Fn(&Ran<'a>) -> &'a str) -> BTreeMap<String, Waits> {
    let mut groups: BTreeMap<String, Vec<&Ran<'_>>> = BTreeMap::new();
    for each in ran {
        groups.entry(key(each).to_owned()).or_default().push(each);
    }
    groups.into_iter().map(|(key, ran)| (key, Waits::of(ran))).collect()
}

/// For each user, which part of the time between arrival and end their jobs ran: 1 if none ever waited.
fn service(ran: &[Ran<'_>]) -> Vec<f64> {
    let mut users: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for each in ran {
        let (took_ms, all_ms) = users.entry(each.user).or_default();
        *took_ms += each.took_ms;
        *all_ms += each.took_ms + each.wait_ms;
    }
    let share = |(took_ms, all_ms): (u64, u64)| match all_ms {
        0 => 1.0,
        all_ms => took_ms as f64 / all_ms as f64,
    };
    users.into_values().map(share).collect()
}

/// Jain's index of fairness: 1 if all values are equal, 1/n if one has everything.
fn jain(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    match squares > 0.0 {
        true => sum * sum / (values.len() as f64 * squares),
        false => 1.0,
    }
}

/// The use of each GPU, and of each slot without one.
fn used(trace: &Trace, simulated: &Simulated, makespan_ms: u64) -> Vec<Use> {
    let mut busy_ms: Vec<Vec<u64>> =
        trace.workers.iter().map(|worker| vec![0; worker.slots.len()]).collect();
    for result in &simulated.jobs {
        if let JobResult::Ran { worker, slot, start_ms, end_ms, .. } = result {
            busy_ms[*worker][*slot] += end_ms - start_ms;
        }
    }
    let mut used = Vec::new();
    for (worker, busy_ms) in trace.workers.iter().zip(busy_ms) {
        let (name, gpus) = (worker.name(), worker.gpu_names());
        let share = |ms: u64| if makespan_ms == 0 { 0.0 } else { ms as f64 / makespan_ms as f64 };
        for (gpu, model) in gpus.iter().enumerate() {
            let slots = worker.slots.iter().zip(&busy_ms).filter(|(own, _)| own.contains(&gpu));
            let busy_ms: u64 = slots.map(|(_, busy_ms)| *busy_ms).sum();
            used.push(Use {
                name: format!("{name} {gpu} {model}"),
                share: share(busy_ms).min(1.0),
            });
        }
        for (slot, _) in worker.slots.iter().enumerate().filter(|(_, own)| own.is_empty()) {
            used.push(Use { name: format!("{name} slot {slot}"), share: share(busy_ms[slot]) });
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::trace::Trace;

    #[test]
    fn quantiles_are_values_that_occur() {
        assert_eq!((quantile(&[], 50), quantile(&[7], 95)), (0, 7));
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((quantile(&hundred, 50), quantile(&hundred, 95)), (50, 95));
        assert_eq!((quantile(&[1, 2, 3], 50), quantile(&[1, 2, 3, 4], 50)), (2, 2));
    }

    #[test]
    fn jains_index_is_one_for_equals() {
        assert_eq!(jain(&[0.5, 0.5, 0.5]), 1.0);
        assert_eq!(jain(&[1.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!((jain(&[]), jain(&[0.0])), (1.0, 1.0));
    }

    #[test]
    fn numbers_are_those_of_a_schedule_done_by_hand() {
        let text = r#"
{"worker":{"peer_id":"w","properties":{"hostname":"gpu1","gpus":[{"model":"A","memory_mib":1},{"model":"B","memory_mib":2}],"max_concurrent_jobs":2}}}
{"worker":{"peer_id":"c","properties":{}}}
{"job":{"id":"1","at_s":10,"duration_s":30,"job_type":"training","user":"ada"}}
{"job":{"id":"2","at_s":10,"duration_s":10,"job_type":"training","user":"ada"}}
{"job":{"id":"3","at_s":20,"duration_s":20,"job_type":"inference","user":"ben"}}
{"job":{"id":"4","at_s":20,"duration_s":20,"job_type":"inference"}}
"#;
        let trace = Trace::read(text.as_bytes()).unwrap();
        let ran = |worker, slot, start_s: u64, end_s: u64| JobResult::Ran {
            worker,
            slot,
            start_ms: start_s * 1000,
            end_ms: end_s * 1000,
            passed_over_ms: start_s * 10,
        };
        let refused = JobResult::Refused("no".into());
        let jobs = vec![ran(0, 1, 10, 40), ran(1, 0, 10, 20), ran(0, 1, 40, 60), refused];
        let found = Statistics::new(&trace, &Simulated { jobs, failures: BTreeMap::new() });
        assert_eq!((found.makespan_ms, found.refused, found.passed_over_ms), (50_000, 1, 400));
        assert_eq!(found.all, Waits { jobs: 3, median_ms: 0, p95_ms: 20_000 });
        assert_eq!(found.by_user["ben"], Waits { jobs: 1, median_ms: 20_000, p95_ms: 20_000 });
        assert_eq!(found.by_kind["training"].jobs, 2);
        let used: Vec<_> = found.gpus.iter().map(|used| (used.name.as_str(), used.share)).collect();
        assert_eq!(used, [("gpu1 0 A", 0.0), ("gpu1 1 B", 1.0), ("c slot 0", 0.2)]);
        // Ada's jobs never waited, half of the time of Ben's was waiting.
        assert!((found.fairness - 2.25 / 2.5).abs() < 1e-12, "{}", found.fairness);
    }
}
