//! Data-channel messages of the Python dialect, as Python peers send and expect them.
//!
//! This is the only module that knows `::`. A keyword counts only at the start of a message. Text with
//! a line break is always a log line. The caller decides which messages are valid at a given moment.

use crate::job::JobType;
use serde_json::Value;
use std::fmt;

/// Sent as a binary message every 15 s. Never file content.
pub const KEEP_ALIVE: &[u8] = b"KEEP_ALIVE";
/// The largest message that an aiortc peer accepts (its SDP says `max-message-size:65536`).
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// `FILE_META::name:size:rest`: a file of `size` bytes follows in binary messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// File name, as the sender has it: hostile until checked.
    pub name: String,
    /// Announced length in bytes.
    pub size: u64,
    /// From a client whether its GUI is open (`True`/`False`), from a worker the folder to put it.
    pub rest: String,
}

impl FileMeta {
    /// The name and the rest may hold `:`; the size is the last run of digits between two of them.
    fn parse(text: &str) -> Option<Self> {
        let (head, rest, size) = text.match_indices(':').rev().find_map(|(colon, _)| {
            let (head, rest) = (&text[..colon], &text[colon + 1..]);
            let (name, size) = head.rsplit_once(':')?;
            let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
            let size = size.parse().ok().filter(|_| digits)?;
            Some((name, rest, size))
        })?;
        Some(Self { name: head.to_owned(), size, rest: rest.to_owned() })
    }

    /// Whether a client's GUI wants progress reports.
    pub fn wants_progress(&self) -> bool {
        self.rest.eq_ignore_ascii_case("true")
    }
}

impl fmt::Display for FileMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FILE_META::{}:{}:{}", self.name, self.size, self.rest)
    }
}

/// From a client to a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientText {
    /// `PACKAGE_TYPE::train` or `::track`.
    PackageType(JobType),
    /// `OUTPUT_DIR::models`: where the client will put the results.
    OutputDir(String),
    /// The package follows.
    FileMeta(FileMeta),
    /// The package is complete.
    EndOfFile,
    /// `JOB_ID::job_x`, for a shared-storage job.
    JobId(String),
    /// `SHARED_INPUT_PATH::rel`.
    SharedInputPath(String),
    /// `SHARED_OUTPUT_PATH::rel`.
    SharedOutputPath(String),
    /// `SHARED_STORAGE_JOB::start`.
    SharedStorageJob,
    /// `ZMQ_CTRL::{json}`: what the loss viewer's buttons send.
    ZmqCtrl(Value),
    /// Anything else.
    Other(String),
}

/// From a worker to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerText {
    /// A training run started; the config's stem.
    TrainJobStart(String),
    /// It ended well.
    TrainJobEnd(String),
    /// It ended with this exit code.
    TrainJobError(String, String),
    /// All training runs are over; the result follows.
    TrainingJobsDone,
    /// A file follows.
    FileMeta(FileMeta),
    /// The file is complete.
    EndOfFile,
    /// Inference begins.
    InferenceStart,
    /// The inference run started.
    InferenceJobStart(String),
    /// It ended well.
    InferenceJobEnd(String),
    /// It ended with this exit code.
    InferenceJobError(String, String),
    /// Everything is over and sent.
    InferenceJobsDone,
    /// Inference could not run.
    InferenceError(String),
    /// `TRACK_LOG:line`, with one colon.
    TrackLog(String),
    /// `PATH_VALIDATED::input` or `::output`.
    PathValidated(String),
    /// A shared path was refused.
    PathError(String),
    /// A shared-storage job is done; id and output path.
    JobComplete(String, String),
    /// A shared-storage job failed; id and cause.
    JobFailed(String, String),
    /// `AUTH_CHALLENGE::nonce`: the Python program's later versions ask for their room's secret.
    AuthChallenge,
    /// The trainer's ZMQ message.
    ProgressReport(Value),
    /// A piece of the trainer's log.
    Log(String),
}

fn pair(text: &str) -> (String, String) {
    let (head, tail) = text.rsplit_once("::").unwrap_or((text, ""));
    (head.to_owned(), tail.to_owned())
}

fn first_pair(text: &str) -> (String, String) {
    let (head, tail) = text.split_once("::").unwrap_or((text, ""));
    (head.to_owned(), tail.to_owned())
}

