//! Asks plugins: which worker, whether, how long.
//!
//! A plugin is a WASM component written against the package in `wit/`. The defaults are components
//! too, embedded in this program: what is tested is what runs. A plugin that fails (traps, takes
//! too long, answers nonsense) harms nobody: its failure is logged and counted, and
//! [`OnFailure`] says what is answered instead.

mod bindings;
mod cache;
mod cases;
mod component;
pub mod examine;
mod explain;
mod facts;
mod limits;
mod local_time;
pub mod lock;
mod options;
mod questions;
mod source;
mod text;
mod watched;

pub use options::{OnFailure, PluginConfig, PolicyConfig};

use cache::Cache;
use component::{Failure, Plugin};
use limits::Limits;
pub use local_time::LocalTime;
use questions::{Check, HowLong, Question, Select};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::{JobDescription, Reason};
use source::Shelf;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use watched::Watched;

/// Where a plugin may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtensionPoint {
    /// Ranks the workers of a room. On the client.
    Selection,
    /// Admits jobs. On the worker.
    Compatibility,
    /// Estimates durations. On the worker.
    Estimate,
}

impl ExtensionPoint {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Selection, Self::Compatibility, Self::Estimate];

    /// The key in the configuration: `[policy.KEY]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Selection => "selection",
            Self::Compatibility => "compatibility",
            Self::Estimate => "estimate",
        }
    }

    /// The WIT interface that a plugin exports.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Estimate => "estimation",
            Self::Selection | Self::Compatibility => self.key(),
        }
    }

    /// The WIT world that has this extension point only.
    pub fn world(self) -> &'static str {
        match self {
            Self::Selection => "selection-plugin",
            Self::Compatibility => "compatibility-plugin",
            Self::Estimate => "estimation-plugin",
        }
    }
}

/// Why a configured plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No such file.
    #[error("[policy.{key}] plugin = {plugin:?}: there is no file {}", .path.display())]
    NotFound {
        /// The section of the configuration.
        key: &'static str,
        /// As configured.
        plugin: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("[policy.{key}]: cannot read {}", .path.display())]
    Read {
        /// The section of the configuration.
        key: &'static str,
        /// The plugin's file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not a plugin for this place.
    #[error("[policy.{key}]: {} cannot be used: {why}", .path.display())]
    Unusable {
        /// The section of the configuration.
        key: &'static str,
        /// The plugin's file.
        path: PathBuf,
        /// What its author should do.
        why: String,
    },
    /// The file is not one that was accepted.
    #[error("[policy.{key}]: {source}")]
    Locked {
        /// The section of the configuration.
        key: &'static str,
        /// Why not, and what to do.
        source: lock::LockError,
    },
}

/// A worker that may get the job.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its place in the list that was asked about.
    pub index: usize,
    /// Higher is better. Finite.
    pub score: f64,
    /// Why, in words.
    pub reason: String,
}

/// A worker that must not get the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// Its place in the list that was asked about.
    pub index: usize,
    /// Why not, in words.
    pub reason: String,
}

/// What a selection plugin says.
#[derive(Debug, Clone, Default, PartialEq)]
struct Ranking {
    choices: Vec<Choice>,
    left_out: Vec<Exclusion>,
}

/// Which workers to offer a job to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Best first; each worker at most once; empty when none fits.
    pub ranking: Vec<Choice>,
    /// Those left out with a reason.
    pub left_out: Vec<Exclusion>,
    /// A line for the user when a plugin failed. The log has it too, with the plugin's own words.
    pub notice: Option<String>,
}

/// Whether a worker takes a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Yes,
    /// It does not, for at least one reason.
    No(Vec<Reason>),
}

/// How long a job may take. `0 <= low <= minutes <= high`, all finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The most likely duration.
    pub minutes: f64,
    /// Rarely shorter.
    pub low: f64,
    /// Rarely longer.
    pub high: f64,
    /// Share of jobs that end between `low` and `high`.
    pub confidence: f64,
}

