//! The room of a simulation: workers, their slots, what runs and waits there, and what policies see of it.

use super::trace::{TraceJob, TraceWorker};
use crate::bindings::types::{Property, Value, Worker, WorkerStatus};
use crate::facts;
use sleap_rtc_protocol::capabilities::USED_BY_USER;
use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

/// How far back the use of a worker counts, and how often it is counted, as on real workers.
const WINDOW_MS: u64 = 7 * 86_400_000;
const COUNTED_EVERY_MS: u64 = 600_000;
/// How long a job without an estimate is assumed to take.
pub(crate) const UNKNOWN_MS: u64 = 3_600_000;
/// The most users whose use is counted, as on real workers.
const USERS: usize = 32;

/// A job that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SimulatedRun {
    pub job: usize,
    pub since_ms: u64,
    /// When it should end, by the estimate.
    pub expected_ms: u64,
}

/// A job that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub job: usize,
    pub since_ms: u64,
    /// How long it should take, by the estimate.
    pub estimate_ms: u64,
}

/// A job that has run.
#[derive(Clone, Copy)]
struct Used {
    job: usize,
    from_ms: u64,
    to_ms: u64,
}

/// The memory of the largest of these GPUs of `worker`.
fn largest_mib(worker: &Worker, gpus: &[usize]) -> u64 {
    let gpus = gpus.iter().filter_map(|gpu| worker.gpus.get(*gpu));
    gpus.map(|gpu| gpu.memory_mib).max().unwrap_or(0)
}

/// A worker of the simulation.
pub(crate) struct SimulatedWorker {
    pub trace: TraceWorker,
    /// What policies see of it.
    pub seen: Worker,
    is_open: bool,
    /// The slots, in the order in which they are taken.
    order: Vec<usize>,
    running: Vec<Option<SimulatedRun>>,
    /// In the order of arrival.
    pub waiting: VecDeque<Waiting>,
    /// Whether it is about to ask again about the jobs that wait, and how long after it asked.
    pub looks_again: bool,
    pub look_again_ms: u64,
    /// What ran here, in the order of its end.
    used: VecDeque<Used>,
    counted_ms: u64,
}

impl SimulatedWorker {
    pub(crate) fn new(trace: &TraceWorker) -> Self {
        let seen = facts::worker(&trace.facts());
        let mut order: Vec<usize> = (0..trace.slots.len()).collect();
        order.sort_by_key(|slot| Reverse(largest_mib(&seen, &trace.slots[*slot])));
        let mut worker = Self {
            trace: trace.clone(),
            is_open: matches!(seen.status, WorkerStatus::Available),
            order,
            running: vec![None; trace.slots.len()],
            waiting: VecDeque::new(),
            looks_again: false,
            look_again_ms: super::LOOK_AGAIN_MS,
            used: VecDeque::new(),
            counted_ms: 0,
            seen,
        };
        for gpu in &mut worker.seen.gpus {
            // Nobody measures a simulated GPU.
            (gpu.memory_free_mib, gpu.utilization) = (None, None);
        }
        worker.refresh();
        worker.count(0, &Users::default());
        worker
    }

    /// Updates what policies see after a job has started or ended.
    fn refresh(&mut self) {
        let free = self.running.iter().filter(|slot| slot.is_none()).count();
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.seen.slots_free = small(free);
        self.seen.active_jobs = small(self.running.len() - free);
        if self.is_open {
            self.seen.status = if free > 0 { WorkerStatus::Available } else { WorkerStatus::Busy };
        }
        for (gpu, seen) in self.seen.gpus.iter_mut().enumerate() {
            let mut slots = self.trace.slots.iter().zip(&self.running);
            seen.taken =
                Some(slots.any(|(gpus, running)| running.is_some() && gpus.contains(&gpu)));
        }
    }

