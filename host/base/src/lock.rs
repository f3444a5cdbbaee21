//! Locks on files and folders. A lock excludes other programs and ends with its holder.
//!
//! Some file systems have no locks: Lustre without its mount option, old NFS, mounts in containers.
//! There the program continues without them, as if no other program used the file.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Once;

/// The result of locking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// It is held for as long as the file is open.
    Held,
    /// The file system has no locks, so other users of the file are unknown.
    Unsupported,
}

/// Locks `file`, whose path is `path`, exclusively. Fails with [`io::ErrorKind::WouldBlock`] if
/// another program has locked it.
pub fn exclusive(file: &File, path: &Path) -> io::Result<Locked> {
    outcome(file.try_lock(), path)
}

/// Locks `file`, whose path is `path`, together with others. Fails with
/// [`io::ErrorKind::WouldBlock`] if another program has locked it exclusively.
pub fn shared(file: &File, path: &Path) -> io::Result<Locked> {
    outcome(file.try_lock_shared(), path)
}

fn outcome(result: Result<(), TryLockError>, path: &Path) -> io::Result<Locked> {
    static WARNED: Once = Once::new();
    let error = match result {
        Ok(()) => return Ok(Locked::Held),
        Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => error,
    };
    if !crate::os::has_no_locks(&error) {
        return Err(error);
    }
    WARNED.call_once(|| {
        tracing::warn!(
            path = %path.display(),
            %error,
            "this file system has no file locks; going on without: see to it that no two programs use \
             one folder at once, or keep it on a local disk (a worker's with --state-dir, a client's \
             results with --output)"
        );
    });
    Ok(Locked::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_holders_exclude_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let (first, second) = (open(), open());
        assert_eq!(shared(&first, &path).unwrap(), Locked::Held);
        assert_eq!(shared(&second, &path).unwrap(), Locked::Held);
        let refused = exclusive(&first, &path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(second);
        assert_eq!(exclusive(&first, &path).unwrap(), Locked::Held);
    }

    #[test]
    fn missing_locks_are_not_an_error() {
        let there = Path::new("/lustre/job");
        let failed =
            |number| outcome(Err(TryLockError::Error(io::Error::from_raw_os_error(number))), there);
        for number in [37, 38, 95, 524] {
            assert_eq!(failed(number).unwrap(), Locked::Unsupported, "{number}");
        }
        assert!(failed(9).is_err());
        let busy = outcome(Err(TryLockError::WouldBlock), there).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
    }
}
