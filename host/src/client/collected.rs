//! The hidden folder beside a goal in which a result is collected, until it is whole.

use sleap_rtc_protocol::ids::JobId;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PREFIX: &str = ".sleap-rtc-";
/// What nobody came back for goes after this time.
const STALE: Duration = Duration::from_secs(14 * 24 * 3600);

/// Such a folder. As long as this is there, no other client uses the same one.
#[derive(Debug)]
pub(super) struct Collected {
    path: PathBuf,
    /// The folder itself, locked.
    _lock: File,
    /// Whether what is in it is of use to a later client of the same job.
    is_of_use: bool,
}

impl Collected {
    /// A new one in `folder`, which goes when this goes.
    pub(super) fn fresh(folder: &Path) -> io::Result<Self> {
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(folder)?.keep();
        Ok(Self { _lock: lock(&path)?, path, is_of_use: false })
    }

    /// The one of `job` in `folder`. It stays when this goes before the result is published. Where
    /// another client is at the same job, each has its own.
    pub(super) fn of(folder: &Path, job: &JobId) -> io::Result<Self> {
        remove_stale(folder);
        match fs::DirBuilder::new().mode(0o700).create(named(folder, job)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match Self::of_earlier(folder, job) {
            Some(collected) => Ok(collected),
            None => Self::fresh(folder),
        }
    }

    /// The one of `job` in `folder`, if there is one and nobody uses it.
    pub(super) fn of_earlier(folder: &Path, job: &JobId) -> Option<Self> {
        let path = named(folder, job);
        Some(Self { _lock: lock(&path).ok()?, path, is_of_use: true })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Nobody needs it any more: what was in it has its place.
    pub(super) fn done(mut self) {
        self.is_of_use = false;
    }

    /// Leaves it where it is, for its user to look into.
    pub(super) fn keep(mut self) -> PathBuf {
        self.is_of_use = true;
        self.path.clone()
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        let is_empty = fs::read_dir(&self.path).is_ok_and(|mut there| there.next().is_none());
        if (is_empty || !self.is_of_use)
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(folder = %self.path.display(), %error, "left behind");
        }
    }
}

fn named(folder: &Path, job: &JobId) -> PathBuf {
    folder.join(format!("{PREFIX}{job}"))
}

/// Opens and locks a folder that is no link. Fails when it is in use, or was removed meanwhile.
fn lock(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::DIRECTORY;
    let folder = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    sleap_rtc_base::lock::exclusive(&folder, path)?;
    let (locked, there) = (folder.metadata()?, path.symlink_metadata()?);
    match (locked.dev(), locked.ino()) == (there.dev(), there.ino()) {
        true => Ok(folder),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Removes what clients left in `folder` long ago that were killed.
fn remove_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let modified = entry.metadata().and_then(|there| there.modified());
        let is_old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE));
        if is_ours
            && is_old
            && let Ok(_lock) = lock(&entry.path())
        {
            let (path, is_of_use) = (entry.path(), false);
            drop(Collected { path, _lock, is_of_use });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> JobId {
        JobId::new(name).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn what_was_collected_of_a_job_is_found_again_by_one_client_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (here, one) = (folder.path(), job("job-1"));
        let first = Collected::of(here, &one).unwrap();
        fs::write(first.path().join("part"), "of it").unwrap();
        let second = Collected::of(here, &one).unwrap();
        assert_ne!(first.path(), second.path());
        assert!(Collected::of_earlier(here, &one).is_none());
        assert_ne!(Collected::of(here, &job("job-2")).unwrap().path(), first.path());
        drop((first, second));
        assert_eq!(names(here), [".sleap-rtc-job-1"], "what is empty or a second one is gone");
        let again = Collected::of_earlier(here, &one).unwrap();
        assert!(again.path().join("part").exists());
        again.done();
        assert_eq!(names(here), [""; 0]);
    }

    #[test]
    fn what_nobody_came_back_for_goes_and_links_are_not_followed() {
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
        let collected = Collected::of(&here, &job("job-2")).unwrap();
        assert_ne!(collected.path().canonicalize().unwrap(), elsewhere.canonicalize().unwrap());
        drop(collected);
        let mut left = names(&here);
        left.sort();
        assert_eq!(left, [".sleap-rtc-job-1", ".sleap-rtc-job-2"]);
        assert!(elsewhere.join("file").exists());
    }
}
