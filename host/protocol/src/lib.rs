//! What peers say to each other and the rules they keep, as plain data.
//!
//! This crate does no I/O, has no clock and no runtime: bytes and instants come in as arguments,
//! values and decisions go out. Everything that arrives from a network is parsed here, once, into
//! enums; an unknown message is a variant, never a panic.
//!
//! | module | what it holds |
//! |---|---|
//! | [`ids`] | peers, rooms, jobs, and the secrets that belong to them |
//! | [`capabilities`] | what a worker can do, and how it says so in its metadata |
//! | [`signaling`] | frames between a peer and the signaling server |
//! | [`session`] | the session string that names one worker in one room |
//! | [`peer`] | legacy data-channel messages (the only place that knows `::`) |
//! | [`frame`] | `sleap-rtc/1` data-channel frames between two of our own programs |
//! | [`path`] | relative paths that stay below whatever folder they are joined to |
//! | [`transfer`] | manifests, pieces, chunks, and the state of one incoming piece |
//! | [`job`] | what a job is, its events, its outcome |
//! | [`progress`] | what everybody in the room may know of a running job |
//! | [`worker`] | the slots of a worker and who holds them |
//! | [`connection`] | the states of a peer connection, its pulse, and what an offer is for |
//! | [`follower`] | which of a job's events a client has, whichever connection brought them |

pub mod capabilities;
pub mod connection;
pub mod follower;
pub mod frame;
pub mod ids;
pub mod job;
pub mod path;
pub mod peer;
pub mod progress;
pub mod session;
pub mod signaling;
pub mod transfer;
pub mod worker;

/// Name of our dialect: the `protocols` key of offers and answers, and the data channel's protocol.
pub const DIALECT: &str = "sleap-rtc/1";

/// Label of the data channel that Python peers open and expect.
pub const LEGACY_CHANNEL_LABEL: &str = "my-data-channel";
