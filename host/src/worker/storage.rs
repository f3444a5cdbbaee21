//! Checks whether the disk of the state folder has room for jobs. If not, unneeded files are
//! removed; if that is not enough, the worker takes no new jobs until there is room.

use super::WorkerContext;
use super::coordinator::CoordinatorHandle;
use super::retention;
use crate::blocking::blocking;
use sleap_rtc_base::disk::is_full;
use sleap_rtc_base::os;
use sleap_rtc_transfer::Cache;
use sleap_rtc_transfer::free_space::FreeSpace;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the disk is checked.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often the disk is checked while it is full: more often, because the client of a job that has just ended holds the
/// job's files for a moment longer.
const WHILE_FULL: Duration = Duration::from_secs(1);
/// The bytes that are written to find out whether a quota is used up, because the system does not
/// report how much is left.
const PROBE_BYTES: usize = 256 * 1024;
const PROBE: &str = "room-probe";

/// Reports that a write failed because the disk is full.
#[derive(Debug, Default)]
pub(crate) struct DiskAlarm {
    raised: Notify,
}

impl DiskAlarm {
    /// Requests a check of the disk.
    pub(crate) fn raise(&self) {
        self.raised.notify_one();
    }
}

/// Checks the disk until `shutdown`, and reports to the coordinator whether it has room.
pub(crate) async fn watch(
    context: Arc<WorkerContext>,
    coordinator: CoordinatorHandle,
    shutdown: CancellationToken,
) {
    let mut job_over = context.job_over.subscribe();
    let mut problem: Option<String> = None;
    let watching = async {
        loop {
            // Only a write shows a quota.
            let is_alarmed = tokio::select! {
                () = tokio::time::sleep(if problem.is_some() { WHILE_FULL } else { INTERVAL }) => {
                    problem.is_some()
                }
                _ = job_over.changed() => problem.is_some(),
                () = context.disk_alarm.raised.notified() => true,
            };
            let (state_dir, cache) = (context.state_dir.clone(), context.limits.cache.clone());
            let checked = blocking(move || check(&state_dir, cache.as_ref(), is_alarmed)).await;
            let now = match checked {
                Ok(now) => now,
                Err(error) => {
                    warn!(%error, "cannot check the disk");
                    continue;
                }
            };
            if now.is_some() != problem.is_some() {
                match &now {
                    Some(problem) => warn!("{problem}"),
                    None => info!("the disk has room again"),
                }
                coordinator.storage(now.clone()).await;
            }
            problem = now;
        }
    };
    shutdown.run_until_cancelled(watching).await;
}

/// The problem with the disk of `state_dir`, if removing unneeded files does not solve it.
fn check(state_dir: &Path, cache: Option<&Cache>, is_alarmed: bool) -> Option<String> {
    let missing_bytes = lacking_bytes(state_dir, is_alarmed)?;
    // Twice the reserve, so that the next job does not start at the limit.
    let reserve_bytes = FreeSpace::of(state_dir).map_or(0, |space| space.reserve_bytes());
    let mut wanted_bytes = missing_bytes.saturating_add(reserve_bytes);
    wanted_bytes = wanted_bytes.saturating_sub(retention::make_room(state_dir, wanted_bytes));
    if wanted_bytes > 0
        && let Some(cache) = cache
    {
        cache.spare(wanted_bytes);
    }
    // Until the disk is synced, some file systems count removed files towards a quota.
    if let Err(error) = os::sync_disk(state_dir) {
        warn!(%error, "cannot sync the disk");
    }
    let missing_bytes = lacking_bytes(state_dir, is_alarmed)?;
    Some(format!(
        "the disk of {} is too full for jobs: make room for {missing_bytes} bytes more, or have the quota \
         raised",
        state_dir.display()
    ))
}

/// How much space the disk of `state_dir` lacks, in bytes. `None` if it has room.
fn lacking_bytes(state_dir: &Path, is_alarmed: bool) -> Option<u64> {
    let space = FreeSpace::of(state_dir).ok()?;
    let missing_bytes = space.reserve_bytes().saturating_sub(space.bytes);
    let is_used_up = !space.has_inodes || (is_alarmed && !can_write(state_dir));
    (missing_bytes > 0 || is_used_up).then_some(missing_bytes.max(PROBE_BYTES as u64))
}

/// Whether the system still allows a small write.
fn can_write(state_dir: &Path) -> bool {
    let path = state_dir.join(PROBE);
    let written = fs::File::create(&path).and_then(|mut file| {
        file.write_all(&[0; PROBE_BYTES])?;
        file.sync_all()
    });
    // It stays empty if the write failed.
    let _ = fs::remove_file(&path);
    !written.is_err_and(|error| is_full(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_room_has_no_problem() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(check(state.path(), None, true), None);
        assert!(!state.path().join(PROBE).exists());
    }
}
