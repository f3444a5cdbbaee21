//! The secret from which this user's name in each worker's file cache is derived. A worker reveals
//! a cached file only under the name of a user who has sent it.

use sleap_rtc_base::file::{Readers, create, replace};
use sleap_rtc_protocol::ids::{CacheOwner, PeerId};
use std::fs;
use std::io;
use std::path::Path;

const FILE: &str = "cache.key";
const KEY_BYTES: usize = 32;

/// The name under which `worker` caches the files of this user. `None` if the secret can be neither
/// read nor created; the worker then caches nothing.
pub(crate) fn owner_at(state_dir: &Path, worker: &PeerId) -> Option<CacheOwner> {
    let key = key(state_dir);
    let key =
        key.inspect_err(|error| tracing::debug!(%error, "no key for workers' caches")).ok()?;
    Some(CacheOwner::of(&key, worker))
}

fn key(state_dir: &Path) -> io::Result<Vec<u8>> {
    let path = state_dir.join(FILE);
    let fresh: [u8; KEY_BYTES] = rand::random();
    match fs::read(&path) {
        Ok(key) if key.len() == KEY_BYTES => return Ok(key),
        Ok(_damaged) => replace(&path, &fresh, Readers::Owner)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            sleap_rtc_base::folder::private(state_dir)?;
            // Another client may create one at the same moment. The first key counts.
            create(&path, &fresh)?;
        }
        Err(error) => return Err(error),
    }
    fs::read(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_stays_and_is_another_one_at_each_worker_and_for_each_user() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |home: &Path, worker: &str| owner_at(home, &PeerId::new(worker).unwrap()).unwrap();
        let name = at(one.path(), "w1");
        assert!(at(one.path(), "w1").matches(&name));
        assert!(!at(one.path(), "w2").matches(&name));
        assert!(!at(other.path(), "w1").matches(&name));
        fs::write(one.path().join(FILE), "short").unwrap();
        assert!(!at(one.path(), "w1").matches(&name), "a damaged key is made anew");
    }
}