/// The plugins in force. Cheap to clone.
#[derive(Clone)]
pub struct Policies {
    points: Arc<Points>,
    asker: Option<Arc<str>>,
}

struct Points {
    cache: Option<Arc<Cache>>,
    selection: Point,
    compatibility: Point,
    estimate: Point,
}

impl Policies {
    /// Loads the configured plugins and tries each. Compiles those that are not in the cache, which
    /// takes up to seconds for large ones; the embedded ones are loaded when first asked.
    ///
    /// # Errors
    /// The first plugin that cannot be used, and what to do about it.
    pub fn load(config: &PolicyConfig) -> Result<Self, PolicyError> {
        let shelf = Shelf::new(config);
        let load = |point, section| Point::load(point, section, &shelf);
        let points = Points {
            selection: load(ExtensionPoint::Selection, &config.selection)?,
            compatibility: load(ExtensionPoint::Compatibility, &config.compatibility)?,
            estimate: load(ExtensionPoint::Estimate, &config.estimate)?,
            cache: shelf.cache,
        };
        Ok(Self { points: Arc::new(points), asker: None })
    }

    /// The same plugins, told that `peer` asks.
    pub fn asked_by(&self, peer: &str) -> Self {
        Self { points: Arc::clone(&self.points), asker: Some(peer.into()) }
    }

    /// Ranks `workers` for `job`.
    pub async fn select(&self, job: &JobDescription, workers: &[WorkerFacts]) -> Selection {
        let question = Select {
            context: self.context(),
            job: facts::job(job),
            workers: workers.iter().map(facts::worker).collect(),
        };
        let (answer, notice) = self.ask(question).await;
        let Ranking { choices, left_out } = answer.unwrap_or_default();
        Selection { ranking: choices, left_out, notice }
    }

    /// Whether `worker` takes `job`. A failure that nothing stands in for is a refusal.
    pub async fn check(&self, job: &JobDescription, worker: &WorkerFacts) -> Verdict {
        let question =
            Check { context: self.context(), job: facts::job(job), worker: facts::worker(worker) };
        let (answer, notice) = self.ask(question).await;
        answer.unwrap_or_else(|| {
            let message = notice.unwrap_or_else(|| "the compatibility plugin failed".into());
            Verdict::No(vec![Reason { code: "policy-failed".into(), message }])
        })
    }

    /// How long `worker` needs for `job`. None: nobody can tell.
    pub async fn estimate(&self, job: &JobDescription, worker: &WorkerFacts) -> Option<Estimate> {
        let question = HowLong {
            context: self.context(),
            job: facts::job(job),
            worker: facts::worker(worker),
        };
        self.ask(question).await.0.flatten()
    }

    /// The circumstances of a call, but for the settings.
    fn context(&self) -> bindings::types::Context {
        facts::context(self.asker.as_deref(), &[], LocalTime::now())
    }

    /// How often plugins at `point` failed since they were loaded.
    pub fn failures(&self, point: ExtensionPoint) -> u64 {
        self.points.at(point).failures.load(Ordering::Relaxed)
    }

    /// How often plugins failed since they were loaded, where they did.
    pub fn all_failures(&self) -> BTreeMap<&'static str, u64> {
        let counted = ExtensionPoint::ALL.map(|point| (point.key(), self.failures(point)));
        counted.into_iter().filter(|(_, failures)| *failures > 0).collect()
    }

    /// Asks on a thread that may block.
    async fn ask<Q: Question>(&self, question: Q) -> (Option<Q::Answer>, Option<String>) {
        let points = Arc::clone(&self.points);
        let asked = tokio::task::spawn_blocking(move || {
            points.at(Q::POINT).ask(question, points.cache.as_deref())
        });
        asked.await.unwrap_or_else(|error| {
            tracing::error!(%error, point = Q::POINT.key(), "the host failed while asking a plugin");
            (None, Some(format!("the {} plugin could not be asked", Q::POINT.key())))
        })
    }
}

