//! `sleap-rtc`: train and track with SLEAP on another machine's GPU.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | file, environment and options become one checked [`config::Config`] |
//! | [`gpu`] | detects GPUs |
//! | [`policy`] | loads WASM components and asks them: which worker, whether, how long |
//! | [`signaling`] | the signaling server, and the client that both peers use |
//! | [`rtc`] | peer connections and data channels, tuned |
//! | [`transfer`] | packages and results as verified files over a channel |
//! | [`bare`] | the lanes without files, for measurements |
//! | `deadline`, `backoff` | deadlines that may be absent; waits between attempts |
//! | `dialect` | a data channel that speaks `sleap-rtc/1`: where `rtc` and `transfer` meet |
//! | [`job`] | scripts, trainer processes, progress, and the folder that owns a job |
//! | [`worker`] | admits jobs, runs them, serves their clients |
//! | [`client`] | finds a worker, submits, follows, fetches |
//! | [`cli`] | one file for each subcommand |
//!
//! Dependencies point one way: `config`, `gpu`, `policy` know nothing of the others; `signaling`,
//! `rtc`, `transfer`, `job` do not know each other; `worker` and `client` wire them; `cli` calls.

mod backoff;
pub mod bare;
pub mod cli;
pub mod client;
pub mod config;
mod deadline;
mod dialect;
pub mod gpu;
pub mod job;
pub mod policy;
pub mod rtc;
pub mod signaling;
pub mod transfer;
pub mod worker;
