//! Creates folders that only their owner can enter, for identities, secrets and private data.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// The permission bits of everyone except the owner.
const OTHERS: u32 = 0o077;
const OWNER_ONLY: u32 = 0o700;

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
    DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(path)?;
    let found = path.metadata()?;
    let user = rustix::process::geteuid();
    if found.uid() != user.as_raw() && !user.is_root() {
        let text = "it belongs to another user; choose a folder of your own";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    if found.mode() & OTHERS == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(OWNER_ONLY))?;
    if path.metadata()?.mode() & OTHERS != 0 {
        let text = "other users can enter it, and this file system does not allow to close it; choose \
                    a folder on a local disk";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    tracing::warn!("{} was open to other users, so its mode is now 0700", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
