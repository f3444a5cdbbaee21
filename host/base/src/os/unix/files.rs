//! Files and folders.

use crate::os::DiskSpace;
use rustix::fs::OFlags;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The permission bits of everyone except the owner.
const OTHERS: u32 = 0o077;
const OWNER_ONLY: u32 = 0o700;
/// The unit in which the system counts a file's space on disk.
const BLOCK_BYTES: u64 = 512;

/// The identity of a file, independent of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of the file at `path`. Follows links.
    ///
    /// # Errors
    /// The system's.
    pub fn at(path: &Path) -> io::Result<Self> {
        path.metadata().map(|there| Self::of(&there))
    }

    /// Of what is at `path`, which may be a link.
    ///
    /// # Errors
    /// The system's.
    pub fn at_link(path: &Path) -> io::Result<Self> {
        path.symlink_metadata().map(|there| Self::of(&there))
    }

    /// Of an open file.
    ///
    /// # Errors
    /// The system's.
    pub fn of_open(file: &File) -> io::Result<Self> {
        file.metadata().map(|there| Self::of(&there))
    }

    #[allow(clippy::unnecessary_cast, reason = "its type differs between systems")]
    fn of(there: &Metadata) -> Self {
        Self { device: there.dev() as u64, inode: there.ino() }
    }
}

/// A number that a file keeps when its name changes, and that the other files of its disk do not have.
pub fn file_number(there: &Metadata) -> u64 {
    there.ino()
}

/// When the file's content or anything else about it last changed. No program can set this time back.
pub fn changed_at(_path: &Path, there: &Metadata) -> Option<SystemTime> {
    let (s, ns) = (there.ctime().try_into().ok()?, there.ctime_nsec().try_into().ok()?);
    Some(UNIX_EPOCH + Duration::new(s, ns))
}

/// The space that a file takes on its disk, in bytes: less than its length if it has holes.
pub fn bytes_on_disk(there: &Metadata) -> u64 {
    there.blocks().saturating_mul(BLOCK_BYTES)
}

/// Whether its owner can run it. `None` where files do not say so.
pub fn is_executable(there: &Metadata) -> Option<bool> {
    Some(there.permissions().mode() & 0o100 != 0)
}

/// Lets everyone who can read the file run it.
///
/// # Errors
/// The system's.
pub fn make_executable(file: &File) -> io::Result<()> {
    let mode = file.metadata()?.permissions().mode();
    file.set_permissions(Permissions::from_mode(mode | (mode & 0o444) >> 2))
}

/// Lets nobody run the file, and keeps everything else as it is.
///
/// # Errors
/// The system's.
pub fn make_plain(path: &Path, there: &Metadata) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(there.mode() & 0o666))
}

/// Lets every user of the machine read the file.
///
/// # Errors
/// The system's.
pub fn let_everybody_read(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o644))
}

/// Whether every user of the machine can read the file. `false` where its permissions do not say so.
pub fn everybody_can_read(there: &Metadata) -> bool {
    there.mode() & 0o004 != 0
}

/// A file that is created belongs to its owner alone.
pub fn for_owner_alone(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Does not follow a link to the file.
pub fn without_links(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(OFlags::NOFOLLOW.bits() as i32)
}

/// Opens what may be a pipe or a device without waiting for its other end.
pub fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(OFlags::NONBLOCK.bits() as i32)
}

/// Opens a file to append to it: neither through a link nor waiting for the other end of a pipe. Creates
/// it for its owner alone, and closes it to others.
///
/// # Errors
/// The system's.
pub fn append_privately(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.append(true).create(true).custom_flags(flags.bits() as i32);
    let file = for_owner_alone(&mut options).open(path)?;
    let found = file.metadata()?;
    if found.is_file() && found.mode() & OTHERS != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Creates a folder and its missing parents for their owner alone. Leaves an existing one as it is.
///
/// # Errors
/// The system's.
pub fn create_private_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(path)
}

/// Creates a folder for its owner alone.
///
/// # Errors
/// The system's, also if it exists.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(OWNER_ONLY).create(path)
}

