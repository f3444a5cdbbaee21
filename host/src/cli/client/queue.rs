//! `sleap-rtc queue`: what runs and what waits in a room, and what the operator of a worker decides about it.

use super::common::CommonArgs;
use super::environment::Environment;
use super::exit::{Exit, ExitWith, Failure};
use super::local::LocalArgs;
use super::room::WhichRoom;
use super::{interrupt, print};
use crate::client::{self, Join, queue_text};
use crate::config::{Config, Overrides};
use clap::{Args, Subcommand};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::queue_report::Decision;

#[cfg_attr(not(feature = "worker"), path = "queue/absent.rs")]
mod here;

#[cfg(feature = "worker")]
pub(crate) use here::decide;

/// The examples under `queue --help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  What runs and what waits on each worker of the room that this device has paired with:
    sleap-rtc queue
  What waits at the worker on this machine, with the ids of the jobs:
    sleap-rtc queue --local
  Start one of them before all others, as soon as a slot is free:
    sleap-rtc queue --local front JOB";

/// The options of `queue`.
#[derive(Args)]
pub struct QueueArgs {
    #[command(subcommand)]
    decision: Option<DecisionArgs>,
    #[command(flatten)]
    whose: LocalArgs,
    #[command(flatten)]
    room: WhichRoom,
    #[command(flatten)]
    common: CommonArgs,
}

/// What the operator of the worker on this machine decides about a waiting job.
#[derive(Debug, Clone, Subcommand)]
enum DecisionArgs {
    /// Do not start the job until it is released
    Hold(WaitingJobArgs),
    /// Let the job start in its turn again
    Release(WaitingJobArgs),
    /// Start the job before all others
    Front(WaitingJobArgs),
    /// Withdraw the job
    Remove(WaitingJobArgs),
}

#[derive(Debug, Clone, Args)]
struct WaitingJobArgs {
    /// The job's id, as `queue --local` lists it, or its beginning
    job: String,
}

/// What to do, checked.
#[derive(Debug)]
pub enum QueueOptions {
    /// Show a room's.
    Room(Join),
    /// Show that of this machine's worker.
    Here,
    /// Decide about a job of this machine's worker.
    Decide(String, Decision),
}

impl QueueArgs {
    pub(crate) fn check(
        self,
        environment: &mut Environment,
    ) -> Result<(QueueOptions, Overrides), Failure> {
        if !self.whose.is_meant() {
            if self.decision.is_some() {
                let text = "only the operator of a worker decides about its queue, on the \
                            worker's machine: add --local";
                return Err(Failure::usage(text));
            }
            let (join, servers) = self.room.check(environment)?;
            return Ok((QueueOptions::Room(join), self.common.check()?.or_servers(servers)));
        }
        let state_dir = self.whose.overrides().state_dir;
        let overrides = Overrides { state_dir, ..self.common.check()? };
        let Some(decision) = self.decision else { return Ok((QueueOptions::Here, overrides)) };
        let (WaitingJobArgs { job }, decision) = match decision {
            DecisionArgs::Hold(job) => (job, Decision::Hold),
            DecisionArgs::Release(job) => (job, Decision::Release),
            DecisionArgs::Front(job) => (job, Decision::Front),
            DecisionArgs::Remove(job) => (job, Decision::Remove),
        };
        Ok((QueueOptions::Decide(job, decision), overrides))
    }
}

/// Shows a queue, or decides about one of its jobs.
pub(crate) async fn run(options: QueueOptions, config: &Config) -> Result<Exit, Failure> {
    match options {
        QueueOptions::Room(join) => show(&join, config).await,
        QueueOptions::Here => here::list(config).await,
        QueueOptions::Decide(job, decision) => here::decide(config, &job, decision).await,
    }
}

/// Prints what runs and what waits on each worker of a room.
async fn show(join: &Join, config: &Config) -> Result<Exit, Failure> {
    let mut interrupts = interrupt::while_following_a_job()?;
    let peers = client::snapshot(config, join, &mut interrupts).await?;
    if peers.is_empty() {
        print::line("there are no workers in this room").exit(Exit::Unexpected)?;
    }
    for peer in &peers {
        let text = queue_text::of_worker(&WorkerFacts::from_peer(peer), now_ms());
        print::line(&text).exit(Exit::Unexpected)?;
    }
    Ok(Exit::Success)
}
