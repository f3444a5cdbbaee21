//! `sleap-rtc run-job DIR`: the process that owns one job. Hidden, because only a worker starts it.

use super::exit::Exit;
use anyhow::Context;
use sleap_rtc_job::{self as job, JobError, Signals};
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// Runs one job from its folder to its end, whether or not a client is connected.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job's folder.
    dir: PathBuf,
}

/// Runs the job. SIGTERM and SIGINT interrupt it, and what it has saved is kept. SIGUSR2 says that the
/// cluster's time limit is near, and ends the training early. SIGHUP is ignored, since the job must outlive a
/// terminal.
///
/// An error means that the job could not be run at all. The outcome of a job that ran is in its folder.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    // In a session of its own, the job does not get signals for the worker's terminal or process group.
    // This fails only for a group leader, which does not need it.
    let _ = rustix::process::setsid();
    // The job's files are for its owner only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    job::adopt_descendants().context("cannot become the parent of the job's processes")?;
    let signals = Signals::default();
    for (kind, token) in [
        (SignalKind::terminate(), &signals.interruption),
        (SignalKind::interrupt(), &signals.interruption),
        (SignalKind::user_defined2(), &signals.time_limit),
    ] {
        let mut received = signal(kind).context("cannot listen for signals")?;
        let token = token.clone();
        tokio::spawn(async move {
            received.recv().await;
            token.cancel();
        });
    }
    let mut hangups = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    tokio::spawn(async move { while hangups.recv().await.is_some() {} });
    let outcome = match job::run_job(&args.dir, signals).await {
        // Slurm may start a job twice. The first process, or the worker, records how it ends.
        Err(JobError::Claimed) => {
            tracing::warn!("another process has this job; it is not run again");
            return Ok(Exit::Success);
        }
        outcome => outcome?,
    };
    tracing::info!(?outcome, "the job has ended");
    // The accounting of a cluster knows only exit codes.
    let is_counted = std::env::var_os("SLURM_JOB_ID").is_some() && !outcome.is_success();
    Ok(if is_counted { Exit::Unexpected } else { Exit::Success })
}
