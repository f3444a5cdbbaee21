//! Removes the folders of finished jobs: results stay until they are fetched, and for some time after.
//!
//! If there is no room, jobs that no client waits for are removed first, those of the user who uses
//! most space before others. Unfetched results are never removed in favour of a newer job: the
//! newest ones are removed first, and further jobs are refused before they begin.

use super::{USER_CHARS, WorkerContext, staged_job};
use crate::blocking::{Panicked, blocking};
use crate::config::RetentionConfig;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{JobFolder, bytes_on_disk, sweep};
use sleap_rtc_protocol::job::{JobOutcome, JobState, Refusal, RefusalCode};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_transfer::Cache;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often folders are checked, besides after each job.
const INTERVAL: Duration = Duration::from_secs(3600);
/// How often folders are checked while the results of jobs that have just ended exceed the limit.
const EXCESS_INTERVAL: Duration = Duration::from_secs(30);
/// How long the client of a job has to begin to fetch its results before they may be removed to
/// free space.
const FETCH_GRACE_MS: u64 = 60_000;
/// How long a job that has failed without results stays, however full the disk is, so that its client
/// learns how it ended.
const OUTCOME_GRACE_MS: u64 = 86_400_000;
/// New jobs are refused while unfetched results take more than this part of the limit, in percent.
const FULL_PERCENT: u64 = 90;
/// The most users that a refusal names.
const NAMED_USERS: usize = 3;

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
            let cleaned = blocking(move || clean(&state_dir, &limits, now_ms())).await;
            let wait = match cleaned {
                Ok(unfetched) => {
                    let is_over = unfetched.total_bytes() > limits.bytes;
                    *context.unfetched.write() = unfetched;
                    if is_over { EXCESS_INTERVAL } else { INTERVAL }
                }
                Err(error) => {
                    report(Err(error));
                    INTERVAL
                }
            };
            let _ = tokio::time::timeout(wait, job_over.changed()).await;
        }
    };
    shutdown.run_until_cancelled(cleaning).await;
}

fn report(done: Result<(), Panicked>) {
    if let Err(error) = done {
        warn!(%error, "cannot remove old job folders");
    }
}

/// Moves the files of incomplete packages that an earlier run of this worker left to the cache.
fn salvage(state_dir: &Path, cache: Option<&Cache>) {
    for folder in JobFolder::all(state_dir) {
        if matches!(folder.record().map(|record| record.state), Ok(JobState::Finished(_))) {
            staged_job::salvage(cache, &folder);
        }
    }
}

/// The unfetched results, by the user who submitted the job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unfetched(BTreeMap<String, u64>);

impl Unfetched {
    fn total_bytes(&self) -> u64 {
        self.0.values().sum()
    }

    /// Refuses a job while these results leave too little room for its own.
    pub(crate) fn check(&self, limits: &RetentionConfig) -> Result<(), Refusal> {
        let total_bytes = self.total_bytes();
        if total_bytes <= limits.bytes / 100 * FULL_PERCENT {
            return Ok(());
        }
        let mut most: Vec<_> = self.0.iter().collect();
        most.sort_by_key(|(_, bytes)| Reverse(**bytes));
        let said = |(user, bytes): &(&String, &u64)| {
            format!("{} {} MB", Printable::line(user, USER_CHARS), **bytes / 1_000_000)
        };
        let users: Vec<String> = most.iter().take(NAMED_USERS).map(said).collect();
        let text = format!(
            "the worker keeps {} MB of results that nobody has fetched ({}), and its limit is {} MB \
             (`keep_results_bytes`): fetch yours with `sleap-rtc fetch`, or use another worker",
            total_bytes / 1_000_000,
            users.join(", "),
            limits.bytes / 1_000_000,
        );
        Err(Refusal::new(RefusalCode::Other, text))
    }
}

/// A finished job.
#[derive(Debug, Clone)]
struct StoredJob {
    /// The user name that its client claimed, or the client itself.
    user: String,
    ended_ms: u64,
    /// When its results were last fetched.
    fetched_ms: Option<u64>,
    /// Whether it has results that its owner may want.
    has_results: bool,
    /// Whether its owner has cancelled it.
    is_cancelled: bool,
    /// The size of its package, which nothing needs any more.
    package_bytes: u64,
    /// The size of everything else.
    kept_bytes: u64,
}

impl StoredJob {
    /// When its owner last had a reason to come back. `None` if the owner has one now.
    fn unneeded_since_ms(&self) -> Option<u64> {
        match self.fetched_ms {
            Some(fetched_ms) => Some(fetched_ms.max(self.ended_ms)),
            None => (!self.has_results).then_some(self.ended_ms),
        }
    }

