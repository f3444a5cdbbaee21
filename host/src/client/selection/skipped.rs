//! The workers that were skipped, and why.

use super::name;
use crate::client::ClientError;
use crate::client::error::{JobRefused, NoWorker, SkippedWorker, SkippedWorkers};
use crate::client::room::Obstacle;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use tracing::info;

/// Why a worker was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SkipReason {
    /// It does not take the job now, but may take it later.
    Refused,
    /// All its slots are reserved. One of them may be free soon.
    Reserved,
    /// It has looked at the job and does not take it, with or without a free slot. To wait there is of no use.
    Unsuitable,
    /// It is in maintenance. To wait there is of no use.
    Maintenance,
    /// The job does not fit it.
    Unfit,
    /// It could not be reached, or did not answer.
    Silent,
    /// It has not proven its identity.
    Untrusted,
}

impl From<Obstacle> for SkipReason {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Reserved => Self::Reserved,
            Obstacle::Busy => Self::Refused,
            Obstacle::Unsuitable => Self::Unsuitable,
        }
    }
}

/// The workers that were skipped.
#[derive(Default)]
pub(crate) struct Skipped(Vec<(SkippedWorker, SkipReason)>);

impl Skipped {
    pub(crate) fn add(&mut self, worker: &WorkerFacts, reason: SkipReason, why: &impl ToString) {
        let (name, why) = (name(worker).to_string(), why.to_string());
        let worker = worker.peer_id.clone();
        info!(%worker, why = why.lines().next(), "skipped");
        self.0.push((SkippedWorker { name, worker, why }, reason));
    }

    pub(crate) fn has(&self, reason: SkipReason) -> bool {
        self.0.iter().any(|(_, other)| *other == reason)
    }

    /// Whether a worker refused the job that may take it later.
    pub(crate) fn has_refusal(&self) -> bool {
        self.has(SkipReason::Refused) || self.has(SkipReason::Reserved)
    }

    /// The workers for the user, one a line.
    pub(crate) fn lines(&self) -> String {
        let lines: Vec<String> = self.0.iter().map(|(worker, _)| worker.to_string()).collect();
        lines.join("\n")
    }

    pub(crate) fn into_error(self, min_gpu_memory_mib: Option<u64>) -> ClientError {
        let (is_untrusted, is_worth_waiting) =
            (self.has(SkipReason::Untrusted), self.has_refusal());
        let is_refused = is_worth_waiting
            || self.has(SkipReason::Unsuitable)
            || self.has(SkipReason::Maintenance);
        let workers = self.0.into_iter().map(|(worker, _)| worker).collect();
        let skipped = SkippedWorkers { min_gpu_memory_mib, workers, is_worth_waiting };
        match is_refused {
            _ if is_untrusted => ClientError::NoneTrusted(skipped),
            true => JobRefused::ByAll(skipped).into(),
            false => NoWorker::NoneFits(skipped).into(),
        }
    }
}
