//! Copies the files of packages and folders on one machine.

use super::listing::list_tree;
use super::storage::{StagingDir, create_parents, failed};
use super::{TransferError, free_space};
use sleap_rtc_base::os;
use sleap_rtc_package::{Listing, Member};
use std::io::{ErrorKind, Read};
use std::path::Path;

/// How much is read at once, in bytes.
pub(crate) const READ_BYTES: usize = 128 * 1024;
/// Files up to this size, in bytes, are copied even where larger ones are linked. Scripts and
/// settings are that small, and must not change after they have been checked.
const LINK_BYTES: u64 = 1 << 20;

/// Copies the files of one tree into another, each through the staging folder. A link to a file
/// within the tree is copied as that file; other links are left out.
pub fn copy_tree(from: &Path, to: &Path) -> Result<(), TransferError> {
    fill(to, &list_tree(from)?, Large::Copy, Existing::Replace)
}

/// Like [`copy_tree`], but fails if a different file already has one of the names. Keeps files with
/// the same content, so an interrupted copy can be repeated.
pub fn add_tree(from: &Path, to: &Path) -> Result<(), TransferError> {
    fill(to, &list_tree(from)?, Large::Copy, Existing::Keep)
}

/// What to do with files that exist already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Replace them.
    Replace,
    /// Keep them, and fail if their content differs.
    Keep,
}

/// How [`fill`] treats large files on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Large {
    /// Copy them like all others.
    Copy,
    /// Create symbolic links to them.
    Link,
}

impl Large {
    /// The file to link to instead of copying `member`.
    fn link(self, member: &Member) -> Option<&Path> {
        member.file_path().filter(|_| self == Self::Link && member.size > LINK_BYTES)
    }
}

/// Writes all files of `source` below `into`.
pub(crate) fn fill(
    into: &Path,
    source: &Listing,
    large: Large,
    existing: Existing,
) -> Result<(), TransferError> {
    let staging = StagingDir::new(into)?;
    let copied = source.members().iter().filter(|member| large.link(member).is_none());
    free_space::check(into, copied.map(|member| member.size).sum())?;
    let mut buffer = vec![0; READ_BYTES];
    for member in source.members() {
        if let Some(target) = large.link(member) {
            let place = create_parents(staging.root(), &member.path)?;
            os::link_file(target, &place).map_err(failed("link", &place))?;
            continue;
        }
        let mut reader = member.open()?;
        let mut file = staging.begin("file")?;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => file.write(&buffer[..length])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(member.unreadable(error).into()),
            }
        }
        match existing {
            Existing::Replace => staging.place(file, &member.path, member.executable)?,
            Existing::Keep => staging.place_new(file, &member.path, member.executable)?,
        };
    }
    Ok(())
}