    /// Whether it may be removed to free space: its owner wants nothing of it any more, and has had time to
    /// learn how it ended.
    fn is_removable(&self, now_ms: u64) -> bool {
        let is_known = self.fetched_ms.is_some() || self.is_cancelled;
        let has_had_time = || self.ended_ms.saturating_add(OUTCOME_GRACE_MS) <= now_ms;
        self.unneeded_since_ms().is_some() && (is_known || has_had_time())
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
    /// Its package must be removed to free space.
    Package,
    /// All of it must be removed to free space.
    NoRoom,
}

/// What to remove, in order, and why. To free space, packages are removed first, the oldest first;
/// then jobs that no client waits for, starting with the user who uses most space; then unfetched
/// results, the newest first, because the older ones were promised earlier.
fn plan(jobs: &[StoredJob], limits: &RetentionConfig, now_ms: u64) -> Vec<(usize, Removal)> {
    let due = |index: &usize| jobs[*index].is_due(limits, now_ms);
    let (mut removals, mut left) = (Vec::new(), Vec::new());
    for index in 0..jobs.len() {
        match due(&index) {
            true => removals.push((index, Removal::Expired)),
            false => left.push(index),
        }
    }
    let size = |index: &usize| jobs[*index].package_bytes + jobs[*index].kept_bytes;
    let total: u64 = left.iter().map(size).sum();
    let excess_bytes = total.saturating_sub(limits.bytes);
    let (freed, excess_bytes) = free_unneeded(jobs, &left, excess_bytes, now_ms);
    removals.extend(freed);
    removals.extend(free_unfetched(jobs, &left, excess_bytes, now_ms));
    removals
}

/// What to remove to free `wanted_bytes` without the results that clients wait for. Also returns
/// how much remains to be freed.
fn free_unneeded(
    jobs: &[StoredJob],
    indices: &[usize],
    mut wanted_bytes: u64,
    now_ms: u64,
) -> (Vec<(usize, Removal)>, u64) {
    let mut removals = Vec::new();
    let mut oldest: Vec<usize> = indices.to_vec();
    oldest.sort_by_key(|index| jobs[*index].ended_ms);
    for index in oldest.iter().filter(|index| jobs[**index].package_bytes > 0) {
        if wanted_bytes > 0 {
            removals.push((*index, Removal::Package));
            wanted_bytes = wanted_bytes.saturating_sub(jobs[*index].package_bytes);
        }
    }
    let mut by_user: HashMap<&str, u64> = HashMap::new();
    for index in indices {
        *by_user.entry(&jobs[*index].user).or_default() += jobs[*index].kept_bytes;
    }
    oldest.retain(|index| jobs[*index].is_removable(now_ms));
    while wanted_bytes > 0 {
        let of_most = |(place, index): &(usize, &usize)| {
            (by_user.get(jobs[**index].user.as_str()).copied(), Reverse(*place))
        };
        let Some((place, _)) = oldest.iter().enumerate().max_by_key(of_most) else { break };
        let index = oldest.remove(place);
        removals.push((index, Removal::NoRoom));
        let bytes = jobs[index].kept_bytes;
        if let Some(left) = by_user.get_mut(jobs[index].user.as_str()) {
            *left -= bytes;
        }
        wanted_bytes = wanted_bytes.saturating_sub(bytes);
    }
    (removals, wanted_bytes)
}

/// The newest unfetched results, to free `wanted_bytes`. Results of a job that has just ended stay
/// until the next time, in case their client begins to fetch them; older ones are not removed
/// instead.
fn free_unfetched(
    jobs: &[StoredJob],
    indices: &[usize],
    mut wanted_bytes: u64,
    now_ms: u64,
) -> Vec<(usize, Removal)> {
    let is_wanted = |index: &&usize| jobs[**index].unneeded_since_ms().is_none();
    let mut newest: Vec<usize> = indices.iter().filter(is_wanted).copied().collect();
    newest.sort_by_key(|index| Reverse(jobs[*index].ended_ms));
    let mut removals = Vec::new();
    for index in newest {
        if wanted_bytes > 0 {
            wanted_bytes = wanted_bytes.saturating_sub(jobs[index].kept_bytes);
            let has_had_time = jobs[index].ended_ms.saturating_add(FETCH_GRACE_MS) <= now_ms;
            removals.extend(has_had_time.then_some((index, Removal::NoRoom)));
        }
    }
    removals
}

/// The finished jobs below `state_dir`, with their folders.
fn finished_jobs(state_dir: &Path) -> (Vec<JobFolder>, Vec<StoredJob>) {
    let folders = JobFolder::all(state_dir).into_iter();
    folders.filter_map(|folder| Some((finished_job(&folder)?, folder))).map(|(a, b)| (b, a)).unzip()
}

/// Removes jobs that no client waits for, to free `wanted_bytes`. Returns how much was freed.
pub(crate) fn make_room(state_dir: &Path, wanted_bytes: u64) -> u64 {
    let (folders, jobs) = finished_jobs(state_dir);
    let all: Vec<usize> = (0..jobs.len()).collect();
    let (removals, _) = free_unneeded(&jobs, &all, wanted_bytes, now_ms());
    let mut freed_bytes = 0;
    for (index, why) in removals {
        let job = &jobs[index];
        if remove(&folders[index], job, why) {
            freed_bytes += match why {
                Removal::Package => job.package_bytes,
                Removal::Expired | Removal::NoRoom => job.kept_bytes,
            };
        }
    }
    freed_bytes
}

/// Removes old job folders below `state_dir`. Returns the unfetched results that are left.
fn clean(state_dir: &Path, limits: &RetentionConfig, now_ms: u64) -> Unfetched {
    let (folders, jobs) = finished_jobs(state_dir);
    let mut gone = vec![false; jobs.len()];
    for (index, why) in plan(&jobs, limits, now_ms) {
        let removed = remove(&folders[index], &jobs[index], why);
        gone[index] |= removed && why != Removal::Package;
    }
    let mut unfetched = Unfetched::default();
    for (job, _) in jobs.into_iter().zip(gone).filter(|(_, gone)| !gone) {
        if job.unneeded_since_ms().is_none() {
            *unfetched.0.entry(job.user).or_default() += job.kept_bytes;
        }
    }
    unfetched
}

/// Removes a job, or its package. Returns whether that was possible.
fn remove(folder: &JobFolder, job: &StoredJob, why: Removal) -> bool {
    let waited_for = job.unneeded_since_ms().is_none();
    let removed = match why {
        Removal::Package => folder.remove_package(),
        Removal::Expired | Removal::NoRoom => folder.remove(),
    };
    let id = folder.id();
    match &removed {
        Ok(true) if waited_for && why != Removal::Package => {
            warn!(job = %id, ?why, "removed results that nobody has fetched");
        }
        Ok(true) => info!(job = %id, ?why, "removed"),
        Ok(false) => {}
        Err(error) => {
            warn!(job = %id, error = %WithCauses(error), "cannot remove the job's folder");
        }
    }
    removed.unwrap_or_default()
}

/// The job in `folder`, if it has finished.
fn finished_job(folder: &JobFolder) -> Option<StoredJob> {
    let record = folder.record().ok()?;
    let JobState::Finished(outcome) = record.state else { return None };
    let package_bytes = bytes_on_disk(&folder.files_dir());
    let user = folder.spec().description.user.clone();
    let is_cancelled = outcome == JobOutcome::Cancelled;
    Some(StoredJob {
        user: user.unwrap_or_else(|| folder.owner().to_string()),
        ended_ms: folder.last_event().ok().flatten().map_or(record.created_ms, |last| last.at_ms),
        fetched_ms: folder.fetched_ms(),
        // No client waits for a cancelled job.
        has_results: !is_cancelled && folder.has_results(),
        is_cancelled,
        package_bytes,
        kept_bytes: bytes_on_disk(folder.path()).saturating_sub(package_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
    use sleap_rtc_protocol::job::{JobDescription, JobRight, JobSpec, JobType};

    const DAY_MS: u64 = 86_400_000;
    const LIMITS: RetentionConfig = RetentionConfig {
        keep: Duration::from_millis(14 * DAY_MS),
        keep_unfetched: Duration::from_millis(90 * DAY_MS),
        bytes: 1000,
    };

    fn job(ended_day: u64, fetched_day: Option<u64>, has_results: bool) -> StoredJob {
        let fetched_ms = fetched_day.map(|day| day * DAY_MS);
        let (ended_ms, package_bytes, kept_bytes) = (ended_day * DAY_MS, 50, 50);
        let user = "ada".to_owned();
        let is_cancelled = false;
        StoredJob {
            user,
            ended_ms,
            fetched_ms,
            has_results,
            is_cancelled,
            package_bytes,
            kept_bytes,
        }
    }

    #[test]
    fn a_job_is_removed_when_its_time_has_passed() {
        let expired = |job: StoredJob, day: u64| {
            let planned = plan(&[job], &LIMITS, day * DAY_MS);
            assert!(planned.is_empty() || planned == [(0, Removal::Expired)]);
            !planned.is_empty()
        };
        // Fetched: two weeks after that.
        assert!(!expired(job(100, Some(110), true), 123));
        assert!(expired(job(100, Some(110), true), 124));
        // Never fetched: three months after its end.
        assert!(!expired(job(100, None, true), 189));
        assert!(expired(job(100, None, true), 190));
        // Nothing to fetch, as after a failure: two weeks after its end.
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
        // The results that were promised last go first.
        assert_eq!(with(0), all(&[2, 3, 1, 0]));
    }

    #[test]
    fn a_job_that_failed_is_not_removed_to_free_space_before_its_owner_knows() {
        let removed = |job: StoredJob, now_ms| {
            let (removals, _) = free_unneeded(&[job], &[0], u64::MAX, now_ms);
            removals.contains(&(0, Removal::NoRoom))
        };
        let failed = || job(5, None, false);
        assert!(!removed(failed(), 6 * DAY_MS - 1));
        assert!(removed(failed(), 6 * DAY_MS));
        // Who has fetched the results, or has cancelled the job, knows.
        assert!(removed(job(5, Some(5), true), 5 * DAY_MS));
        assert!(removed(StoredJob { is_cancelled: true, ..failed() }, 5 * DAY_MS));
        // Its package goes at once.
        let (removals, _) = free_unneeded(&[failed()], &[0], u64::MAX, 5 * DAY_MS);
        assert_eq!(removals, [(0, Removal::Package)]);
    }

    #[test]
    fn the_user_who_has_most_loses_first_and_nobody_elses_results_go_for_a_newcomer() {
        let of = |user: &str, kept_bytes, job: StoredJob| StoredJob {
            user: user.into(),
            kept_bytes,
            package_bytes: 0,
            ..job
        };
        let jobs = [
            of("ada", 100, job(1, None, true)),
            of("bob", 100, job(2, None, false)),
            of("mallory", 300, job(3, None, false)),
            of("mallory", 300, job(4, Some(4), true)),
            of("mallory", 900, job(5, None, true)),
        ];
        let with = |bytes, now_ms| {
            let limits = RetentionConfig { bytes, ..LIMITS };
            let removals = plan(&jobs, &limits, now_ms).into_iter();
            removals.map(|(index, _)| index).collect::<Vec<_>>()
        };
        let later = 6 * DAY_MS;
        assert_eq!(with(1700, later), [] as [usize; 0]);
        assert_eq!(with(1699, later), [2]);
        assert_eq!(with(1399, later), [2, 3]);
        assert_eq!(with(1099, later), [2, 3, 1]);
        assert_eq!(with(999, later), [2, 3, 1, 4]);
        // Its client has a minute to begin to fetch it, and no other results are removed instead.
        assert_eq!(with(100, 5 * DAY_MS), [2, 3, 1]);
        assert_eq!(with(99, 5 * DAY_MS), [2, 3, 1, 0]);
    }

    #[test]
    fn a_job_is_refused_while_too_much_is_not_fetched_and_the_refusal_has_the_numbers() {
        let limits = RetentionConfig { bytes: 100_000_000, ..LIMITS };
        let kept = |ada, bob| Unfetched(BTreeMap::from([("ada".into(), ada), ("bob".into(), bob)]));
        assert_eq!(kept(40_000_000, 50_000_000).check(&limits), Ok(()));
        let refusal = kept(41_000_000, 50_000_000).check(&limits).unwrap_err();
        for words in ["91 MB", "bob 50 MB, ada 41 MB", "limit is 100 MB", "keep_results_bytes"] {
            assert!(refusal.message.contains(words), "{refusal}");
        }
    }

    #[test]
    fn folders_are_removed_when_their_time_has_passed() {
        let state = tempfile::tempdir().unwrap();
        let folder = |id: &str| {
            let spec = JobSpec {
                id: JobId::new(id).unwrap(),
                right: JobRight::Secret { secret: JobSecret::new("secret").unwrap() },
                name: "labels".into(),
                description: JobDescription::unknown(JobType::Training),
                shared: None,
                skips_inference: false,
                cache_owner: None,
            };
            JobFolder::create(state.path(), &spec, &PeerId::new("someone").unwrap(), None).unwrap()
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
