//! The hashes of files that were read earlier, so that ten gigabytes are not read for every transfer.
//!
//! An SQLite file stores the content and the pieces of each file, by its path and, in an archive, its
//! offset. An entry is valid as long as the file's inode, size and times are unchanged. A file that
//! was modified shortly before it was hashed is not stored, because another modification within the
//! resolution of its times would go unnoticed. A damaged index costs time and nothing else.

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use sleap_rtc_base::os;
use sleap_rtc_base::sqlite::{self, OpenError, Schema};
use sleap_rtc_package::pieces::{self, Hashed};
use sleap_rtc_protocol::transfer::{BlobHash, Piece};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The maximum size of all entries, in bytes. Enough for about 1.5 TB of files.
const MAX_BYTES: i64 = 64 << 20;
/// The approximate size of an entry without its path and its pieces, in bytes.
const ROW_BYTES: i64 = 150;
/// The size of a stored piece, in bytes: its hash and its length.
const PIECE_BYTES: usize = 36;
const SCHEMA: Schema = Schema {
    version: 1,
    tables: "
    PRAGMA journal_mode = TRUNCATE;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS file (
        path BLOB NOT NULL,
        offset INTEGER NOT NULL,
        state TEXT NOT NULL,
        content BLOB NOT NULL,
        pieces BLOB NOT NULL,
        used_at_s INTEGER NOT NULL,
        PRIMARY KEY (path, offset)
    ) STRICT;
",
};

/// The index of one program. Cheap to clone. Its methods block.
#[derive(Debug, Clone, Default)]
pub struct Hashes {
    inner: Option<Arc<Index>>,
}

#[derive(Debug)]
struct Index {
    index: Mutex<Connection>,
    settled: Duration,
    max_bytes: i64,
}

/// A range of a file, and the metadata that shows whether the file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRange {
    path: PathBuf,
    offset: u64,
    state: String,
    /// The later of the file's modification and status change times. `None` if it is not known.
    changed_at: Option<SystemTime>,
}

impl FileRange {
    /// The range at `offset` of the file at `path`, which has this metadata.
    pub(crate) fn new(path: &Path, offset: u64, there: &Metadata) -> Self {
        let modified = there.modified().ok();
        let changed = os::changed_at(path, there);
        let since_1970 = |at: Option<SystemTime>| {
            let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
        };
        let (number, size) = (os::file_number(there), there.len());
        Self {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            offset,
            state: format!("{number} {size} {} {}", since_1970(modified), since_1970(changed)),
            changed_at: modified.zip(changed).map(|(modified, changed)| modified.max(changed)),
        }
    }
}

impl Hashes {
    /// Stores nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Opens or creates the index at `path`. Does not store files that changed less than `settled`
    /// before they were hashed.
    pub fn open(path: &Path, settled: Duration) -> Self {
        Self::open_up_to(path, settled, MAX_BYTES)
    }

