//! The line of jobs that wait at a worker for a slot.
//!
//! The line itself is in the order in which jobs came. The order in which they start is a policy's
//! decision, which arrives from outside as an [`Order`]; until then, and where it says nothing, who came
//! first is first. What the worker's operator decides about a job precedes both. Every place has the
//! [`Rule`] that gave it. Time is an argument.

use crate::ids::JobId;
use crate::job::{QueueEntry, Reason};
use std::collections::HashMap;
use std::fmt;

pub mod forecast;
#[cfg(test)]
mod tests;

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most jobs; 0 for a worker at which no job waits.
    pub jobs: usize,
    /// The most bytes of all their packages.
    pub bytes: u64,
    /// The most jobs of one user.
    pub jobs_per_user: usize,
}

/// Why a job cannot wait here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueRefused {
    /// No job waits at this worker.
    #[error("this worker has no queue (`queue = 0` under [worker])")]
    NoQueue,
    /// Too many jobs wait.
    #[error("the queue of this worker is full: its limit is {0} (`queue` under [worker])")]
    Full(usize),
    /// Their packages take too much room.
    #[error(
        "the packages of the jobs that wait for this worker would take more than {} MB together \
         (`queue_bytes` under [worker])", .0 / 1_000_000
    )]
    Bytes(u64),
    /// Too many jobs of the user wait.
    #[error(
        "the queue of this worker takes no more of your jobs until one starts: its limit is {0} for each user \
         (`queue_per_user` under [worker])"
    )]
    User(usize),
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingJob {
    /// The job.
    pub job: JobId,
    /// Whose it is: the user that its client claims, or else the client.
    pub user: String,
    /// The least GPU memory of its slot, in MiB.
    pub needs_mib: u64,
    /// What its folder says about its waiting.
    pub entry: QueueEntry,
}

/// Who decides an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderedBy {
    /// The plugin of this name.
    Plugin(String),
    /// Nobody: first in, first out, because the plugin has failed as this says.
    Failed(String),
}

/// In which order the jobs of a line start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The revision of the line that it is for.
    pub revision: u64,
    /// Who has decided it.
    pub by: OrderedBy,
    /// The jobs, the first one first, and why each has its place. Jobs that do not wait are passed over.
    pub places: Vec<(JobId, String)>,
}

/// The rule by which a job has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The operator has moved it to the front.
    Front,
    /// The operator holds it back.
    Held,
    /// The plugin's, in its words.
    Policy {
        /// The plugin.
        plugin: String,
        /// Its reason.
        reason: String,
    },
    /// The plugin has left it out.
    LeftOut {
        /// The plugin.
        plugin: String,
    },
    /// First in, first out, because the plugin failed.
    Failed {
        /// How.
        why: String,
    },
    /// It has just come, or the operator has just released it, and the order is being asked for.
    New,
    /// No slot fits it at the moment, whoever is before it.
    NoSlot {
        /// The GPU memory that it needs, in MiB.
        needs_mib: u64,
    },
}

impl Rule {
    /// A stable identifier.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Front => "operator-front",
            Self::Held => "operator-held",
            Self::Policy { .. } => "policy",
            Self::LeftOut { .. } => "policy-left-out",
            Self::Failed { .. } => "policy-failed",
            Self::New => "just-arrived",
            Self::NoSlot { .. } => "no-slot-fits",
        }
    }

    /// The rule for programs and for people.
    pub fn reason(&self) -> Reason {
        Reason { code: self.code().to_owned(), message: self.to_string() }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Front => f.write_str("the worker's operator has moved it to the front"),
            Self::Held => f.write_str("the worker's operator holds it back"),
            Self::Policy { plugin, reason } => write!(f, "{reason} ({plugin})"),
            Self::LeftOut { plugin } => {
                write!(f, "{plugin} has left it out, so it comes after the others")
            }
            Self::Failed { why } => write!(f, "first in, first out, because {why}"),
            Self::New => f.write_str("its place is about to be decided"),
            Self::NoSlot { needs_mib } => {
                write!(f, "no slot has {needs_mib} MB of GPU memory at the moment")
            }
        }
    }
}

/// The line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    limits: QueueLimits,
    /// In the order in which they came.
    jobs: Vec<WaitingJob>,
    order: Option<Order>,
    /// The revision in which each job came, or the operator last decided about it.
    entered: HashMap<JobId, u64>,
    /// Counts everything that an order may depend on.
    revision: u64,
}

