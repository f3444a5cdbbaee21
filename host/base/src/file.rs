//! Writes files atomically.

use crate::os;
use std::io::{self, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone.
    Owner,
    /// Every user of the machine.
    Everybody,
}

/// Writes `bytes` to a temporary file next to `path`, and renames that. A reader sees either the old
/// content or all of `bytes`, even after a crash. The folder must exist.
///
/// ```
/// use sleap_rtc_base::file::{Readers, replace};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("identity.json");
/// replace(&path, b"old", Readers::Owner)?;
/// replace(&path, b"new", Readers::Owner)?;
/// assert_eq!(std::fs::read(&path)?, b"new");
/// # std::io::Result::Ok(())
/// ```
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    // Created for its owner alone.
    let mut beside = NamedTempFile::new_in(folder_of(path))?;
    beside.write_all(bytes)?;
    if readers == Readers::Everybody {
        os::let_everybody_read(beside.as_file())?;
    }
    beside.as_file().sync_all()?;
    beside.persist(path)?;
    Ok(())
}

/// Writes `bytes` to a new file for its owner alone, unless there is one: of several writers the first wins.
/// Returns whether this call has written the file. A reader sees all of `bytes` or no file.
///
/// ```
/// use sleap_rtc_base::file::create;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("key");
/// assert!(create(&path, b"first")?);
/// assert!(!create(&path, b"second")?);
/// assert_eq!(std::fs::read(&path)?, b"first");
/// # std::io::Result::Ok(())
/// ```
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut beside = NamedTempFile::new_in(folder_of(path))?;
    beside.write_all(bytes)?;
    beside.as_file().sync_all()?;
    match beside.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // Some file systems can neither link files nor rename them without replacing others.
        Err(refused) => Ok(refused.file.persist(path).map(|_| true)?),
    }
}

/// The folder that `path` is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_file_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str, readers| {
            let path = folder.path().join(name);
            replace(&path, b"content", readers).unwrap();
            path.metadata().unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("private", Readers::Owner), 0o600);
        assert_eq!(mode("shared", Readers::Everybody), 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        assert!(replace(&taken, b"content", Readers::Owner).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(folder_of(Path::new("name")), Path::new("."));
    }
}
