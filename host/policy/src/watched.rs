//! A configured plugin, whose file can change while the program runs.

use super::component::Plugin;
use super::limits::Limits;
use super::source::PluginSource;
use super::{ExtensionPoint, PolicyError, source};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The plugin in a file. Each call first checks whether the file has changed.
pub(super) struct Watched {
    point: ExtensionPoint,
    path: PathBuf,
    limits: Limits,
    source: PluginSource,
    active: Mutex<Active>,
}

struct Active {
    plugin: Plugin,
    /// The stamps of the file and the lock when they were last read, whether usable or not.
    stamp: [Stamp; 2],
    /// The hash of the plugin's bytes.
    hash: blake3::Hash,
}

/// A cheap sign that a file has changed: time and length. `None` if the file cannot be accessed.
type Stamp = Option<(SystemTime, u64)>;

impl Watched {
    /// Loads the plugin that the configuration calls `plugin`.
    pub(super) fn load(
        point: ExtensionPoint,
        plugin: &str,
        source: &PluginSource,
        limits: Limits,
    ) -> Result<Self, PolicyError> {
        let path = source::locate(plugin, &source.dir);
        // Taken before reading, so that a change during the read is noticed at the next call.
        let stamp = stamps(&path, source);
        let bytes = source::read_configured(point, plugin, &path)?;
        let hash = blake3::hash(&bytes);
        let source = source.clone();
        check(&source, point, &path, hash)?;
        let plugin = source::compile(point, &path, &bytes, limits, source.cache.as_deref())?;
        let active = Mutex::new(Active { plugin, stamp, hash });
        Ok(Self { point, path, limits, source, active })
    }

    /// The plugin as its file is now. If the file is missing, unusable or refused by the lock, the
    /// previous version stays in use: copying a plugin must neither open nor close a worker. Blocks,
    /// and compiles when the file has changed.
    pub(super) fn current(&self) -> Plugin {
        let mut active = self.active.lock();
        let stamp = stamps(&self.path, &self.source);
        if stamp != active.stamp {
            active.stamp = stamp;
            if let Err(why) = self.reload(&mut active) {
                let (point, path) = (self.point.key(), self.path.display());
                tracing::warn!(
                    point,
                    "{path} has changed and cannot be used, so the previous version stays in use: \
                     {why}"
                );
            }
        }
        active.plugin.clone()
    }

    fn reload(&self, active: &mut Active) -> Result<(), PolicyError> {
        let name = self.path.to_string_lossy();
        let bytes = source::read_configured(self.point, &name, &self.path)?;
        let hash = blake3::hash(&bytes);
        if hash != active.hash {
            check(&self.source, self.point, &self.path, hash)?;
            let cache = self.source.cache.as_deref();
            active.plugin = source::compile(self.point, &self.path, &bytes, self.limits, cache)?;
            active.hash = hash;
        }
        Ok(())
    }
}

/// Refuses a plugin that the lock does not accept, before any of it is compiled.
fn check(
    source: &PluginSource,
    point: ExtensionPoint,
    path: &Path,
    hash: blake3::Hash,
) -> Result<(), PolicyError> {
    let Some(lock) = &source.lock else { return Ok(()) };
    let locked = |source| PolicyError::Locked { key: point.key(), source };
    lock.check(path, hash.to_hex().as_str()).map_err(locked)
}

fn stamps(path: &Path, source: &PluginSource) -> [Stamp; 2] {
    [stamp(path), source.lock.as_ref().and_then(|lock| stamp(lock.path()))]
}

fn stamp(path: &Path) -> Stamp {
    let metadata = path.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
