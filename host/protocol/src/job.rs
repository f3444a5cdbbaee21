//! What a job is, its events while it runs, and its outcome.

use crate::ids::{CacheOwner, JobId, JobSecret, JobVerifier};
use crate::path::RelPath;
use crate::workload::Workload;
pub use crate::workload::{ImageSize, JobType};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What policies know about a job. Every fact may be unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobDescription {
    /// Training or inference.
    pub job_type: JobType,
    /// The heads to train or to apply, in order: `centroid`, `centered_instance`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model_types: Vec<String>,
    /// The sum of `max_epochs` over all models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// The largest batch size of any model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    /// Labelled frames (training) or frames to predict (inference).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_count: Option<u64>,
    /// Size of a frame in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSize>,
    /// The unpacked size of the package, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_bytes: Option<u64>,
    /// The oldest sleap-nn that can read all configs, unless every one can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleap_nn_version: Option<String>,
    /// Videos that the worker is expected to see on its mounts, by their paths there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounted_videos: Vec<String>,
    /// Its runs, in order. Empty when not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Workload>,
    /// The user's requirements for a worker.
    #[serde(default)]
    pub requirements: Requirements,
    /// The user name that the client claims. It is not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl JobDescription {
    /// A description that knows only the type.
    pub fn unknown(job_type: JobType) -> Self {
        Self {
            job_type,
            model_types: Vec::new(),
            epochs: None,
            batch_size: None,
            frame_count: None,
            image: None,
            package_bytes: None,
            sleap_nn_version: None,
            mounted_videos: Vec::new(),
            runs: Vec::new(),
            requirements: Requirements::default(),
            user: None,
        }
    }
}

/// What a job requires of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// The largest GPU must have at least this many MiB.
    #[serde(default, rename = "min_gpu_memory_mb", skip_serializing_if = "Option::is_none")]
    pub min_gpu_memory_mib: Option<u64>,
}

/// Paths of a job on shared storage, relative to the shared root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedPaths {
    /// The package: a folder or a zip.
    pub input: RelPath,
    /// The folder for the results.
    pub output: RelPath,
}

/// What gives the right to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum JobRight {
    /// The verifier of a proof. A worker keeps only this.
    Verifier {
        /// It belongs to the secret that the client keeps.
        verifier: JobVerifier,
    },
    /// The secret itself, from clients that cannot prove that they have it.
    Secret {
        /// Made by the client.
        secret: JobSecret,
    },
}

/// What a client sends to submit a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The identifier that the client chose.
    pub id: JobId,
    /// What gives other connections the right to read, stop, cancel and fetch the job.
    #[serde(flatten)]
    pub right: JobRight,
    /// A name for people: the package's file name without its extensions.
    pub name: String,
    /// The client's description. The worker reads the package again and makes its own.
    pub description: JobDescription,
    /// Set if the package is on shared storage. No files are sent then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedPaths>,
    /// Whether to skip the package's `inference-script.sh`, if the package is not sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skips_inference: bool,
    /// The name under which the worker caches the package's files for the next job of this user.
    /// Without one, it caches none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_owner: Option<CacheOwner>,
}

/// An event of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum JobEvent {
    /// The package is complete and its script is valid.
    Staged {
        /// Names of the runs, in order: the config's stem, or `inference`.
        runs: Vec<String>,
    },
    /// A trainer process started.
    RunStarted {
        /// The config's stem, or `inference`.
        name: String,
    },
    /// Output of the trainer, including `\r` and `\n`. Bytes that are not UTF-8 become U+FFFD.
    Log {
        /// A part of the output, not necessarily whole lines.
        text: String,
    },
    /// The trainer's own progress message (ZMQ in training, a JSON line in inference).
    Progress {
        /// As the trainer sent it.
        message: Value,
    },
    /// A trainer process ended.
    RunEnded {
        /// The config's stem, or `inference`.
        name: String,
        /// How that run ended.
        outcome: JobOutcome,
    },
    /// The last event of every job.
    Finished {
        /// How the job ended.
        outcome: JobOutcome,
    },
    /// An event that this version does not know.
    #[serde(other)]
    Unknown,
}

/// An event with its number in the job's history: 1, 2, 3, … without a gap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberedEvent {
    /// The number.
    pub seq: u64,
    /// The time, in milliseconds since 1970.
    pub at_ms: u64,
    /// The event.
    #[serde(flatten)]
    pub event: JobEvent,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum JobOutcome {
    /// Every run succeeded.
    Succeeded,
    /// A user stopped the training early. The models are usable.
    StoppedEarly,
    /// The job failed.
    Failed {
        /// The trainer's exit code, if it exited by itself.
        exit_code: Option<i32>,
        /// The cause, for people.
        message: String,
    },
    /// A user cancelled the job.
    Cancelled,
    /// The job's process or its machine died.
    Interrupted,
}