impl ClientText {
    /// Decodes a text message. Anything malformed is `Other`.
    pub fn decode(text: &str) -> Self {
        let other = || Self::Other(text.chars().take(200).collect());
        if text.len() > MAX_TEXT_BYTES {
            return other();
        }
        if text == "END_OF_FILE" {
            return Self::EndOfFile;
        }
        let Some((word, rest)) = text.split_once("::") else { return other() };
        match word {
            "PACKAGE_TYPE" if rest == "train" => Self::PackageType(JobType::Training),
            "PACKAGE_TYPE" if rest == "track" => Self::PackageType(JobType::Inference),
            "OUTPUT_DIR" => Self::OutputDir(rest.to_owned()),
            "FILE_META" => FileMeta::parse(rest).map_or_else(other, Self::FileMeta),
            "JOB_ID" => Self::JobId(rest.to_owned()),
            "SHARED_INPUT_PATH" => Self::SharedInputPath(rest.to_owned()),
            "SHARED_OUTPUT_PATH" => Self::SharedOutputPath(rest.to_owned()),
            "SHARED_STORAGE_JOB" => Self::SharedStorageJob,
            "ZMQ_CTRL" => serde_json::from_str(rest).map_or_else(|_| other(), Self::ZmqCtrl),
            _ => other(),
        }
    }

    /// The message as a Python worker expects it.
    pub fn encode(&self) -> String {
        match self {
            Self::PackageType(JobType::Training) => "PACKAGE_TYPE::train".into(),
            Self::PackageType(JobType::Inference) => "PACKAGE_TYPE::track".into(),
            Self::OutputDir(path) => format!("OUTPUT_DIR::{path}"),
            Self::FileMeta(meta) => meta.to_string(),
            Self::EndOfFile => "END_OF_FILE".into(),
            Self::JobId(id) => format!("JOB_ID::{id}"),
            Self::SharedInputPath(path) => format!("SHARED_INPUT_PATH::{path}"),
            Self::SharedOutputPath(path) => format!("SHARED_OUTPUT_PATH::{path}"),
            Self::SharedStorageJob => "SHARED_STORAGE_JOB::start".into(),
            Self::ZmqCtrl(message) => format!("ZMQ_CTRL::{message}"),
            Self::Other(text) => text.clone(),
        }
    }
}

impl WorkerText {
    /// Decodes a text message. Anything without a known keyword is a part of the log.
    pub fn decode(text: &str) -> Self {
        let log = || Self::Log(text.to_owned());
        if text.len() > MAX_TEXT_BYTES {
            return Self::Log(text.chars().take(MAX_TEXT_BYTES / 4).collect());
        }
        if let Some(line) = text.strip_prefix("TRACK_LOG:") {
            return Self::TrackLog(line.to_owned());
        }
        if text.contains(['\n', '\r']) && !text.starts_with("PROGRESS_REPORT::") {
            return log();
        }
        match text {
            "END_OF_FILE" => return Self::EndOfFile,
            "TRAINING_JOBS_DONE" => return Self::TrainingJobsDone,
            "INFERENCE_START" => return Self::InferenceStart,
            "INFERENCE_JOBS_DONE" => return Self::InferenceJobsDone,
            _ => {}
        }
        let Some((word, rest)) = text.split_once("::") else { return log() };
        let own = || rest.to_owned();
        let two = |(a, b): (String, String), make: fn(String, String) -> Self| make(a, b);
        match word {
            "TRAIN_JOB_START" => Self::TrainJobStart(own()),
            "TRAIN_JOB_END" => Self::TrainJobEnd(own()),
            "TRAIN_JOB_ERROR" => two(pair(rest), Self::TrainJobError),
            "FILE_META" => FileMeta::parse(rest).map_or_else(log, Self::FileMeta),
            "INFERENCE_JOB_START" => Self::InferenceJobStart(own()),
            "INFERENCE_JOB_END" => Self::InferenceJobEnd(own()),
            "INFERENCE_JOB_ERROR" => two(pair(rest), Self::InferenceJobError),
            "INFERENCE_ERROR" => Self::InferenceError(own()),
            "PATH_VALIDATED" => Self::PathValidated(own()),
            "PATH_ERROR" => Self::PathError(own()),
            "JOB_COMPLETE" => two(first_pair(rest), Self::JobComplete),
            "JOB_FAILED" => two(first_pair(rest), Self::JobFailed),
            "AUTH_CHALLENGE" => Self::AuthChallenge,
            "PROGRESS_REPORT" => {
                serde_json::from_str(rest).map_or_else(|_| log(), Self::ProgressReport)
            }
            _ => log(),
        }
    }