    /// As [`Self::open`], for entries of at most `max_bytes` in all.
    pub(crate) fn open_up_to(path: &Path, settled: Duration, max_bytes: i64) -> Self {
        let begin = || {
            open_index(path).or_else(|error| {
                if error.is_of_the_file() {
                    // A missing index only costs time.
                    let _ = sqlite::remove(path);
                }
                open_index(path)
            })
        };
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let index = made.map_err(|error| error.to_string());
        match index.and_then(|()| begin().map_err(|error| error.to_string())) {
            Ok(index) => {
                let inner = Index { index: Mutex::new(index), settled, max_bytes };
                Self { inner: Some(Arc::new(inner)) }
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "cannot open the index of file hashes; files are hashed again");
                Self::none()
            }
        }
    }

    /// Whether the file has been unchanged for long enough to store its hash.
    pub(crate) fn is_settled(&self, range: &FileRange) -> bool {
        let settled = self.inner.as_ref().map_or(Duration::MAX, |inner| inner.settled);
        let age = range.changed_at.and_then(|at| SystemTime::now().duration_since(at).ok());
        age.is_some_and(|age| age >= settled)
    }

    /// The stored content of `range`, which has `size` bytes.
    pub(crate) fn find(&self, range: &FileRange, size: u64) -> Option<Hashed> {
        let inner = self.inner.as_ref()?;
        let index = inner.index.lock();
        let find = || {
            let text = "SELECT content, pieces FROM file
                        WHERE path = ?1 AND offset = ?2 AND state = ?3";
            let key = params![
                range.path.as_os_str().as_encoded_bytes(),
                range.offset.cast_signed(),
                range.state
            ];
            let row = |row: &rusqlite::Row<'_>| Ok((BlobHash(row.get(0)?), row.get(1)?));
            index.prepare_cached(text)?.query_row(key, row).optional()
        };
        let (content, pieces): (BlobHash, Vec<u8>) = find().inspect_err(unusable).ok()??;
        let pieces = decode(&pieces)?;
        let right = pieces.is_empty()
            || (pieces::content(&pieces) == content
                && pieces.iter().map(|piece| u64::from(piece.bytes)).sum::<u64>() == size);
        right.then_some((content, pieces))
    }

    /// Stores what was `hashed`, and marks the entries of `used` as used.
    pub(crate) fn note(&self, hashed: &[(FileRange, Hashed)], used: &[FileRange]) {
        let max_bytes = self.inner.as_ref().map_or(0, |inner| inner.max_bytes);
        self.change(|changes| {
            let now = now_s();
            for (range, (content, pieces)) in hashed {
                let key = range.path.as_os_str().as_encoded_bytes();
                changes
                    .prepare_cached("INSERT OR REPLACE INTO file VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                    .execute(params![
                        key,
                        range.offset.cast_signed(),
                        range.state,
                        content.0,
                        encode(pieces),
                        now
                    ])?;
            }
            for range in used {
                let key = range.path.as_os_str().as_encoded_bytes();
                changes
                    .prepare_cached(
                        "UPDATE file SET used_at_s = ?3 WHERE path = ?1 AND offset = ?2",
                    )?
                    .execute(params![key, range.offset.cast_signed(), now])?;
            }
            if hashed.is_empty() { Ok(()) } else { shrink(changes, max_bytes) }
        });
    }

    /// Removes the entries of these files, because they were wrong.
    pub(crate) fn forget<'a>(&self, files: impl Iterator<Item = &'a Path>) {
        self.change(|changes| {
            for file in files {
                let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
                let mut forget = changes.prepare_cached("DELETE FROM file WHERE path = ?1")?;
                forget.execute([path.as_os_str().as_encoded_bytes()])?;
            }
            Ok(())
        });
    }

    fn change(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<()>) {
        let Some(inner) = &self.inner else { return };
        let mut index = inner.index.lock();
        let changed = index.transaction().and_then(|changes| {
            work(&changes)?;
            changes.commit()
        });
        // The caller does not depend on the index.
        let _ = changed.inspect_err(unusable);
    }
}

fn open_index(path: &Path) -> Result<Connection, OpenError> {
    let index = SCHEMA.open(path)?;
    index.prepare("SELECT path, offset, state, content, pieces, used_at_s FROM file")?;
    Ok(index)
}

fn shrink(changes: &Connection, max_bytes: i64) -> rusqlite::Result<()> {
    let bytes = "SELECT coalesce(sum(length(path) + length(pieces) + ?1), 0) FROM file";
    let mut total: i64 = changes.query_row(bytes, [ROW_BYTES], |row| row.get(0))?;
    let mut oldest = changes.prepare(
        "SELECT rowid, length(path) + length(pieces) + ?1 FROM file ORDER BY used_at_s, rowid",
    )?;
    let mut rows = oldest.query([ROW_BYTES])?;
    while total > max_bytes
        && let Some(row) = rows.next()?
    {
        changes.execute("DELETE FROM file WHERE rowid = ?1", [row.get::<_, i64>(0)?])?;
        total -= row.get::<_, i64>(1)?;
    }
    Ok(())
}

fn encode(pieces: &[Piece]) -> Vec<u8> {
    let bytes = |piece: &Piece| [&piece.blake3.0[..], &piece.bytes.to_le_bytes()].concat();
    pieces.iter().flat_map(bytes).collect()
}

fn decode(bytes: &[u8]) -> Option<Vec<Piece>> {
    let pieces = bytes.chunks(PIECE_BYTES).map(|one| {
        let (hash, length) = one.split_at_checked(32)?;
        let bytes = u32::from_le_bytes(length.try_into().ok()?);
        Some(Piece { blake3: BlobHash(hash.try_into().ok()?), bytes })
    });
    pieces.collect()
}

fn unusable(error: &rusqlite::Error) {
    tracing::debug!(%error, "cannot use the index of file hashes");
}

fn now_s() -> i64 {
    sleap_rtc_base::clock::now_s().cast_signed()
}
