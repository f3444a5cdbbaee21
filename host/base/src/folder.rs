//! Folders for their owner alone: for identities, secrets, and what others must not read or change.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// The rights of everybody but the owner.
const OTHERS: u32 = 0o077;
const OWNER_ONLY: u32 = 0o700;

/// Makes `path`, and the folders above it that are missing, for their owner alone. A folder that is
/// there and open to others is closed, which the log says.
///
/// # Errors
/// Also when it belongs to somebody else, or cannot be closed: what is written there would be
/// readable for others.
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
        let text = "other users can enter it, and this file system does not let it be closed; choose \
                    a folder on a local disk";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    tracing::warn!("{} was open to other users; it is closed now (mode 0700)", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn a_folder_is_made_closed_or_closed() {
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
    fn a_folder_of_somebody_else_is_refused() {
        // Root may do as its operator says.
        if !rustix::process::geteuid().is_root() {
            assert!(private(Path::new("/usr")).unwrap_err().to_string().contains("another user"));
        }
    }
}
