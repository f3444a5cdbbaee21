//! Enforces the limits on a job that the kernel does not enforce.
//!
//! The kernel limits the number of processes by user, does not limit root's, and limits memory by
//! process. This module counts both over all processes of the job.

use super::limits::JobLimits;
use super::processes::{self, Status};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(3);
const MIB: u64 = 1 << 20;

/// Checks the limits for one trainer and its descendants.
#[derive(Debug)]
pub struct LimitGuard {
    limits: JobLimits,
    due: Instant,
}

impl LimitGuard {
    pub fn new(limits: JobLimits) -> Self {
        Self { limits, due: Instant::now() + INTERVAL }
    }

    /// When the next check is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Checks the limits if a check is due. Returns the exceeded limit, in words.
    pub fn look(&mut self, trainer: Option<u32>, now: Instant) -> Option<String> {
        if now < self.due {
            return None;
        }
        self.due = now + INTERVAL;
        // If this process adopts what the trainer leaves behind, all its descendants belong to the
        // job.
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
                "the job had {threads} processes and threads; the limit is {} (`[worker.limits] \
                 processes`)",
                self.limits.processes
            ));
        }
        let limit = self.limits.memory_bytes();
        let resident: u64 = job.values().map(resident_bytes).sum();
        // The sum counts shared pages once for each process. Counting them exactly takes longer, so
        // that is done only once the sum exceeds the limit.
        if resident <= limit {
            return None;
        }
        let used: u64 = job.iter().map(|(pid, status)| own_bytes(*pid, status)).sum();
        (used > limit).then(|| {
            format!(
                "the job used {} MiB of memory; the limit is {} MiB (`[worker.limits] memory`)",
                used / MIB,
                limit / MIB
            )
        })
    }
}

fn resident_bytes(status: &Status) -> u64 {
    status.resident_pages.saturating_mul(rustix::param::page_size() as u64)
}

/// The memory of a process, with its proportional share of the pages that it shares with others.
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
    fn an_exceeded_limit_is_named_with_its_setting() {
        let status =
            Status { parent: 1, group: 1, ticks: 0, threads: 30, started: 0, resident_pages: 1000 };
        let job: HashMap<i32, Status> = [(-1, status.clone()), (-2, status)].into();
        let judged = |processes, memory_bytes| {
            let memory_bytes = Some(memory_bytes);
            LimitGuard::new(JobLimits { processes, memory_bytes, ..JobLimits::default() })
                .judge(&job)
        };
        assert_eq!(judged(60, 1 << 40), None);
        assert!(judged(59, 1 << 40).unwrap().contains("60 processes"));
        assert!(judged(60, 1 << 20).unwrap().contains("[worker.limits] memory"));
    }
}
