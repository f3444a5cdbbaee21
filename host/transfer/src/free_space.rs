//! Whether a disk has room, and the errors if it has none.

use super::storage_error::{StorageError, failed};
use sleap_rtc_base::os;
use std::io::{self, ErrorKind};
use std::path::Path;

/// The most space that a transfer leaves free for the rest of the machine, in bytes.
const MAX_RESERVE_BYTES: u64 = 1 << 30;
/// A transfer leaves one part in this many of the disk free, if that is less.
const RESERVE_PART: u64 = 20;

/// Fails if the disk of `folder` has less than `needed_bytes` free besides a reserve.
pub(crate) fn check(folder: &Path, needed_bytes: u64) -> Result<(), StorageError> {
    let space = FreeSpace::of(folder)?;
    let available_bytes = space.bytes.saturating_sub(space.reserve_bytes());
    if needed_bytes > available_bytes {
        let folder = folder.to_owned();
        return Err(StorageError::NoSpace { folder, needed_bytes, available_bytes });
    }
    Ok(())
}

/// The error for a disk that ran full, from the system's `error`. `needed_bytes` were still to be
/// written.
pub fn full(folder: &Path, needed_bytes: u64, error: &io::Error) -> StorageError {
    let place = folder.to_owned();
    match FreeSpace::of(folder) {
        _ if error.kind() == ErrorKind::QuotaExceeded => {
            StorageError::Quota { folder: place, needed_bytes }
        }
        Ok(FreeSpace { has_inodes: false, .. }) => {
            StorageError::NoFiles { folder: place, needed_bytes }
        }
        Ok(FreeSpace { bytes, .. }) => {
            let available_bytes = bytes.min(needed_bytes);
            StorageError::NoSpace { folder: place, needed_bytes, available_bytes }
        }
        Err(error) => error,
    }
}

/// The free space on a disk.
#[derive(Debug, Clone, Copy)]
pub struct FreeSpace {
    /// The free bytes that this user may use.
    pub bytes: u64,
    total_bytes: u64,
    /// Whether another file can be created. File systems without a fixed number of inodes report
    /// none.
    pub has_inodes: bool,
}

impl FreeSpace {
    /// The reserve that should stay free, in bytes.
    pub fn reserve_bytes(&self) -> u64 {
        (self.total_bytes / RESERVE_PART).min(MAX_RESERVE_BYTES)
    }

    /// The free space on the disk of `folder`.
    pub fn of(folder: &Path) -> Result<Self, StorageError> {
        let disk = os::disk_space(folder).map_err(failed("ask for the free space of", folder))?;
        let os::DiskSpace { free_bytes: bytes, total_bytes, has_inodes } = disk;
        Ok(Self { bytes, total_bytes, has_inodes })
    }
}
