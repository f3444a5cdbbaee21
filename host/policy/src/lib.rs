//! The policy host. Plugins decide which worker gets a job, whether a worker accepts it, and how long it
//! takes.
//!
//! A plugin is a WASM component that implements the package in `wit/`. The default policies are
//! components too, embedded in this program, so that the code that is tested is the code that runs. A
//! plugin that fails (traps, takes too long, gives an invalid answer) does no harm: its failure is
//! logged and counted, and [`OnFailure`] decides what is answered instead.
//!
//! ```
//! use sleap_rtc_policy::{Policies, PolicyConfig};
//! use sleap_rtc_protocol::job::{JobDescription, JobType};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let policies = Policies::load(&PolicyConfig::new("/no/plugins".into()))?;
//! let job = JobDescription::unknown(JobType::Training);
//! assert!(policies.select(&job, &[]).await.ranking.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bindings;
mod cache;
mod cases;
mod component;
mod detached;
pub mod examine;
mod explain;
mod facts;
mod limits;
mod local_time;
pub mod lock;
mod options;
mod questions;
mod source;
mod watched;

pub use options::{OnFailure, PluginConfig, PolicyConfig};

use cache::Cache;
use component::{Failure, Plugin};
use limits::CallLimits;
pub use local_time::LocalTime;
use questions::{Check, EstimateDuration, Question, Select};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::{JobDescription, Reason};
use source::PluginSource;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use watched::Watched;

/// The decisions that a plugin can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtensionPoint {
    /// Ranks the workers of a room, on the client.
    Selection,
    /// Admits jobs, on the worker.
    Compatibility,
    /// Estimates durations, on the worker.
    Estimate,
}

impl ExtensionPoint {
    /// All extension points.
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

    /// The WIT world with only this extension point.
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
        /// The path that was tried.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("[policy.{key}]: cannot read {}", .path.display())]
    Read {
        /// The section of the configuration.
        key: &'static str,
        /// The plugin's file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Reading and compiling the file takes too long.
    #[error(
        "[policy.{key}]: {} was not read and compiled within {limit_s} s: see whether its disk answers, \
         and whether `sleap-rtc plugin validate` accepts it",
        .path.display()
    )]
    Slow {
        /// The section of the configuration.
        key: &'static str,
        /// The plugin's file.
        path: PathBuf,
        /// How long it had.
        limit_s: u64,
    },
    /// The file is not a plugin for this extension point.
    #[error("[policy.{key}]: {} cannot be used: {why}", .path.display())]
    Unusable {
        /// The section of the configuration.
        key: &'static str,
        /// The plugin's file.
        path: PathBuf,
        /// What its author should do.
        why: String,
    },
    /// `plugins.lock` does not accept the file.
    #[error("[policy.{key}]: {source}")]
    Locked {
        /// The section of the configuration.
        key: &'static str,
        /// The reason, and what to do.
        source: lock::LockError,
    },
}

/// A worker that may get the job.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its index in the list of workers.
    pub index: usize,
    /// Higher is better. Finite.
    pub score: f64,
    /// The reason, for the user.
    pub reason: String,
}

/// A worker that must not get the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// Its index in the list of workers.
    pub index: usize,
    /// The reason, for the user.
    pub reason: String,
}

/// The answer of a selection plugin.
#[derive(Debug, Clone, Default, PartialEq)]
struct Ranking {
    choices: Vec<Choice>,
    left_out: Vec<Exclusion>,
}

/// The workers to offer a job to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Best first, each worker at most once; empty if none fits.
    pub ranking: Vec<Choice>,
    /// The workers left out with a reason.
    pub left_out: Vec<Exclusion>,
    /// A line for the user if a plugin failed. The log has the same line with the plugin's own
    /// message.
    pub notice: Option<String>,
}

/// Whether a worker accepts a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The worker accepts it.
    Yes,
    /// The worker refuses it, for at least one reason.
    No(Vec<Reason>),
}

/// How long a job will take. `0 <= low <= minutes <= high`, all finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The most likely duration.
    pub minutes: f64,
    /// The job is rarely shorter.
    pub low: f64,
    /// The job is rarely longer.
    pub high: f64,
    /// The estimated share of jobs that take between `low` and `high`.
    pub confidence: f64,
}

