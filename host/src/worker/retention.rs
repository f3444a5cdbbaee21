//! Removes the folders of finished jobs: results stay until they are fetched, and for some time after.

use super::WorkerContext;
use crate::blocking::{Panicked, blocking};
use crate::config::RetentionConfig;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{JobFolder, bytes_on_disk, sweep};
use sleap_rtc_protocol::job::{JobOutcome, JobState};
use sleap_rtc_transfer::Cache;
use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often folders are checked, besides after each job.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Removes folders until `shutdown`: at the start, after each job, and after each interval.
pub(crate) async fn watch(context: Arc<WorkerContext>, shutdown: CancellationToken) {
    let mut job_over = context.job_over.subscribe();
    let cleaning = async {
        let (state_dir, cache) = (context.state_dir.clone(), context.limits.cache.clone());
        let leftovers = move || {
            sweep(&state_dir);
            salvage(&state_dir, cache.as_ref());
        };
        report(blocking(leftovers).await);
        loop {
            let (state_dir, limits) = (context.state_dir.clone(), context.retention);
            report(blocking(move || clean(&state_dir, &limits, now_ms())).await);
            let _ = tokio::time::timeout(INTERVAL, job_over.changed()).await;
        }
    };
    shutdown.run_until_cancelled(cleaning).await;
}

fn report(done: Result<(), Panicked>) {
    if let Err(error) = done {
        warn!(%error, "cannot remove old job folders");
    }
}

/// Moves the files of incomplete packages to the cache, which an earlier run of this worker left.
fn salvage(state_dir: &Path, cache: Option<&Cache>) {
    let Some(cache) = cache else { return };
    for folder in JobFolder::all(state_dir) {
        if matches!(folder.record().map(|record| record.state), Ok(JobState::Finished(_))) {
            cache.salvage(&folder.files_dir());
        }
    }
}

/// A job that is over.
#[derive(Debug, Clone, Copy)]
struct FinishedJob {
    ended_ms: u64,
    /// When its results were last fetched.
    fetched_ms: Option<u64>,
    /// Whether it has results that its owner may want.
    has_results: bool,
    /// The size of its package, which nothing needs any more.
    package_bytes: u64,
    /// The size of everything else.
    kept_bytes: u64,
}

impl FinishedJob {
    /// When its owner last had a reason to come back. `None` if the owner has one now.
    fn unneeded_since_ms(&self) -> Option<u64> {
        match self.fetched_ms {
            Some(fetched_ms) => Some(fetched_ms.max(self.ended_ms)),
            None => (!self.has_results).then_some(self.ended_ms),
        }
    }

    fn is_due(&self, limits: &RetentionConfig, now_ms: u64) -> bool {
        let (since_ms, keep) = match self.unneeded_since_ms() {
            Some(since_ms) => (since_ms, limits.keep),
            None => (self.ended_ms, limits.keep_unfetched),
        };
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        since_ms.saturating_add(keep_ms) <= now_ms
    }
}

/// Why something is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    /// It was kept for long enough.
    Expired,
    /// Its package is removed to free space.
    Package,
    /// All of it is removed to free space.
    NoRoom,
}

/// What to remove, in order, and why. To free space, packages are removed first, then jobs that nobody
/// waits for, then the others; of each kind the oldest first.
fn plan(jobs: &[FinishedJob], limits: &RetentionConfig, now_ms: u64) -> Vec<(usize, Removal)> {
    let due = |index: &usize| jobs[*index].is_due(limits, now_ms);
    let (mut removals, mut left) = (Vec::new(), Vec::new());
    for index in 0..jobs.len() {
        match due(&index) {
            true => removals.push((index, Removal::Expired)),
            false => left.push(index),
        }
    }
    let size = |index: &usize| jobs[*index].package_bytes + jobs[*index].kept_bytes;
    let mut total: u64 = left.iter().map(size).sum();
    left.sort_by_key(|index| jobs[*index].ended_ms);
    let packages = left.iter().filter(|index| jobs[**index].package_bytes > 0);
    for index in packages {
        if total > limits.bytes {
            removals.push((*index, Removal::Package));
            total -= jobs[*index].package_bytes;
        }
    }
    left.sort_by_key(|index| {
        (Reverse(jobs[*index].unneeded_since_ms().is_some()), jobs[*index].ended_ms)
    });
    for index in left {
        if total > limits.bytes {
            removals.push((index, Removal::NoRoom));
            // Its package is removed already.
            total -= jobs[index].kept_bytes;
        }
    }
    removals
}

/// Removes old job folders below `state_dir`.
fn clean(state_dir: &Path, limits: &RetentionConfig, now_ms: u64) {
    let (folders, jobs): (Vec<_>, Vec<_>) = JobFolder::all(state_dir)
        .into_iter()
        .filter_map(|folder| Some((finished_job(&folder)?, folder)))
        .map(|(job, folder)| (folder, job))
        .unzip();
    for (index, why) in plan(&jobs, limits, now_ms) {
        let (folder, job) = (&folders[index], &jobs[index]);
        let waited_for = job.unneeded_since_ms().is_none();
        let removed = match why {
            Removal::Package => folder.remove_package(),
            Removal::Expired | Removal::NoRoom => folder.remove(),
        };
        let job = folder.id();
        match removed {
            Ok(true) if waited_for && why != Removal::Package => {
                warn!(%job, ?why, "results that nobody has fetched were removed");
            }
            Ok(true) => info!(%job, ?why, "removed"),
            Ok(false) => {}
            Err(error) => {
                warn!(%job, error = %WithCauses(&error), "cannot remove the job's folder")
            }
        }
    }
}

