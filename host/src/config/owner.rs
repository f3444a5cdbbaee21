//! Checks the owner of `sleap-rtc.toml` in the working directory. Anyone may leave such a file in a shared
//! folder, and it could name another signaling server.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Why to ignore the file at `path`: it belongs to another user, or others can write it. `None` if
/// it can be trusted. A link is trusted if both the link and its target are.
pub(crate) fn distrust(path: &Path) -> io::Result<Option<String>> {
    let link = path.symlink_metadata()?;
    let why = match link.is_symlink() {
        true => foreign(&link).or(distrusted(&path.metadata()?)),
        false => distrusted(&link),
    };
    Ok(why.map(|why| {
        format!(
            "{} is ignored: {why}; make it your own (`chown`, `chmod go-w`), or name it with \
             --config",
            path.display()
        )
    }))
}

fn distrusted(file: &Metadata) -> Option<String> {
    foreign(file).or_else(|| writable(file).then(|| "other users can write it".to_owned()))
}

fn foreign(file: &Metadata) -> Option<String> {
    let owners = [0, rustix::process::geteuid().as_raw()];
    (!owners.contains(&file.uid())).then(|| format!("it belongs to another user ({})", file.uid()))
}

fn writable(file: &Metadata) -> bool {
    // A group with the same number as the user is the user's own, because many systems create one
    // for each user.
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let is_own_group = file.gid() == group.as_raw() && group.as_raw() == user.as_raw();
    file.mode() & 0o002 != 0 || (file.mode() & 0o020 != 0 && !is_own_group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn only_files_that_nobody_else_could_write_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sleap-rtc.toml");
        write(&path, "").unwrap();
        for (mode, counts) in [(0o600, true), (0o644, true), (0o646, false), (0o666, false)] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(distrust(&path).unwrap().is_none(), counts, "{mode:o}");
        }
        set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(distrust(&link).unwrap(), None);
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(65534), Some(65534)).unwrap();
            for path in [&path, &link] {
                let why = distrust(path).unwrap().unwrap();
                assert!(why.contains("another user") && why.contains("--config"), "{why}");
            }
        }
    }
}