impl JobOutcome {
    /// Whether the job has a usable result.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded | Self::StoppedEarly)
    }

    /// The outcome in one or two words, without the reason of a failure.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::StoppedEarly => "stopped early",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a job's folder says about its waiting for a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Since when it waits, in milliseconds since 1970.
    pub since_ms: u64,
    /// The size of its package, in bytes.
    #[serde(default)]
    pub package_bytes: u64,
    /// Whether the operator holds it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_held: bool,
    /// When the operator moved it to the front, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_ms: Option<u64>,
}

/// The state of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum JobState {
    /// The package is not complete yet.
    Staging,
    /// The package is complete and checked, and the job waits for a slot.
    Queued(QueueEntry),
    /// The job's process runs.
    Running {
        /// The process id of `run-job`.
        pid: u32,
    },
    /// The job has ended.
    Finished(JobOutcome),
}

/// A change of state that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {from:?} cannot become {to:?}")]
pub struct BadTransition {
    from: JobState,
    to: JobState,
}

impl JobState {
    /// Advances `Staging` → `Queued` → `Running` → `Finished`, where any may be left out, and never back.
    /// What a queued job's folder says about its waiting may change.
    pub fn advance(&mut self, to: JobState) -> Result<(), BadTransition> {
        let allowed = matches!(
            (&*self, &to),
            (Self::Staging | Self::Queued(_), Self::Queued(_) | Self::Running { .. })
                | (Self::Staging | Self::Queued(_) | Self::Running { .. }, Self::Finished(_))
        );
        if !allowed {
            return Err(BadTransition { from: self.clone(), to });
        }
        *self = to;
        Ok(())
    }
}

/// A reason, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable identifier, for instance `gpu-memory`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// Why a worker refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// No free slot.
    Busy,
    /// The worker accepts no new jobs.
    Maintenance,
    /// The job does not fit this worker.
    Incompatible,
    /// The client has not proved its right to the job.
    Unauthorized,
    /// The client is no member of the room, or not any more.
    NoMember,
    /// The worker does not have the job.
    NotFound,
    /// The request or the package is invalid.
    Invalid,
    /// A code that this version does not know.
    #[serde(other)]
    Other,
}

/// A refusal, which the client shows to its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what is wrong, and what to do about it.
    pub message: String,
    /// Details, such as each failed requirement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
}

impl Refusal {
    /// A refusal without details.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reasons: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_job_reaches_one_outcome_and_stays_there() {
        let mut state = JobState::Staging;
        state.advance(JobState::Running { pid: 1 }).unwrap();
        assert!(state.advance(JobState::Staging).is_err());
        state.advance(JobState::Finished(JobOutcome::Cancelled)).unwrap();
        for late in [JobState::Running { pid: 2 }, JobState::Finished(JobOutcome::Succeeded)] {
            assert!(state.advance(late).is_err());
        }
        assert_eq!(state, JobState::Finished(JobOutcome::Cancelled));
    }

    fn state() -> impl Strategy<Value = JobState> {
        let failed = JobOutcome::Failed { exit_code: None, message: "x".into() };
        prop_oneof![
            Just(JobState::Staging),
            any::<bool>().prop_map(|is_held| {
                JobState::Queued(QueueEntry { is_held, ..QueueEntry::default() })
            }),
            (0..3u32).prop_map(|pid| JobState::Running { pid }),
            prop::sample::select(vec![
                JobOutcome::Succeeded,
                JobOutcome::StoppedEarly,
                failed,
                JobOutcome::Cancelled,
                JobOutcome::Interrupted,
            ])
            .prop_map(JobState::Finished),
        ]
    }

    proptest! {
        /// After any attempts in any order, a job has at most one outcome, ran at most once, and a
        /// refusal has changed nothing.
        #[test]
        fn a_job_has_one_outcome(tried in prop::collection::vec(state(), 0..30)) {
            let mut job = JobState::Staging;
            let (mut runs, mut outcomes) = (0, 0);
            for to in tried {
                let before = job.clone();
                match job.advance(to.clone()) {
                    Err(_) => prop_assert_eq!(&job, &before),
                    Ok(()) => {
                        prop_assert_eq!(&job, &to);
                        runs += u32::from(matches!(to, JobState::Running { .. }));
                        outcomes += u32::from(matches!(to, JobState::Finished(_)));
                    }
                }
                prop_assert!(runs <= 1 && outcomes <= 1);
                prop_assert_eq!(outcomes == 1, matches!(job, JobState::Finished(_)));
            }
        }
    }

    #[test]
    fn events_of_a_newer_program_are_a_variant() {
        let text = r#"{"seq":1,"at_ms":2,"event":"sang","song":"la"}"#;
        let numbered: NumberedEvent = serde_json::from_str(text).unwrap();
        assert_eq!(numbered.event, JobEvent::Unknown);
    }
}
