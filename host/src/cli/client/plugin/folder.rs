//! `plugin list`, `add`, `remove`, `lock`: the plugin folder and its lock file.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use super::{validate, worlds};
use sleap_rtc_policy::ExtensionPoint;
use sleap_rtc_policy::examine::{self, PluginFile};
use sleap_rtc_policy::lock::{Accepted, Lock, LockError, install};
use sleap_rtc_policy::{PluginConfig, PolicyConfig};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

/// Prints a line for each plugin in the folder and in the configuration.
pub(crate) fn list(policy: &PolicyConfig) -> Result<Exit, Failure> {
    let lock = Lock::of(&policy.dir);
    let accepted = lock.accepted()?;
    let (mut rows, mut errors) = (Vec::new(), Vec::new());
    for path in files(policy)? {
        let used = used(policy, &path).join(", ");
        let name = lock.name(&path);
        rows.push(match PluginFile::open_cached(&path, policy.cache.as_deref()) {
            Ok(plugin) => {
                let state = match accepted.plugins.get(&name) {
                    Some(hash) if *hash == plugin.hash => "accepted",
                    Some(_) => "CHANGED since it was accepted",
                    None => "not accepted",
                };
                let size = format!("{} KB", plugin.size_bytes.div_ceil(1000));
                let hash: String = plugin.hash.chars().take(12).collect();
                let worlds = worlds(&plugin).join(", ");
                [name, worlds, plugin.packages().join(", "), size, hash, state.into(), used]
            }
            Err(error) => {
                errors.push(error);
                let none = || String::from("-");
                [name, none(), none(), none(), none(), "NOT USABLE".into(), used]
            }
        });
    }
    if rows.is_empty() {
        let text = format!("no plugins in {}; the built-in ones are used", policy.dir.display());
        print::line(&text).exit(Exit::Unexpected)?;
        return Ok(Exit::Success);
    }
    let head = ["plugin", "worlds", "package", "size", "BLAKE3", "lock", "used by"];
    rows.insert(0, head.map(String::from));
    print::raw(&columns(&rows)).exit(Exit::Unexpected)?;
    errors.iter().for_each(|error| print::error(&format!("{error}\n")));
    Ok(Exit::Success)
}

/// Validates `plugin`, copies it into the folder and accepts it. `origin` is its reference in a registry,
/// if it is from one.
pub(crate) fn add(
    plugin: &PluginFile,
    config: &PluginConfig,
    policy: &PolicyConfig,
    origin: Option<String>,
) -> Result<Exit, Failure> {
    validate::run(plugin, config)?;
    let place = policy.dir.join(format!("{}.wasm", plugin.name));
    let lock = Lock::of(&policy.dir);
    let mut accepted = lock.accepted()?;
    accepted.insert(lock.name(&place), plugin.hash.clone(), origin);
    // The file comes first, because a running program checks it again when the lock changes.
    install(&place, plugin.bytes()).map_err(|error| cannot("write", &place, error))?;
    lock.accept(&accepted)?;
    let section = plugin.points().first().map_or("selection", |point| point.key());
    let name = &plugin.name;
    let text = format!(
        "{name} is installed in {} and accepted; to use it, configure:\n  [policy.{section}]\n  plugin = {name:?}",
        policy.dir.display()
    );
    print::line(&text).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

/// The file of the plugin `name` in the folder.
pub(crate) fn file_name(name: &str, policy: &PolicyConfig) -> Result<String, Failure> {
    if name.contains('/') || name.is_empty() {
        return Err(Failure::usage(format!(
            "{name:?} is a path; expected the name of a plugin in {}",
            policy.dir.display()
        )));
    }
    Ok(format!("{}.wasm", name.trim_end_matches(".wasm")))
}

/// Removes the plugin `name` from the folder and from the lock.
pub(crate) fn remove(name: &str, policy: &PolicyConfig) -> Result<Exit, Failure> {
    let file = file_name(name, policy)?;
    let path = policy.dir.join(&file);
    if let [section, ..] = used(policy, &path)[..] {
        return Err(Failure::usage(format!("[policy.{section}] uses {name}"))
            .hint("remove it from the configuration first"));
    }
    let lock = Lock::of(&policy.dir);
    let mut accepted = lock.accepted()?;
    let was_accepted = accepted.remove(&file);
    match fs::remove_file(&path) {
        // The lock may still list a file that was deleted.
        Err(error) if error.kind() == io::ErrorKind::NotFound && was_accepted => {}
        removed => removed.map_err(|error| cannot("remove", &path, error))?,
    }
    if was_accepted {
        lock.accept(&accepted)?;
    }
    print::line(&format!("removed {name}")).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

/// Accepts every plugin in the folder and in the configuration as it is now, and no others.
pub(crate) fn lock(policy: &PolicyConfig) -> Result<Exit, Failure> {
    let lock = Lock::of(&policy.dir);
    // A damaged lock is replaced.
    let before = lock.accepted().unwrap_or_default();
    let mut accepted = Accepted::default();
    for path in files(policy)? {
        let plugin = PluginFile::open_cached(&path, policy.cache.as_deref())?;
        if plugin.points().is_empty() {
            return Err(plugin.exports_nothing().into());
        }
        let name = lock.name(&path);
        // A file that has changed did not come from there.
        let is_same = before.plugins.get(&name) == Some(&plugin.hash);
        let origin = before.origins.get(&name).filter(|_| is_same).cloned();
        accepted.insert(name, plugin.hash, origin);
    }
    lock.accept(&accepted)?;
    let rows: Vec<_> = accepted.plugins.into_iter().map(|(name, hash)| [name, hash]).collect();
    let text = format!("{}{} accepted in {}\n", columns(&rows), rows.len(), lock.path().display());
    print::raw(&text).exit(Exit::Unexpected)?;
    if !policy.locked {
        print::error(
            "note: the lock has no effect until the configuration has `[policy] locked = true`",
        );
    }
    Ok(Exit::Success)
}

/// The files of all plugins in the folder and in the configuration.
fn files(policy: &PolicyConfig) -> Result<BTreeSet<PathBuf>, Failure> {
    let named =
        ExtensionPoint::ALL.into_iter().flat_map(|point| examine::configured(policy, point));
    let mut files: BTreeSet<_> = named.collect();
    let entries = match fs::read_dir(&policy.dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(cannot("read", &policy.dir, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| cannot("read", &policy.dir, error))?.path();
        if path.extension().is_some_and(|ending| ending == "wasm") {
            files.insert(path);
        }
    }
    Ok(files)
}

/// The sections of the configuration that use the plugin in the file `path`.
fn used(policy: &PolicyConfig, path: &Path) -> Vec<&'static str> {
    let uses = |point: &ExtensionPoint| {
        examine::configured(policy, *point).iter().any(|configured| configured == path)
    };
    ExtensionPoint::ALL.iter().filter(|point| uses(point)).map(|point| point.key()).collect()
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Failure {
    Failure::message(Exit::Usage, format!("cannot {what} {}: {error}", path.display()))
}
