//! How much each user has recently used this worker, for selection policies that share the machines
//! of a room fairly.
//!
//! The numbers come from the job folders. Jobs whose folders were removed do not count, even if they ran
//! within the window. A user is the name that a client claims.

use super::WorkerContext;
use super::coordinator::CoordinatorHandle;
use crate::blocking::blocking;
use serde_json::{Map, Value};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_job::JobFolder;
use sleap_rtc_protocol::capabilities::USED_BY_USER;
use sleap_rtc_protocol::job::JobState;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often running jobs are counted again, besides after each job.
const INTERVAL: Duration = Duration::from_secs(600);
/// How long use counts, in milliseconds.
const WINDOW_MS: u64 = 7 * 86_400_000;
/// The most users that are published, those with the most use: a worker's metadata is bounded.
const USERS: usize = 32;
/// The most bytes of all their names in JSON.
const NAMES_BYTES: usize = 2048;
/// The most bytes of one name.
const NAME_BYTES: usize = 256;

/// Counts regularly until `shutdown`, and publishes the result in the room.
pub(crate) async fn watch(
    context: Arc<WorkerContext>,
    coordinator: CoordinatorHandle,
    shutdown: CancellationToken,
) {
    let mut job_over = context.job_over.subscribe();
    let counting = async {
        loop {
            let state_dir = context.state_dir.clone();
            let counted = blocking(move || {
                let now_ms = now_ms();
                published(used_s(&runs(&state_dir, now_ms), now_ms))
            });
            match counted.await {
                Ok(used) => {
                    context.update_facts(|facts| {
                        facts.worker.properties.insert(USED_BY_USER.into(), Value::Object(used));
                    });
                    coordinator.facts_changed().await;
                }
                // The earlier numbers stay published.
                Err(error) => warn!(%error, "cannot count how much each user has used this worker"),
            }
            let _ = tokio::time::timeout(INTERVAL, job_over.changed()).await;
        }
    };
    shutdown.run_until_cancelled(counting).await;
}

/// A job's time in its slot, in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    user: String,
    from_ms: u64,
    to_ms: u64,
}

/// The jobs below `state_dir` that run or have run and whose client named its user.
fn runs(state_dir: &Path, now_ms: u64) -> Vec<Run> {
    let run = |folder: JobFolder| {
        let user = folder.spec().description.user.clone()?;
        let record = folder.record().ok()?;
        // A job that waited took no slot meanwhile.
        let started_ms = folder.started_ms();
        let (from_ms, to_ms) = match record.state {
            JobState::Staging | JobState::Queued(_) => return None,
            JobState::Running { .. } => (started_ms.unwrap_or(record.created_ms), now_ms),
            JobState::Finished(_) => (started_ms?, folder.last_event().ok().flatten()?.at_ms),
        };
        Some(Run { user, from_ms, to_ms })
    };
    JobFolder::all(state_dir).into_iter().filter_map(run).collect()
}

/// The seconds of each user within the window. Every job that has started counts for at least one.
fn used_s(runs: &[Run], now_ms: u64) -> BTreeMap<&str, u64> {
    let begin_ms = now_ms.saturating_sub(WINDOW_MS);
    let mut used = BTreeMap::new();
    for run in runs.iter().filter(|run| run.to_ms > begin_ms) {
        let ms = run.to_ms.min(now_ms).saturating_sub(run.from_ms.max(begin_ms));
        *used.entry(run.user.as_str()).or_default() += ms.div_ceil(1000).max(1);
    }
    used
}