/// The plugins in use. Cheap to clone.
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
    /// Loads and tests the configured plugins. Those that are not in the cache are compiled, which
    /// can take seconds. The embedded plugins are loaded when they are first needed.
    ///
    /// # Errors
    ///
    /// Names the first plugin that cannot be used, and what to do about it.
    pub fn load(config: &PolicyConfig) -> Result<Self, PolicyError> {
        let source = PluginSource::new(config);
        let load = |point, section| Point::load(point, section, &source);
        let points = Points {
            selection: load(ExtensionPoint::Selection, &config.selection)?,
            compatibility: load(ExtensionPoint::Compatibility, &config.compatibility)?,
            estimate: load(ExtensionPoint::Estimate, &config.estimate)?,
            cache: source.cache,
        };
        Ok(Self { points: Arc::new(points), asker: None })
    }

    /// The same plugins, for a job of the client `peer`.
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

    /// Whether `worker` accepts `job`. If no plugin answers, the job is refused.
    pub async fn check(&self, job: &JobDescription, worker: &WorkerFacts) -> Verdict {
        let question =
            Check { context: self.context(), job: facts::job(job), worker: facts::worker(worker) };
        let (answer, notice) = self.ask(question).await;
        answer.unwrap_or_else(|| {
            let message = notice.unwrap_or_else(|| "the compatibility plugin failed".into());
            Verdict::No(vec![Reason { code: "policy-failed".into(), message }])
        })
    }

    /// How long `worker` needs for `job`, if a plugin can estimate it.
    pub async fn estimate(&self, job: &JobDescription, worker: &WorkerFacts) -> Option<Estimate> {
        let question = EstimateDuration {
            context: self.context(),
            job: facts::job(job),
            worker: facts::worker(worker),
        };
        self.ask(question).await.0.flatten()
    }

    /// The context of a call, without settings.
    fn context(&self) -> bindings::types::Context {
        facts::context(self.asker.as_deref(), &[], LocalTime::now())
    }

    /// How often plugins at `point` failed since they were loaded.
    pub fn failures(&self, point: ExtensionPoint) -> u64 {
        self.points.at(point).failures.load(Ordering::Relaxed)
    }

    /// How often plugins failed since they were loaded, for each extension point with failures.
    pub fn all_failures(&self) -> BTreeMap<&'static str, u64> {
        let counted = ExtensionPoint::ALL.map(|point| (point.key(), self.failures(point)));
        counted.into_iter().filter(|(_, failures)| *failures > 0).collect()
    }

    /// Calls the plugin on a thread that may block.
    async fn ask<Q: Question>(&self, question: Q) -> (Option<Q::Answer>, Option<String>) {
        let points = Arc::clone(&self.points);
        let asked = tokio::task::spawn_blocking(move || {
            points.at(Q::POINT).ask(question, points.cache.as_deref())
        });
        asked.await.unwrap_or_else(|error| {
            tracing::error!(%error, point = Q::POINT.key(), "the host panicked while it called a plugin (this is a bug)");
            (None, Some(format!("cannot call the {} plugin", Q::POINT.key())))
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

/// One extension point with its plugin.
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
        source: &PluginSource,
    ) -> Result<Self, PolicyError> {
        let limits = CallLimits { timeout_ms: config.timeout_ms, memory_mib: config.memory_mib };
        let load = |plugin: &String| Watched::load(point, plugin, source, limits);
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
            OnFailure::Refuse => "no other plugin answers in its place",
            OnFailure::Default => "the built-in plugin answered instead",
        };
        self.count(Q::POINT, &plugin.name, &failure, then);
        let failed = format!("the {} plugin {} failed", Q::POINT.key(), plugin.name);
        // The settings belong to the configured plugin only.
        question.context().settings.clear();
        match self.on_failure {
            OnFailure::Refuse => (None, Some(failed)),
            OnFailure::Default => match self.ask_default(&question, cache) {
                Ok(answer) => (Some(answer), Some(format!("{failed}; {then}"))),
                Err(notice) => (None, Some(format!("{failed}; {notice}"))),
            },
        }
    }

    /// Calls the embedded plugin.
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
            self.count(Q::POINT, name, &failure, "no other plugin answers in its place");
            format!("the built-in {} plugin failed", Q::POINT.key())
        })
    }

    /// Counts a failure and logs it in one line.
    fn count(&self, point: ExtensionPoint, plugin: &str, failure: &Failure, then: &str) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let point = point.key();
        tracing::warn!(failures, "the {point} plugin {plugin} failed: {failure}; {then}");
    }
}

/// The embedded plugin for `point`, loaded once per process.
fn embedded(point: ExtensionPoint, cache: Option<&Cache>) -> &'static Result<Plugin, String> {
    static PLUGINS: [OnceLock<Result<Plugin, String>>; 3] = [const { OnceLock::new() }; 3];
    PLUGINS[point as usize].get_or_init(|| source::load_embedded(point, cache))
}
