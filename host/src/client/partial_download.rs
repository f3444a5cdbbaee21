//! The hidden folder beside the output in which a result is received until it is complete.

use sleap_rtc_base::os::{self, LockedFolder, lock_folder};
use sleap_rtc_protocol::ids::JobId;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PREFIX: &str = ".sleap-rtc-";
/// An abandoned folder is removed after this time.
const STALE: Duration = Duration::from_secs(14 * 24 * 3600);

/// Such a folder, locked against other clients while this value exists.
#[derive(Debug)]
pub(crate) struct PartialDownload {
    path: PathBuf,
    _lock: LockedFolder,
    /// Whether a later client of the same job can use its contents.
    keep_on_drop: bool,
}

impl PartialDownload {
    /// Creates a new one in `folder`, which is removed on drop.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(folder)?.keep();
        Ok(Self { _lock: lock_folder(&path)?, path, keep_on_drop: false })
    }

    /// Opens or creates the one for `job` in `folder`, which stays on drop until the result is
    /// published. If another client fetches the same job, each gets a folder of its own.
    pub(crate) fn open(folder: &Path, job: &JobId) -> io::Result<Self> {
        remove_stale(folder);
        match os::create_private_folder(&named(folder, job)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match Self::reopen(folder, job) {
            Some(partial) => Ok(partial),
            None => Self::create(folder),
        }
    }

    /// Opens the one for `job` in `folder`, if it exists and no other client uses it.
    pub(crate) fn reopen(folder: &Path, job: &JobId) -> Option<Self> {
        let path = named(folder, job);
        Some(Self { _lock: lock_folder(&path).ok()?, path, keep_on_drop: true })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, after its contents have been moved to their place.
    pub(crate) fn discard(mut self) {
        self.keep_on_drop = false;
    }

    /// Keeps it for the user.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.keep_on_drop = true;
        self.path.clone()
    }
}

impl Drop for PartialDownload {
    fn drop(&mut self) {
        let is_empty = fs::read_dir(&self.path).is_ok_and(|mut there| there.next().is_none());
        if (is_empty || !self.keep_on_drop)
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(folder = %self.path.display(), %error, "cannot remove a temporary folder");
        }
    }
}

fn named(folder: &Path, job: &JobId) -> PathBuf {
    folder.join(format!("{PREFIX}{job}"))
}

/// Removes old folders of clients that were killed.
fn remove_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_download = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let modified = entry.metadata().and_then(|there| there.modified());
        let is_old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE));
        if is_download
            && is_old
            && let Ok(_lock) = lock_folder(&entry.path())
        {
            let (path, keep_on_drop) = (entry.path(), false);
            drop(PartialDownload { path, _lock, keep_on_drop });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn job(name: &str) -> JobId {
        JobId::new(name).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_partial_download_is_reopened_by_one_client_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (here, one) = (folder.path(), job("job-1"));
        let first = PartialDownload::open(here, &one).unwrap();
        fs::write(first.path().join("part"), "of it").unwrap();
        let second = PartialDownload::open(here, &one).unwrap();
        assert_ne!(first.path(), second.path());
        assert!(PartialDownload::reopen(here, &one).is_none());
        assert_ne!(PartialDownload::open(here, &job("job-2")).unwrap().path(), first.path());
        drop((first, second));
        assert_eq!(names(here), [".sleap-rtc-job-1"], "empty folders and second ones are removed");
        let again = PartialDownload::reopen(here, &one).unwrap();
        assert!(again.path().join("part").exists());
        again.discard();
        assert_eq!(names(here), [""; 0]);
    }

    #[test]
    fn an_abandoned_download_is_removed_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (here, elsewhere) = (folder.path().join("here"), folder.path().join("elsewhere"));
        for folder in
            [here.join(".sleap-rtc-job-0"), here.join(".sleap-rtc-job-1"), elsewhere.clone()]
        {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), "x").unwrap();
        }
        let long_ago = std::time::SystemTime::now() - 2 * STALE;
        let old = File::open(here.join(".sleap-rtc-job-0")).unwrap();
        old.set_modified(long_ago).unwrap();
        std::os::unix::fs::symlink(&elsewhere, here.join(".sleap-rtc-job-2")).unwrap();
        let partial = PartialDownload::open(&here, &job("job-2")).unwrap();
        assert_ne!(partial.path().canonicalize().unwrap(), elsewhere.canonicalize().unwrap());
        drop(partial);
        let mut left = names(&here);
        left.sort();
        assert_eq!(left, [".sleap-rtc-job-1", ".sleap-rtc-job-2"]);
        assert!(elsewhere.join("file").exists());
    }
}
