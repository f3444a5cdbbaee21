//! Which plugins to use, with their settings and limits.

use std::path::PathBuf;

/// The policy plugins.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyConfig {
    /// The folder of plugins that are given by name.
    pub dir: PathBuf,
    /// Whether to load only plugins that `plugins.lock` in that folder accepts.
    pub locked: bool,
    /// Where to cache compiled plugins, if anywhere.
    pub cache: Option<PathBuf>,
    /// Decides which worker gets a job. Used by clients.
    pub selection: PluginConfig,
    /// Decides whether a worker accepts a job. Used by workers.
    pub compatibility: PluginConfig,
    /// Estimates how long a job takes. Used by workers.
    pub estimate: PluginConfig,
}

impl PolicyConfig {
    /// Only the embedded plugins.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            locked: false,
            cache: None,
            selection: PluginConfig::new(OnFailure::Default),
            // A lab's rule about its own machine must not stop applying when the plugin fails.
            compatibility: PluginConfig::new(OnFailure::Refuse),
            estimate: PluginConfig::new(OnFailure::Default),
        }
    }
}

/// The settings of one plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    /// An absolute path, or a name: `NAME.wasm` in the plugin folder. `None` for the embedded one.
    pub plugin: Option<String>,
    /// The plugin's own settings, which every call passes to it.
    pub settings: toml::Table,
    /// What happens when a call fails.
    pub on_failure: OnFailure,
    /// Time limit of one call.
    pub timeout_ms: u64,
    /// Memory limit of one call.
    pub memory_mib: u64,
}

impl PluginConfig {
    /// The embedded plugin with the default limits: 200 ms and 64 MiB.
    pub fn new(on_failure: OnFailure) -> Self {
        let settings = toml::Table::new();
        Self { plugin: None, settings, on_failure, timeout_ms: 200, memory_mib: 64 }
    }
}

/// What happens when a plugin traps, takes too long or gives an invalid answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The embedded plugin answers instead.
    Default,
    /// The answer is no.
    Refuse,
}
