//! Locks on files and folders, which tell programs of each other and end with their holder.
//!
//! Some file systems have none: Lustre without its mount option, old NFS, what a container mounts.
//! Work goes on there without, as without the other program that a lock would have told of.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Once;

/// What came of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// It is held for as long as the file is open.
    Held,
    /// The file system has no locks: nobody knows who else is there.
    Unsupported,
}

/// Locks `file`, which lies at `path`, for this holder alone. Fails with
/// [`io::ErrorKind::WouldBlock`] when somebody else holds a lock.
pub fn exclusive(file: &File, path: &Path) -> io::Result<Locked> {
    outcome(file.try_lock(), path)
}

/// Locks `file`, which lies at `path`, together with others. Fails with
/// [`io::ErrorKind::WouldBlock`] when somebody holds it alone.
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
    if !is_unsupported(&error) {
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

/// What the kernel says where there are no locks: ENOLCK, ENOSYS, EOPNOTSUPP, and a number of its
/// own that NFS lets out.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(37 | 38 | 95 | 524))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_holders_hear_of_each_other() {
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
    fn a_file_system_without_locks_is_no_failure() {
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
