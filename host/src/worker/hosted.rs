//! A job that this worker hosts: its folder, and what its client handed over.

use crate::job::{FolderError, JobFolder, JobHandle};
use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
use sleap_rtc_protocol::job::{JobOutcome, JobSpec};
use std::path::Path;
use std::sync::Arc;

/// A job on this worker's disk. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Hosted {
    folder: JobFolder,
    spec: Arc<JobSpec>,
    owner: PeerId,
}

impl Hosted {
    pub(super) fn create(
        state_dir: &Path,
        spec: &JobSpec,
        owner: &PeerId,
    ) -> Result<Self, FolderError> {
        let folder = JobFolder::create(state_dir, spec, owner)?;
        Ok(Self { folder, spec: Arc::new(spec.clone()), owner: owner.clone() })
    }

    pub(super) fn open(state_dir: &Path, job: &JobId) -> Result<Self, FolderError> {
        Self::of(JobFolder::open(JobFolder::parent(state_dir).join(job.as_str()))?)
    }

    fn of(folder: JobFolder) -> Result<Self, FolderError> {
        let record = folder.record()?;
        Ok(Self { folder, spec: Arc::new(record.spec), owner: record.owner })
    }

    /// Jobs whose own process is still at work. Those that ended without a word, with the machine
    /// or before their package was whole, are marked as interrupted.
    pub(super) fn running(state_dir: &Path) -> Vec<Self> {
        let folders = JobFolder::all(state_dir).unwrap_or_else(|error| {
            tracing::warn!(%error, "earlier jobs cannot be listed");
            Vec::new()
        });
        folders.into_iter().filter(is_running).filter_map(|folder| Self::of(folder).ok()).collect()
    }

    pub(super) fn id(&self) -> &JobId {
        &self.spec.id
    }

    pub(super) fn spec(&self) -> &JobSpec {
        &self.spec
    }

    pub(super) fn folder(&self) -> &JobFolder {
        &self.folder
    }

    pub(super) fn handle(&self) -> JobHandle {
        JobHandle::attach(self.folder.clone())
    }

    pub(super) fn belongs_to(&self, peer: &PeerId) -> bool {
        self.owner == *peer
    }

    pub(super) fn opens_with(&self, secret: &JobSecret) -> bool {
        self.spec.secret.matches(secret)
    }

    /// Removes a job that never ran.
    pub(super) fn discard(&self) {
        if let Err(error) = std::fs::remove_dir_all(self.folder.path()) {
            tracing::warn!(job = %self.id(), %error, "the folder of a job that never ran remains");
        }
    }
}

fn is_running(folder: &JobFolder) -> bool {
    if !matches!(folder.outcome(), Ok(None)) {
        return false;
    }
    match folder.settle(JobOutcome::Interrupted) {
        // Its process holds the lock.
        Err(FolderError::Locked(_)) => true,
        Err(error) => {
            tracing::warn!(folder = %folder.path().display(), %error, "a job is left alone");
            false
        }
        Ok(outcome) => {
            tracing::info!(folder = %folder.path().display(), ?outcome, "an earlier job was over");
            false
        }
    }
}
