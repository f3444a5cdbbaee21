//! The jobs that an earlier run of a worker has left.

use super::error::JobError;
use super::folder::{JobFolder, JobRecord};
use super::settings::RunnerSettings;
use sleap_rtc_protocol::job::{JobOutcome, JobState, QueueEntry};
use std::path::Path;

/// The jobs that an earlier run of a worker has left.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    /// Those that have begun, or that a cluster has.
    pub begun: Vec<JobFolder>,
    /// Those that wait for a slot.
    pub queued: Vec<(JobFolder, QueueEntry)>,
}

impl JobFolder {
    /// The jobs that have not ended. Call it when a worker starts: jobs whose package never arrived
    /// completely are ended here.
    pub fn unfinished(state_dir: &Path) -> Unfinished {
        let mut unfinished = Unfinished::default();
        for folder in Self::all(state_dir) {
            let is_over = |record: &JobRecord| matches!(record.state, JobState::Finished(_));
            if folder.is_elsewhere() && !folder.record().is_ok_and(|record| is_over(&record)) {
                unfinished.begun.push(folder);
                continue;
            }
            match folder.record().map(|record| record.state) {
                Ok(JobState::Running { .. }) => unfinished.begun.push(folder),
                Ok(JobState::Finished(_)) | Err(_) => {}
                Ok(JobState::Queued(entry)) => match folder.withdraw_start() {
                    // The process that the last worker started is about to begin, or has just begun.
                    Err(JobError::Locked(_) | JobError::State(_)) => unfinished.begun.push(folder),
                    _ => unfinished.queued.push((folder, entry)),
                },
                Ok(JobState::Staging) => {
                    let settled = folder.settle(JobOutcome::Interrupted);
                    if matches!(settled, Err(JobError::Locked(_))) {
                        unfinished.begun.push(folder);
                    }
                }
            }
        }
        unfinished
    }

    /// Prevents a process that an earlier worker may have started for this queued job from beginning it.
    /// Fails with [`JobError::Locked`] or [`JobError::State`] if that has begun.
    fn withdraw_start(&self) -> Result<(), JobError> {
        let _events = self.lock()?;
        let mut state = self.record()?.state;
        state.advance(JobState::Queued(QueueEntry::default()))?;
        RunnerSettings::remove(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::job_folder;

    #[test]
    fn jobs_of_a_previous_worker_are_found() {
        let state = tempfile::tempdir().unwrap();
        let staging = job_folder(state.path());
        assert!(JobFolder::unfinished(state.path()).begun.is_empty());
        assert_eq!(staging.outcome().unwrap(), Some(JobOutcome::Interrupted));
        staging.discard();
        let running = job_folder(state.path());
        running.lock().unwrap().begin().unwrap();
        assert_eq!(JobFolder::unfinished(state.path()).begun[0].path(), running.path());
    }

    #[test]
    fn a_queued_job_waits_through_a_restart_and_begins_once() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        let entry = QueueEntry { since_ms: 7, package_bytes: 9, ..QueueEntry::default() };
        folder.queue(entry.clone()).unwrap();
        // A process that was started for it, and has not come far when the worker is started again.
        RunnerSettings::default().write(&folder).unwrap();
        let found = JobFolder::unfinished(state.path());
        assert_eq!((found.begun.len(), &found.queued[0].1), (0, &entry));
        assert!(!RunnerSettings::exist(&folder), "that process must not begin the job");
        let held = QueueEntry { is_held: true, ..entry };
        folder.queue(held.clone()).unwrap();
        assert_eq!(JobFolder::unfinished(state.path()).queued[0].1, held);
        assert_eq!(folder.started_ms(), None);
        folder.lock().unwrap().begin().unwrap();
        assert!(matches!(folder.queue(held), Err(JobError::State(_))));
        let found = JobFolder::unfinished(state.path());
        assert_eq!((found.begun.len(), found.queued.len()), (1, 0));
    }

    #[test]
    fn a_queued_job_that_another_process_is_about_to_begin_counts_as_begun() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        folder.queue(QueueEntry::default()).unwrap();
        let _events = folder.lock().unwrap();
        let found = JobFolder::unfinished(state.path());
        assert_eq!((found.begun.len(), found.queued.len()), (1, 0));
    }
}
