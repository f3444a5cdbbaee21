//! What a job is, what it says while it runs, and how it ends.

use crate::ids::{JobId, JobSecret};
use crate::path::RelPath;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The two kinds of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobType {
    /// `train-script.sh`: models come back.
    #[serde(alias = "train")]
    Training,
    /// `track-script.sh`: predictions come back.
    #[serde(alias = "track")]
    Inference,
}

impl JobType {
    /// The word in metadata and job requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Inference => "inference",
        }
    }

    /// The script of a package of this kind.
    pub fn script_name(self) -> &'static str {
        match self {
            Self::Training => "train-script.sh",
            Self::Inference => "track-script.sh",
        }
    }
}

/// What policies know of a job. Every fact may be unknown.
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
    /// Bytes of the whole package, unpacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_bytes: Option<u64>,
    /// The newest sleap-nn that saved one of the configs: an older one cannot read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleap_nn_version: Option<String>,
    /// What the client's user demands of a worker.
    #[serde(default)]
    pub requirements: Requirements,
    /// Who submits, in the client's own words: a claim, never proof.
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
            requirements: Requirements::default(),
            user: None,
        }
    }
}

/// Size of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSize {
    /// Rows of pixels.
    pub height: u32,
    /// Columns of pixels.
    pub width: u32,
    /// Colour channels.
    pub channels: u32,
}

/// What a job demands of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// The largest GPU must have at least this many MiB.
    #[serde(default, rename = "min_gpu_memory_mb", skip_serializing_if = "Option::is_none")]
    pub min_gpu_memory_mib: Option<u64>,
}

/// Paths of a job on storage that both sides see, relative to the shared root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedPaths {
    /// The package: a folder or a zip.
    pub input: RelPath,
    /// Where the results go.
    pub output: RelPath,
}

/// What a client hands over when it submits a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Chosen by the client; the worker knows the job by it.
    pub id: JobId,
    /// Right to read, stop, cancel and fetch the job from another connection.
    pub secret: JobSecret,
    /// Name for people: the package's file name without its endings.
    pub name: String,
    /// What policies are told; the worker reads the package again for itself.
    pub description: JobDescription,
    /// Set when both sides see one file system: no bytes are sent then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedPaths>,
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum JobEvent {
    /// The package is whole and its script was understood.
    Staged {
        /// Names of the trainer runs to come, in order: the config's stem, or `inference`.
        runs: Vec<String>,
    },
    /// A trainer process started.
    RunStarted {
        /// The config's stem, or `inference`.
        name: String,
    },
    /// What the trainer printed, `\r` and `\n` kept. Bytes that are not UTF-8 arrive as U+FFFD.
    Log {
        /// Some characters; not necessarily whole lines.
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
    /// Something newer than this program.
    #[serde(other)]
    Unknown,
}

/// An event with its place in the job's history: 1, 2, 3, … without a gap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberedEvent {
    /// The place.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub event: JobEvent,
}

/// How a job ended: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum JobOutcome {
    /// Every run ended well.
    Succeeded,
    /// Somebody asked for an early end; the models so far are good.
    StoppedEarly,
    /// Something went wrong.
    Failed {
        /// The trainer's exit code, where it ended by itself with one.
        exit_code: Option<i32>,
        /// The cause in words.
        message: String,
    },
    /// Somebody cancelled it.
    Cancelled,
    /// The machine or the job's own process went away in the middle.
    Interrupted,
}

impl JobOutcome {
    /// Whether there is a result worth having.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded | Self::StoppedEarly)
    }
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum JobState {
    /// Known, its package not yet whole.
    Staging,
    /// Its own process is at work.
    Running {
        /// Process id of `run-job`.
        pid: u32,
    },
    /// Over.
    Finished(JobOutcome),
}

/// Why a job cannot change state that way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {from:?} cannot become {to:?}")]
pub struct BadTransition {
    from: JobState,
    to: JobState,
}

impl JobState {
    /// Moves on: `Staging` → `Running` → `Finished`, or straight to `Finished`; never back.
    pub fn advance(&mut self, to: JobState) -> Result<(), BadTransition> {
        let allowed = matches!(
            (&*self, &to),
            (Self::Staging, Self::Running { .. })
                | (Self::Staging | Self::Running { .. }, Self::Finished(_))
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
    /// Stable word, for instance `gpu-memory`.
    pub code: String,
    /// Sentence for people.
    pub message: String,
}

/// Why a worker did not take a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// No free slot.
    Busy,
    /// No new jobs at all for now.
    Maintenance,
    /// The job does not fit this worker.
    Incompatible,
    /// The right to what was asked for was not shown.
    Unauthorized,
    /// What was asked for is not here.
    NotFound,
    /// The request or the package makes no sense.
    Invalid,
    /// A newer word.
    #[serde(other)]
    Other,
}

/// A refusal: a value that reaches the client's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what, and what to do about it.
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
        /// Whatever is tried in whatever order: a job has one outcome at most, runs once at most,
        /// and a refusal changes nothing.
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
