//! Surveys the machine's GPUs while the worker runs: their memory is used by this worker's jobs and by
//! other programs, and a driver may fail or recover.

use super::WorkerContext;
use super::coordinator::CoordinatorHandle;
use super::gpu_pool::GpuPool;
use crate::blocking::blocking;
use rustix::process::{Pid, getsid};
use sleap_rtc_base::bounded_wait::BoundedWait;
use sleap_rtc_gpu::{self as gpu, GpuProcess, Survey};
use sleap_rtc_protocol::capabilities::Gpu;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// The time between two surveys.
const INTERVAL: Duration = Duration::from_secs(30);
/// The time between two surveys while there is a problem.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a survey may take. Without persistence mode the driver first initializes each GPU.
const LIMIT: Duration = Duration::from_secs(25);
/// How long the end of a survey may take that has exceeded its limit.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// A survey that is not older than this is good enough to decide about a job.
const RECENT: Duration = Duration::from_secs(2);
/// How long a decision about a job waits for a new survey.
const RECENT_LIMIT: Duration = Duration::from_secs(5);

/// When the GPUs are surveyed.
pub(crate) struct Surveys {
    /// Whether there are surveys. GPUs that the configuration describes need none.
    are_made: bool,
    wanted: Notify,
    /// When the last complete survey began.
    last: watch::Sender<Option<Instant>>,
}

impl Surveys {
    /// No survey has been made yet.
    pub(crate) fn new(are_made: bool) -> Self {
        Self { are_made, wanted: Notify::new(), last: watch::Sender::new(None) }
    }

    /// Asks for a survey, because the use of the GPUs has changed.
    pub(crate) fn request(&self) {
        self.wanted.notify_one();
    }

    /// Waits for a recent survey, but not longer than a decision about a job may take.
    pub(crate) async fn recent(&self) {
        self.recent_within(RECENT_LIMIT).await;
    }

    async fn recent_within(&self, patience: Duration) {
        let now = Instant::now();
        let is_recent = |last: &Option<Instant>| last.is_some_and(|at| at + RECENT >= now);
        let mut last = self.last.subscribe();
        if !self.are_made || is_recent(&last.borrow()) {
            return;
        }
        self.request();
        // If the driver is slow, the last survey decides.
        let _ = tokio::time::timeout(patience, last.wait_for(is_recent)).await;
    }
}

/// Surveys the GPUs once, for a bounded time.
pub(crate) async fn survey(announce: fn(&str)) -> Survey {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("sleap-rtc"));
    let asking = blocking(move || gpu::survey_in_child(&program, LIMIT));
    // Normally the child's own limit ends it.
    let patience = BoundedWait { limit: LIMIT + KILL_GRACE, announce };
    match patience.wait("the NVIDIA driver (NVML, then `nvidia-smi`)", asking).await {
        Ok(Ok(survey)) => survey,
        Ok(Err(panicked)) => Survey::Unavailable(panicked.to_string()),
        Err(_) => {
            let limit_s = patience.limit.as_secs();
            Survey::Unavailable(format!("it did not answer within {limit_s} s"))
        }
    }
}

/// Surveys the GPUs until `shutdown`: after each interval, and whenever a job starts, ends or is decided
/// about.
pub(crate) async fn watch(
    context: Arc<WorkerContext>,
    coordinator: CoordinatorHandle,
    shutdown: CancellationToken,
) {
    let surveying = async {
        loop {
            let interval = match context.facts().problems().is_empty() {
                true => INTERVAL,
                false => TROUBLE_INTERVAL,
            };
            let _ = tokio::time::timeout(interval, context.surveys.wanted.notified()).await;
            let began = Instant::now();
            // A driver without persistence mode is slow each time. A line for each survey would fill the log.
            let survey = survey(|words| debug!("{words}")).await;
            context.peaks.record(&survey);
            coordinator.surveyed(survey).await;
            context.surveys.last.send_replace(Some(began));
        }
    };
    shutdown.run_until_cancelled(surveying).await;
}

/// Logs new problems, and problems that are solved.
pub(crate) fn report_changes(before: &[String], now: &[String]) {
    for problem in now.iter().filter(|problem| !before.contains(problem)) {
        warn!("{problem}");
    }
    for problem in before.iter().filter(|problem| !now.contains(problem)) {
        info!("solved: {problem}");
    }
}

/// Sets, for each GPU of the pool, how much memory other programs use. `sessions` are the sessions of this
/// worker's jobs.
pub(crate) fn measure_others(gpus: &mut [Option<Gpu>], pool: &GpuPool, sessions: &HashSet<u32>) {
    let is_own = |process: &GpuProcess| session_of(process.pid).map(|id| sessions.contains(&id));
    for (position, gpu) in gpus.iter_mut().enumerate() {
        if let Some(gpu) = gpu {
            gpu.memory_others_mib = others(gpu, pool.processes(position), is_own);
        }
    }
}

/// The memory that other programs use, in MiB, if it can be told from that of jobs.
fn others(
    gpu: &Gpu,
    processes: Option<&[GpuProcess]>,
    is_own: impl Fn(&GpuProcess) -> Option<bool>,
) -> Option<u64> {
    let used = gpu.memory_mib.checked_sub(gpu.memory_free_mib?)?;
    if gpu.taken == Some(false) {
        return Some(used);
    }
    // A job may be among the processes: each of them must be attributable.
    let mut others = 0;
    for process in processes? {
        if !is_own(process)? {
            others += process.memory_mib?;
        }
    }
    Some(others)
}

/// `None` for a process that this one cannot see, for instance from inside a container.
pub(crate) fn session_of(pid: u32) -> Option<u32> {
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
    fn memory_of_other_programs_is_reported_only_if_it_is_certain() {
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
    async fn a_decision_waits_for_a_recent_survey_but_not_forever() {
        Surveys::new(false).recent().await;
        let surveys = Surveys::new(true);
        surveys.recent_within(Duration::from_millis(1)).await;
        assert_eq!(*surveys.last.borrow(), None);
        let survey = async {
            surveys.wanted.notified().await;
            surveys.last.send_replace(Some(Instant::now()));
        };
        let long = Duration::from_secs(600);
        tokio::join!(surveys.recent_within(long), survey);
        // The survey is recent enough for the next decision.
        surveys.recent_within(long).await;
    }
}