/// Whether a folder belongs to this user and is closed to others.
///
/// # Errors
/// The system's.
pub fn is_private_folder(path: &Path) -> io::Result<bool> {
    let found = path.symlink_metadata()?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    Ok(found.is_dir() && is_own && found.mode() & OTHERS == 0)
}

/// Closes a folder that others can enter. Returns whether they could.
///
/// # Errors
/// The system's, or that the folder belongs to another user or cannot be closed.
pub fn close_to_others(path: &Path) -> io::Result<bool> {
    let found = path.metadata()?;
    let user = rustix::process::geteuid();
    if found.uid() != user.as_raw() && !user.is_root() {
        let text = "it belongs to another user; choose a folder of your own";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    if found.mode() & OTHERS == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, Permissions::from_mode(OWNER_ONLY))?;
    if path.metadata()?.mode() & OTHERS != 0 {
        let text = "other users can enter it, and this file system does not allow to close it; choose \
                    a folder on a local disk";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(true)
}

/// Why others could have written the file at `path`, and what to do. `None` if only this user or the system
/// could. A link is trusted if both the link and its target are.
///
/// # Errors
/// The system's.
pub fn written_by_others(path: &Path) -> io::Result<Option<String>> {
    let link = path.symlink_metadata()?;
    let why = match link.is_symlink() {
        true => foreign(&link).or(distrusted(&path.metadata()?)),
        false => distrusted(&link),
    };
    Ok(why.map(|why| format!("{why}; make it your own (`chown`, `chmod go-w`)")))
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

/// A folder that other programs cannot lock while this value exists.
#[derive(Debug)]
pub struct LockedFolder(#[allow(dead_code, reason = "it is locked while it is open")] File);

/// Opens and locks a folder. Does not follow a link to it.
///
/// # Errors
/// Fails with [`io::ErrorKind::WouldBlock`] if another program has locked it, with
/// [`io::ErrorKind::NotFound`] if it was removed meanwhile, and otherwise if the system does.
pub fn lock_folder(path: &Path) -> io::Result<LockedFolder> {
    let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY;
    let folder = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    crate::lock::exclusive(&folder, path)?;
    match FileId::of_open(&folder)? == FileId::at_link(path)? {
        true => Ok(LockedFolder(folder)),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Creates a link at `place` that leads to the file `target`.
///
/// # Errors
/// The system's.
pub fn link_file(target: &Path, place: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, place)
}

/// The space on the disk of `folder`.
///
/// # Errors
/// The system's.
pub fn disk_space(folder: &Path) -> io::Result<DiskSpace> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(DiskSpace {
        free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        has_inodes: disk.f_files == 0 || disk.f_favail > 0,
    })
}

/// Has the file system of `folder` write what it holds back. Some (Btrfs) count removed files towards a
/// quota until then.
///
/// # Errors
/// The system's.
pub fn sync_disk(folder: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(File::open(folder)?)?;
    #[cfg(not(target_os = "linux"))]
    let _ = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    #[test]
    fn only_files_that_nobody_else_could_write_are_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sleap-rtc.toml");
        fs::write(&path, "").unwrap();
        for (mode, counts) in [(0o600, true), (0o644, true), (0o646, false), (0o666, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(written_by_others(&path).unwrap().is_none(), counts, "{mode:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(written_by_others(&link).unwrap(), None);
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(65534), Some(65534)).unwrap();
            for path in [&path, &link] {
                let why = written_by_others(path).unwrap().unwrap();
                assert!(why.contains("another user"), "{why}");
            }
        }
    }

    #[test]
    fn a_locked_folder_is_not_locked_twice_and_not_through_a_link() {
        let above = tempfile::tempdir().unwrap();
        let (folder, link) = (above.path().join("folder"), above.path().join("link"));
        create_private_folder(&folder).unwrap();
        symlink(&folder, &link).unwrap();
        assert!(lock_folder(&link).is_err());
        let held = lock_folder(&folder).unwrap();
        assert_eq!(lock_folder(&folder).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        lock_folder(&folder).unwrap();
    }
}