/// The job in `folder`, if it is over.
fn finished_job(folder: &JobFolder) -> Option<FinishedJob> {
    let record = folder.record().ok()?;
    let JobState::Finished(outcome) = record.state else { return None };
    let package_bytes = bytes_on_disk(&folder.files_dir());
    Some(FinishedJob {
        ended_ms: folder.last_event().ok().flatten().map_or(record.created_ms, |last| last.at_ms),
        fetched_ms: folder.fetched_ms(),
        // Nobody waits for a job that was cancelled.
        has_results: outcome != JobOutcome::Cancelled && folder.has_results(),
        package_bytes,
        kept_bytes: bytes_on_disk(folder.path()).saturating_sub(package_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
    use sleap_rtc_protocol::job::{JobDescription, JobSpec, JobType};

    const DAY_MS: u64 = 86_400_000;
    const LIMITS: RetentionConfig = RetentionConfig {
        keep: Duration::from_millis(14 * DAY_MS),
        keep_unfetched: Duration::from_millis(90 * DAY_MS),
        bytes: 1000,
    };

    fn job(ended_day: u64, fetched_day: Option<u64>, has_results: bool) -> FinishedJob {
        let fetched_ms = fetched_day.map(|day| day * DAY_MS);
        let (ended_ms, package_bytes, kept_bytes) = (ended_day * DAY_MS, 50, 50);
        FinishedJob { ended_ms, fetched_ms, has_results, package_bytes, kept_bytes }
    }

    #[test]
    fn a_job_is_removed_when_its_time_has_passed() {
        let expired = |job: FinishedJob, day: u64| {
            let planned = plan(&[job], &LIMITS, day * DAY_MS);
            assert!(planned.is_empty() || planned == [(0, Removal::Expired)]);
            !planned.is_empty()
        };
        // Fetched: two weeks from then on.
        assert!(!expired(job(100, Some(110), true), 123));
        assert!(expired(job(100, Some(110), true), 124));
        // Never fetched: three months from its end.
        assert!(!expired(job(100, None, true), 189));
        assert!(expired(job(100, None, true), 190));
        // Nothing to fetch, as after a failure: two weeks from its end.
        assert!(!expired(job(100, None, false), 113));
        assert!(expired(job(100, None, false), 114));
        // A clock that was set back removes nothing.
        assert!(!expired(job(100, Some(110), true), 3));
    }

    #[test]
    fn space_is_freed_where_it_matters_least() {
        let jobs =
            [job(1, None, true), job(2, None, true), job(3, Some(4), true), job(5, None, false)];
        let with = |bytes| plan(&jobs, &RetentionConfig { bytes, ..LIMITS }, 6 * DAY_MS);
        assert_eq!(with(400), []);
        assert_eq!(with(399), [(0, Removal::Package)]);
        let packages = [0, 1, 2, 3].map(|index| (index, Removal::Package)).to_vec();
        assert_eq!(with(200), packages);
        let all = |order: &[usize]| {
            let jobs = order.iter().map(|index| (*index, Removal::NoRoom));
            packages.iter().copied().chain(jobs).collect::<Vec<_>>()
        };
        assert_eq!(with(199), all(&[2]));
        assert_eq!(with(100), all(&[2, 3]));
        assert_eq!(with(0), all(&[2, 3, 0, 1]));
    }

    #[test]
    fn folders_are_removed_when_their_time_has_passed() {
        let state = tempfile::tempdir().unwrap();
        let folder = |id: &str| {
            let spec = JobSpec {
                id: JobId::new(id).unwrap(),
                secret: JobSecret::new("secret").unwrap(),
                name: "labels".into(),
                description: JobDescription::unknown(JobType::Training),
                shared: None,
                skips_inference: false,
            };
            JobFolder::create(state.path(), &spec, &PeerId::new("someone").unwrap()).unwrap()
        };
        let (running, failed, fetched, waiting) =
            (folder("running"), folder("failed"), folder("fetched"), folder("waiting"));
        running.lock().unwrap().begin().unwrap();
        failed.settle(JobOutcome::Failed { exit_code: None, message: "x".into() }).unwrap();
        for done in [&fetched, &waiting] {
            std::fs::write(done.results_dir().join("best.ckpt"), "model").unwrap();
            done.settle(JobOutcome::Succeeded).unwrap();
        }
        let now = now_ms();
        fetched.mark_fetched(now);
        let limits = RetentionConfig { bytes: u64::MAX, ..LIMITS };
        let left = |now_ms| {
            clean(state.path(), &limits, now_ms);
            let left = JobFolder::all(state.path());
            left.iter().map(|folder| folder.id().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(left(now + 13 * DAY_MS), ["failed", "fetched", "running", "waiting"]);
        let lease = fetched.lease().unwrap();
        assert_eq!(left(now + 15 * DAY_MS), ["fetched", "running", "waiting"]);
        drop(lease);
        assert_eq!(left(now + 15 * DAY_MS), ["running", "waiting"]);
        assert_eq!(left(now + 91 * DAY_MS), ["running"]);
    }
}
