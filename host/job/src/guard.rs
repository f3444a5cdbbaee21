//! Watches that a job takes no more of the machine than it may, where the kernel does not.
//!
//! The kernel counts processes for each user and not at all for root, and memory for each process.
//! Here they are counted for the job.

use super::limits::JobLimits;
use super::processes::{self, Status};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(3);
const MIB: u64 = 1 << 20;

/// Watches one trainer and what descends from it.
#[derive(Debug)]
pub struct Guard {
    limits: JobLimits,
    due: Instant,
}

impl Guard {
    /// Watches by these limits.
    pub fn new(limits: JobLimits) -> Self {
        Self { limits, due: Instant::now() + INTERVAL }
    }

    /// When to look next.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Looks, if it is time; which limit was passed, in words.
    pub fn look(&mut self, trainer: Option<u32>, now: Instant) -> Option<String> {
        if now < self.due {
            return None;
        }
        self.due = now + INTERVAL;
        // All that descends from this process is the job's, where it adopts what the trainer leaves.
        let root = match processes::are_adopted() {
            true => processes::own_id(),
            false => trainer?.cast_signed(),
        };
        self.judge(&processes::descendants(root))
    }

    fn judge(&self, job: &HashMap<i32, Status>) -> Option<String> {
        let threads: u64 = job.values().map(|status| status.threads).sum();
        if threads > self.limits.processes {
            return Some(format!(
                "the job had {threads} processes and threads; it may have {} (`[worker.limits] \
                 processes`)",
                self.limits.processes
            ));
        }
        let limit = self.limits.memory_bytes();
        let resident: u64 = job.values().map(resident_bytes).sum();
        // Pages that processes share are in the sum of each; counting them well takes longer.
        if resident <= limit {
            return None;
        }
        let used: u64 = job.iter().map(|(pid, status)| own_bytes(*pid, status)).sum();
        (used > limit).then(|| {
            format!(
                "the job used {} MiB of memory; it may use {} MiB (`[worker.limits] memory`)",
                used / MIB,
                limit / MIB
            )
        })
    }
}

fn resident_bytes(status: &Status) -> u64 {
    status.resident_pages.saturating_mul(rustix::param::page_size() as u64)
}

/// The memory of a process, with its share of what it shares with others.
fn own_bytes(pid: i32, status: &Status) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let share = rollup.ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    share.map_or_else(|| resident_bytes(status), |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_takes_too_much_is_told_what_and_by_which_setting() {
        let status =
            Status { parent: 1, group: 1, ticks: 0, threads: 30, started: 0, resident_pages: 1000 };
        let job: HashMap<i32, Status> = [(-1, status.clone()), (-2, status)].into();
        let judged = |processes, memory_bytes| {
            let memory_bytes = Some(memory_bytes);
            Guard::new(JobLimits { processes, memory_bytes, ..JobLimits::default() }).judge(&job)
        };
        assert_eq!(judged(60, 1 << 40), None);
        assert!(judged(59, 1 << 40).unwrap().contains("60 processes"));
        assert!(judged(60, 1 << 20).unwrap().contains("[worker.limits] memory"));
    }
}
