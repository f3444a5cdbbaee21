//! Removes a member: here, and at the room's other workers.

use super::member_list::MemberListEntries;
use super::report::{OtherWorker, RemovalReport};
use super::{Exchange, Members, MembersError, RemoveError};
use crate::blocking::{Panicked, blocking};
use crate::worker::coordinator::CoordinatorHandle;
use sleap_rtc_base::clock::now_s;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{JobFolder, JobHandle};
use sleap_rtc_protocol::job::JobState;
use sleap_rtc_trust::certificate::MemberRole;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::removal::JobsLeft;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{info, warn};

/// How long to wait for the other workers to confirm a removal.
const CONFIRM: Duration = Duration::from_secs(5);
/// A worker that was last seen longer ago than this, in seconds, is not waited for.
const GONE_S: u64 = 90 * 24 * 3600;

/// Why a removal failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemovalError {
    #[error(transparent)]
    Refused(#[from] RemoveError),
    #[error(transparent)]
    NotSaved(#[from] MembersError),
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

/// Removes the member that `who` names. Returns once the room's other workers have confirmed it, or are
/// late. This worker refuses it at once.
pub(crate) async fn remove(
    members: &Arc<Members>,
    exchange: &Exchange,
    state_dir: &Path,
    who: &str,
    jobs: JobsLeft,
) -> Result<RemovalReport, RemovalError> {
    let note = members.sign_removal(who, jobs)?;
    let device = note.removal().device;
    let folder = state_dir.to_owned();
    // Before the removal counts, because that may end them.
    let unfinished =
        blocking(move || unfinished_of(&folder, |owner| *owner == device).len()).await?;
    members.merge(MemberListEntries { members: Vec::new(), removals: vec![note] });
    info!(device = device.short(), ?jobs, "removed from the room");
    let saving = members.clone();
    blocking(move || saving.save()).await??;
    // A timeout is not an error: the report lists the workers that have not confirmed.
    let _ = timeout(CONFIRM, exchange.until_all_agree(&members.other_workers())).await;
    let agreeing: HashSet<DeviceId> = exchange.agreeing().into_iter().collect();
    let others = members.other_workers().into_iter();
    let (refused_by, unheard) = others.partition(|other| agreeing.contains(&other.device));
    let name = members.name_of(&device);
    Ok(RemovalReport {
        name,
        key: device.short(),
        jobs,
        unfinished,
        refused_by,
        unheard,
        python: false,
    })
}

impl Members {
    /// The room's workers that were seen lately, without this one.
    fn other_workers(&self) -> Vec<OtherWorker> {
        let (list, now_s) = (self.list.borrow(), now_s());
        let is_here = |seen_s: Option<u64>| seen_s.is_some_and(|at_s| at_s + GONE_S > now_s);
        let workers = list.members().filter(|member| member.role() == MemberRole::Worker);
        let others = workers.filter(|member| member.device != self.own && is_here(member.seen_s));
        let other = |member: &super::Member| OtherWorker {
            device: member.device,
            name: member.name().to_owned(),
            seen_s: member.seen_s,
        };
        others.map(other).collect()
    }

    fn name_of(&self, device: &DeviceId) -> String {
        let list = self.list.borrow();
        let name = list.members().find(|member| member.device == *device).map(super::Member::name);
        name.unwrap_or_default().to_owned()
    }
}

/// The jobs that run or wait, and whose owner's device is `meant`.
fn unfinished_of(state_dir: &Path, meant: impl Fn(&DeviceId) -> bool) -> Vec<JobFolder> {
    let is_unfinished = |folder: &JobFolder| {
        let state = folder.record().map(|record| record.state);
        matches!(state, Ok(JobState::Running { .. } | JobState::Queued(_)))
    };
    let mut folders = JobFolder::all(state_dir);
    folders.retain(|folder| folder.device().is_some_and(&meant) && is_unfinished(folder));
    folders
}

/// Cancels the jobs of removed members if the operator asked for that, on any worker. Runs until it is
/// dropped.
pub(crate) async fn cancel_jobs(
    members: Arc<Members>,
    state_dir: PathBuf,
    coordinator: CoordinatorHandle,
) {
    let mut changes = members.list.subscribe();
    loop {
        let cancelled: HashSet<DeviceId> = {
            let list = changes.borrow_and_update();
            let notes = list.removals().notes().into_iter().map(|note| *note.removal());
            let notes = notes.filter(|removal| removal.jobs == JobsLeft::Cancel);
            notes.map(|removal| removal.device).filter(|device| list.is_removed(device)).collect()
        };
        if !cancelled.is_empty() {
            let folder = state_dir.clone();
            let jobs = blocking(move || unfinished_of(&folder, |owner| cancelled.contains(owner)));
            for job in jobs.await.unwrap_or_default() {
                info!(job = %job.id(), "cancelling the job of a device that was removed from the room");
                // One that waits has no process that could be told.
                if !coordinator.withdraw(job.id()).await {
                    cancel(&job).await;
                }
            }
        }
        // The sender is in `members`.
        let _ = changes.changed().await;
    }
}

async fn cancel(job: &JobFolder) {
    if let Err(error) = JobHandle::cancel(job).await {
        warn!(job = %job.id(), error = %WithCauses(&error), "the job could not be cancelled");
    }
}
