//! The answers of plugins, and what they become together.

use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::job::Reason;
pub use sleap_rtc_protocol::workload::Estimate;
use std::sync::Arc;

/// A worker in a plugin's ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// Its index in the list of workers.
    pub index: usize,
    /// Higher is better. Finite.
    pub score: f64,
    /// The reason, for the user.
    pub reason: String,
}

/// A worker that a plugin leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its index in the list of workers.
    pub index: usize,
    /// The reason, for the user.
    pub reason: String,
}

/// The answer of one selection plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// Best first, each worker at most once.
    pub choices: Vec<Ranked>,
    /// The workers that must not get the job.
    pub left_out: Vec<LeftOut>,
}

/// What a plugin says about a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// For the user.
    pub text: String,
}

impl Remark {
    /// None if the plugin says nothing.
    pub(crate) fn new(plugin: &Arc<str>, text: &str) -> Option<Self> {
        let remark = || Self { plugin: Arc::clone(plugin), text: text.to_owned() };
        (!text.trim().is_empty()).then(remark)
    }
}

/// A worker that may get the job.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its index in the list of workers.
    pub index: usize,
    /// The first plugin's score: higher is better. Finite.
    pub score: f64,
    /// Why it has its place, by each plugin that gave a reason.
    pub remarks: Vec<Remark>,
}

impl Choice {
    /// The reasons, without the names of the plugins.
    pub fn reason(&self) -> String {
        let texts: Vec<&str> = self.remarks.iter().map(|remark| remark.text.as_str()).collect();
        texts.join("; ")
    }
}

/// A worker that must not get the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// Its index in the list of workers.
    pub index: usize,
    /// The plugin that leaves it out.
    pub plugin: Arc<str>,
    /// The reason, for the user.
    pub reason: String,
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

impl Selection {
    /// The ranking of the plugin `by`.
    pub fn new(by: &Arc<str>, ranking: Ranking) -> Self {
        let choice = |Ranked { index, score, reason }: Ranked| Choice {
            index,
            score,
            remarks: Remark::new(by, &reason).into_iter().collect(),
        };
        let exclusion = |LeftOut { index, reason }: LeftOut| Exclusion {
            index,
            plugin: Arc::clone(by),
            reason,
        };
        Self {
            ranking: ranking.choices.into_iter().map(choice).collect(),
            left_out: ranking.left_out.into_iter().map(exclusion).collect(),
            notice: None,
        }
    }
}

/// A waiting job in a plugin's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its index in the list of waiting jobs.
    pub index: usize,
    /// The reason, for the user.
    pub reason: String,
}

/// In which order waiting jobs start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineOrder {
    /// A plugin has decided.
    Decided {
        /// The plugin, and why it decides if another one should have.
        by: String,
        /// The next one first, each job at most once. Those that are missing come last.
        places: Vec<Placed>,
    },
    /// Nobody has, because of this failure: first in, first out.
    Failed(String),
}

/// Whether a worker accepts a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The worker accepts it.
    Yes,
    /// The worker refuses it, for at least one reason.
    No(Vec<Reason>),
}

impl Verdict {
    /// The reason of a refusal because a plugin failed.
    pub(crate) fn failure_reason(notice: Option<String>) -> Reason {
        let message = notice.unwrap_or_else(|| "the compatibility plugin failed".into());
        Reason { code: "policy-failed".into(), message }
    }
}
