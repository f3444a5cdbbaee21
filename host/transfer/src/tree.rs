//! Folders as lists of files.

use super::files;
use super::storage::PARTIAL;
use sleap_rtc_base::os;
use sleap_rtc_package::names::{composed, is_os_junk};
use sleap_rtc_package::{ArchiveError, Member};
use sleap_rtc_protocol::transfer::MAX_FILES;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The greatest depth of a folder that is listed.
const MAX_DEPTH: usize = 64;

/// Shorter files are always read.
const HOLE_BYTES: u64 = 4 << 30;
/// How many times its space on disk a file's length may be.
const HOLE_RATIO: u64 = 64;

/// The content of a folder.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The files, sorted by path.
    pub(crate) members: Vec<Member>,
    /// Entries that are not files or have no portable name, each with the reason.
    pub(crate) left_out: Vec<ArchiveError>,
}

/// Lists the files below `folder`. A symbolic link counts as its target if that is a file below
/// `folder`. Leaves out everything else that is neither file nor folder. The files keep alive the
/// folder in which they were `unpacked`.
pub(crate) fn walk(folder: &Path, unpacked: Option<&Arc<TempDir>>) -> Result<Tree, ArchiveError> {
    let root = folder.canonicalize().map_err(|cause| ArchiveError::read(folder, cause))?;
    let mut tree = Tree::default();
    let mut folders = vec![(root.clone(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|cause| ArchiveError::read(&folder, cause))?;
        for entry in entries {
            let entry = entry.map_err(|cause| ArchiveError::read(&folder, cause))?;
            let (path, name) = (entry.path(), entry.file_name());
            let readable = name.to_str().is_some();
            let name = format!("{prefix}{}", name.to_string_lossy());
            if !readable {
                let why = "its name is not UTF-8";
                tree.left_out.push(ArchiveError::Entry { entry: name, why: why.into() });
                continue;
            }
            if is_os_junk(&name) || name == PARTIAL {
                continue;
            }
            match look(&root, path, &name, unpacked) {
                Ok(Found::Folder(path)) if depth < MAX_DEPTH => {
                    folders.push((path, format!("{name}/"), depth + 1));
                }
                Ok(Found::Folder(_)) => {
                    let why = "it is nested too deeply";
                    tree.left_out.push(ArchiveError::Entry { entry: name, why: why.into() });
                }
                Ok(Found::File(member)) => tree.members.push(member),
                Err(why) => tree.left_out.push(why),
            }
            if tree.members.len() + tree.left_out.len() + folders.len() > MAX_FILES {
                return Err(ArchiveError::TooMany);
            }
        }
    }
    tree.members.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

enum Found {
    Folder(PathBuf),
    File(Member),
}

fn look(
    root: &Path,
    path: PathBuf,
    name: &str,
    unpacked: Option<&Arc<TempDir>>,
) -> Result<Found, ArchiveError> {
    let refused = |why: &str| ArchiveError::Entry { entry: name.into(), why: why.into() };
    let there = path.symlink_metadata().map_err(|cause| ArchiveError::read(&path, cause))?;
    if there.is_dir() {
        return Ok(Found::Folder(path));
    }
    let (path, there) = if there.is_symlink() {
        let end = path.canonicalize().map_err(|_| refused("it is a link to nothing"))?;
        if !end.starts_with(root) {
            return Err(refused("it is a link that leads out of the folder"));
        }
        let there = end.metadata().map_err(|cause| ArchiveError::read(&end, cause))?;
        (end, there)
    } else {
        (path, there)
    };
    if !there.is_file() {
        return Err(refused("it is neither a file nor a folder"));
    }
    if is_hole(there.len(), os::bytes_on_disk(&there)) {
        return Err(refused("it is a sparse file: it is very long and almost empty"));
    }
    let rel = composed(name).map_err(|error| refused(&error.to_string()))?;
    Ok(Found::File(files::member(rel, path, &there, unpacked)))
}

/// Whether a long file is almost entirely sparse. A job can create a sparse file of petabytes at
/// once, and reading it would take years. Compressing file systems do not shrink ordinary files
/// this much.
fn is_hole(length: u64, bytes_on_disk: u64) -> bool {
    length >= HOLE_BYTES && bytes_on_disk.saturating_mul(HOLE_RATIO) < length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_a_hole_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("best.ckpt"), "x").unwrap();
        let hole = fs::File::create(folder.path().join("hole")).unwrap();
        hole.set_len(15 << 40).unwrap();
        let small = fs::File::create(folder.path().join("small")).unwrap();
        small.set_len(1 << 30).unwrap();
        let tree = walk(folder.path(), None).unwrap();
        let names: Vec<&str> = tree.members.iter().map(|member| member.path.as_str()).collect();
        assert_eq!(names, ["best.ckpt", "small"]);
        assert!(tree.left_out[0].to_string().contains("hole"), "{:?}", tree.left_out);
        assert!(!is_hole(8 << 30, (8 << 30) / 10));
    }
}
