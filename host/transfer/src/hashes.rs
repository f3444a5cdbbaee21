//! What was hashed before, so that ten gigabytes are not read again whenever they are sent.
//!
//! An SQLite file with the content and the pieces of each file, by its path and, in a zip, by where in
//! it. They count as long as the file's inode, size and times are what they were. A file that was
//! written just before it was hashed may have been written again without a sign of it in its times:
//! that one is not noted. Whatever is wrong with the index costs time and nothing else.

use super::pieces;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use sleap_rtc_base::sqlite::{self, OpenError, Schema};
use sleap_rtc_protocol::transfer::{BlobHash, Piece};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What all notes may take together, in bytes: some 1.5 TB in pieces.
const MOST_BYTES: i64 = 64 << 20;
/// What a note takes beside its path and its pieces, about, in bytes.
const ROW_BYTES: i64 = 150;
/// A piece as it is noted: hash and length.
const PIECE_BYTES: usize = 36;
const SCHEMA: Schema = Schema {
    version: 1,
    tables: "
    PRAGMA journal_mode = WAL;
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

/// The notes of one program. Cheap to clone; its methods block.
#[derive(Debug, Clone, Default)]
pub struct Hashes {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    index: Mutex<Connection>,
    settled: Duration,
    most_bytes: i64,
}

/// Some bytes on disk, and what tells whether they have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    path: PathBuf,
    offset: u64,
    state: String,
    /// The later one of the file's times.
    changed_at: SystemTime,
}

/// A content, and its pieces where it has several.
pub(super) type Hashed = (BlobHash, Vec<Piece>);

impl Place {
    /// At `offset` in the file at `path`, about which the system says this.
    pub(super) fn new(path: &Path, offset: u64, there: &Metadata) -> Self {
        let at = |s: i64, ns: i64| {
            let since = Duration::new(s.try_into().unwrap_or(0), ns.try_into().unwrap_or(0));
            UNIX_EPOCH + since
        };
        let modified = at(there.mtime(), there.mtime_nsec());
        let changed = at(there.ctime(), there.ctime_nsec());
        let (inode, size) = (there.ino(), there.size());
        let (m, c) = ((there.mtime(), there.mtime_nsec()), (there.ctime(), there.ctime_nsec()));
        Self {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            offset,
            state: format!("{inode} {size} {}.{:09} {}.{:09}", m.0, m.1, c.0, c.1),
            changed_at: modified.max(changed),
        }
    }
}

impl Hashes {
    /// Notes nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Uses the index at `path`, or begins one. Files that changed less than `settled` before they
    /// were hashed are not noted.
    pub fn open(path: &Path, settled: Duration) -> Self {
        Self::open_up_to(path, settled, MOST_BYTES)
    }

    /// As [`Self::open`], for notes of at most so many bytes.
    pub(super) fn open_up_to(path: &Path, settled: Duration, most_bytes: i64) -> Self {
        let begin = || {
            open_index(path).or_else(|error| {
                if error.is_of_the_file() {
                    // Nothing is lost but time.
                    let _ = sqlite::remove(path);
                }
                open_index(path)
            })
        };
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let index = made.map_err(|error| error.to_string());
        match index.and_then(|()| begin().map_err(|error| error.to_string())) {
            Ok(index) => {
                let inner = Inner { index: Mutex::new(index), settled, most_bytes };
                Self { inner: Some(Arc::new(inner)) }
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "hashes are not noted");
                Self::none()
            }
        }
    }

    /// Whether what is at `place` may be noted by who begins to read it now.
    pub(super) fn is_settled(&self, place: &Place) -> bool {
        let settled = self.inner.as_ref().map_or(Duration::MAX, |inner| inner.settled);
        SystemTime::now().duration_since(place.changed_at).is_ok_and(|age| age >= settled)
    }

    /// What is noted of `place`, which has `size` bytes.
    pub(super) fn find(&self, place: &Place, size: u64) -> Option<Hashed> {
        let inner = self.inner.as_ref()?;
        let index = inner.index.lock();
        let find = || {
            let text = "SELECT content, pieces FROM file
                        WHERE path = ?1 AND offset = ?2 AND state = ?3";
            let key =
                params![place.path.as_os_str().as_bytes(), place.offset.cast_signed(), place.state];
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

    /// Notes what was `hashed`, and that the notes of `used` were of use.
    pub(super) fn note(&self, hashed: &[(Place, Hashed)], used: &[Place]) {
        let most_bytes = self.inner.as_ref().map_or(0, |inner| inner.most_bytes);
        self.change(|changes| {
            let now = now_s();
            for (place, (content, pieces)) in hashed {
                let key = place.path.as_os_str().as_bytes();
                changes
                    .prepare_cached("INSERT OR REPLACE INTO file VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                    .execute(params![
                        key,
                        place.offset.cast_signed(),
                        place.state,
                        content.0,
                        encode(pieces),
                        now
                    ])?;
            }
            for place in used {
                let key = place.path.as_os_str().as_bytes();
                changes
                    .prepare_cached(
                        "UPDATE file SET used_at_s = ?3 WHERE path = ?1 AND offset = ?2",
                    )?
                    .execute(params![key, place.offset.cast_signed(), now])?;
            }
            if hashed.is_empty() { Ok(()) } else { shrink(changes, most_bytes) }
        });
    }

    /// Forgets what is noted of these files: something is wrong with it.
    pub(super) fn forget<'a>(&self, files: impl Iterator<Item = &'a Path>) {
        self.change(|changes| {
            for file in files {
                let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
                let mut forget = changes.prepare_cached("DELETE FROM file WHERE path = ?1")?;
                forget.execute([path.as_os_str().as_bytes()])?;
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
        // Not the work at hand fails with it.
        let _ = changed.inspect_err(unusable);
    }
}

fn open_index(path: &Path) -> Result<Connection, OpenError> {
    let index = SCHEMA.open(path)?;
    index.prepare("SELECT path, offset, state, content, pieces, used_at_s FROM file")?;
    Ok(index)
}

fn shrink(changes: &Connection, most_bytes: i64) -> rusqlite::Result<()> {
    let bytes = "SELECT coalesce(sum(length(path) + length(pieces) + ?1), 0) FROM file";
    let mut total: i64 = changes.query_row(bytes, [ROW_BYTES], |row| row.get(0))?;
    let mut oldest = changes.prepare(
        "SELECT rowid, length(path) + length(pieces) + ?1 FROM file ORDER BY used_at_s, rowid",
    )?;
    let mut rows = oldest.query([ROW_BYTES])?;
    while total > most_bytes
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
    tracing::debug!(%error, "what was hashed before cannot be looked up");
}

fn now_s() -> i64 {
    sleap_rtc_base::clock::now_s().cast_signed()
}
