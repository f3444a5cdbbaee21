//! Finds and ends the processes of a job: all descendants of the job's own process.
//!
//! A job's process adopts every descendant whose parent ends (`PR_SET_CHILD_SUBREAPER`), so a
//! descendant cannot escape by starting a session of its own.

use rustix::process::{
    Pid, Signal, WaitOptions, child_subreaper, kill_process, set_child_subreaper, waitpid,
};
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

/// How long the end of all descendants may take. A killed process ends at once unless a disk or a
/// driver blocks it.
const SWEEP_LIMIT: Duration = Duration::from_secs(10);
/// The subcommand of a job's process.
const RUN_JOB: &[u8] = b"run-job";
const SWEEP_INTERVAL: Duration = Duration::from_millis(10);

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The parent's process id.
    pub parent: i32,
    pub group: i32,
    /// Processor time used, in clock ticks.
    pub ticks: u64,
    /// The number of threads.
    pub threads: u64,
    /// When it started, in clock ticks after the system booted.
    pub started: u64,
    /// Resident memory, in pages.
    pub resident_pages: u64,
}

impl Status {
    /// Reads the status of process `pid`, or `None` if it has ended.
    pub fn of(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name in parentheses may contain any character.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let number = |index: usize| fields.get(index)?.trim().parse::<u64>().ok();
        let id = |index: usize| fields.get(index)?.parse::<i32>().ok();
        Some(Self {
            parent: id(1)?,
            group: id(2)?,
            ticks: number(11)?.checked_add(number(12)?)?,
            threads: number(17)?,
            started: number(19)?,
            resident_pages: number(21)?,
        })
    }
}

/// Every visible process of the machine.
pub fn all() -> HashMap<i32, Status> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(|pid| Some((pid, Status::of(pid)?))).collect()
}

/// All descendants of `ancestor`, without itself.
pub fn descendants(ancestor: i32) -> HashMap<i32, Status> {
    let mut all = all();
    let mut found = HashMap::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for (pid, status) in all.extract_if(|_, status| status.parent == parent) {
            parents.push(pid);
            found.insert(pid, status);
        }
    }
    found
}

/// Whether a process belongs to any job. Descendants of a job cannot leave it, because its process
/// adopts them.
pub fn is_of_a_job(pid: i32) -> bool {
    let mut ancestors = std::iter::successors(Some(pid), |pid| {
        Some(Status::of(*pid)?.parent).filter(|parent| *parent > 1)
    });
    ancestors.any(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).nth(1) == Some(RUN_JOB)
    })
}

/// The id of this process.
pub fn own_id() -> i32 {
    std::process::id().cast_signed()
}

/// Makes this process adopt all descendants whose parents end.
pub fn adopt_descendants() -> io::Result<()> {
    Ok(set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Whether this process adopts its descendants, and therefore has those of one job only.
pub fn are_adopted() -> bool {
    child_subreaper().is_ok_and(|reaper| reaper.is_some())
}

/// Ends all descendants of this process, if it adopts them. Stops each one before it kills any, so
/// that a process that multiplies quickly cannot outrun it.
pub async fn end_descendants() {
    if !are_adopted() {
        return;
    }
    let deadline = Instant::now() + SWEEP_LIMIT;
    let mut stopped: Vec<i32> = Vec::new();
    loop {
        let left = descendants(own_id());
        reap(&left);
        if left.is_empty() {
            return;
        }
        let new: Vec<i32> = left.keys().copied().filter(|pid| !stopped.contains(pid)).collect();
        for pid in &new {
            signal(*pid, Signal::STOP);
        }
        if new.is_empty() {
            left.keys().for_each(|pid| signal(*pid, Signal::KILL));
        }
        stopped.extend(new);
        if Instant::now() >= deadline {
            tracing::error!(processes = ?left.keys(), "processes of the job have not ended after they were killed");
            return;
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid)
        && let Err(error) = kill_process(pid, signal)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(?pid, %error, "cannot signal a process of the job");
    }
}

/// Reaps adopted processes that have ended. The trainer itself has been waited for already.
fn reap(left: &HashMap<i32, Status>) {
    let own = left.iter().filter(|(_, status)| status.parent == own_id());
    for pid in own.filter_map(|(pid, _)| Pid::from_raw(*pid)) {
        // A process that has not ended is checked again in the next round.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn proc_stat_is_parsed_with_any_process_name() {
        let stat = "12 (a b) c) S 1 77 77 0 -1 4194560 1 2 3 4 250 31 5 6 20 0 3 0 99 4096 25 18";
        let expected = Status {
            parent: 1,
            group: 77,
            ticks: 281,
            threads: 3,
            started: 99,
            resident_pages: 25,
        };
        assert_eq!(Status::parse(stat), Some(expected));
        assert_eq!(Status::parse("12 (x"), None);
    }

    #[test]
    fn a_child_of_a_child_descends_from_this_process() {
        let mut child = Command::new("sh").args(["-c", "sleep 60; :"]).spawn().unwrap();
        let pid = child.id().cast_signed();
        let limit = Instant::now() + SWEEP_LIMIT;
        let grandchild = loop {
            if let Some(found) = descendants(pid).into_keys().next() {
                break found;
            }
            assert!(Instant::now() < limit);
        };
        let own = descendants(own_id());
        assert!(own.contains_key(&pid) && own.contains_key(&grandchild));
        signal(pid, Signal::KILL);
        signal(grandchild, Signal::KILL);
        child.wait().unwrap();
    }
}
