//! Content that abandoned transfers had verified, so that sending the same files again resumes there.
//!
//! An abandoned transfer is its destination folder, moved here unchanged. A move needs no space on a
//! full disk, and the journal in the folder says what it contains. A later transfer moves files out
//! again, so that reusing ten gigabytes reads none of them.

use super::journal::{JOURNAL, Journal, Written};
use super::storage::PARTIAL;
use sleap_rtc_base::os::{self, FileExt};
use sleap_rtc_base::random;
use sleap_rtc_package::pieces;
use sleap_rtc_protocol::transfer::{BlobHash, Piece};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The most folders that are kept. Each is searched before every transfer.
const MAX_FOLDERS: usize = 16;
/// How long a folder is kept.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// The folder of an abandoned transfer.
#[derive(Debug)]
pub(crate) struct AbandonedTransfer {
    folder: PathBuf,
    journal: Journal,
    /// The complete files in it.
    placed: HashMap<BlobHash, PathBuf>,
    /// The file and offset of each piece.
    pieces: HashMap<BlobHash, (PathBuf, u64)>,
    /// How many contents are left in it.
    left: usize,
}

/// How much of a content was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// All pieces.
    Whole,
    /// These pieces, by their number.
    Pieces(HashMap<u32, Written>),
}

/// Moves the destination `folder` of an abandoned transfer into `all`, for the same owner's next transfer.
/// Ignores a folder that contains nothing verified, or that is in use.
pub(crate) fn keep(all: &Path, owner: &BlobHash, folder: &Path) -> std::io::Result<()> {
    let journal = folder.join(PARTIAL).join(JOURNAL);
    if !journal.exists() {
        return Ok(());
    }
    let in_use = Journal::open(&journal)?;
    if in_use.is_useful() {
        fs::rename(folder, all.join(format!("{owner}-{}", random::hex::<16>())))?;
    }
    Ok(())
}

/// The owner's folders in `all` that no other transfer uses.
pub(crate) fn open(all: &Path, owner: &BlobHash) -> Vec<AbandonedTransfer> {
    let owner = format!("{owner}-");
    let is_own = |folder: &Path| {
        folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&owner))
    };
    newest_first(all)
        .into_iter()
        .filter(|(_, folder)| is_own(folder))
        .filter_map(|(_, folder)| AbandonedTransfer::open(folder))
        .collect()
}

/// Removes folders that are too old or exceed `limit_bytes`, oldest first. Returns the bytes left.
pub(crate) fn shrink(all: &Path, limit_bytes: u64) -> u64 {
    let mut total = 0;
    for (number, (at, folder)) in newest_first(all).into_iter().enumerate() {
        let bytes = bytes_on_disk(&folder);
        let old = at.elapsed().is_ok_and(|age| age > RETENTION);
        if number >= MAX_FOLDERS || old || total + bytes > limit_bytes {
            remove(&folder);
        } else {
            total += bytes;
        }
    }
    total
}

/// Removes folders older than `age`, the oldest first, until `wanted_bytes` are free.
pub(crate) fn spare(all: &Path, wanted_bytes: u64, age: Duration) {
    let mut freed = 0;
    for (at, folder) in newest_first(all).into_iter().rev() {
        if freed < wanted_bytes && at.elapsed().is_ok_and(|passed| passed > age) {
            freed += bytes_on_disk(&folder);
            remove(&folder);
        }
    }
}

fn newest_first(all: &Path) -> Vec<(SystemTime, PathBuf)> {
    let folders = fs::read_dir(all).into_iter().flatten().flatten().map(|entry| entry.path());
    let dated = |folder: PathBuf| {
        let journal = folder.join(PARTIAL).join(JOURNAL);
        let at = journal.metadata().and_then(|there| there.modified());
        (at.unwrap_or(SystemTime::UNIX_EPOCH), folder)
    };
    let mut folders: Vec<_> = folders.map(dated).collect();
    folders.sort_by(|one, other| other.cmp(one));
    folders
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove an abandoned transfer from the cache");
    }
}

fn bytes_on_disk(folder: &Path) -> u64 {
    files(folder, &|_| true).iter().map(|(_, there)| os::bytes_on_disk(there)).sum()
}

/// The files below `folder`. Enters only the subfolders that are `is_wanted`.
fn files(folder: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> Vec<(PathBuf, fs::Metadata)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(there) if there.is_dir() && is_wanted(&path) => {
                found.extend(files(&path, is_wanted));
            }
            Ok(there) if there.is_file() => found.push((path, there)),
            _ => {}
        }
    }
    found
}

impl AbandonedTransfer {
    fn open(folder: PathBuf) -> Option<Self> {
        let partial = folder.join(PARTIAL);
        let journal = Journal::open(&partial.join(JOURNAL)).ok()?;
        let (mut placed, mut pieces) = (HashMap::new(), HashMap::new());
        for (path, there) in files(&folder, &|inner| inner != partial) {
            let Some(content) = journal.content(&there) else { continue };
            pieces.insert(content, (path.clone(), 0));
            placed.insert(content, path);
        }
        let mut unfinished = 0;
        for (content, numbers) in journal.pieces() {
            let beside = || Some(partial.join(content.to_string())).filter(|path| path.exists());
            let Some(path) = placed.get(content).cloned().or_else(beside) else { continue };
            unfinished += usize::from(!placed.contains_key(content));
            let place = |written: &Written| (written.piece.blake3, (path.clone(), written.offset));
            pieces.extend(numbers.values().map(place));
        }
        let left = placed.len() + unfinished;
        Some(Self { folder, journal, placed, pieces, left })
    }

    /// Moves the file with `content` to `to`. Returns nothing if the content would have to be hashed
    /// again; use [`Self::read`] then.
    pub(crate) fn take(&mut self, content: BlobHash, to: &Path) -> Option<Taken> {
        if !self.journal.is_fresh() {
            return None;
        }
        if let Some(path) = self.placed.get(&content) {
            let there = path.symlink_metadata().ok()?;
            if self.journal.content(&there) != Some(content) {
                return None;
            }
            fs::rename(path, to).ok()?;
            // The next transfer decides whether the file is executable.
            os::make_plain(to, &there).ok()?;
            self.left -= 1;
            return Some(Taken::Whole);
        }
        let pieces = self.journal.pieces().get(&content)?;
        fs::rename(self.folder.join(PARTIAL).join(content.to_string()), to).ok()?;
        self.left -= 1;
        Some(Taken::Pieces(pieces.clone()))
    }

    /// The bytes of `piece`, if the folder has them and they match its hash.
    pub(crate) fn read(&self, piece: Piece) -> Option<Vec<u8>> {
        let (path, offset) = self.pieces.get(&piece.blake3)?;
        let mut bytes = vec![0; piece.bytes as usize];
        File::open(path).and_then(|file| file.read_exact_at(&mut bytes, *offset)).ok()?;
        pieces::is_piece(piece, &bytes).then_some(bytes)
    }
}

impl Drop for AbandonedTransfer {
    fn drop(&mut self) {
        if self.left == 0 {
            remove(&self.folder);
        }
    }
}