impl Queue {
    /// Nobody waits.
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, jobs: Vec::new(), order: None, entered: HashMap::new(), revision: 0 }
    }

    /// How much may wait.
    pub fn limits(&self) -> &QueueLimits {
        &self.limits
    }

    /// The jobs that wait, in the order in which they came.
    pub fn jobs(&self) -> &[WaitingJob] {
        &self.jobs
    }

    /// The job, if it waits.
    pub fn get(&self, job: &JobId) -> Option<&WaitingJob> {
        self.jobs.iter().find(|waiting| waiting.job == *job)
    }

    /// The revision that an order has to be for.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether jobs wait and the order is out of date.
    pub fn wants_order(&self) -> bool {
        let known = self.order.as_ref().map(|order| order.revision);
        !self.jobs.is_empty() && known != Some(self.revision)
    }

    /// Something that an order may depend on has changed.
    pub(crate) fn touch(&mut self) {
        self.revision += 1;
    }

    /// Refuses a job if there is no room for it beside `arriving` jobs, whose packages have `bytes`.
    pub(crate) fn check_room(&self, arriving: usize, bytes: u64) -> Result<(), QueueRefused> {
        let held_bytes: u64 = self.jobs.iter().map(|waiting| waiting.entry.package_bytes).sum();
        match self.limits {
            QueueLimits { jobs: 0, .. } => Err(QueueRefused::NoQueue),
            QueueLimits { jobs, .. } if self.jobs.len() + arriving >= jobs => {
                Err(QueueRefused::Full(jobs))
            }
            QueueLimits { bytes: most, .. } if held_bytes.saturating_add(bytes) > most => {
                Err(QueueRefused::Bytes(most))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a further job of `user`, of whom `arriving` jobs are on their way.
    pub(crate) fn check_user(&self, user: &str, arriving: usize) -> Result<(), QueueRefused> {
        let own = self.jobs.iter().filter(|waiting| waiting.user == user).count();
        match own + arriving < self.limits.jobs_per_user {
            true => Ok(()),
            false => Err(QueueRefused::User(self.limits.jobs_per_user)),
        }
    }

    /// Adds a job where it belongs by the time at which it came.
    pub(crate) fn enter(&mut self, waiting: WaitingJob) {
        let key = |waiting: &WaitingJob| (waiting.entry.since_ms, waiting.job.clone());
        let at = self.jobs.partition_point(|other| key(other) <= key(&waiting));
        self.touch();
        self.entered.insert(waiting.job.clone(), self.revision);
        self.jobs.insert(at, waiting);
    }

    /// Removes a job.
    pub(crate) fn leave(&mut self, job: &JobId) -> Option<WaitingJob> {
        let at = self.jobs.iter().position(|waiting| waiting.job == *job)?;
        self.touch();
        self.entered.remove(job);
        Some(self.jobs.remove(at))
    }

    /// Changes what a job's folder says about its waiting. Returns false if the job does not wait.
    pub(crate) fn change(&mut self, job: &JobId, entry: QueueEntry) -> bool {
        let Some(waiting) = self.jobs.iter_mut().find(|waiting| waiting.job == *job) else {
            return false;
        };
        waiting.entry = entry;
        self.touch();
        // The policy is asked about it anew.
        self.entered.insert(job.clone(), self.revision);
        true
    }

    /// Uses this order from now on.
    pub(crate) fn set_order(&mut self, order: Order) {
        self.order = Some(order);
    }

    /// The jobs in the order in which they start, each with its rule; those that are held back come last.
    pub fn start_order(&self) -> Vec<(&WaitingJob, Rule)> {
        let ranks: HashMap<&JobId, (usize, &str)> = match &self.order {
            None => HashMap::new(),
            Some(order) => {
                let ranked = order.places.iter().enumerate();
                // The first mention counts.
                ranked.rev().map(|(rank, (job, reason))| (job, (rank, reason.as_str()))).collect()
            }
        };
        let mut line: Vec<_> = self.jobs.iter().collect();
        // The sort is stable: within a rule, who came first is first.
        line.sort_by_key(|waiting| match &waiting.entry {
            entry if entry.is_held => (2, 0),
            QueueEntry { front_ms: Some(at_ms), .. } => (0, u64::MAX - at_ms),
            _ => {
                let rank = ranks.get(&waiting.job).map_or(usize::MAX, |(rank, _)| *rank);
                (1, u64::try_from(rank).unwrap_or(u64::MAX))
            }
        });
        let rule = |waiting: &WaitingJob| match (&waiting.entry, &self.order) {
            (entry, _) if entry.is_held => Rule::Held,
            (entry, _) if entry.front_ms.is_some() => Rule::Front,
            (_, None) => Rule::New,
            (_, Some(Order { by: OrderedBy::Failed(why), .. })) => {
                Rule::Failed { why: why.clone() }
            }
            (_, Some(order)) => {
                self.policy_rule(order, &waiting.job, ranks.get(&waiting.job).copied())
            }
        };
        line.into_iter().map(|waiting| (waiting, rule(waiting))).collect()
    }

    fn policy_rule(&self, order: &Order, job: &JobId, rank: Option<(usize, &str)>) -> Rule {
        let OrderedBy::Plugin(plugin) = &order.by else { return Rule::New };
        let plugin = plugin.clone();
        match rank {
            Some((_, reason)) => Rule::Policy { plugin, reason: reason.to_owned() },
            None if self.entered.get(job).is_some_and(|at| *at > order.revision) => Rule::New,
            None => Rule::LeftOut { plugin },
        }
    }
}
