//! Creates folders that only their owner can enter, for identities, secrets and private data.

use crate::os;
use std::io;
use std::path::Path;

/// Creates `path` and its missing parents for their owner only. Closes an existing folder that others
/// can enter, and logs that.
///
/// # Errors
/// Fails if the system does, or if the folder belongs to another user or cannot be closed: others could
/// read what is written there.
///
/// ```
/// use std::os::unix::fs::PermissionsExt;
///
/// let above = tempfile::tempdir()?;
/// let state = above.path().join("state");
/// std::fs::create_dir(&state)?;
/// std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755))?;
/// sleap_rtc_base::folder::private(&state)?;
/// assert_eq!(state.metadata()?.permissions().mode() & 0o777, 0o700);
/// # std::io::Result::Ok(())
/// ```
pub fn private(path: &Path) -> io::Result<()> {
    os::create_private_folders(path)?;
    if os::close_to_others(path)? {
        tracing::warn!("{} was open to other users, so its mode is now 0700", path.display());
    }
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn folders_are_created_closed_or_are_closed() {
        let above = tempfile::tempdir().unwrap();
        let new = above.path().join("a/b");
        private(&new).unwrap();
        assert_eq!((mode(&new), mode(&above.path().join("a"))), (0o700, 0o700));
        for open in [0o755, 0o777, 0o710] {
            fs::set_permissions(&new, Permissions::from_mode(open)).unwrap();
            private(&new).unwrap();
            assert_eq!(mode(&new), 0o700);
        }
        let file = above.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(private(&file).is_err());
    }

    #[test]
    fn folders_of_other_users_are_refused() {
        // Root may do what its operator asks for.
        if !rustix::process::geteuid().is_root() {
            assert!(private(Path::new("/usr")).unwrap_err().to_string().contains("another user"));
        }
    }
}
