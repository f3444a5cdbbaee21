//! `sleap-rtc/1`: the frames that two peers of this program exchange on a data channel.
//!
//! Control frames are JSON in text messages of at most [`MAX_CONTROL_BYTES`]; file content is
//! [`Chunk`](crate::transfer::Chunk)s in binary messages. The client speaks first, with
//! [`ClientFrame::Submit`] or [`ClientFrame::Attach`]; the worker rejects any other first frame.
//!
//! ```text
//! client                                   worker
//! Submit ───────────────────────────────▶
//!        ◀─────────────────────────────── Preparing…, Accepted | Refused
//! Transfer(Manifest, Pieces…) ──────────▶
//!        ◀─────────────────────────────── Transfer(Want)
//! chunks ───────────────────────────────▶
//!        ◀─────────────────────────────── Transfer(Complete), Waiting…, Event…, Event(Finished)
//! Fetch ────────────────────────────────▶
//!        ◀─────────────────────────────── Transfer(Manifest)
//! Transfer(Want) ───────────────────────▶
//!        ◀─────────────────────────────── chunks
//! Transfer(Complete) ───────────────────▶
//! ```
//!
//! Earlier programs opened further connections for chunks, to receivers that acknowledged each chunk
//! (`tells` in `Want`). This one does not acknowledge, so they send everything over this connection.

use crate::event_cursor::EventsAfter;
use crate::ids::{JobId, JobProof, JobSecret};
use crate::job::{JobOutcome, JobSpec, NumberedEvent, Refusal};
use crate::queue_report::QueueStatus;
use crate::transfer::{BlobHash, FileEntry, Piece};
use crate::workload::Outlook;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::Duration;

/// The longest control frame, in bytes.
pub const MAX_CONTROL_BYTES: usize = 64 * 1024;
/// The most entries of a list in one frame, which keeps it below [`MAX_CONTROL_BYTES`] even if every
/// path has the maximum length.
pub const ENTRIES_PER_FRAME: usize = 32;
/// The most pieces in one frame.
pub const PIECES_PER_FRAME: usize = 512;

/// The most bytes of a sample of file content, and the longest time for which it is sent.
pub const SAMPLE_BYTES: usize = 32 << 20;
/// See [`SAMPLE_BYTES`].
pub const SAMPLE_TIME: Duration = Duration::from_secs(2);

/// A frame from client to worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "kebab-case")]
pub enum ClientFrame {
    /// Submits a job. The package follows, unless it is on shared storage. When it is sent again over
    /// another connection, the upload resumes: the worker reports what it already has.
    Submit {
        /// The job.
        spec: Box<JobSpec>,
        /// The proof of the right to it, if `spec` has a verifier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proof: Option<JobProof>,
    },
    /// Reattaches to a job, and asks for its events from `after` on.
    Attach {
        /// The job.
        job: JobId,
        /// The proof of the right to the job.
        secret: JobSecret,
        /// The last event that this client has.
        after: EventsAfter,
    },
    /// The same, after both sides have proven who they are: with a proof that is good for this
    /// conversation alone.
    AttachByProof {
        /// The job.
        job: JobId,
        /// The proof of the right to the job.
        proof: JobProof,
        /// The last event that this client has.
        after: EventsAfter,
    },
    /// Stops training early and keeps the model.
    Stop {
        /// Whether to skip the remaining runs too, and not only to stop the current one.
        all: bool,
    },
    /// Cancels the job.
    Cancel {
        /// The reason, for the log.
        reason: String,
    },
    /// Asks for the results of a finished job.
    Fetch {
        /// How to deliver them.
        #[serde(default)]
        by: Delivery,
    },
    /// A frame of a transfer in either direction.
    Transfer(TransferFrame),
    /// Asks for a sample of file content, to measure the rate of the connection. The client leaves
    /// when it has seen enough.
    Sample,
    /// Asks for a [`WorkerFrame::Pong`], to check that the worker is alive.
    Ping,
    /// A frame that this version does not know.
    #[serde(other)]
    Unknown,
}

/// How a client wants its results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// They are sent over this connection.
    #[default]
    Connection,
    /// They are copied to the job's output folder on the shared storage.
    SharedStorage,
}

