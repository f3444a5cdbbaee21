//! The configured plugins of one extension point.

use super::bindings::types::Property;
use super::cache::Cache;
use super::component::{Failure, Plugin};
use super::compose::{Fallback, PluginInfo, PluginList};
use super::limits::CallLimits;
use super::options::{OnFailure, PluginConfig};
use super::questions::Question;
use super::record::Recorder;
use super::source::PluginSource;
use super::watched::Watched;
use super::{ExtensionPoint, PolicyError, facts, options, source};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The plugins of one extension point, in the order of the configuration.
pub(crate) struct PluginChain {
    point: ExtensionPoint,
    plugins: Vec<ConfiguredPlugin>,
    cache: Option<Arc<Cache>>,
    recorder: Option<Arc<Recorder>>,
    failures: AtomicU64,
}

/// A plugin of the chain.
struct ConfiguredPlugin {
    name: Arc<str>,
    /// `None` for the built-in plugin.
    file: Option<Watched>,
    settings: Vec<Property>,
    on_failure: OnFailure,
}

impl PluginChain {
    /// Loads the plugins in `configs`; the built-in plugin alone if there are none.
    pub(crate) fn load(
        point: ExtensionPoint,
        configs: &[PluginConfig],
        source: &PluginSource,
        recorder: Option<Arc<Recorder>>,
    ) -> Result<Self, PolicyError> {
        let built_in = [PluginConfig::new(OnFailure::Refuse)];
        let configs = if configs.is_empty() { &built_in[..] } else { configs };
        let plugins = configs.iter().map(|config| ConfiguredPlugin::load(point, config, source));
        Ok(Self {
            point,
            plugins: plugins.collect::<Result<_, _>>()?,
            cache: source.cache.clone(),
            recorder,
            failures: AtomicU64::new(0),
        })
    }

    /// How often its plugins failed since they were loaded.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Loads the embedded plugin.
    pub(crate) fn prepare(&self) {
        let _ = embedded(self.point, self.cache.as_deref());
    }

    fn ask_plugin<Q: Question>(
        &self,
        question: &mut Q,
        plugin: Result<Plugin, String>,
        settings: &[Property],
    ) -> Result<Q::Answer, Failure> {
        // Settings belong to one plugin only.
        question.context().settings = settings.to_vec();
        let plugin = plugin.map_err(Failure::Other)?;
        let answer = plugin.ask(question);
        if let Some(recorder) = &self.recorder {
            recorder.keep(plugin.name(), question, &answer);
        }
        answer
    }

    fn embedded(&self) -> Result<Plugin, String> {
        embedded(self.point, self.cache.as_deref()).clone()
    }
}

impl ConfiguredPlugin {
    fn load(
        point: ExtensionPoint,
        config: &PluginConfig,
        source: &PluginSource,
    ) -> Result<Self, PolicyError> {
        let limits = CallLimits { timeout_ms: config.timeout_ms, memory_mib: config.memory_mib };
        let plugin = config.plugin.as_deref();
        let found = plugin
            .and_then(|plugin| Some((plugin, source::configured(point, plugin, &source.dir)?)));
        let (name, file) = match found {
            None => (source::embedded_name(point).to_owned(), None),
            Some((plugin, path)) => {
                (options::name(&path), Some(Watched::load(point, plugin, path, source, limits)?))
            }
        };
        Ok(Self {
            name: name.into(),
            file,
            settings: facts::settings(&config.settings),
            on_failure: config.on_failure,
        })
    }
}

impl<Q: Question> PluginList<Q> for PluginChain {
    fn len(&self) -> usize {
        self.plugins.len()
    }

    fn info(&self, place: usize) -> PluginInfo {
        let ConfiguredPlugin { name, file, on_failure, .. } = &self.plugins[place];
        PluginInfo { name: Arc::clone(name), on_failure: *on_failure, is_built_in: file.is_none() }
    }

    fn ask(&self, place: usize, question: &mut Q) -> Result<Q::Answer, Failure> {
        let configured = &self.plugins[place];
        let plugin = match &configured.file {
            Some(file) => Ok(file.current()),
            None => self.embedded(),
        };
        self.ask_plugin(question, plugin, &configured.settings)
    }

    fn ask_built_in(&self, question: &mut Q) -> Result<Q::Answer, Failure> {
        self.ask_plugin(question, self.embedded(), &[])
    }

    fn built_in(&self) -> Arc<str> {
        source::embedded_name(self.point).into()
    }

    fn failed(&self, name: &str, failure: &Failure, then: Fallback) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let (point, then) = (self.point.key(), then.text());
        tracing::warn!(failures, "the {point} plugin {name} failed: {failure}; {then}");
    }
}

/// The embedded plugin for `point`, loaded once per process.
fn embedded(point: ExtensionPoint, cache: Option<&Cache>) -> &'static Result<Plugin, String> {
    static PLUGINS: [OnceLock<Result<Plugin, String>>; ExtensionPoint::ALL.len()] =
        [const { OnceLock::new() }; ExtensionPoint::ALL.len()];
    PLUGINS[point as usize].get_or_init(|| source::load_embedded(point, cache))
}
