//! `sleap-rtc/1`: what two of our own programs say on a data channel.
//!
//! Control frames are JSON in text messages of at most [`MAX_CONTROL_BYTES`]; file content is
//! [`Chunk`](crate::transfer::Chunk)s in binary messages. The client speaks first, with
//! [`ClientFrame::Submit`] or [`ClientFrame::Attach`]; nothing else is listened to before.
//!
//! ```text
//! client                                   worker
//! Submit ───────────────────────────────▶
//!        ◀─────────────────────────────── Accepted | Refused
//! Transfer(Manifest, Pieces…) ──────────▶
//!        ◀─────────────────────────────── Transfer(Want)
//! OpenLane ─────────────────────────────▶
//!        ◀─────────────────────────────── Lane
//! chunks, also over lanes ──────────────▶
//!        ◀─────────────────────────────── Transfer(Complete), Event…, Event(Finished)
//! Fetch ────────────────────────────────▶
//!        ◀─────────────────────────────── Transfer(Manifest)
//! Transfer(Want) ───────────────────────▶
//!        ◀─────────────────────────────── chunks
//! Transfer(Complete) ───────────────────▶
//! ```
//!
//! A lane is a connection of its own that carries chunks and nothing else. The client offers it and
//! the worker answers, both in frames of this channel, so that a lane belongs to the conversation
//! and needs no right of its own. Lanes may end at any time, and all do with the transfer.

use crate::event_cursor::EventsAfter;
use crate::ids::{JobId, JobSecret};
use crate::job::{JobOutcome, JobSpec, NumberedEvent, Refusal};
use crate::signaling::Sdp;
use crate::transfer::{BlobHash, FileEntry, Piece};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest control frame, in bytes.
pub const MAX_CONTROL_BYTES: usize = 64 * 1024;
/// How many entries of a list go into one frame, so that it stays below [`MAX_CONTROL_BYTES`]
/// even when every path has its greatest length.
pub const ENTRIES_PER_FRAME: usize = 32;
/// How many pieces go into one frame.
pub const PIECES_PER_FRAME: usize = 512;
/// How many pieces and parts of pieces one frame says to be here.
pub const ACKS_PER_FRAME: usize = 1024;

/// From client to worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "kebab-case")]
pub enum ClientFrame {
    /// A job. The package follows, unless its paths are shared. Said again over another connection
    /// it goes on where it was: the worker says what it has of the job.
    Submit {
        /// All about it.
        spec: Box<JobSpec>,
    },
    /// Back to a known job: its events after number `after`.
    Attach {
        /// Which.
        job: JobId,
        /// The right to it.
        secret: JobSecret,
        /// The last event that this client has.
        after: EventsAfter,
    },
    /// End early and keep the model.
    Stop {
        /// All runs to come as well, not only the present one.
        all: bool,
    },
    /// End now.
    Cancel {
        /// For the log.
        reason: String,
    },
    /// Deliver the results, once the job is over.
    Fetch {
        /// How.
        #[serde(default)]
        by: Delivery,
    },
    /// About a transfer in either direction.
    Transfer(TransferFrame),
    /// Another connection, for the chunks of the present transfer.
    OpenLane {
        /// Which one, by a number of the client's.
        lane: u32,
        /// The offer, candidates included.
        offer: Sdp,
    },
    /// Are you there?
    Ping,
    /// Something newer than this program.
    #[serde(other)]
    Unknown,
}

/// How a client wants its results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Over this connection.
    #[default]
    Connection,
    /// On the storage that both sides see, where the job said.
    SharedStorage,
}

/// From worker to client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "kebab-case")]
pub enum WorkerFrame {
    /// The job is the worker's now (`Submit`), or is known (`Attach`).
    Accepted {
        /// Which.
        job: JobId,
        /// Number of its last event so far; 0 for a new job.
        #[serde(default)]
        last_event: u64,
        /// How it ended, if it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<JobOutcome>,
        /// Whether its package is here, and not to be sent.
        #[serde(default)]
        has_package: bool,
    },
    /// It is not; the connection is closed after this.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// Something happened to the job.
    Event {
        /// Which.
        job: JobId,
        /// What and when.
        #[serde(flatten)]
        event: NumberedEvent,
    },
    /// About a transfer in either direction.
    Transfer(TransferFrame),
    /// The answer to `OpenLane`.
    Lane {
        /// Which one.
        lane: u32,
        /// The answer, candidates included; none where this lane is not to be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<Sdp>,
    },
    /// I am.
    Pong,
    /// Something newer than this program.
    #[serde(other)]
    Unknown,
}

/// About the files of a package (client to worker) or of a result (worker to client).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "transfer", rename_all = "kebab-case")]
pub enum TransferFrame {
    /// Sender: these are the files. Long lists come in several frames.
    Manifest {
        /// Some entries, at most [`ENTRIES_PER_FRAME`].
        files: Vec<FileEntry>,
        /// More entries follow.
        more: bool,
    },
    /// Sender: a long file's content is made up of these, in order. Such frames follow the manifest,
    /// one or more for each content that has several pieces.
    Pieces {
        /// The file's content, as in the manifest.
        of: BlobHash,
        /// Some pieces, at most [`PIECES_PER_FRAME`].
        pieces: Vec<Piece>,
        /// More of the same content follow.
        more: bool,
    },
    /// Receiver: send these pieces.
    Want {
        /// Some pieces, at most [`PIECES_PER_FRAME`].
        pieces: Vec<BlobHash>,
        /// More follow.
        more: bool,
        /// The receiver acknowledges what has arrived in `Verified`. Only then may the sender use
        /// lanes, which can lose chunks.
        #[serde(rename = "tells", default, skip_serializing_if = "std::ops::Not::not")]
        acks: bool,
    },
    /// Receiver: so many bytes of the manifest are here and verified.
    Verified {
        /// Those that were here before included.
        bytes: u64,
        /// Pieces that need not come again, by their places in what was asked for so far: at most
        /// [`ACKS_PER_FRAME`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pieces: Vec<u32>,
        /// Chunks that have come of other pieces: such a place, and one bit for each chunk. At most
        /// [`ACKS_PER_FRAME`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        chunks: Vec<(u32, u64)>,
    },
    /// Sender: more lanes would help, up to so many. Whether they come is for the client to say.
    Lanes {
        /// How many in all.
        wanted: u8,
    },
    /// Receiver: everything is here and verified.
    Complete,
    /// Either side gives up.
    Abort {
        /// For people.
        reason: String,
    },
    /// Something newer than this program.
    #[serde(other)]
    Unknown,
}

/// Why a text message is not a control frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Too long.
    #[error("a control frame of {0} bytes is refused ({MAX_CONTROL_BYTES} are allowed)")]
    TooLong(usize),
    /// Not JSON, or a field is wrong.
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
        let frame = ClientFrame::Transfer(TransferFrame::Verified {
            bytes: 7,
            pieces: vec![1, 2],
            chunks: vec![(3, 1 << 31)],
        });
        assert_eq!(decode::<ClientFrame>(&encode(&frame).unwrap()).unwrap(), frame);
        let older = r#"{"frame":"transfer","transfer":"verified","bytes":7}"#;
        assert!(matches!(
            decode::<ClientFrame>(older).unwrap(),
            ClientFrame::Transfer(TransferFrame::Verified { pieces, .. }) if pieces.is_empty()
        ));
        let newer = r#"{"frame":"teleport","to":"moon"}"#;
        assert_eq!(decode::<ClientFrame>(newer).unwrap(), ClientFrame::Unknown);
        assert!(decode::<ClientFrame>(&" ".repeat(70_000)).is_err());
    }
}
