//! A configured plugin, whose file can change while the program runs.

use super::component::Plugin;
use super::detached::{self, within};
use super::limits::CallLimits;
use super::source::PluginSource;
use super::{ExtensionPoint, PolicyError, source};
use parking_lot::{Condvar, Mutex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long a question waits for a changed file. A small plugin is compiled in that time. For a
/// large plugin, or a disk that does not answer, the previous version answers.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most checks that may hang on a disk that is gone. No further check starts detached them.
const MAX_LOST: u32 = 4;

/// The plugin in a file. Each call first checks whether the file has changed, and waits for that
/// only briefly.
pub(crate) struct Watched {
    file: Arc<WatchedFile>,
}

struct WatchedFile {
    point: ExtensionPoint,
    path: PathBuf,
    limits: CallLimits,
    source: PluginSource,
    active: Mutex<Active>,
    /// Signalled when `active` changes.
    changed: Condvar,
}

struct Active {
    plugin: Plugin,
    /// The stamps of the file and of the lock when they were last read, even if they were unusable.
    stamp: [Stamp; 2],
    /// The hash of the plugin's bytes.
    hash: blake3::Hash,
    look: FileCheck,
    /// The number of checks that were given up.
    lost: u32,
}

/// Whether a check of the file is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileCheck {
    Idle,
    /// Since this time. `reported` is set once the log says that the check takes long.
    Running {
        since: Instant,
        reported: bool,
    },
}

/// A cheap sign of change: time and length. `None` if the file cannot be accessed.
type Stamp = Option<(SystemTime, u64)>;

impl Watched {
    /// Loads the plugin in the file `path`, which the configuration names as `plugin`.
    pub(crate) fn load(
        point: ExtensionPoint,
        plugin: &str,
        path: PathBuf,
        source: &PluginSource,
        limits: CallLimits,
    ) -> Result<Self, PolicyError> {
        let (plugin, from, of) = (plugin.to_owned(), source.clone(), path.clone());
        let load = move || load(point, &plugin, of, limits, from);
        let file = within(detached::LIMIT, load).unwrap_or_else(|| {
            Err(PolicyError::Slow { key: point.key(), path, limit_s: detached::LIMIT.as_secs() })
        })?;
        Ok(Self { file: Arc::new(file) })
    }

    /// The plugin in the present file. If the file is missing, unusable, refused by the lock, or
    /// not compiled in time, the previous version stays in use, because copying a plugin must not
    /// change what a worker admits. Blocks for at most [`PATIENCE`].
    pub(crate) fn current(&self) -> Plugin {
        let file = &self.file;
        let mut active = file.active.lock();
        if active.may_look() {
            active.look = FileCheck::Running { since: Instant::now(), reported: false };
            let looking = Arc::clone(file);
            let began =
                thread::Builder::new().name("plugin".to_owned()).spawn(move || looking.look());
            if began.is_err() {
                active.look = FileCheck::Idle;
            }
        }
        while let FileCheck::Running { since, .. } = active.look
            && let Some(left) = PATIENCE.checked_sub(since.elapsed())
        {
            if file.changed.wait_for(&mut active, left).timed_out() {
                break;
            }
        }
        if let FileCheck::Running { reported: reported @ false, .. } = &mut active.look {
            *reported = true;
            file.warn(
                "takes long to read or compile, so the previous version answers until it is ready",
            );
        }
        active.plugin.clone()
    }
}

impl Active {
    /// Whether to start a check: none is under way, or the last one was given up.
    fn may_look(&mut self) -> bool {
        let FileCheck::Running { since, .. } = self.look else { return true };
        let is_lost = since.elapsed() > detached::LIMIT && self.lost < MAX_LOST;
        self.lost += u32::from(is_lost);
        is_lost
    }
}

fn load(
    point: ExtensionPoint,
    plugin: &str,
    path: PathBuf,
    limits: CallLimits,
    source: PluginSource,
) -> Result<WatchedFile, PolicyError> {
    // Taken before reading, so that the next call notices a change during the read.
    let stamp = stamps(&path, &source);
    let bytes = source::read_configured(point, plugin, &path)?;
    let hash = blake3::hash(&bytes);
    check(&source, point, &path, hash)?;
    let plugin = source::compile(point, &path, &bytes, limits, source.cache.as_deref())?;
    let active = Active { plugin, stamp, hash, look: FileCheck::Idle, lost: 0 };
    let (active, changed) = (Mutex::new(active), Condvar::new());
    Ok(WatchedFile { point, path, limits, source, active, changed })
}

impl WatchedFile {
    /// Checks whether the file has changed, and applies the change.
    fn look(&self) {
        let began = Instant::now();
        let stamp = stamps(&self.path, &self.source);
        let before = {
            let mut active = self.active.lock();
            // Recorded at once, so that a file that never finishes compiling is not compiled again.
            (std::mem::replace(&mut active.stamp, stamp) != stamp).then_some(active.hash)
        };
        let reloaded = before.map_or(Ok(None), |before| self.reload(before));
        let mut active = self.active.lock();
        match reloaded {
            Ok(None) => {}
            Ok(Some(_)) if began.elapsed() > detached::LIMIT => self.warn(&format!(
                "took longer than {} s to compile, so the previous version stays in use",
                detached::LIMIT.as_secs()
            )),
            Ok(Some((plugin, hash))) => (active.plugin, active.hash) = (plugin, hash),
            Err(why) => self.warn(&format!(
                "has changed and cannot be used, so the previous version stays in use: {why}"
            )),
        }
        active.look = FileCheck::Idle;
        drop(active);
        self.changed.notify_all();
    }

    /// The plugin in the file, if it has changed.
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
