//! Measures what a process costs, alone or with its descendants. Polls `/proc`, because nothing is left to
//! read when a process has ended.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often to read.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A tick of the times in `/proc/PID/stat`: `USER_HZ` is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// The processes to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One process.
    Process,
    /// The process and all its descendants, including those that have ended.
    Tree,
}

/// A cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// The processor time, in its own code and in the kernel.
    pub cpu: Duration,
    /// The peak memory, in bytes.
    pub peak_bytes: u64,
}

impl Cost {
    /// The cost above `idle`, which would have occurred anyway.
    pub fn above(self, idle: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(idle.cpu),
            peak_bytes: self.peak_bytes.saturating_sub(idle.peak_bytes),
        }
    }
}

/// Watches a process until the value is dropped.
pub struct Meter {
    pid: u32,
    scope: Scope,
    seen: Arc<Mutex<Cost>>,
    /// The processor time of earlier laps.
    before: Duration,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Meter {
    /// Starts with what the process has cost since it began.
    pub fn start(pid: u32, scope: Scope) -> Self {
        let (seen, ended) =
            (Arc::new(Mutex::new(Cost::default())), Arc::new(AtomicBool::new(false)));
        look(pid, scope, &seen);
        let (to, until) = (seen.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK_EVERY);
                look(pid, scope, &to);
            }
        });
        Self { pid, scope, seen, before: Duration::ZERO, ended, thread: Some(thread) }
    }

    /// The cost since the last lap, and the peak memory in it. The peak starts anew from here.
    pub fn lap(&mut self) -> Cost {
        look(self.pid, self.scope, &self.seen);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let lap = Cost { cpu: seen.cpu.saturating_sub(self.before), peak_bytes: seen.peak_bytes };
        self.before = seen.cpu;
        seen.peak_bytes = 0;
        // Resets `VmHWM`. The process may have ended.
        let _ = fs::write(format!("/proc/{}/clear_refs", self.pid), "5");
        lap
    }

    /// The memory that it uses now, in bytes.
    pub fn held_bytes(&self) -> u64 {
        memory(self.pid, "VmRSS:")
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

fn look(pid: u32, scope: Scope, seen: &Mutex<Cost>) {
    let now = cost(pid, scope);
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.cpu = seen.cpu.max(now.cpu);
    seen.peak_bytes = seen.peak_bytes.max(now.peak_bytes);
}

fn cost(pid: u32, scope: Scope) -> Cost {
    let mut sum = Cost { cpu: cpu(pid, scope), peak_bytes: memory(pid, "VmHWM:") };
    if scope == Scope::Tree {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap_or_default().split_whitespace().flat_map(str::parse) {
            let below = cost(child, scope);
            sum = Cost { cpu: sum.cpu + below.cpu, peak_bytes: sum.peak_bytes + below.peak_bytes };
        }
    }
    sum
}

fn cpu(pid: u32, scope: Scope) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name is in parentheses and may contain any character. `utime` and `stime` are fields 14
    // and 15, and fields 16 and 17 are those of children that have ended.
    let Some((_, fields)) = stat.rsplit_once(')') else { return Duration::ZERO };
    let count = if scope == Scope::Tree { 4 } else { 2 };
    let ticks = fields.split_whitespace().skip(11).take(count);
    TICK * ticks.flat_map(str::parse::<u32>).sum::<u32>()
}

fn memory(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
