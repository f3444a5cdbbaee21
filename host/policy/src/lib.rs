//! The policy host. Plugins decide which worker gets a job, whether a worker accepts it, how long it takes,
//! and in which order waiting jobs start.
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

mod answers;
mod bindings;
mod block;
mod cache;
mod cases;
mod chain;
mod component;
mod compose;
mod detached;
mod error;
pub mod examine;
mod explain;
mod facts;
mod history;
mod limits;
mod local_time;
pub mod lock;
mod options;
mod questions;
mod record;
pub mod replay;
pub mod simulate;
mod source;
mod watched;

pub use answers::{
    Choice, Estimate, Exclusion, LeftOut, LineOrder, Placed, Ranked, Ranking, Remark, Selection,
    Verdict,
};
pub use error::PolicyError;
pub use local_time::LocalTime;
pub use options::{OnFailure, PluginConfig, PolicyConfig};
pub use questions::order::{JobHere, Line};

use chain::PluginChain;
use compose::WhenNobodyAnswers;
use limits::CallLimits;
use questions::order::OrderLine;
use questions::{Check, EstimateDuration, Select};
use record::Recorder;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::JobDescription;
use sleap_rtc_protocol::workload::{FinishedRun, NeededMemory};
use source::PluginSource;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The decisions that a plugin can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtensionPoint {
    /// Ranks the workers of a room, on the client.
    Selection,
    /// Admits jobs, on the worker.
    Compatibility,
    /// Estimates durations, on the worker.
    Estimate,
    /// Orders the jobs that wait, on the worker.
    Queueing,
}

impl ExtensionPoint {
    /// All extension points.
    pub const ALL: [Self; 4] =
        [Self::Selection, Self::Compatibility, Self::Estimate, Self::Queueing];

    /// The key in the configuration: `[policy.KEY]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Selection => "selection",
            Self::Compatibility => "compatibility",
            Self::Estimate => "estimate",
            Self::Queueing => "queueing",
        }
    }

    /// The WIT interface that a plugin exports.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Estimate => "estimation",
            Self::Selection | Self::Compatibility | Self::Queueing => self.key(),
        }
    }

    /// The function of the interface.
    pub(crate) fn function(self) -> &'static str {
        match self {
            Self::Selection => "select",
            Self::Compatibility => "check",
            Self::Estimate => "estimate",
            Self::Queueing => "order",
        }
    }

    /// The WIT world with only this extension point.
    pub fn world(self) -> &'static str {
        match self {
            Self::Selection => "selection-plugin",
            Self::Compatibility => "compatibility-plugin",
            Self::Estimate => "estimation-plugin",
            Self::Queueing => "queueing-plugin",
        }
    }
}

/// The plugins in use. Cheap to clone.
#[derive(Clone)]
pub struct Policies {
    points: Arc<Points>,
    asker: Option<Arc<str>>,
}

