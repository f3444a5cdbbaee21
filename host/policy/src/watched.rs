//! A configured plugin, whose file may change while the program runs.

use super::component::Plugin;
use super::limits::Limits;
use super::source::Shelf;
use super::{ExtensionPoint, PolicyError, source};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The plugin in a file, looked at anew before each question.
pub(super) struct Watched {
    point: ExtensionPoint,
    path: PathBuf,
    limits: Limits,
    shelf: Shelf,
    in_force: Mutex<InForce>,
}

struct InForce {
    plugin: Plugin,
    /// Of the file and of the lock when they were last read, be they usable or not.
    stamp: [Stamp; 2],
    /// Of the bytes that the plugin was made from.
    hash: blake3::Hash,
}

/// What tells cheaply that a file has changed: time and length. None: it cannot be looked at.
type Stamp = Option<(SystemTime, u64)>;

impl Watched {
    /// Loads the plugin that the configuration calls `plugin`.
    pub(super) fn load(
        point: ExtensionPoint,
        plugin: &str,
        shelf: &Shelf,
        limits: Limits,
    ) -> Result<Self, PolicyError> {
        let path = source::locate(plugin, &shelf.dir);
        // Before the bytes: a change while they are read is seen the next time.
        let stamp = stamps(&path, shelf);
        let bytes = source::read_configured(point, plugin, &path)?;
        let hash = blake3::hash(&bytes);
        let shelf = shelf.clone();
        check(&shelf, point, &path, hash)?;
        let plugin = source::compile(point, &path, &bytes, limits, shelf.cache.as_deref())?;
        let in_force = Mutex::new(InForce { plugin, stamp, hash });
        Ok(Self { point, path, limits, shelf, in_force })
    }

    /// The plugin as its file is now. While the file is gone or cannot be used, the last one that
    /// could stays in force: a plugin that is being copied must not open or close a worker. The
    /// same holds for one that the lock refuses, until the lock or the file changes. Blocks;
    /// compiles when the file has changed.
    pub(super) fn current(&self) -> Plugin {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamps(&self.path, &self.shelf);
        if stamp != in_force.stamp {
            in_force.stamp = stamp;
            if let Err(why) = self.read_again(&mut in_force) {
                let (point, path) = (self.point.key(), self.path.display());
                tracing::warn!(
                    point,
                    "{path} has changed and cannot be used, so the plugin before it stays in \
                     force: {why}"
                );
            }
        }
        in_force.plugin.clone()
    }

    fn read_again(&self, in_force: &mut InForce) -> Result<(), PolicyError> {
        let name = self.path.to_string_lossy();
        let bytes = source::read_configured(self.point, &name, &self.path)?;
        let hash = blake3::hash(&bytes);
        if hash != in_force.hash {
            check(&self.shelf, self.point, &self.path, hash)?;
            let cache = self.shelf.cache.as_deref();
            in_force.plugin = source::compile(self.point, &self.path, &bytes, self.limits, cache)?;
            in_force.hash = hash;
        }
        Ok(())
    }
}

/// Refuses what the lock does not accept, before a byte of it is compiled.
fn check(
    shelf: &Shelf,
    point: ExtensionPoint,
    path: &Path,
    hash: blake3::Hash,
) -> Result<(), PolicyError> {
    let Some(lock) = &shelf.lock else { return Ok(()) };
    let locked = |source| PolicyError::Locked { key: point.key(), source };
    lock.check(path, hash.to_hex().as_str()).map_err(locked)
}

fn stamps(path: &Path, shelf: &Shelf) -> [Stamp; 2] {
    [stamp(path), shelf.lock.as_ref().and_then(|lock| stamp(lock.path()))]
}

fn stamp(path: &Path) -> Stamp {
    let metadata = path.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
