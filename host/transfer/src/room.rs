//! Whether a disk has room, and what to say where it has not.

use super::storage_error::{StorageError, failed};
use std::io::{self, ErrorKind};
use std::path::Path;

/// The most that a transfer leaves free, in bytes: everything else on the machine needs room as well.
const MAX_RESERVE_BYTES: u64 = 1 << 30;
/// A transfer leaves this part of the disk free, if that is less.
const RESERVE_PART: u64 = 20;

/// Fails if the disk of `folder` has less than `needed_bytes` free besides a reserve.
pub(crate) fn check(folder: &Path, needed_bytes: u64) -> Result<(), StorageError> {
    let room = Room::of(folder)?;
    let available_bytes = room.bytes.saturating_sub(room.reserve_bytes());
    if needed_bytes > available_bytes {
        let folder = folder.to_owned();
        return Err(StorageError::NoSpace { folder, needed_bytes, available_bytes });
    }
    Ok(())
}

/// What to say of a disk that ran full, by the `error` of the system, with `needed_bytes` still to be
/// written.
pub fn full(folder: &Path, needed_bytes: u64, error: &io::Error) -> StorageError {
    let place = folder.to_owned();
    match Room::of(folder) {
        _ if error.kind() == ErrorKind::QuotaExceeded => {
            StorageError::Quota { folder: place, needed_bytes }
        }
        Ok(Room { has_inodes: false, .. }) => StorageError::NoFiles { folder: place, needed_bytes },
        Ok(Room { bytes, .. }) => {
            let available_bytes = bytes.min(needed_bytes);
            StorageError::NoSpace { folder: place, needed_bytes, available_bytes }
        }
        Err(error) => error,
    }
}

/// The room on a disk.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// The free bytes that this user may use.
    pub bytes: u64,
    total_bytes: u64,
    /// Whether another file can be made. File systems that make inodes as they need them have none to
    /// count.
    pub has_inodes: bool,
}

impl Room {
    /// What should stay free, in bytes.
    pub fn reserve_bytes(&self) -> u64 {
        (self.total_bytes / RESERVE_PART).min(MAX_RESERVE_BYTES)
    }

    /// The room on the disk of `folder`.
    pub fn of(folder: &Path) -> Result<Self, StorageError> {
        let disk = rustix::fs::statvfs(folder)
            .map_err(|error| failed("ask for the free space of", folder)(error.into()))?;
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let total_bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
        Ok(Self { bytes, total_bytes, has_inodes: disk.f_files == 0 || disk.f_favail > 0 })
    }
}
