//! `[policy]`: which plugins stand at the extension points.

use super::error::ConfigError;
use super::tree::{Bytes, Section};
use super::values::time;
use std::time::Duration;
#[cfg(feature = "peer")]
use {
    super::Sources,
    sleap_rtc_policy::{OnFailure, PluginConfig, PolicyConfig},
    std::path::Path,
};

/// `[policy]`.
#[derive(Default)]
#[cfg_attr(
    not(feature = "peer"),
    expect(dead_code, reason = "checked for the programs that use it")
)]
pub(super) struct FilePolicy {
    dir: Option<String>,
    locked: Option<bool>,
    selection: FilePlugin,
    compatibility: FilePlugin,
    estimate: FilePlugin,
}

/// `[policy.selection]` and its siblings.
#[derive(Default)]
#[cfg_attr(
    not(feature = "peer"),
    expect(dead_code, reason = "checked for the programs that use it")
)]
pub(super) struct FilePlugin {
    plugin: Option<String>,
    settings: Option<toml::Table>,
    refuse_on_failure: Option<bool>,
    timeout: Option<Duration>,
    memory_bytes: Option<u64>,
}

impl FilePolicy {
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let policy = Self {
            dir: section.take("dir")?,
            locked: section.take("locked")?,
            selection: FilePlugin::read(section.section("selection")?)?,
            compatibility: FilePlugin::read(section.section("compatibility")?)?,
            estimate: FilePlugin::read(section.section("estimate")?)?,
        };
        section.finish()?;
        Ok(policy)
    }
}

impl FilePlugin {
    fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let plugin = Self {
            plugin: section.take("plugin")?,
            settings: section.take("settings")?,
            refuse_on_failure: section.take_with("on_failure", refuse_on_failure)?,
            timeout: section.take_with("timeout", time)?,
            memory_bytes: section.take::<Bytes>("memory")?.map(|Bytes(bytes)| bytes),
        };
        section.finish()?;
        Ok(plugin)
    }
}

fn refuse_on_failure(word: String) -> Result<bool, String> {
    match word.as_str() {
        "default" => Ok(false),
        "refuse" => Ok(true),
        _ => Err("expects \"default\" or \"refuse\"".into()),
    }
}

#[cfg(feature = "peer")]
impl FilePolicy {
    /// The plugins, as `policy` takes them. Paths are relative to `base`.
    pub(super) fn plugins(self, sources: &Sources, base: &Path) -> PolicyConfig {
        let home = sources.home.as_ref().map(|home| home.join(".sleap-rtc/plugins"));
        let dir = self.dir.map(|text| sources.path(base, &text)).or(home);
        let embedded =
            PolicyConfig::new(dir.unwrap_or_else(|| sources.cwd.join(".sleap-rtc/plugins")));
        let plugin = |file: FilePlugin, default: PluginConfig| PluginConfig {
            plugin: file.plugin.map(|text| plugin_path(sources, base, text)),
            settings: file.settings.unwrap_or_default(),
            on_failure: match file.refuse_on_failure {
                Some(true) => OnFailure::Refuse,
                Some(false) => OnFailure::Default,
                None => default.on_failure,
            },
            timeout_ms: file.timeout.map_or(default.timeout_ms, |time| time.as_millis() as u64),
            memory_mib: file
                .memory_bytes
                .map_or(default.memory_mib, |bytes| bytes.div_ceil(1 << 20)),
        };
        PolicyConfig {
            selection: plugin(self.selection, embedded.selection),
            compatibility: plugin(self.compatibility, embedded.compatibility),
            estimate: plugin(self.estimate, embedded.estimate),
            dir: embedded.dir,
            locked: self.locked.unwrap_or(embedded.locked),
            cache: sources.cache_dir.as_ref().map(|dir| dir.join("sleap-rtc/plugins")),
        }
    }
}

/// A name stays a name; a path is made absolute.
#[cfg(feature = "peer")]
fn plugin_path(sources: &Sources, base: &Path, text: String) -> String {
    if !text.contains('/') && !text.ends_with(".wasm") {
        return text;
    }
    sources.path(base, &text).to_string_lossy().into_owned()
}
