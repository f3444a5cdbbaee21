//! SQLite files with a version.

use rusqlite::{Connection, ErrorCode};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

/// How long a call waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// The tables of a database, and their version.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Increases whenever the tables change. A file without a version counts as version 0.
    pub version: u32,
    /// Statements that create missing tables, each with `IF NOT EXISTS`.
    pub tables: &'static str,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite cannot open the file, or make its tables.
    #[error("SQLite cannot use the file")]
    Sqlite(#[from] rusqlite::Error),
    /// A newer program wrote it.
    #[error(
        "a newer sleap-rtc made the file: its version is {found}, and this program knows {known}"
    )]
    Newer {
        /// The file's version.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
}

impl Schema {
    /// Opens the file at `path`, or begins one.
    ///
    /// ```
    /// use sleap_rtc_base::sqlite::Schema;
    ///
    /// const SCHEMA: Schema =
    ///     Schema { version: 1, tables: "CREATE TABLE IF NOT EXISTS room (id TEXT) STRICT;" };
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("rooms.sqlite");
    /// SCHEMA.open(&path)?.execute("INSERT INTO room VALUES ('a')", [])?;
    /// let older = Schema { version: 0, ..SCHEMA };
    /// assert!(older.open(&path).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(&self, path: &Path) -> Result<Connection, OpenError> {
        self.prepare(Connection::open(path)?)
    }

    /// Opens a database in memory, which ends with its connection.
    pub fn in_memory(&self) -> Result<Connection, OpenError> {
        self.prepare(Connection::open_in_memory()?)
    }

    fn prepare(&self, connection: Connection) -> Result<Connection, OpenError> {
        connection.busy_timeout(BUSY)?;
        let found: u32 = connection.pragma_query_value(None, VERSION, |row| row.get(0))?;
        if found > self.version {
            return Err(OpenError::Newer { found, known: self.version });
        }
        connection.execute_batch(self.tables)?;
        if found < self.version {
            connection.pragma_update(None, VERSION, self.version)?;
        }
        Ok(connection)
    }
}

impl OpenError {
    /// Whether the file itself is unusable. All other errors may pass: another process is busy, the
    /// disk is full, a permission is missing.
    pub fn is_of_the_file(&self) -> bool {
        let code = match self {
            Self::Newer { .. } => return true,
            Self::Sqlite(error) => error.sqlite_error_code(),
        };
        matches!(code, Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
    }
}

/// Removes the database at `path` with the files that SQLite keeps next to it.
pub fn remove(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(Path::new(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

const VERSION: &str = "user_version";

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: Schema =
        Schema { version: 2, tables: "CREATE TABLE IF NOT EXISTS one (n INTEGER) STRICT;" };

    #[test]
    fn only_unusable_files_count_as_unusable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.sqlite");
        drop(SCHEMA.open(&path).unwrap());
        let error = Schema { version: 1, ..SCHEMA }.open(&path).unwrap_err();
        assert!(error.is_of_the_file(), "{error:?}");
        fs::write(&path, [7; 10_000]).unwrap();
        let error = SCHEMA.open(&path).unwrap_err();
        assert!(error.is_of_the_file(), "{error:?}");
        remove(&path).unwrap();
        remove(&path).unwrap();
        let error = SCHEMA.open(&path.join("in a folder that is not there")).unwrap_err();
        assert!(!error.is_of_the_file(), "{error:?}");
    }
}
