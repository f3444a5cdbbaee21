//! Which plugins there are, and what they may take.

use std::path::PathBuf;

/// The policy plugins.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyConfig {
    /// Where plugins that are given by name lie.
    pub dir: PathBuf,
    /// Whether only plugins that stand in `plugins.lock` in that folder are loaded.
    pub locked: bool,
    /// Where compiled plugins are kept; `None`: nowhere.
    pub cache: Option<PathBuf>,
    /// Which worker (asked by the client).
    pub selection: PluginConfig,
    /// Whether (asked by the worker).
    pub compatibility: PluginConfig,
    /// How long (asked by the worker).
    pub estimate: PluginConfig,
}

impl PolicyConfig {
    /// The embedded plugins alone.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            locked: false,
            cache: None,
            selection: PluginConfig::new(OnFailure::Default),
            // A lab's "not on my machine" never fails open.
            compatibility: PluginConfig::new(OnFailure::Refuse),
            estimate: PluginConfig::new(OnFailure::Default),
        }
    }
}

/// One plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    /// An absolute path, or a name: `NAME.wasm` in the plugin folder. `None` for the embedded one.
    pub plugin: Option<String>,
    /// Handed to every call.
    pub settings: toml::Table,
    /// What happens when a call fails.
    pub on_failure: OnFailure,
    /// Longest time of one call.
    pub timeout_ms: u64,
    /// Most memory of one call.
    pub memory_mib: u64,
}

impl PluginConfig {
    /// The embedded plugin with the default limits: 200 ms and 64 MiB.
    pub fn new(on_failure: OnFailure) -> Self {
        let settings = toml::Table::new();
        Self { plugin: None, settings, on_failure, timeout_ms: 200, memory_mib: 64 }
    }
}

/// What happens when a plugin traps, takes too long or answers nonsense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The embedded plugin answers instead.
    Default,
    /// The answer is no.
    Refuse,
}
