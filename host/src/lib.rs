//! `sleap-rtc`: train and track with SLEAP on another machine's GPU.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | file, environment and options become one checked [`config::Config`] |
//! | [`worker`] | admits jobs, runs them, serves their clients |
//! | [`client`] | finds a worker, submits, follows, fetches |
//! | `pairing` | pairs this device with a worker |
//! | `dates` | times as people read them |
//! | `device` | the key of this device |
//! | `hook` | the end of a job, and the user's own command that runs then |
//! | `endpoint` | this process's iroh endpoint |
//! | `nearby` | signaling servers on this machine's network |
//! | `question` | reads the user's input |
//! | `registry` | plugins in an OCI registry |
//! | [`cli`] | one file for each subcommand |
//!
//! | crate | what it does |
//! |---|---|
//! | [`sleap_rtc_base`] | small parts that all crates share |
//! | [`sleap_rtc_protocol`] | messages, identifiers, state machines: no I/O |
//! | [`sleap_rtc_gpu`] | detects GPUs |
//! | [`sleap_rtc_policy`] | runs the plugins that choose workers, admit jobs and estimate durations |
//! | [`sleap_rtc_signaling`] | the signaling server, and the client that both peers use |
//! | [`sleap_rtc_transfer`] | packages and results as verified files over a channel |
//! | [`sleap_rtc_net`] | connections over iroh and WebRTC, and the two dialects on them |
//! | [`sleap_rtc_package`] | reads packages: scripts, configurations, labels |
//! | [`sleap_rtc_job`] | trainer processes, progress, and the folder that owns a job |
//!
//! Dependencies point one way. `base` and `protocol` depend on no other crate of this program.
//! `worker` and `client` combine the crates, and `cli` calls them.

#[cfg(all(feature = "worker", not(unix)))]
compile_error!(
    "a worker needs Unix: build with --no-default-features --features client,signaling,page"
);

#[cfg(feature = "peer")]
mod blocking;
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod config;
#[cfg(feature = "peer")]
mod dates;
#[cfg(feature = "peer")]
mod device;
#[cfg(feature = "peer")]
mod endpoint;
#[cfg(feature = "peer")]
mod hook;
#[cfg(feature = "peer")]
mod nearby;
#[cfg(feature = "peer")]
mod pairing;
#[cfg(feature = "peer")]
mod question;
#[cfg(feature = "client")]
mod registry;
mod terminal;
#[cfg(feature = "worker")]
pub mod worker;