/// The users with the most use, as far as they fit.
fn published(used: BTreeMap<&str, u64>) -> Map<String, Value> {
    let mut most: Vec<_> = used.into_iter().collect();
    most.sort_by_key(|(_, seconds)| Reverse(*seconds));
    let mut left_bytes = NAMES_BYTES;
    let fits = |(user, _): &(&str, u64)| {
        // Control characters take six bytes each.
        let bytes = Value::from(*user).to_string().len();
        let left = left_bytes.checked_sub(bytes).filter(|_| bytes <= NAME_BYTES);
        left_bytes = left.unwrap_or(left_bytes);
        left.is_some()
    };
    let most = most.into_iter().filter(fits).take(USERS);
    most.map(|(user, seconds)| (user.to_owned(), seconds.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
    use sleap_rtc_protocol::job::{
        JobDescription, JobEvent, JobOutcome, JobRight, JobSpec, JobType,
    };

    const DAY_MS: u64 = 86_400_000;

    fn run(user: &str, from_ms: u64, to_ms: u64) -> Run {
        Run { user: user.into(), from_ms, to_ms }
    }

    #[test]
    fn what_lies_within_seven_days_counts() {
        let now = 100 * DAY_MS;
        let runs = [
            run("ada", now - 5_000, now - 2_001),
            run("ada", now - 60_000, now),
            run("bob", now - 8 * DAY_MS, now - 6 * DAY_MS),
            run("eve", now - 9 * DAY_MS, now - 8 * DAY_MS),
            run("quick", now - 7, now - 7),
            run("a clock that was set back", now + DAY_MS, now + 2 * DAY_MS),
        ];
        let used = used_s(&runs, now);
        let expected =
            [("a clock that was set back", 1), ("ada", 63), ("bob", 86_400), ("quick", 1)];
        assert_eq!(used.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_users_with_the_most_use_are_published() {
        let names: Vec<String> = (0..100).map(|n| format!("user-{n:02}")).collect();
        let used = names.iter().zip(1..).map(|(name, seconds)| (name.as_str(), seconds));
        let published = published(used.collect());
        assert_eq!(published.len(), USERS);
        assert_eq!(published["user-99"], 100);
        assert!(!published.contains_key("user-67"));
    }

    #[test]
    fn a_name_crowds_nobody_out_of_the_metadata() {
        let long = "x".repeat(NAME_BYTES);
        let controls: Vec<String> = (1..=20).map(|n| "\u{1}".repeat(20 + n)).collect();
        let mut used = BTreeMap::from([(long.as_str(), 9_999), ("ada", 1_000)]);
        used.extend(controls.iter().zip(1..).map(|(name, seconds)| (name.as_str(), seconds)));
        let published = published(used);
        assert!(published.contains_key("ada") && !published.contains_key(&long));
        let json = Value::Object(published).to_string();
        assert!(json.len() < NAMES_BYTES + USERS * 10, "{} bytes", json.len());
    }

    #[test]
    fn use_is_counted_from_job_folders() {
        let state = tempfile::tempdir().unwrap();
        let folder = |id: &str, user: Option<&str>| {
            let mut description = JobDescription::unknown(JobType::Training);
            description.user = user.map(str::to_owned);
            let spec = JobSpec {
                id: JobId::new(id).unwrap(),
                right: JobRight::Secret { secret: JobSecret::new("secret").unwrap() },
                name: "labels".into(),
                description,
                shared: None,
                skips_inference: false,
                cache_owner: None,
            };
            JobFolder::create(state.path(), &spec, &PeerId::new("someone").unwrap(), None).unwrap()
        };
        folder("a-waits", Some("ada"));
        folder("b-is-nobodys", None).settle(JobOutcome::Succeeded).unwrap();
        let mut over = folder("c-is-over", Some("bob")).lock().unwrap();
        over.append(JobEvent::Staged { runs: Vec::new() }).unwrap();
        over.finish(JobOutcome::Succeeded).unwrap();
        folder("c-was-withdrawn", Some("bob")).settle(JobOutcome::Cancelled).unwrap();
        folder("d-runs", Some("eve")).lock().unwrap().begin().unwrap();
        let later = now_ms() + 10_000;
        let runs = runs(state.path(), later);
        let of = runs.iter().map(|run| (run.user.as_str(), run.to_ms == later));
        assert_eq!(of.collect::<Vec<_>>(), [("bob", false), ("eve", true)]);
    }
}