impl Points {
    fn at(&self, point: ExtensionPoint) -> &Point {
        match point {
            ExtensionPoint::Selection => &self.selection,
            ExtensionPoint::Compatibility => &self.compatibility,
            ExtensionPoint::Estimate => &self.estimate,
        }
    }
}

/// One extension point and who answers there.
struct Point {
    configured: Option<Watched>,
    settings: Vec<bindings::types::Property>,
    on_failure: OnFailure,
    failures: AtomicU64,
}

impl Point {
    fn load(
        point: ExtensionPoint,
        config: &PluginConfig,
        shelf: &Shelf,
    ) -> Result<Self, PolicyError> {
        let limits = Limits { timeout_ms: config.timeout_ms, memory_mib: config.memory_mib };
        let load = |plugin: &String| Watched::load(point, plugin, shelf, limits);
        Ok(Self {
            configured: config.plugin.as_ref().map(load).transpose()?,
            settings: facts::settings(&config.settings),
            on_failure: config.on_failure,
            failures: AtomicU64::new(0),
        })
    }

    /// The answer, if there is one, and a line for the user if a plugin failed. Blocks.
    fn ask<Q: Question>(
        &self,
        mut question: Q,
        cache: Option<&Cache>,
    ) -> (Option<Q::Answer>, Option<String>) {
        question.context().settings.clone_from(&self.settings);
        let Some(watched) = &self.configured else {
            return match self.ask_default(&question, cache) {
                Ok(answer) => (Some(answer), None),
                Err(notice) => (None, Some(notice)),
            };
        };
        let plugin = watched.current();
        let failure = match plugin.ask(&question) {
            Ok(answer) => return (Some(answer), None),
            Err(failure) => failure,
        };
        let then = match self.on_failure {
            OnFailure::Refuse => "nothing answers for it",
            OnFailure::Default => "the default was used",
        };
        self.count(Q::POINT, &plugin.name, &failure, then);
        let failed = format!("the {} plugin {} failed", Q::POINT.key(), plugin.name);
        // Settings are for the plugin they were written for.
        question.context().settings.clear();
        match self.on_failure {
            OnFailure::Refuse => (None, Some(failed)),
            OnFailure::Default => match self.ask_default(&question, cache) {
                Ok(answer) => (Some(answer), Some(format!("{failed}; {then}"))),
                Err(notice) => (None, Some(format!("{failed}; {notice}"))),
            },
        }
    }

    /// Asks the embedded plugin.
    fn ask_default<Q: Question>(
        &self,
        question: &Q,
        cache: Option<&Cache>,
    ) -> Result<Q::Answer, String> {
        let name = source::embedded_name(Q::POINT);
        let asked = match embedded(Q::POINT, cache) {
            Ok(plugin) => plugin.ask(question),
            Err(why) => Err(Failure::Other(why.clone())),
        };
        asked.map_err(|failure| {
            self.count(Q::POINT, name, &failure, "nothing answers for it");
            format!("the built-in {} plugin failed", Q::POINT.key())
        })
    }

    /// Counts a failure and logs it, in the one line that a client's user sees of it.
    fn count(&self, point: ExtensionPoint, plugin: &str, failure: &Failure, then: &str) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let point = point.key();
        tracing::warn!(failures, "the {point} plugin {plugin} failed: {failure}; {then}");
    }
}

/// The embedded plugin for `point`, loaded once in the life of the process.
fn embedded(point: ExtensionPoint, cache: Option<&Cache>) -> &'static Result<Plugin, String> {
    static PLUGINS: [OnceLock<Result<Plugin, String>>; 3] = [const { OnceLock::new() }; 3];
    PLUGINS[point as usize].get_or_init(|| source::load_embedded(point, cache))
}
