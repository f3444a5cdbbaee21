//! How long a job's folder is kept: a lease protects it while it is read, a mark says when its results were
//! fetched, and retention removes it.
//!
//! A lease is a shared lock on the folder. It is valid across processes and ends with the process that
//! holds it.

use super::error::{JobError, io_error};
use super::folder::{JobFolder, write_private};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::lock;
use sleap_rtc_protocol::job::JobState;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const FETCHED: &str = "fetched";
/// The prefix of folders that are being removed. Job ids cannot begin with it.
pub(crate) const REMOVED: &str = ".removed-";

/// Prevents the removal of a job's folder until dropped.
#[derive(Debug)]
pub struct Lease {
    _lock: File,
}

impl JobFolder {
    /// Prevents the removal of the folder. Fails if it has been removed, or is being removed.
    pub fn lease(&self) -> Result<Lease, JobError> {
        let path = self.path();
        let folder = File::open(path).map_err(io_error("open", path))?;
        let gone = || io_error("read", path)(io::ErrorKind::NotFound.into());
        lock::shared(&folder, path).map_err(|_| gone())?;
        // It may have been removed between opening and locking.
        self.record()?;
        Ok(Lease { _lock: folder })
    }

    /// Records that the results were fetched at `now_ms`, in milliseconds since 1970.
    pub fn mark_fetched(&self, now_ms: u64) {
        let path = self.path().join(FETCHED);
        if let Err(error) = write_private(&path, now_ms.to_string().as_bytes()) {
            tracing::warn!(error = %WithCauses(&error), "cannot record that the results were fetched");
        }
    }

    /// When the results were last fetched, in milliseconds since 1970.
    pub fn fetched_ms(&self) -> Option<u64> {
        fs::read_to_string(self.path().join(FETCHED)).ok()?.trim().parse().ok()
    }

    /// Whether there are results.
    pub fn has_results(&self) -> bool {
        fs::read_dir(self.results_dir()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Removes the folder of a job that has ended. Returns false, and removes nothing, if there is
    /// a lease or the job has not ended.
    pub fn remove(&self) -> Result<bool, JobError> {
        let Some(_claim) = self.claim()? else { return Ok(false) };
        let name = format!("{REMOVED}{}", self.id());
        let gone = self.path().with_file_name(name);
        // Renaming is atomic, so no reader sees part of a job.
        fs::rename(self.path(), &gone).map_err(io_error("remove", self.path()))?;
        fs::remove_dir_all(&gone).map_err(io_error("remove", &gone))?;
        Ok(true)
    }

    /// Removes the package of a job that has ended, but not its results. Returns as [`Self::remove`]
    /// does.
    pub fn remove_package(&self) -> Result<bool, JobError> {
        let Some(claim) = self.claim()? else { return Ok(false) };
        let files = self.files_dir();
        let gone = self.path().with_file_name(format!("{REMOVED}{}-files", self.id()));
        match fs::rename(&files, &gone) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
            renamed => renamed.map_err(io_error("remove", &files))?,
        }
        // Removing a large package takes a while, and must not delay a client that fetches the result.
        drop(claim);
        fs::remove_dir_all(&gone).map_err(io_error("remove", &gone))?;
        Ok(true)
    }

    /// Takes the exclusive lock on a job that has ended. `None` if a lease is held or the job still
    /// runs.
    fn claim(&self) -> Result<Option<File>, JobError> {
        let folder = File::open(self.path()).map_err(io_error("open", self.path()))?;
        if lock::exclusive(&folder, self.path()).is_err() {
            return Ok(None);
        }
        let is_over = matches!(self.record()?.state, JobState::Finished(_));
        Ok(is_over.then_some(folder))
    }
}

/// Completes removals that were cut short. The caller must be the only worker of this state folder.
pub fn sweep(state_dir: &Path) {
    let entries = fs::read_dir(super::folder::parent(state_dir)).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(REMOVED)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(folder = %entry.path().display(), error = %WithCauses(&error), "cannot remove the rest of a job");
        }
    }
}

/// The disk space of a folder or file, in bytes. Links are not followed. What cannot be read does not
/// count.
pub fn bytes_on_disk(path: &Path) -> u64 {
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    let below: u64 = match meta.is_dir() {
        false => 0,
        true => fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| bytes_on_disk(&entry.path()))
            .sum(),
    };
    meta.blocks() * 512 + below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::job_folder;
    use sleap_rtc_protocol::job::JobOutcome;

    #[test]
    fn only_jobs_that_have_ended_and_are_not_read_are_removed() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        fs::write(folder.files_dir().join("package"), [1; 10_000]).unwrap();
        assert!(bytes_on_disk(folder.path()) > 10_000);
        assert!(!folder.remove().unwrap(), "the job has not begun");
        folder.lock().unwrap().begin().unwrap();
        assert!(!folder.remove().unwrap(), "the job runs");
        folder.settle(JobOutcome::Cancelled).unwrap();
        let (lease, other) = (folder.lease().unwrap(), folder.lease().unwrap());
        drop(lease);
        assert!(!folder.remove().unwrap() && !folder.remove_package().unwrap(), "there is a lease");
        drop(other);
        assert!(folder.remove_package().unwrap());
        assert!(bytes_on_disk(folder.path()) < 100_000 && !folder.files_dir().exists());
        assert_eq!(folder.fetched_ms(), None);
        folder.mark_fetched(7);
        assert_eq!(folder.fetched_ms(), Some(7));
        assert!(folder.remove().unwrap());
        assert!(folder.lease().is_err());
        assert!(JobFolder::all(state.path()).is_empty());
    }

    #[test]
    fn a_removal_that_was_cut_short_is_finished() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        let gone = folder.path().with_file_name(format!("{REMOVED}job-1"));
        fs::rename(folder.path(), &gone).unwrap();
        assert!(JobFolder::all(state.path()).is_empty());
        sweep(state.path());
        assert!(!gone.exists());
    }
}
