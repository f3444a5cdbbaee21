//! `sleap-rtc`: train and track with SLEAP on another machine's GPU.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | file, environment and options become one checked [`config::Config`] |
//! | [`worker`] | admits jobs, runs them, serves their clients |
//! | [`client`] | finds a worker, submits, follows, fetches |
//! | `endpoint` | this process's iroh endpoint |
//! | [`cli`] | one file for each subcommand |
//!
//! | crate | what it does |
//! |---|---|
//! | [`sleap_rtc_base`] | deadlines, waits between attempts, checked ICE servers |
//! | [`sleap_rtc_protocol`] | messages, identifiers, state machines: no I/O |
//! | [`sleap_rtc_gpu`] | detects GPUs |
//! | [`sleap_rtc_policy`] | loads WASM components and asks them: which worker, whether, how long |
//! | [`sleap_rtc_signaling`] | the signaling server, and the client that both peers use |
//! | [`sleap_rtc_transfer`] | packages and results as verified files over a channel |
//! | [`sleap_rtc_net`] | connections over iroh and WebRTC, and the two dialects on them |
//! | [`sleap_rtc_package`] | reads packages: scripts, configurations, labels |
//! | [`sleap_rtc_job`] | trainer processes, progress, and the folder that owns a job |
//!
//! Dependencies point one way: `base` and `protocol` know none of the others; of those, `net`
//! knows `transfer`, and `job` knows `package`; `worker` and `client` wire them; `cli` calls.

#[cfg(feature = "peer")]
mod blocking;
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod config;
#[cfg(feature = "peer")]
mod endpoint;
#[cfg(feature = "worker")]
pub mod worker;
