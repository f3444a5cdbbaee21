//! `[policy]`: the plugins of the extension points.

use super::values::{Size, Time};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
#[cfg(feature = "peer")]
use {
    super::Sources,
    sleap_rtc_policy::{OnFailure, PluginConfig, PolicyConfig},
    std::path::Path,
};

/// The most plugins of one extension point.
const MAX_PLUGINS: usize = 8;

/// `[policy]`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FilePolicy {
    dir: Option<String>,
    locked: Option<bool>,
    record: Option<String>,
    selection: FilePlugins,
    compatibility: FilePlugins,
    estimate: FilePlugins,
    queueing: FilePlugins,
}

/// `[policy.selection]` and its siblings. Their defaults differ.
#[derive(Deserialize, Default)]
#[serde(try_from = "FileSection")]
#[cfg_attr(
    not(feature = "peer"),
    expect(dead_code, reason = "a server reads policies and makes none")
)]
pub(crate) struct FilePlugins(Vec<FilePlugin>);

/// One plugin of a section.
#[derive(Default)]
#[cfg_attr(
    not(feature = "peer"),
    expect(dead_code, reason = "a server reads policies and makes none")
)]
struct FilePlugin {
    /// `None` for the embedded one.
    plugin: Option<String>,
    terms: FileTerms,
}

/// What stands with a plugin.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FileTerms {
    settings: Option<toml::Table>,
    on_failure: Option<FileOnFailure>,
    timeout: Option<Time>,
    memory: Option<Size>,
}

/// The keys of a section.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FileSection {
    plugin: Option<FilePluginKey>,
    settings: Option<toml::Table>,
    on_failure: Option<FileOnFailure>,
    timeout: Option<Time>,
    memory: Option<Size>,
}

/// The key `plugin`: one plugin, whose terms stand beside it, or a list with the terms of each.
enum FilePluginKey {
    One(String),
    List(Vec<FilePlugin>),
}

/// An element of a list of plugins.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    name: String,
    settings: Option<toml::Table>,
    on_failure: Option<FileOnFailure>,
    timeout: Option<Time>,
    memory: Option<Size>,
}

impl TryFrom<FileSection> for FilePlugins {
    type Error = String;

    fn try_from(section: FileSection) -> Result<Self, String> {
        let FileSection { plugin, settings, on_failure, timeout, memory } = section;
        let terms = FileTerms { settings, on_failure, timeout, memory };
        match plugin {
            None => Ok(Self(vec![FilePlugin { plugin: None, terms }])),
            Some(FilePluginKey::One(plugin)) => {
                Ok(Self(vec![FilePlugin { plugin: Some(plugin), terms }]))
            }
            Some(FilePluginKey::List(list)) => match terms.first_key() {
                None => Ok(Self(list)),
                Some(key) => Err(format!(
                    "has `{key}` beside a list of plugins: write it with its plugin, as in \
                     `plugin = [\"…\", {{ name = \"…\", {key} = … }}]`"
                )),
            },
        }
    }
}

impl FileTerms {
    /// The first key that is set.
    fn first_key(&self) -> Option<&'static str> {
        let keys = [
            ("settings", self.settings.is_some()),
            ("on_failure", self.on_failure.is_some()),
            ("timeout", self.timeout.is_some()),
            ("memory", self.memory.is_some()),
        ];
        keys.into_iter().find_map(|(key, is_set)| is_set.then_some(key))
    }
}

impl<'de> Deserialize<'de> for FilePluginKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PluginKeyVisitor)
    }
}

struct PluginKeyVisitor;

impl<'de> Visitor<'de> for PluginKeyVisitor {
    type Value = FilePluginKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plugin or a list of plugins")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<FilePluginKey, E> {
        Ok(FilePluginKey::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FilePluginKey, A::Error> {
        let mut plugins: Vec<FilePlugin> = Vec::new();
        while let Some(plugin) = list.next_element()? {
            plugins.push(plugin);
        }
        match plugins.len() {
            1..=MAX_PLUGINS => Ok(FilePluginKey::List(plugins)),
            count => Err(A::Error::custom(format_args!(
                "expects a list of 1 to {MAX_PLUGINS} plugins, not {count}"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for FilePlugin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PluginVisitor)
    }
}

struct PluginVisitor;

impl<'de> Visitor<'de> for PluginVisitor {
    type Value = FilePlugin;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plugin, or a table with its `name`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<FilePlugin, E> {
        Ok(FilePlugin { plugin: Some(text.to_owned()), terms: FileTerms::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FilePlugin, A::Error> {
        let entry = FileEntry::deserialize(MapAccessDeserializer::new(map))?;
        let FileEntry { name, settings, on_failure, timeout, memory } = entry;
        let terms = FileTerms { settings, on_failure, timeout, memory };
        Ok(FilePlugin { plugin: Some(name), terms })
    }
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
        let record = self.record.map(|text| sources.path(base, &text));
        let embedded =
            PolicyConfig::new(dir.unwrap_or_else(|| sources.cwd.join(".sleap-rtc/plugins")));
        let chain = |FilePlugins(files): FilePlugins, default: Vec<PluginConfig>| {
            if files.is_empty() {
                return default;
            }
            let default = default.into_iter().next();
            let default = default.unwrap_or_else(|| PluginConfig::new(OnFailure::Refuse));
            files.into_iter().map(|file| file.checked(sources, base, &default)).collect()
        };
        PolicyConfig {
            selection: chain(self.selection, embedded.selection),
            compatibility: chain(self.compatibility, embedded.compatibility),
            estimate: chain(self.estimate, embedded.estimate),
            queueing: chain(self.queueing, embedded.queueing),
            dir: embedded.dir,
            record,
            locked: self.locked.unwrap_or(embedded.locked),
            cache: sources.cache_dir.as_ref().map(|dir| dir.join("sleap-rtc/plugins")),
        }
    }
}

#[cfg(feature = "peer")]
impl FilePlugin {
    /// The plugin's options. What the file does not say, `default` does.
    fn checked(self, sources: &Sources, base: &Path, default: &PluginConfig) -> PluginConfig {
        let FileTerms { settings, on_failure, timeout, memory } = self.terms;
        PluginConfig {
            plugin: self.plugin.map(|text| plugin_path(sources, base, text)),
            settings: settings.unwrap_or_default(),
            on_failure: match on_failure {
                Some(FileOnFailure::Refuse) => OnFailure::Refuse,
                Some(FileOnFailure::Default) => OnFailure::Default,
                None => default.on_failure,
            },
            timeout_ms: timeout.map_or(default.timeout_ms, |Time(t)| t.as_millis() as u64),
            memory_mib: memory.map_or(default.memory_mib, |Size(b)| b.div_ceil(1 << 20)),
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
