//! Reads plugins, from files and from this program itself.

use super::cache::Cache;
use super::component::{Origin, Plugin};
use super::limits::CallLimits;
use super::lock::Lock;
use super::options::name;
use super::{ExtensionPoint, PolicyConfig, PolicyError};
use sleap_rtc_base::os;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest plugin to read, in bytes. A plugin written in Python has 18 MB.
pub(crate) const FILE_BYTES: u64 = 64 * 1024 * 1024;

const LARGEST_GPU: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/largest-gpu.wasm"));
const REQUIREMENTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/requirements.wasm"));
const LINEAR_ESTIMATE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/linear-estimate.wasm"));
const FEWEST_RUNNING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fewest-running.wasm"));

/// Name of the embedded plugin for `point`.
pub(crate) fn embedded_name(point: ExtensionPoint) -> &'static str {
    match point {
        ExtensionPoint::Selection => "largest-gpu",
        ExtensionPoint::Compatibility => "requirements",
        ExtensionPoint::Estimate => "linear-estimate",
        ExtensionPoint::Queueing => "fewest-running",
    }
}

/// The embedded plugin for `point`.
pub(crate) fn embedded_bytes(point: ExtensionPoint) -> &'static [u8] {
    match point {
        ExtensionPoint::Selection => LARGEST_GPU,
        ExtensionPoint::Compatibility => REQUIREMENTS,
        ExtensionPoint::Estimate => LINEAR_ESTIMATE,
        ExtensionPoint::Queueing => FEWEST_RUNNING,
    }
}

/// Compiles the embedded plugin for `point`.
pub(crate) fn load_embedded(
    point: ExtensionPoint,
    cache: Option<&Cache>,
) -> Result<Plugin, String> {
    let (name, bytes) = (embedded_name(point), embedded_bytes(point));
    Plugin::load(name, bytes, point, CallLimits::EMBEDDED, Origin::Embedded, cache)
}

/// The plugin folder with its lock and its cache. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PluginSource {
    /// The folder of plugins that are given by name.
    pub dir: PathBuf,
    /// Decides which plugins may be loaded. Without it, all may.
    pub lock: Option<Lock>,
    /// Without it, plugins are compiled each time.
    pub cache: Option<Arc<Cache>>,
}

impl PluginSource {
    pub(crate) fn new(config: &PolicyConfig) -> Self {
        let lock = config.locked.then(|| Lock::of(&config.dir));
        let cache = config.cache.as_deref().and_then(open_cache);
        Self { dir: config.dir.clone(), lock, cache: cache.map(Arc::new) }
    }
}

/// Opens the cache in `dir`. If that fails, everything works without a cache, but slower.
pub(crate) fn open_cache(dir: &Path) -> Option<Cache> {
    let warn = |error: &_| {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        let cause = cause.unwrap_or_default();
        tracing::warn!(
            "cannot cache compiled plugins, so they are compiled at every start: {error}{cause}"
        );
    };
    Cache::open(dir).inspect_err(warn).ok()
}

/// Reads the file at `path`, which the configuration names as `plugin`.
pub(crate) fn read_configured(
    point: ExtensionPoint,
    plugin: &str,
    path: &Path,
) -> Result<Vec<u8>, PolicyError> {
    let (key, path) = (point.key(), path.to_owned());
    read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => PolicyError::NotFound { key, plugin: plugin.to_owned(), path },
        _ => PolicyError::Read { key, path, source },
    })
}

/// Compiles and tests the plugin that was read from `path`.
pub(crate) fn compile(
    point: ExtensionPoint,
    path: &Path,
    bytes: &[u8],
    limits: CallLimits,
    cache: Option<&Cache>,
) -> Result<Plugin, PolicyError> {
    let (key, name) = (point.key(), name(path));
    let loaded = Plugin::load(&name, bytes, point, limits, Origin::File, cache)
        .map_err(|why| PolicyError::Unusable { key, path: path.to_owned(), why })?;
    tracing::info!(point = key, plugin = name, path = %path.display(), "policy plugin loaded");
    Ok(loaded)
}

/// The path of `plugin`, which is a path or a name in the plugin folder.
pub(crate) fn locate(plugin: &str, dir: &Path) -> PathBuf {
    if plugin.contains('/') || plugin.ends_with(".wasm") {
        match plugin.strip_prefix("~/").zip(dirs::home_dir()) {
            Some((rest, home)) => home.join(rest),
            None => plugin.into(),
        }
    } else {
        dir.join(format!("{plugin}.wasm"))
    }
}

/// The file of `plugin`, as the configuration of `point` names it. It may not exist. `None` for the
/// built-in plugin, unless the folder `dir` has a plugin of that name.
pub(crate) fn configured(point: ExtensionPoint, plugin: &str, dir: &Path) -> Option<PathBuf> {
    let path = locate(plugin, dir);
    (plugin != embedded_name(point) || path.exists()).then_some(path)
}

/// Reads the whole file. Refuses files that are too large for a plugin and everything but ordinary
/// files, because opening or reading a pipe or a device may never end.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = os::without_waiting(File::options().read(true)).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not an ordinary file"));
    }
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        let limit = FILE_BYTES / (1024 * 1024);
        return Err(io::Error::other(format!("the file is larger than {limit} MiB")));
    }
    Ok(bytes)
}
