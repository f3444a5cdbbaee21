//! `plugin publish`, `plugin update`, and `plugin add` of a reference: plugins of a registry.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use super::{folder, replay, validate, worlds};
use crate::question::confirm;
use crate::registry::{
    self, Interfaces, Reference, ReferenceError, Registry, RegistryError, ResolvedPlugin,
};
use sleap_rtc_policy::examine::PluginFile;
use sleap_rtc_policy::lock::Lock;
use sleap_rtc_policy::{PluginConfig, PolicyConfig};
use std::fs;
use std::path::PathBuf;

/// The inputs of an update.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The plugin, as `plugin list` shows it.
    pub(crate) name: String,
    /// The version to change to, if not the newest of the present tag.
    pub(crate) tag: Option<String>,
    /// The decisions to compare with.
    pub(crate) record: Option<PathBuf>,
    /// Whether to accept it without a question.
    pub(crate) yes: bool,
}

/// A plugin of a registry, in a temporary folder.
struct Fetched {
    found: ResolvedPlugin,
    plugin: PluginFile,
    _folder: tempfile::TempDir,
}

/// Fetches the plugin at `reference`, validates it, copies it into the plugin folder and accepts it with
/// its digest.
pub(crate) async fn add(
    reference: &Reference,
    config: &PluginConfig,
    policy: &PolicyConfig,
) -> Result<Exit, Failure> {
    let mut registry = Registry::of(reference);
    let found = registry.find().await?;
    let Fetched { found, plugin, .. } = fetch(&mut registry, found, policy).await?;
    print::line(&format!("fetched {}", found.pinned)).exit(Exit::Unexpected)?;
    folder::add(&plugin, config, policy, Some(found.pinned.to_string()))
}

/// Validates `plugin` and publishes it.
pub(crate) async fn publish(
    plugin: &PluginFile,
    config: &PluginConfig,
    reference: &Reference,
) -> Result<Exit, Failure> {
    validate::run(plugin, config)?;
    let interfaces = Interfaces { exports: plugin.exports(), imports: plugin.imports() };
    let digest = Registry::of(reference).publish(plugin.bytes(), &interfaces).await?;
    let pinned = reference.pinned(digest);
    let text = format!("published {pinned}; to install it:\n  sleap-rtc plugin add {pinned}");
    print::line(&text).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

/// Looks for a newer version of an installed plugin, shows what would change, and installs it if the user
/// wants it.
pub(crate) async fn update(
    options: &Update,
    config: &PluginConfig,
    policy: &PolicyConfig,
) -> Result<Exit, Failure> {
    let file = folder::file_name(&options.name, policy)?;
    let Some(origin) = Lock::of(&policy.dir).accepted()?.origins.remove(&file) else {
        let text = format!("{} did not come from a registry", options.name);
        return Err(Failure::usage(text).hint("`sleap-rtc plugin add FILE` replaces it"));
    };
    let origin: Reference = origin.parse()?;
    let newest = origin.newest(options.tag.as_deref())?;
    let mut registry = Registry::of(&newest);
    let found = registry.find().await?;
    if found.pinned == origin {
        let text = format!("{} is up to date: {origin}", options.name);
        print::line(&text).exit(Exit::Unexpected)?;
        return Ok(Exit::Success);
    }
    let new = fetch(&mut registry, found, policy).await?;
    let old = PluginFile::open_cached(&policy.dir.join(&file), policy.cache.as_deref()).ok();
    let config = replay::with_settings(&new.plugin, config, policy);
    print::raw(&differences(&origin, old.as_ref(), &new)).exit(Exit::Unexpected)?;
    print::raw(&replayed(&new.plugin, &config, options, policy)?).exit(Exit::Unexpected)?;
    if !options.yes && confirm("Install the new version? [y/N] ").await != Some(true) {
        return Err(Failure::message(Exit::Cancelled, "the installed version stays")
            .hint("--yes accepts the new one without a question"));
    }
    folder::add(&new.plugin, &config, policy, Some(new.found.pinned.to_string()))
}

/// Fetches what was found.
async fn fetch(
    registry: &mut Registry<'_>,
    found: ResolvedPlugin,
    policy: &PolicyConfig,
) -> Result<Fetched, Failure> {
    let bytes = registry.fetch(&found).await?;
    let folder = tempfile::tempdir().exit(Exit::Unexpected)?;
    let path = folder.path().join(format!("{}.wasm", found.pinned.plugin_name()));
    fs::write(&path, &bytes).exit(Exit::Unexpected)?;
    let plugin = PluginFile::open_cached(&path, policy.cache.as_deref())?;
    Ok(Fetched { found, plugin, _folder: folder })
}

/// What the new version changes, as a table.
fn differences(origin: &Reference, old: Option<&PluginFile>, new: &Fetched) -> String {
    let row = |what: &str, old: Option<String>, new: String| {
        [what.to_owned(), old.unwrap_or_else(|| "-".to_owned()), new]
    };
    let digest = |reference: &Reference| {
        reference.digest.as_ref().map_or_else(String::new, |d| d.to_string())
    };
    let version = |reference: &Reference, said: Option<&String>| match said {
        Some(said) if *said != reference.tag => format!("{} ({said})", reference.tag),
        _ => reference.tag.clone(),
    };
    let rows = [
        row("", Some("installed".to_owned()), "new".to_owned()),
        row(
            "version",
            Some(version(origin, None)),
            version(&new.found.pinned, new.found.version.as_ref()),
        ),
        row("digest", Some(digest(origin)), digest(&new.found.pinned)),
        row("BLAKE3", old.map(|old| old.hash.clone()), new.plugin.hash.clone()),
        row("bytes", old.map(|old| old.size_bytes.to_string()), new.plugin.size_bytes.to_string()),
        row("worlds", old.map(|old| worlds(old).join(", ")), worlds(&new.plugin).join(", ")),
        row("package", old.map(|old| old.packages().join(", ")), new.plugin.packages().join(", ")),
    ];
    columns(&rows)
}

/// What the new version would have decided otherwise.
fn replayed(
    plugin: &PluginFile,
    config: &PluginConfig,
    options: &Update,
    policy: &PolicyConfig,
) -> Result<String, Failure> {
    let configured = policy.record.as_ref().filter(|path| path.exists());
    match options.record.as_ref().or(configured) {
        None => {
            Ok("no decisions were recorded, so none are replayed: see `[policy] record`\n"
                .to_owned())
        }
        Some(record) => replay::compared(record, plugin, config),
    }
}

impl From<ReferenceError> for Failure {
    fn from(error: ReferenceError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let exit = match error {
            RegistryError::Unreachable { .. } | RegistryError::Login { .. } => Exit::Connect,
            _ => Exit::Usage,
        };
        let login = match &error {
            RegistryError::Login { registry } => registry::logins().map(|file| {
                format!(
                    "`docker login {registry}` or `oras login {registry}` writes one to {}",
                    file.display()
                )
            }),
            _ => None,
        };
        let failure = Self::new(exit, error);
        login.into_iter().fold(failure, Self::hint)
    }
}
