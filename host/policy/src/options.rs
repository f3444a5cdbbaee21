//! Which plugins to use, with their settings and limits.

use super::ExtensionPoint;
use std::path::{Path, PathBuf};

/// The policy plugins. Each extension point has a list of them; without any, the embedded one answers.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyConfig {
    /// The folder of plugins that are given by name.
    pub dir: PathBuf,
    /// Whether to load only plugins that `plugins.lock` in that folder accepts.
    pub locked: bool,
    /// Where to cache compiled plugins, if anywhere.
    pub cache: Option<PathBuf>,
    /// Where to record questions and answers, if anywhere.
    pub record: Option<PathBuf>,
    /// Decide which worker gets a job. Used by clients.
    pub selection: Vec<PluginConfig>,
    /// Decide whether a worker accepts a job. Used by workers.
    pub compatibility: Vec<PluginConfig>,
    /// Estimate how long a job takes. Used by workers.
    pub estimate: Vec<PluginConfig>,
    /// Decide in which order waiting jobs start. Used by workers.
    pub queueing: Vec<PluginConfig>,
}

impl PolicyConfig {
    /// Only the embedded plugins.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            locked: false,
            cache: None,
            record: None,
            selection: vec![PluginConfig::new(OnFailure::Default)],
            // A lab's rule about its own machine must not stop applying when the plugin fails.
            compatibility: vec![PluginConfig::new(OnFailure::Refuse)],
            estimate: vec![PluginConfig::new(OnFailure::Default)],
            // First in, first out: everybody understands it, and the operator sees that the rule failed.
            queueing: vec![PluginConfig::new(OnFailure::Refuse)],
        }
    }

    /// All plugins.
    pub(crate) fn all_plugins_mut(&mut self) -> impl Iterator<Item = &mut PluginConfig> {
        let Self { selection, compatibility, estimate, queueing, .. } = self;
        selection.iter_mut().chain(compatibility).chain(estimate).chain(queueing)
    }

    /// The plugins of `point`, in the order in which they are asked.
    pub fn plugins(&self, point: ExtensionPoint) -> &[PluginConfig] {
        match point {
            ExtensionPoint::Selection => &self.selection,
            ExtensionPoint::Compatibility => &self.compatibility,
            ExtensionPoint::Estimate => &self.estimate,
            ExtensionPoint::Queueing => &self.queueing,
        }
    }
}

/// The settings of one plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    /// An absolute path, or a name: `NAME.wasm` in the plugin folder, or else an embedded plugin. `None`
    /// for the embedded one.
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

    /// The plugin's name in logs and messages. `None` for the embedded one.
    pub fn name(&self) -> Option<String> {
        self.plugin.as_deref().map(|plugin| name(Path::new(plugin)))
    }
}

/// What happens when a plugin traps, takes too long or gives an invalid answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The embedded plugin answers instead.
    Default,
    /// The answer is no. For queueing, which refuses nobody: first in, first out.
    Refuse,
}

/// The name of a plugin in logs and messages.
pub(crate) fn name(plugin: &Path) -> String {
    let stem = plugin.file_stem().unwrap_or(plugin.as_os_str());
    stem.to_string_lossy().into_owned()
}