/// A frame from worker to client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "kebab-case")]
pub enum WorkerFrame {
    /// The worker has accepted the job (`Submit`), or has it already (`Attach`).
    Accepted {
        /// The job.
        job: JobId,
        /// Number of its last event so far; 0 for a new job.
        #[serde(default)]
        last_event: u64,
        /// How it ended, if it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<JobOutcome>,
        /// Whether the worker has the complete package.
        #[serde(default)]
        has_package: bool,
        /// What the worker expects of the job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outlook: Option<Box<Outlook>>,
    },
    /// The worker cannot answer yet. It repeats this while it gets ready.
    Preparing {
        /// What it is doing, for people.
        what: String,
    },
    /// The worker refuses the job. It closes the connection after this.
    Refused {
        /// The reason.
        refusal: Refusal,
    },
    /// The job waits for a slot. Comes beside its events, and has no number among them.
    Waiting {
        /// The job.
        job: JobId,
        /// What it waits for.
        #[serde(flatten)]
        news: QueueStatus,
    },
    /// An event of the job.
    Event {
        /// The job.
        job: JobId,
        /// The event.
        #[serde(flatten)]
        event: NumberedEvent,
    },
    /// A frame of a transfer in either direction.
    Transfer(TransferFrame),
    /// Answers a [`ClientFrame::Ping`].
    Pong,
    /// A frame that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A frame about the files of a package (client to worker) or of a result (worker to client).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "transfer", rename_all = "kebab-case")]
pub enum TransferFrame {
    /// From the sender: the list of files, in one or more frames.
    Manifest {
        /// At most [`ENTRIES_PER_FRAME`] entries.
        files: Vec<FileEntry>,
        /// Whether more entries follow.
        more: bool,
    },
    /// From the sender: the pieces of a long file, in order. These frames follow the manifest, one or
    /// more for each content that has several pieces.
    Pieces {
        /// The content of the file, as in the manifest.
        of: BlobHash,
        /// At most [`PIECES_PER_FRAME`] pieces.
        pieces: Vec<Piece>,
        /// Whether more pieces of the same content follow.
        more: bool,
    },
    /// From the receiver: requests pieces.
    Want {
        /// At most [`PIECES_PER_FRAME`] pieces.
        pieces: Vec<BlobHash>,
        /// Whether more requested pieces follow.
        more: bool,
    },
    /// From the receiver: the progress.
    Verified {
        /// Verified bytes of the manifest, including those that the receiver had before.
        bytes: u64,
    },
    /// From the receiver: all files are complete and verified.
    Complete,
    /// From either side: aborts the transfer.
    Abort {
        /// The reason, for people.
        reason: String,
    },
    /// A frame that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Why a text message is not a control frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame is too long.
    #[error("a control frame has {0} bytes; at most {MAX_CONTROL_BYTES} are allowed")]
    TooLong(usize),
    /// The frame is not JSON, or a field is wrong.
    #[error("a control frame is malformed")]
    Json(#[from] serde_json::Error),
}

/// Reads a control frame. A frame kind that this program does not know is `Unknown`.
pub fn decode<F: DeserializeOwned>(text: &str) -> Result<F, FrameError> {
    if text.len() > MAX_CONTROL_BYTES {
        return Err(FrameError::TooLong(text.len()));
    }
    Ok(serde_json::from_str(text)?)
}

/// Writes a control frame.
pub fn encode<F: Serialize>(frame: &F) -> Result<String, FrameError> {
    let text = serde_json::to_string(frame)?;
    match text.len() {
        length if length > MAX_CONTROL_BYTES => Err(FrameError::TooLong(length)),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobEvent;

    #[test]
    fn frames_survive_the_wire_and_unknown_ones_are_a_variant() {
        let frame = WorkerFrame::Event {
            job: JobId::new("j1").unwrap(),
            event: NumberedEvent {
                seq: 3,
                at_ms: 1,
                event: JobEvent::Finished {
                    outcome: JobOutcome::Failed { exit_code: Some(1), message: "no".into() },
                },
            },
        };
        assert_eq!(decode::<WorkerFrame>(&encode(&frame).unwrap()).unwrap(), frame);
        let newer = r#"{"frame":"teleport","to":"moon"}"#;
        assert_eq!(decode::<ClientFrame>(newer).unwrap(), ClientFrame::Unknown);
        assert!(decode::<ClientFrame>(&" ".repeat(70_000)).is_err());
    }
}
