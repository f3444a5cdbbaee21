//! `[policy]`: the plugins of the extension points.

use super::values::{Size, Time};
use serde::Deserialize;
#[cfg(feature = "peer")]
use {
    super::Sources,
    sleap_rtc_policy::{OnFailure, PluginConfig, PolicyConfig},
    std::path::Path,
};

/// `[policy]`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FilePolicy {
    dir: Option<String>,
    locked: Option<bool>,
    selection: FilePlugin,
    compatibility: FilePlugin,
    estimate: FilePlugin,
}

/// `[policy.selection]` and its siblings. Their defaults differ.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FilePlugin {
    plugin: Option<String>,
    settings: toml::Table,
    on_failure: Option<FileOnFailure>,
    timeout: Option<Time>,
    memory: Option<Size>,
}

/// What happens when a plugin fails.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum FileOnFailure {
    Default,
    Refuse,
}

#[cfg(feature = "peer")]
impl FilePolicy {
    /// The options of the policy host. Paths are relative to `base`.
    pub(crate) fn plugins(self, sources: &Sources, base: &Path) -> PolicyConfig {
        let home = sources.home.as_ref().map(|home| home.join(".sleap-rtc/plugins"));
        let dir = self.dir.map(|text| sources.path(base, &text)).or(home);
        let embedded =
            PolicyConfig::new(dir.unwrap_or_else(|| sources.cwd.join(".sleap-rtc/plugins")));
        let plugin = |file: FilePlugin, default: PluginConfig| PluginConfig {
            plugin: file.plugin.map(|text| plugin_path(sources, base, text)),
            settings: file.settings,
            on_failure: match file.on_failure {
                Some(FileOnFailure::Refuse) => OnFailure::Refuse,
                Some(FileOnFailure::Default) => OnFailure::Default,
                None => default.on_failure,
            },
            timeout_ms: file.timeout.map_or(default.timeout_ms, |Time(t)| t.as_millis() as u64),
            memory_mib: file.memory.map_or(default.memory_mib, |Size(b)| b.div_ceil(1 << 20)),
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

/// Names stay names. Paths become absolute.
#[cfg(feature = "peer")]
fn plugin_path(sources: &Sources, base: &Path, text: String) -> String {
    if !text.contains('/') && !text.ends_with(".wasm") {
        return text;
    }
    sources.path(base, &text).to_string_lossy().into_owned()
}
