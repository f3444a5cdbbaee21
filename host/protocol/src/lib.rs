//! The messages that peers exchange and the rules for them, as plain data.
//!
//! This crate does no I/O and needs no runtime and no clock: bytes and instants come in as
//! arguments, values and decisions go out. Everything that arrives from a network is parsed here,
//! once, into enums. An unknown message becomes a variant and never causes a panic.
//!
//! ```
//! use sleap_rtc_protocol::frame::{ClientFrame, decode, encode};
//!
//! let text = encode(&ClientFrame::Stop { all: true })?;
//! assert_eq!(text, r#"{"frame":"stop","all":true}"#);
//! assert_eq!(decode::<ClientFrame>(&text)?, ClientFrame::Stop { all: true });
//! // A frame that only a newer version knows.
//! assert_eq!(decode::<ClientFrame>(r#"{"frame":"pause"}"#)?, ClientFrame::Unknown);
//! # Ok::<(), sleap_rtc_protocol::frame::FrameError>(())
//! ```
//!
//! | module | contents |
//! |---|---|
//! | [`ids`] | peers, rooms, jobs, and the secrets that belong to them |
//! | [`short_id`] | job ids as people type them |
//! | [`capabilities`] | what a worker can do, and its form in the worker's metadata |
//! | [`problems`] | what is wrong with a worker, by the part of its machine |
//! | [`signaling`] | frames between a peer and the signaling server |
//! | [`pairing`] | frames between the signaling server and two devices that pair |
//! | [`python`] | data-channel messages of Python peers (the only place that knows `::`) |
//! | [`frame`] | `sleap-rtc/1`: data-channel frames between two peers of this program |
//! | [`path`] | relative paths that stay inside any folder they are joined to |
//! | [`transfer`] | manifests, pieces, chunks, and the state of one incoming piece |
//! | [`lists`] | the lists of files and pieces with which a transfer begins, as frames |
//! | [`offered`] | what the sender of files knows of the receiver |
//! | [`meter`] | the progress of a transfer as text |
//! | [`job`] | what a job is, its events, its outcome |
//! | [`progress`] | what everyone in the room may see of a running job |
//! | [`workload`] | what decides how long a run takes, and what finished runs took |
//! | [`course`] | what a job's events say so far: its runs, their losses, its log |
//! | [`chart`] | losses as curves and figures |
//! | [`timing`] | what a job's runs take, by its own events |
//! | [`queue_report`] | the jobs that run and wait at a worker, as other peers see them |
//! | [`occupancy`] | that, in words |
//! | [`queue`] | the line of jobs that wait for a slot, and the rule behind each place |
//! | [`worker`] | the slots of a worker and who holds them |
//! | [`asking`] | in which order workers are asked, and whose yes counts |
//! | [`connection`] | the states of a peer connection, and the purpose of an offer |
//! | [`offer_reply`] | what the messages of a room say about an offer |
//! | [`liveness`] | whether a connection is healthy, suspect or dead |
//! | [`text`] | text from elsewhere, made safe to show |
//! | [`log_text`] | the trainer's log, made safe to show |
//! | [`disorder`] | bounds how long a worker may send events that are not the next one |
//! | [`event_cursor`] | which of a job's events a client has received, across reconnections |

pub mod asking;
pub mod capabilities;
pub mod chart;
pub mod connection;
pub mod course;
pub mod disorder;
pub mod event_cursor;
pub mod frame;
pub mod ids;
pub mod job;
pub mod lists;
pub mod liveness;
pub mod log_text;
pub mod meter;
pub mod occupancy;
pub mod offer_reply;
pub mod offered;
pub mod pairing;
pub mod path;
pub mod problems;
pub mod progress;
pub mod python;
pub mod queue;
pub mod queue_report;
pub mod short_id;
pub mod signaling;
pub mod standing;
pub mod text;
pub mod timing;
pub mod transfer;
pub mod worker;
pub mod workload;

/// Name of the native dialect: the `protocols` key of offers and answers, and the protocol of the
/// data channel.
pub const DIALECT: &str = "sleap-rtc/1";

/// Label of the data channel that Python peers open and expect.
pub const PYTHON_CHANNEL_LABEL: &str = "my-data-channel";