    /// Whether it takes jobs at all.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// What runs on it, with the slots.
    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, &SimulatedRun)> {
        self.running
            .iter()
            .enumerate()
            .filter_map(|(slot, running)| Some((slot, running.as_ref()?)))
    }

    /// The slots that have this much GPU memory.
    pub(crate) fn fitting(&self, needs_mib: u64) -> Vec<usize> {
        let slots = 0..self.trace.slots.len();
        slots
            .filter(|slot| largest_mib(&self.seen, &self.trace.slots[*slot]) >= needs_mib)
            .collect()
    }

    /// Whether nothing runs on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.iter().all(Option::is_none)
    }

    /// Whether a slot is free.
    pub(crate) fn is_free(&self) -> bool {
        self.is_open && self.running.iter().any(Option::is_none)
    }

    /// The worker as its own policies see it: with the GPUs that the job could get now.
    pub(crate) fn offer(&self) -> Worker {
        let slots = self.trace.slots.iter().zip(&self.running);
        let free: Vec<&Vec<usize>> =
            slots.filter(|(_, running)| running.is_none()).map(|(gpus, _)| gpus).collect();
        let mut worker = self.seen.clone();
        if !free.is_empty() {
            let mut gpus = 0..;
            worker.gpus.retain(|_| {
                gpus.next().is_some_and(|gpu| free.iter().any(|slot| slot.contains(&gpu)))
            });
        }
        worker
    }

    /// The worker as if all of its slots were free.
    pub(crate) fn as_if_free(&self) -> Worker {
        let mut worker = self.seen.clone();
        if self.is_open {
            worker.status = WorkerStatus::Available;
            worker.slots_free = worker.slots_free.max(1);
        }
        worker
    }

    /// Starts a job in the best free slot. Gives the slot.
    pub(crate) fn start(&mut self, running: SimulatedRun) -> Option<usize> {
        let slot = self.order.iter().copied().find(|slot| self.running[*slot].is_none())?;
        self.running[slot] = Some(running);
        self.refresh();
        Some(slot)
    }

    /// Ends the job in `slot`.
    pub(crate) fn end(&mut self, slot: usize, now_ms: u64) {
        if let Some(SimulatedRun { job, since_ms, .. }) =
            self.running.get_mut(slot).and_then(Option::take)
        {
            self.used.push_back(Used { job, from_ms: since_ms, to_ms: now_ms });
        }
        self.refresh();
    }

    /// When a job that comes now would start, as far as the estimates know.
    pub(crate) fn expected_start_ms(&self, now_ms: u64) -> u64 {
        let mut free: Vec<u64> = self
            .running
            .iter()
            .map(|slot| slot.map_or(now_ms, |running| running.expected_ms.max(now_ms)))
            .collect();
        for waiting in &self.waiting {
            if let Some(next) = free.iter_mut().min() {
                *next = next.saturating_add(waiting.estimate_ms);
            }
        }
        free.into_iter().min().unwrap_or(now_ms)
    }

    /// Counts who has used it, as real workers do: after a job has ended, and every ten minutes. Gives whether
    /// it has counted.
    pub(crate) fn count_if_due(&mut self, now_ms: u64, users: &Users) -> bool {
        let is_due = now_ms.saturating_sub(self.counted_ms) >= COUNTED_EVERY_MS;
        if is_due {
            self.count(now_ms, users);
        }
        is_due
    }

    /// Counts who has used it in the last seven days.
    pub(crate) fn count(&mut self, now_ms: u64, users: &Users) {
        self.counted_ms = now_ms;
        let begin_ms = now_ms.saturating_sub(WINDOW_MS);
        while self.used.front().is_some_and(|used| used.to_ms <= begin_ms) {
            self.used.pop_front();
        }
        let running = self.running.iter().flatten().map(|running| Used {
            job: running.job,
            from_ms: running.since_ms,
            to_ms: now_ms,
        });
        let mut used_s = vec![0; users.names.len()];
        for used in self.used.iter().copied().chain(running) {
            if let Some(Some(user)) = users.of_jobs.get(used.job) {
                let ms = used.to_ms.saturating_sub(used.from_ms.max(begin_ms));
                used_s[*user] += ms.div_ceil(1000).max(1);
            }
        }
        let value = Value::Json(users.most(&used_s));
        match self.seen.properties.iter_mut().find(|property| property.key == USED_BY_USER) {
            Some(property) => property.value = value,
            None => self.seen.properties.push(Property { key: USED_BY_USER.to_owned(), value }),
        }
    }
}

/// The users of a trace. They are counted often, so they have numbers.
#[derive(Default)]
pub(crate) struct Users {
    /// In alphabetical order.
    names: Vec<String>,
    /// The user of each job.
    of_jobs: Vec<Option<usize>>,
}

impl Users {
    pub(crate) fn of(jobs: &[TraceJob]) -> Self {
        let of = |job: &TraceJob| job.description.user.clone();
        let names: BTreeSet<String> = jobs.iter().filter_map(of).collect();
        let names: Vec<String> = names.into_iter().collect();
        let of_jobs = jobs.iter().map(|job| names.binary_search(&of(job)?).ok()).collect();
        Self { names, of_jobs }
    }

    /// The users with the most seconds, as JSON.
    fn most(&self, used_s: &[u64]) -> String {
        let mut most: Vec<(&String, u64)> = self
            .names
            .iter()
            .zip(used_s.iter().copied())
            .filter(|(_, used_s)| *used_s > 0)
            .collect();
        most.sort_by_key(|(_, seconds)| Reverse(*seconds));
        let most: serde_json::Map<String, serde_json::Value> = most
            .into_iter()
            .take(USERS)
            .map(|(user, seconds)| (user.clone(), seconds.into()))
            .collect();
        serde_json::Value::Object(most).to_string()
    }
}
