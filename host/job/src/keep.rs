//! How long a job's folder stays: held while somebody reads it, marked when its results were
//! fetched, removed when nobody needs it any more.
//!
//! A hold is a shared lock on the folder itself, so it counts across processes and goes with its
//! holder, however that ends.

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
/// How folders are called that are on their way out. No job id begins like this.
pub(super) const REMOVED: &str = ".removed-";

/// A job's folder that stays for as long as this lives.
#[derive(Debug)]
pub struct Hold {
    _lock: File,
}

impl JobFolder {
    /// Keeps the folder from being removed. Fails when it is gone, or going at this very moment.
    pub fn hold(&self) -> Result<Hold, JobError> {
        let path = self.path();
        let folder = File::open(path).map_err(io_error("open", path))?;
        let gone = || io_error("read", path)(io::ErrorKind::NotFound.into());
        lock::shared(&folder, path).map_err(|_| gone())?;
        // Between the opening and the lock it may have been removed.
        self.record()?;
        Ok(Hold { _lock: folder })
    }

    /// Writes down that the results were fetched at `now_ms`, in milliseconds since 1970.
    pub fn mark_fetched(&self, now_ms: u64) {
        let path = self.path().join(FETCHED);
        if let Err(error) = write_private(&path, now_ms.to_string().as_bytes()) {
            tracing::warn!(error = %WithCauses(&error), "the results count as not fetched");
        }
    }

    /// When the results were fetched last, in milliseconds since 1970.
    pub fn fetched_ms(&self) -> Option<u64> {
        fs::read_to_string(self.path().join(FETCHED)).ok()?.trim().parse().ok()
    }

    /// Whether there is anything to fetch.
    pub fn has_results(&self) -> bool {
        fs::read_dir(self.results_dir()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Removes the folder of a job that is over. Returns whether it did: not while somebody holds
    /// it, and never before the end.
    pub fn remove(&self) -> Result<bool, JobError> {
        let Some(_claim) = self.claim()? else { return Ok(false) };
        let name = format!("{REMOVED}{}", self.id());
        let gone = self.path().with_file_name(name);
        // Away in one step: nobody ever sees half a job.
        fs::rename(self.path(), &gone).map_err(io_error("remove", self.path()))?;
        fs::remove_dir_all(&gone).map_err(io_error("remove", &gone))?;
        Ok(true)
    }

    /// Removes the package of a job that is over, which nothing needs any more. Returns as
    /// [`Self::remove`] does.
    pub fn remove_package(&self) -> Result<bool, JobError> {
        let Some(claim) = self.claim()? else { return Ok(false) };
        let files = self.files_dir();
        let gone = self.path().with_file_name(format!("{REMOVED}{}-files", self.id()));
        match fs::rename(&files, &gone) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
            renamed => renamed.map_err(io_error("remove", &files))?,
        }
        // Large packages take a while, and who comes for the result need not wait.
        drop(claim);
        fs::remove_dir_all(&gone).map_err(io_error("remove", &gone))?;
        Ok(true)
    }

    /// The right to change a job that is over, if nobody reads it now.
    fn claim(&self) -> Result<Option<File>, JobError> {
        let folder = File::open(self.path()).map_err(io_error("open", self.path()))?;
        if lock::exclusive(&folder, self.path()).is_err() {
            return Ok(None);
        }
        let is_over = matches!(self.record()?.state, JobState::Finished(_));
        Ok(is_over.then_some(folder))
    }
}

/// Finishes what an earlier removal began. The caller is the only worker here.
pub fn sweep(state_dir: &Path) {
    let entries = fs::read_dir(super::folder::parent(state_dir)).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(REMOVED)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(folder = %entry.path().display(), error = %WithCauses(&error), "cannot be removed");
        }
    }
}

/// What a folder or file takes on disk, in bytes. Links count by themselves; what cannot be read
/// counts as nothing.
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
    fn only_what_is_over_and_unread_is_removed() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        fs::write(folder.files_dir().join("package"), [1; 10_000]).unwrap();
        assert!(bytes_on_disk(folder.path()) > 10_000);
        assert!(!folder.remove().unwrap(), "it has not begun");
        folder.lock().unwrap().begin().unwrap();
        assert!(!folder.remove().unwrap(), "it runs");
        folder.settle(JobOutcome::Cancelled).unwrap();
        let (hold, other) = (folder.hold().unwrap(), folder.hold().unwrap());
        drop(hold);
        assert!(!folder.remove().unwrap() && !folder.remove_package().unwrap(), "it is read");
        drop(other);
        assert!(folder.remove_package().unwrap());
        assert!(bytes_on_disk(folder.path()) < 100_000 && !folder.files_dir().exists());
        assert_eq!(folder.fetched_ms(), None);
        folder.mark_fetched(7);
        assert_eq!(folder.fetched_ms(), Some(7));
        assert!(folder.remove().unwrap());
        assert!(folder.hold().is_err());
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
