//! Compiled plugins on disk, so that each is compiled only once.
//!
//! Loading a compiled artefact means running its machine code, so only files that this host wrote may
//! be loaded. Two rules ensure that: the folder must belong to the user and be closed to others, and
//! each entry begins with a keyed hash whose key is only in that folder. An entry that was written by
//! another program, copied from another machine, renamed or damaged lacks the right hash, and the
//! plugin is compiled again.

use rand::Rng as _;
use sleap_rtc_base::file::{Readers, create, replace};
use sleap_rtc_base::os;
use sleap_rtc_protocol::text::Printable;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wasmtime::Engine;
use wasmtime::component::Component;

/// The size limit of all entries together. A plugin written in Python takes about 60 MB.
const TOTAL_BYTES: u64 = 512 * 1024 * 1024;
/// The name of the key's file.
const KEY: &str = "key";
const HASH_BYTES: usize = blake3::OUT_LEN;

/// Why a cache folder is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("cannot use {}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{} must be a folder that belongs to you and is closed to others: remove it, or run \
         `chmod 700` on it",
        .0.display()
    )]
    Open(PathBuf),
}

/// A folder of compiled components that this host wrote.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    key: [u8; HASH_BYTES],
    limit_bytes: u64,
}

impl Cache {
    /// Opens the cache in `dir`, and creates it if necessary.
    pub(crate) fn open(dir: &Path) -> Result<Self, CacheError> {
        let failed = |source| CacheError::Io { path: dir.to_owned(), source };
        os::create_private_folders(dir).map_err(failed)?;
        if !os::is_private_folder(dir).map_err(failed)? {
            return Err(CacheError::Open(dir.to_owned()));
        }
        let key = key(dir).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), key, limit_bytes: TOTAL_BYTES })
    }

    /// The compiled component for `bytes`, if this host wrote it here.
    pub(crate) fn find(&self, engine: &Engine, bytes: &[u8]) -> Option<Component> {
        let name = entry(engine, bytes);
        let path = self.dir.join(&name);
        let mut file = File::open(&path).ok()?;
        let mut kept = Vec::new();
        (&mut file).take(self.limit_bytes).read_to_end(&mut kept).ok()?;
        let found = kept.split_at_checked(HASH_BYTES).and_then(|(hash, artefact)| {
            let hash: [u8; HASH_BYTES] = hash.try_into().ok()?;
            // `blake3::Hash` compares in constant time.
            (self.hash(&name, artefact) == hash).then_some(artefact)
        });
        let Some(artefact) = found else {
            tracing::warn!(
                "{} was not written by this host; compiling the plugin again",
                path.display()
            );
            return None;
        };
        // SAFETY: the hash shows that a host with this folder's key wrote exactly these bytes, which
        // came from `Component::serialize`. They are in memory, so nobody can change them any more.
        #[expect(unsafe_code, reason = "there is no other way to load compiled code")]
        let component = unsafe { Component::deserialize(engine, artefact) };
        // Marks the entry as used, since the oldest are dropped first. Failing to do so does no harm.
        let _ = file.set_modified(SystemTime::now());
        component
            .inspect_err(|error| {
                let why = Printable::line(&format!("{error:#}"), 300);
                tracing::warn!(
                    "{} cannot be loaded; compiling the plugin again: {why}",
                    path.display()
                );
            })
            .ok()
    }

    /// Stores the compiled component for `bytes`. A failure only costs time later.
    pub(crate) fn keep(&self, engine: &Engine, bytes: &[u8], component: &Component) {
        let name = entry(engine, bytes);
        let kept = component
            .serialize()
            .map_err(|error| io::Error::other(format!("{error:#}")))
            .and_then(|artefact| self.write(&name, &artefact))
            .and_then(|()| self.drop_oldest(&name));
        if let Err(error) = kept {
            tracing::warn!("cannot cache a compiled plugin in {}: {error}", self.dir.display());
        }
    }

    fn write(&self, name: &str, artefact: &[u8]) -> io::Result<()> {
        let bytes = [self.hash(name, artefact).as_bytes(), artefact].concat();
        replace(&self.dir.join(name), &bytes, Readers::Owner)
    }

    /// Removes the least recently used entries until the rest fits, but never `new`.
    fn drop_oldest(&self, new: &str) -> io::Result<()> {
        let mut files = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            let file = file?;
            // Another process may have removed it just now.
            let Ok(metadata) = file.metadata() else { continue };
            if file.file_name() != KEY {
                files.push((metadata.modified()?, metadata.len(), file.file_name()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, name) in files {
            if total <= self.limit_bytes {
                break;
            }
            if name != new && fs::remove_file(self.dir.join(name)).is_ok() {
                total -= bytes;
            }
        }
        Ok(())
    }

    /// The proof that this host wrote `artefact` for the entry `name`.
    fn hash(&self, name: &str, artefact: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(name.as_bytes()).update(&[0]).update(artefact).finalize()
    }
}

/// The entry's name: which component, for which version and settings of the engine. The engine
/// checks its part again when it loads the entry.
fn entry(engine: &Engine, bytes: &[u8]) -> String {
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    format!("{}-{:016x}.cwasm", blake3::hash(bytes).to_hex(), settings.finish())
}

/// The folder's key, created if necessary. A damaged key is replaced, which invalidates all entries.
fn key(dir: &Path) -> io::Result<[u8; HASH_BYTES]> {
    let path = dir.join(KEY);
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    let mut new = [0; HASH_BYTES];
    rand::rng().fill_bytes(&mut new);
    // Several policies of one program, or several programs, may start at once: the first key is everybody's.
    if create(&path, &new)? {
        return Ok(new);
    }
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    replace(&path, &new, Readers::Owner)?;
    Ok(new)
}

/// The key in `path`, if it is there and whole.
fn read_key(path: &Path) -> io::Result<Option<[u8; HASH_BYTES]>> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes.try_into().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn kept() -> (tempfile::TempDir, Engine, Cache, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let (engine, cache) = (Engine::default(), Cache::open(&home.path().join("a/b")).unwrap());
        let component = Component::from_binary(&engine, COMPONENT).unwrap();
        assert!(cache.find(&engine, COMPONENT).is_none());
        cache.keep(&engine, COMPONENT, &component);
        let path = cache.dir.join(entry(&engine, COMPONENT));
        (home, engine, cache, path)
    }

    #[test]
    fn an_entry_is_found_by_every_host_of_the_folder() {
        let (_home, engine, cache, _) = kept();
        assert!(cache.find(&engine, COMPONENT).is_some());
        assert!(Cache::open(&cache.dir).unwrap().find(&engine, COMPONENT).is_some());
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let other = Engine::new(&config).unwrap();
        assert!(cache.find(&other, COMPONENT).is_none(), "another engine's");
    }

    #[test]
    fn hosts_that_start_at_once_share_one_key() {
        for _ in 0..50 {
            let home = tempfile::tempdir().unwrap();
            let dir = home.path().join("plugins");
            let start = std::sync::Barrier::new(4);
            let open = || {
                start.wait();
                Cache::open(&dir).unwrap().key
            };
            let keys = std::thread::scope(|scope| {
                [(); 4].map(|()| scope.spawn(open)).map(|host| host.join().unwrap())
            });
            assert_eq!(keys, [keys[0]; 4]);
        }
    }

    #[test]
    fn a_damaged_key_is_replaced() {
        let (_home, engine, cache, _) = kept();
        fs::write(cache.dir.join(KEY), b"short").unwrap();
        let again = Cache::open(&cache.dir).unwrap();
        assert!(again.find(&engine, COMPONENT).is_none());
        assert_eq!(Cache::open(&cache.dir).unwrap().key, again.key);
    }

    #[test]
    fn a_foreign_entry_is_never_loaded() {
        let (_home, engine, cache, path) = kept();
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let other = Cache { dir: cache.dir.clone(), key: [7; HASH_BYTES], limit_bytes: 1 << 30 };
        let name = path.file_name().unwrap().to_str().unwrap();
        let foreign = [other.hash(name, &whole[32..]).as_bytes(), &whole[32..]].concat();
        let moved = [cache.hash("other.cwasm", &whole[32..]).as_bytes(), &whole[32..]].concat();
        let garbage = [cache.hash(name, b"garbage").as_bytes(), &b"garbage"[..]].concat();
        for bytes in
            [&b""[..], b"short", &whole[..whole.len() / 2], &flipped, &foreign, &moved, &garbage]
        {
            fs::write(&path, bytes).unwrap();
            assert!(cache.find(&engine, COMPONENT).is_none(), "{} bytes", bytes.len());
        }
        fs::write(&path, &whole).unwrap();
        assert!(cache.find(&engine, COMPONENT).is_some());
    }

    #[test]
    fn a_folder_that_others_can_enter_is_not_used() {
        let (_home, _, cache, _) = kept();
        fs::set_permissions(&cache.dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Cache::open(&cache.dir), Err(CacheError::Open(_))));
        let link = cache.dir.with_file_name("link");
        fs::set_permissions(&cache.dir, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&cache.dir, &link).unwrap();
        assert!(matches!(Cache::open(&link), Err(CacheError::Open(_))));
    }

    #[test]
    fn the_oldest_entries_are_removed_first() {
        let (_home, engine, mut cache, path) = kept();
        let size = path.metadata().unwrap().len();
        for (name, age_s) in [("old.cwasm", 200), ("older.cwasm", 300)] {
            let file = File::create(cache.dir.join(name)).unwrap();
            file.set_len(size).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age_s)).unwrap();
        }
        cache.limit_bytes = 2 * size;
        let component = Component::from_binary(&engine, COMPONENT).unwrap();
        cache.keep(&engine, COMPONENT, &component);
        let there = ["old.cwasm", "older.cwasm", KEY].map(|name| cache.dir.join(name).exists());
        assert_eq!((there, path.exists()), ([true, false, true], true));
    }
}