struct Points {
    selection: PluginChain,
    compatibility: PluginChain,
    estimate: PluginChain,
    queueing: PluginChain,
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
        let recorder = config.record.as_deref().and_then(record);
        let load =
            |point| PluginChain::load(point, config.plugins(point), &source, recorder.clone());
        let points = Points {
            selection: load(ExtensionPoint::Selection)?,
            compatibility: load(ExtensionPoint::Compatibility)?,
            estimate: load(ExtensionPoint::Estimate)?,
            queueing: load(ExtensionPoint::Queueing)?,
        };
        Ok(Self { points: Arc::new(points), asker: None })
    }

    /// Loads the embedded plugins for `points` on a thread that may block, so that the first question need
    /// not wait until they are compiled. Where a plugin does not load, the first question says why.
    pub fn prepare(&self, points: &'static [ExtensionPoint]) {
        let loaded = Arc::clone(&self.points);
        tokio::task::spawn_blocking(move || {
            points.iter().for_each(|point| loaded.at(*point).prepare())
        });
    }

    /// The same plugins, for a job of the client `peer`.
    pub fn asked_by(&self, peer: &str) -> Self {
        Self { points: Arc::clone(&self.points), asker: Some(peer.into()) }
    }

    /// Ranks `workers` for `job`.
    pub async fn select(&self, job: &JobDescription, workers: &[WorkerFacts]) -> Selection {
        let mut question = Select {
            context: self.context(),
            job: facts::job(job),
            workers: workers.iter().map(facts::worker).collect(),
        };
        let ranked = self
            .decide(ExtensionPoint::Selection, move |chain| compose::rank(chain, &mut question));
        let failed = |notice| Selection { notice: Some(notice), ..Selection::default() };
        ranked.await.unwrap_or_else(failed)
    }

    /// Whether `worker` accepts `job`, which needs this GPU memory if that is known. If no plugin answers, the
    /// job is refused.
    pub async fn check(
        &self,
        job: &JobDescription,
        worker: &WorkerFacts,
        memory: Option<&NeededMemory>,
    ) -> Verdict {
        let (mut job, worker) = (facts::job(job), facts::worker(worker));
        job.properties.extend(memory.into_iter().flat_map(facts::needed_memory));
        let question = Check { context: self.context(), job, worker };
        let admitted =
            self.decide(ExtensionPoint::Compatibility, |chain| compose::admit(chain, question));
        admitted
            .await
            .unwrap_or_else(|notice| Verdict::No(vec![Verdict::failure_reason(Some(notice))]))
    }

    /// How long `worker` needs for `job`, if a plugin can estimate it. `history` are earlier runs of this
    /// worker, the newest last; the plugin receives those that are most like the job's.
    pub async fn estimate(
        &self,
        job: &JobDescription,
        worker: &WorkerFacts,
        history: &[FinishedRun],
    ) -> Option<Estimate> {
        let mut context = self.context();
        context.properties.extend(history::property(job, worker, history));
        let question =
            EstimateDuration { context, job: facts::job(job), worker: facts::worker(worker) };
        let estimated = self.decide(ExtensionPoint::Estimate, |chain| {
            let otherwise = WhenNobodyAnswers::NoAnswer;
            compose::ask_until_answered(chain, question, Option::is_some, otherwise).answered
        });
        estimated.await.ok().flatten().and_then(|estimate| estimate.answer)
    }

    /// The order in which the jobs start that wait at `worker`.
    pub async fn order(&self, worker: &WorkerFacts, line: &Line) -> LineOrder {
        let question = OrderLine::new(self.context(), facts::worker(worker), line);
        let ordered =
            self.decide(ExtensionPoint::Queueing, |chain| compose::order(chain, question));
        ordered.await.unwrap_or_else(LineOrder::Failed)
    }

    /// The context of a call, without settings.
    fn context(&self) -> bindings::types::Context {
        facts::context(self.asker.as_deref(), &[], LocalTime::now())
    }

    /// How often plugins at `point` failed since they were loaded.
    pub fn failures(&self, point: ExtensionPoint) -> u64 {
        self.points.at(point).failures()
    }

    /// How often plugins failed since they were loaded, for each extension point with failures.
    pub fn all_failures(&self) -> BTreeMap<&'static str, u64> {
        let counted = ExtensionPoint::ALL.map(|point| (point.key(), self.failures(point)));
        counted.into_iter().filter(|(_, failures)| *failures > 0).collect()
    }

    /// Asks the plugins at `point` on a thread that may block.
    ///
    /// # Errors
    ///
    /// A line for the user if the host has a bug.
    async fn decide<A: Send + 'static>(
        &self,
        point: ExtensionPoint,
        ask: impl FnOnce(&PluginChain) -> A + Send + 'static,
    ) -> Result<A, String> {
        let points = Arc::clone(&self.points);
        tokio::task::spawn_blocking(move || ask(points.at(point))).await.map_err(|error| {
            let point = point.key();
            tracing::error!(%error, point, "the host panicked while it called a plugin (this is a bug)");
            format!("cannot call the {point} plugin")
        })
    }
}

/// Records decisions in `path`. If that fails, everything works without.
fn record(path: &Path) -> Option<Arc<Recorder>> {
    let warn = |error: &_| tracing::warn!("cannot record decisions in {}: {error}", path.display());
    Recorder::start(path).inspect_err(warn).ok().map(Arc::new)
}

impl Points {
    fn at(&self, point: ExtensionPoint) -> &PluginChain {
        match point {
            ExtensionPoint::Selection => &self.selection,
            ExtensionPoint::Compatibility => &self.compatibility,
            ExtensionPoint::Estimate => &self.estimate,
            ExtensionPoint::Queueing => &self.queueing,
        }
    }
}
