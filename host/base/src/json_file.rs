//! Small JSON files for their owner alone: what a program remembers from one start to the next.

use crate::file::{Readers, folder_of, replace};
use crate::folder::private;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest file that is read, in bytes. Nothing that the program remembers comes close.
const MAX_BYTES: u64 = 16 << 20;

/// Reads a value from the file at `path`. Returns `None` if the file does not exist.
///
/// # Errors
/// Fails with [`io::ErrorKind::InvalidData`] if the file is damaged or too long, and otherwise if the
/// system does.
pub fn load<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut json = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut json)?;
    let value = serde_json::from_slice(&json);
    value.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Replaces the file at `path` by `value`, for its owner alone. Creates its folder, or closes it to
/// other users.
///
/// # Errors
/// Fails if the system does, or if the folder cannot be closed to other users.
///
/// ```
/// use sleap_rtc_base::json_file::{load, save};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("state/rooms.json");
/// assert_eq!(load::<Vec<String>>(&path)?, None);
/// save(&path, &["lab"])?;
/// assert_eq!(load::<Vec<String>>(&path)?, Some(vec!["lab".to_owned()]));
/// # std::io::Result::Ok(())
/// ```
pub fn save<T: Serialize + ?Sized>(path: &Path, value: &T) -> io::Result<()> {
    private(folder_of(path))?;
    replace(path, &serde_json::to_vec_pretty(value)?, Readers::Owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_saved_file_is_private_and_a_damaged_one_is_an_error() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("state/file.json");
        save(&path, &[1, 2]).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(folder_of(&path))), (0o600, 0o700));
        assert_eq!(load(&path).unwrap(), Some([1, 2]));
        std::fs::write(&path, "[1, 2").unwrap();
        let error = load::<[u8; 2]>(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(load::<[u8; 2]>(above.path()).is_err(), "a folder is not a file");
    }
}