    /// The message as a Python client expects it.
    pub fn encode(&self) -> String {
        match self {
            Self::TrainJobStart(name) => format!("TRAIN_JOB_START::{name}"),
            Self::TrainJobEnd(name) => format!("TRAIN_JOB_END::{name}"),
            Self::TrainJobError(name, code) => format!("TRAIN_JOB_ERROR::{name}::{code}"),
            Self::TrainingJobsDone => "TRAINING_JOBS_DONE".into(),
            Self::FileMeta(meta) => meta.to_string(),
            Self::EndOfFile => "END_OF_FILE".into(),
            Self::InferenceStart => "INFERENCE_START".into(),
            Self::InferenceJobStart(name) => format!("INFERENCE_JOB_START::{name}"),
            Self::InferenceJobEnd(name) => format!("INFERENCE_JOB_END::{name}"),
            Self::InferenceJobError(name, code) => format!("INFERENCE_JOB_ERROR::{name}::{code}"),
            Self::InferenceJobsDone => "INFERENCE_JOBS_DONE".into(),
            Self::InferenceError(text) => format!("INFERENCE_ERROR::{text}"),
            Self::TrackLog(line) => format!("TRACK_LOG:{line}"),
            Self::PathValidated(which) => format!("PATH_VALIDATED::{which}"),
            Self::PathError(text) => format!("PATH_ERROR::{text}"),
            Self::JobComplete(id, path) => format!("JOB_COMPLETE::{id}::{path}"),
            Self::JobFailed(id, text) => format!("JOB_FAILED::{id}::{text}"),
            Self::AuthChallenge => "AUTH_CHALLENGE::".into(),
            Self::ProgressReport(message) => format!("PROGRESS_REPORT::{message}"),
            Self::Log(text) => text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_may_hold_colons() {
        for (text, name, size, rest) in [
            ("FILE_META::a.zip:12:False", "a.zip", 12, "False"),
            (r"FILE_META::C:\lab\a.zip:12:True", r"C:\lab\a.zip", 12, "True"),
            ("FILE_META::a:1:b:5:models", "a:1:b", 5, "models"),
            (r"FILE_META::a.zip:5:C:\models", "a.zip", 5, r"C:\models"),
        ] {
            let meta = FileMeta { name: name.into(), size, rest: rest.into() };
            assert_eq!(ClientText::decode(text), ClientText::FileMeta(meta.clone()), "{text}");
            assert_eq!(WorkerText::decode(text), WorkerText::FileMeta(meta));
        }
        for bad in ["FILE_META::a", "FILE_META::a:b:c", "FILE_META::a:-1:c", "FILE_META:::::"] {
            assert!(matches!(ClientText::decode(bad), ClientText::Other(_)), "{bad}");
        }
    }

    #[test]
    fn a_log_line_is_a_log_line() {
        for line in
            ["saw FILE_META::x:1:y", "FILE_META::x:1:y\n", "\rEpoch 1: TRAIN_JOB_END::x", ""]
        {
            assert_eq!(WorkerText::decode(line), WorkerText::Log(line.into()));
        }
    }

    #[test]
    fn words_survive_the_wire() {
        for message in [
            WorkerText::TrainJobStart("centroid".into()),
            WorkerText::TrainJobError("a::b".into(), "1".into()),
            WorkerText::TrackLog("line\n".into()),
            WorkerText::JobFailed("j".into(), "a :: b".into()),
            WorkerText::ProgressReport(serde_json::json!({"event": "train_end"})),
            WorkerText::InferenceJobsDone,
        ] {
            assert_eq!(WorkerText::decode(&message.encode()), message);
        }
        for message in [
            ClientText::PackageType(JobType::Inference),
            ClientText::ZmqCtrl(serde_json::json!({"command": "stop"})),
            ClientText::SharedStorageJob,
        ] {
            assert_eq!(ClientText::decode(&message.encode()), message);
        }
    }
}
