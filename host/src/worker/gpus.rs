//! Looks at the machine's GPUs while the worker runs: what they are used for changes, by this
//! worker's jobs and by anybody else's programs, and a driver may go or come back.

use super::WorkerContext;
use super::coordinator::CoordinatorHandle;
use super::gpu_pool::GpuPool;
use rustix::process::{Pid, getsid};
use sleap_rtc_gpu::{self as gpu, GpuProcess, Survey};
use sleap_rtc_protocol::capabilities::Gpu;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How old a measurement may become.
const INTERVAL: Duration = Duration::from_secs(30);
/// How soon a driver in trouble is asked again.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the driver has for its answer: without persistence mode it starts each GPU anew for it.
const PATIENCE: Duration = Duration::from_secs(25);
/// What was seen this short a time ago is good enough to decide about a job.
const FRESH: Duration = Duration::from_secs(2);
/// How long a decision about a job waits for a fresh look.
const FRESH_PATIENCE: Duration = Duration::from_secs(5);

/// When the GPUs are looked at.
pub(super) struct Looks {
    /// Whether anybody looks: not at GPUs that the configuration describes.
    are_taken: bool,
    wanted: Notify,
    /// When the last look that is over began.
    last: watch::Sender<Option<Instant>>,
}

impl Looks {
    /// No look so far.
    pub(super) fn new(are_taken: bool) -> Self {
        Self { are_taken, wanted: Notify::new(), last: watch::Sender::new(None) }
    }

    /// Something has happened to the GPUs.
    pub(super) fn look_soon(&self) {
        self.wanted.notify_one();
    }

    /// Returns when what is known of the GPUs is fresh, or the driver takes too long.
    pub(super) async fn fresh(&self) {
        self.fresh_within(FRESH_PATIENCE).await;
    }

    async fn fresh_within(&self, patience: Duration) {
        let now = Instant::now();
        let is_fresh = |last: &Option<Instant>| last.is_some_and(|at| at + FRESH >= now);
        let mut last = self.last.subscribe();
        if !self.are_taken || is_fresh(&last.borrow()) {
            return;
        }
        self.look_soon();
        // Late is decided about by what is known.
        let _ = tokio::time::timeout(patience, last.wait_for(is_fresh)).await;
    }
}

/// Asks the driver once, for a bounded time.
pub(super) async fn look() -> Survey {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("sleap-rtc"));
    let asking = move || gpu::survey_in_child(&program, PATIENCE);
    tokio::task::spawn_blocking(asking)
        .await
        .unwrap_or_else(|error| Survey::Unavailable(format!("asking it failed: {error}")))
}

/// Looks again and again until `shutdown`: after each interval, and whenever a job begins, ends or
/// is decided about.
pub(super) async fn watch(
    context: Arc<WorkerContext>,
    coordinator: CoordinatorHandle,
    shutdown: CancellationToken,
) {
    let looking = async {
        loop {
            let interval = match context.facts().problems().is_empty() {
                true => INTERVAL,
                false => TROUBLE_INTERVAL,
            };
            let _ = tokio::time::timeout(interval, context.looks.wanted.notified()).await;
            let began = Instant::now();
            coordinator.surveyed(look().await).await;
            context.looks.last.send_replace(Some(began));
        }
    };
    shutdown.run_until_cancelled(looking).await;
}

/// Logs what is wrong now and was not before, and what is well again.
pub(super) fn report_changes(before: &[String], now: &[String]) {
    for problem in now.iter().filter(|problem| !before.contains(problem)) {
        warn!("{problem}");
    }
    for problem in before.iter().filter(|problem| !now.contains(problem)) {
        info!("no longer: {problem}");
    }
}

/// Adds to the numbers of the pool's GPUs what programs of others hold; `sessions` are those of this
/// worker's jobs.
pub(super) fn measure_others(gpus: &mut [Option<Gpu>], pool: &GpuPool, sessions: &HashSet<u32>) {
    let is_own = |process: &GpuProcess| session_of(process.pid).map(|id| sessions.contains(&id));
    for (place, gpu) in gpus.iter_mut().enumerate() {
        if let Some(gpu) = gpu {
            gpu.memory_others_mib = others(gpu, pool.processes(place), is_own);
        }
    }
}

/// What programs of others hold, in MiB.
fn others(
    gpu: &Gpu,
    processes: Option<&[GpuProcess]>,
    is_own: impl Fn(&GpuProcess) -> Option<bool>,
) -> Option<u64> {
    let used = gpu.memory_mib.checked_sub(gpu.memory_free_mib?)?;
    if gpu.taken == Some(false) {
        return Some(used);
    }
    // A job of ours may be among them: the sum of the others, if each can be told.
    let mut others = 0;
    for process in processes? {
        if !is_own(process)? {
            others += process.memory_mib?;
        }
    }
    Some(others)
}

/// `None` for a process that cannot be seen from here: a container sees its own only.
fn session_of(pid: u32) -> Option<u32> {
    let session = getsid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    u32::try_from(session.as_raw_nonzero().get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(free: Option<u64>, taken: Option<bool>) -> Gpu {
        let gpu = Gpu { model: "A".into(), memory_mib: 1000, ..Gpu::default() };
        Gpu { memory_free_mib: free, taken, ..gpu }
    }

    #[test]
    fn what_others_hold_is_told_where_it_is_certain() {
        let mine = |process: &GpuProcess| (process.pid < 9).then_some(process.pid == 1);
        let process = |pid, mib| GpuProcess { pid, memory_mib: mib };
        let two = [process(1, Some(300)), process(2, Some(40))];
        assert_eq!(others(&gpu(Some(900), Some(false)), None, mine), Some(100));
        assert_eq!(others(&gpu(Some(600), Some(true)), Some(&two), mine), Some(40));
        assert_eq!(others(&gpu(Some(600), None), Some(&two), mine), Some(40));
        assert_eq!(others(&gpu(Some(600), Some(true)), None, mine), None);
        assert_eq!(others(&gpu(None, Some(false)), Some(&two), mine), None);
        assert_eq!(others(&gpu(Some(1), Some(true)), Some(&[process(9, Some(1))]), mine), None);
        assert_eq!(others(&gpu(Some(1), Some(true)), Some(&[process(2, None)]), mine), None);
    }

    #[tokio::test]
    async fn a_decision_waits_for_a_fresh_look_and_not_for_ever() {
        Looks::new(false).fresh().await;
        let looks = Looks::new(true);
        looks.fresh_within(Duration::from_millis(1)).await;
        assert_eq!(*looks.last.borrow(), None);
        let look = async {
            looks.wanted.notified().await;
            looks.last.send_replace(Some(Instant::now()));
        };
        let long = Duration::from_secs(600);
        tokio::join!(looks.fresh_within(long), look);
        // This one is fresh enough for the next.
        looks.fresh_within(long).await;
    }
}
