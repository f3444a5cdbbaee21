//! Files that a worker has received earlier, so that they are not sent again.
//!
//! The cache is a folder of files named after their content, and an SQLite index of the pieces in
//! them. Each cached file is a hard link to a file that some job received. A job may change its own
//! files, so a cached piece is hashed again whenever it is used. Only users who have sent a file
//! themselves may use it or learn that it is cached. The least recently used files are removed
//! first; the jobs keep their own links. Beside the files are the folders of abandoned transfers
//! (`salvage`).

use super::salvage::{self, AbandonedTransfer};
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, params};
use sleap_rtc_base::os::{self, FileExt};
use sleap_rtc_base::sqlite::{self, Schema};
use sleap_rtc_package::pieces;
use sleap_rtc_protocol::transfer::{BlobHash, Manifest, Piece};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long an abandoned transfer stays on a full disk, for a client that returns at once.
const ABANDONED: Duration = Duration::from_secs(3600);
/// A piece may be in many files. The most of them that are tried.
const MAX_PLACES: u32 = 4;
/// The journal is an ordinary file, and not one in mapped memory (WAL): writing there kills the process
/// where a quota is used up, and locks do not work on network file systems.
const SCHEMA: Schema = Schema {
    version: 2,
    tables: "
    PRAGMA journal_mode = TRUNCATE;
    PRAGMA synchronous = NORMAL;
    PRAGMA foreign_keys = ON;
    CREATE TABLE IF NOT EXISTS content (
        hash BLOB PRIMARY KEY,
        size INTEGER NOT NULL,
        used_at_s INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS piece (
        hash BLOB NOT NULL,
        content BLOB NOT NULL REFERENCES content (hash) ON DELETE CASCADE,
        offset INTEGER NOT NULL,
        PRIMARY KEY (hash, content, offset)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS piece_of_content ON piece (content);
    CREATE TABLE IF NOT EXISTS sent_by (
        owner BLOB NOT NULL,
        content BLOB NOT NULL REFERENCES content (hash) ON DELETE CASCADE,
        PRIMARY KEY (owner, content)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS sender_of_content ON sent_by (content);
",
};

/// Why the cache cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder, or a file in it, cannot be read or written.
    #[error("cannot use the cache folder {path:?}")]
    Io {
        /// The cache folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The index cannot be read or written.
    #[error("cannot use the index of the cache {path:?}; if it stays that way, remove that folder")]
    Index {
        /// The cache folder.
        path: PathBuf,
        /// SQLite's error.
        source: sqlite::OpenError,
    },
}

/// The cache of one worker, as one owner of content sees it. Cheap to clone; its methods block.
#[derive(Debug, Clone)]
pub struct Cache {
    inner: Arc<Store>,
    owner: BlobHash,
}

#[derive(Debug)]
struct Store {
    files: PathBuf,
    /// Folders of abandoned transfers.
    unfinished: PathBuf,
    limit_bytes: u64,
    index: Mutex<Connection>,
}

impl Cache {
    /// Opens or creates the cache in `folder`, for up to `limit_bytes`. Replaces a damaged index,
    /// which only costs time.
    pub fn open(folder: &Path, limit_bytes: u64) -> Result<Self, CacheError> {
        let files = folder.join("files");
        let unusable = |source| CacheError::Io { path: folder.to_owned(), source };
        sleap_rtc_base::folder::private(folder).map_err(unusable)?;
        fs::create_dir_all(&files).map_err(unusable)?;
        let path = folder.join("index.sqlite");
        let index = match SCHEMA.open(&path) {
            Err(error) if error.is_of_the_file() => {
                tracing::warn!(cache = %folder.display(), %error, "replacing the damaged index of the cache");
                sqlite::remove(&path).map_err(unusable)?;
                SCHEMA.open(&path)
            }
            opened => opened,
        };
        let index =
            index.map_err(|source| CacheError::Index { path: folder.to_owned(), source })?;
        let unfinished = folder.join("unfinished");
        // Created now, because a full disk has no room for a folder.
        fs::create_dir_all(&unfinished).map_err(unusable)?;
        let inner = Store { files, unfinished, limit_bytes, index: Mutex::new(index) };
        let cache = Self { inner: Arc::new(inner), owner: BlobHash([0; 32]) };
        cache.update(|cache, index| cache.remove_strays(index));
        cache.update(|cache, index| cache.shrink_to(index, limit_bytes));
        Ok(cache)
    }

    /// The same cache for the owner with this secret name. Owners see only the content that they
    /// sent themselves.
    pub fn of(&self, owner: &str) -> Self {
        Self { inner: self.inner.clone(), owner: pieces::hash(owner.as_bytes()) }
    }

    /// The bytes of `piece`, if they are cached and match its hash.
    pub(crate) fn read(&self, piece: Piece) -> Option<Vec<u8>> {
        let places = self.places(piece.blake3).inspect_err(unreadable).ok()?;
        let mut bytes = vec![0; piece.bytes as usize];
        for (content, offset) in places {
            let read = File::open(self.file(content))
                .and_then(|file| file.read_exact_at(&mut bytes, offset));
            if read.is_ok() && pieces::is_piece(piece, &bytes) {
                return Some(bytes);
            }
            tracing::debug!(%content, "a cached file has changed");
            self.update(|cache, index| cache.forget(index, content));
        }
        None
    }

    /// Adds the files of `manifest`, which are complete and verified below `root`.
    pub(crate) fn add(&self, root: &Path, manifest: &Manifest) {
        if manifest.total_bytes() > self.inner.limit_bytes {
            return;
        }
        self.update(|cache, index| cache.take_in(index, root, manifest));
        self.update(|cache, index| cache.shrink_to(index, cache.inner.limit_bytes));
    }

    /// Moves the destination `folder` of an abandoned transfer into the cache, so that sending the
    /// same files again resumes there. Ignores a folder that contains nothing verified.
    pub fn salvage(&self, folder: &Path) {
        if self.inner.limit_bytes == 0 {
            return;
        }
        if let Err(error) = salvage::keep(&self.inner.unfinished, &self.owner, folder) {
            tracing::warn!(folder = %folder.display(), %error, "cannot keep an abandoned transfer");
        }
        self.update(|cache, index| cache.shrink_to(index, cache.inner.limit_bytes));
    }

    /// The abandoned transfers in the cache.
    pub(crate) fn abandoned(&self) -> Vec<AbandonedTransfer> {
        salvage::open(&self.inner.unfinished, &self.owner)
    }

    /// Removes cached files of at least `bytes` in all, to make room for a transfer. Their room is there when
    /// this returns.
    pub(crate) fn make_room(&self, bytes: u64) {
        self.update(|cache, index| {
            let unfinished = salvage::shrink(&cache.inner.unfinished, u64::MAX);
            let left = (unfinished + total_bytes(index)?).saturating_sub(bytes);
            let unfinished = salvage::shrink(&cache.inner.unfinished, left);
            cache.evict(index, left.saturating_sub(unfinished))
        });
    }

    /// Removes cached files, and transfers that were abandoned an hour ago or earlier, of at least
    /// `bytes` in all, because the disk is full.
    pub fn spare(&self, bytes: u64) {
        self.update(|cache, index| {
            let before = total_bytes(index)?;
            cache.evict(index, before.saturating_sub(bytes))?;
            let freed = before - total_bytes(index)?;
            if freed < bytes {
                salvage::spare(&cache.inner.unfinished, bytes - freed, ABANDONED);
            }
            Ok(())
        });
    }

    fn file(&self, content: BlobHash) -> PathBuf {
        self.inner.files.join(content.to_string())
    }

    fn index(&self) -> MutexGuard<'_, Connection> {
        // Every change is a transaction, so a panic leaves none half done.
        self.inner.index.lock()
    }

    /// Changes the index. Only logs errors, because the current transfer does not depend on it.
    fn update(&self, work: impl FnOnce(&Self, &mut Connection) -> rusqlite::Result<()>) {
        if let Err(error) = work(self, &mut self.index()) {
            unreadable(&error);
        }
    }

    fn places(&self, piece: BlobHash) -> rusqlite::Result<Vec<(BlobHash, u64)>> {
        let index = self.index();
        let mut find = index.prepare_cached(
            "SELECT piece.content, offset FROM piece JOIN sent_by ON sent_by.content = piece.content
             WHERE piece.hash = ?1 AND owner = ?2 LIMIT ?3",
        )?;
        let wanted = params![piece.0, self.owner.0, MAX_PLACES];
        let places = find.query_map(wanted, hash_and_number)?;
        places.collect()
    }

    fn take_in(
        &self,
        index: &mut Connection,
        root: &Path,
        manifest: &Manifest,
    ) -> rusqlite::Result<()> {
        let changes = index.transaction()?;
        // Only the order matters, so this entry gets a later time than those of the same second.
        let next = "SELECT COALESCE(MAX(used_at_s), 0) + 1 FROM content";
        let now = now_s().max(changes.query_row(next, [], |row| row.get(0))?);
        for file in manifest.files().iter().filter(|file| file.size > 0) {
            let known = changes
                .prepare_cached("UPDATE content SET used_at_s = ?2 WHERE hash = ?1")?
                .execute(params![file.blake3.0, now])?;
            if known > 0 {
                self.note_sender(&changes, file.blake3)?;
                continue;
            }
            let (from, to) = (file.path.below(root), self.file(file.blake3));
            let linked = match fs::hard_link(&from, &to) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    fs::remove_file(&to).and_then(|()| fs::hard_link(&from, &to))
                }
                other => other,
            };
            if let Err(error) = linked {
                tracing::debug!(file = %from.display(), %error, "cannot add a file to the cache");
                continue;
            }
            changes.prepare_cached("INSERT INTO content VALUES (?1, ?2, ?3)")?.execute(params![
                file.blake3.0,
                file.size.cast_signed(),
                now
            ])?;
            self.note_sender(&changes, file.blake3)?;
            let mut offset = 0_i64;
            for piece in manifest.pieces(file) {
                changes
                    .prepare_cached("INSERT INTO piece VALUES (?1, ?2, ?3)")?
                    .execute(params![piece.blake3.0, file.blake3.0, offset])?;
                offset += i64::from(piece.bytes);
            }
        }
        changes.commit()
    }

    /// The owner has sent this content.
    fn note_sender(&self, changes: &Connection, content: BlobHash) -> rusqlite::Result<()> {
        let sql = "INSERT OR IGNORE INTO sent_by VALUES (?1, ?2)";
        changes.prepare_cached(sql)?.execute(params![self.owner.0, content.0])?;
        Ok(())
    }

    fn shrink_to(&self, index: &mut Connection, limit_bytes: u64) -> rusqlite::Result<()> {
        let unfinished = salvage::shrink(&self.inner.unfinished, limit_bytes);
        self.shrink_contents_to(index, limit_bytes.saturating_sub(unfinished))
    }

    /// Removes the least recently used files.
    fn shrink_contents_to(&self, index: &mut Connection, limit_bytes: u64) -> rusqlite::Result<()> {
        for content in oldest_beyond(index, limit_bytes)? {
            self.forget(index, content)?;
        }
        Ok(())
    }

    /// The same on a full disk. All files go first, because changing the index needs their room, which
    /// some file systems give only once they have written what they hold back.
    fn evict(&self, index: &mut Connection, limit_bytes: u64) -> rusqlite::Result<()> {
        let contents = oldest_beyond(index, limit_bytes)?;
        contents.iter().for_each(|content| self.remove_file(*content));
        if let Err(error) = os::sync_disk(&self.inner.files) {
            tracing::warn!(%error, "cannot have the disk written");
        }
        contents.into_iter().try_for_each(|content| self.forget(index, content))
    }

    fn remove_file(&self, content: BlobHash) {
        match fs::remove_file(self.file(content)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%content, %error, "cannot remove a file from the cache");
            }
            _ => {}
        }
    }

    fn forget(&self, index: &mut Connection, content: BlobHash) -> rusqlite::Result<()> {
        self.remove_file(content);
        index.execute("DELETE FROM content WHERE hash = ?1", [content.0])?;
        Ok(())
    }

    /// Removes files that the index does not list, which an interrupted `add` leaves behind.
    fn remove_strays(&self, index: &mut Connection) -> rusqlite::Result<()> {
        let mut all = index.prepare("SELECT hash FROM content")?;
        let known = all.query_map([], |row| Ok(BlobHash(row.get(0)?).to_string()))?;
        let known: HashSet<String> = known.collect::<rusqlite::Result<_>>()?;
        for entry in fs::read_dir(&self.inner.files).into_iter().flatten().flatten() {
            if !known.contains(&*entry.file_name().to_string_lossy()) {
                tracing::debug!(file = %entry.path().display(), "removing a stray file from the cache");
                // On failure, the next start tries again.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

/// A row with a hash, and a size or an offset.
fn hash_and_number(row: &rusqlite::Row<'_>) -> rusqlite::Result<(BlobHash, u64)> {
    Ok((BlobHash(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned()))
}

/// The least recently used contents, without which the others are at most `limit_bytes`.
fn oldest_beyond(index: &Connection, limit_bytes: u64) -> rusqlite::Result<Vec<BlobHash>> {
    let mut surplus_bytes = total_bytes(index)?.saturating_sub(limit_bytes);
    let mut oldest = Vec::new();
    let mut find =
        index.prepare_cached("SELECT hash, size FROM content ORDER BY used_at_s, hash")?;
    for row in find.query_map([], hash_and_number)? {
        if surplus_bytes == 0 {
            break;
        }
        let (content, bytes) = row?;
        surplus_bytes = surplus_bytes.saturating_sub(bytes);
        oldest.push(content);
    }
    Ok(oldest)
}

fn total_bytes(index: &Connection) -> rusqlite::Result<u64> {
    let total = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(0)?.cast_unsigned());
    index.query_row("SELECT coalesce(sum(size), 0) FROM content", [], total)
}

fn unreadable(error: &rusqlite::Error) {
    tracing::warn!(%error, "cannot use the index of the cache; files may be sent again");
}

fn now_s() -> i64 {
    sleap_rtc_base::clock::now_s().cast_signed()
}
