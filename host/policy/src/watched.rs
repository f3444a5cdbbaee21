//! A configured plugin, whose file can change while the program runs.

use super::beside::{self, within};
use super::component::Plugin;
use super::limits::Limits;
use super::source::PluginSource;
use super::{ExtensionPoint, PolicyError, source};
use parking_lot::{Condvar, Mutex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long a question waits for a file that has changed. A small plugin is compiled in that time; for
/// a large one, or a disk that does not answer, the version before it answers.
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks that have not come back, on a disk that is gone: no more are begun beside them.
const MAX_LOST: u32 = 4;

/// The plugin in a file. Each call first checks whether the file has changed; it never waits long for
/// that.
pub(crate) struct Watched {
    file: Arc<WatchedFile>,
}

struct WatchedFile {
    point: ExtensionPoint,
    path: PathBuf,
    limits: Limits,
    source: PluginSource,
    active: Mutex<Active>,
    /// Something of `active` has changed.
    changed: Condvar,
}

struct Active {
    plugin: Plugin,
    /// The stamps of the file and the lock when they were last read, whether usable or not.
    stamp: [Stamp; 2],
    /// The hash of the plugin's bytes.
    hash: blake3::Hash,
    look: Look,
    /// Looks that were given up.
    lost: u32,
}

/// Whether the file is being looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Idle,
    /// Since then; `reported` once the log has it that it takes long.
    Running {
        since: Instant,
        reported: bool,
    },
}

/// A cheap sign that a file has changed: time and length. `None` if the file cannot be accessed.
type Stamp = Option<(SystemTime, u64)>;

impl Watched {
    /// Loads the plugin that the configuration calls `plugin`.
    pub(crate) fn load(
        point: ExtensionPoint,
        plugin: &str,
        source: &PluginSource,
        limits: Limits,
    ) -> Result<Self, PolicyError> {
        let path = source::locate(plugin, &source.dir);
        let (plugin, from, of) = (plugin.to_owned(), source.clone(), path.clone());
        let load = move || load(point, &plugin, of, limits, from);
        let file = within(beside::LIMIT, load).unwrap_or_else(|| {
            Err(PolicyError::Slow { key: point.key(), path, limit_s: beside::LIMIT.as_secs() })
        })?;
        Ok(Self { file: Arc::new(file) })
    }

    /// The plugin as its file is now. If the file is missing, unusable, refused by the lock, or not
    /// read and compiled in time, the previous version stays in use: copying a plugin must neither open
    /// nor close a worker. Blocks, for [`PATIENCE`] at most.
    pub(crate) fn current(&self) -> Plugin {
        let file = &self.file;
        let mut active = file.active.lock();
        if active.may_look() {
            active.look = Look::Running { since: Instant::now(), reported: false };
            let looking = Arc::clone(file);
            let began =
                thread::Builder::new().name("plugin".to_owned()).spawn(move || looking.look());
            if began.is_err() {
                active.look = Look::Idle;
            }
        }
        while let Look::Running { since, .. } = active.look
            && let Some(left) = PATIENCE.checked_sub(since.elapsed())
        {
            if file.changed.wait_for(&mut active, left).timed_out() {
                break;
            }
        }
        if let Look::Running { reported: reported @ false, .. } = &mut active.look {
            *reported = true;
            file.warn(
                "takes long to read or to compile, so the previous version answers until then",
            );
        }
        active.plugin.clone()
    }
}

impl Active {
    /// Whether to look at the file: nobody does, or who did is lost.
    fn may_look(&mut self) -> bool {
        let Look::Running { since, .. } = self.look else { return true };
        let is_lost = since.elapsed() > beside::LIMIT && self.lost < MAX_LOST;
        self.lost += u32::from(is_lost);
        is_lost
    }
}

fn load(
    point: ExtensionPoint,
    plugin: &str,
    path: PathBuf,
    limits: Limits,
    source: PluginSource,
) -> Result<WatchedFile, PolicyError> {
    // Taken before reading, so that a change during the read is noticed at the next call.
    let stamp = stamps(&path, &source);
    let bytes = source::read_configured(point, plugin, &path)?;
    let hash = blake3::hash(&bytes);
    check(&source, point, &path, hash)?;
    let plugin = source::compile(point, &path, &bytes, limits, source.cache.as_deref())?;
    let active = Active { plugin, stamp, hash, look: Look::Idle, lost: 0 };
    let (active, changed) = (Mutex::new(active), Condvar::new());
    Ok(WatchedFile { point, path, limits, source, active, changed })
}

impl WatchedFile {
    /// Looks whether the file has changed, and puts what it is now into force.
    fn look(&self) {
        let began = Instant::now();
        let stamp = stamps(&self.path, &self.source);
        let before = {
            let mut active = self.active.lock();
            // Noted at once: what takes for ever to compile is not begun a second time.
            (std::mem::replace(&mut active.stamp, stamp) != stamp).then_some(active.hash)
        };
        let reloaded = before.map_or(Ok(None), |before| self.reload(before));
        let mut active = self.active.lock();
        match reloaded {
            Ok(None) => {}
            Ok(Some(_)) if began.elapsed() > beside::LIMIT => self.warn(&format!(
                "took longer than {} s to compile, so the previous version stays in use",
                beside::LIMIT.as_secs()
            )),
            Ok(Some((plugin, hash))) => (active.plugin, active.hash) = (plugin, hash),
            Err(why) => self.warn(&format!(
                "has changed and cannot be used, so the previous version stays in use: {why}"
            )),
        }
        active.look = Look::Idle;
        drop(active);
        self.changed.notify_all();
    }

    /// The plugin in the file, where it is another one.
    fn reload(&self, before: blake3::Hash) -> Result<Option<(Plugin, blake3::Hash)>, PolicyError> {
        let name = self.path.to_string_lossy();
        let bytes = source::read_configured(self.point, &name, &self.path)?;
        let hash = blake3::hash(&bytes);
        if hash == before {
            return Ok(None);
        }
        check(&self.source, self.point, &self.path, hash)?;
        let cache = self.source.cache.as_deref();
        let plugin = source::compile(self.point, &self.path, &bytes, self.limits, cache)?;
        Ok(Some((plugin, hash)))
    }

    fn warn(&self, what: &str) {
        let (point, path) = (self.point.key(), self.path.display());
        tracing::warn!(point, "{path} {what}");
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
