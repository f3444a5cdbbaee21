//! `sleap-rtc run-job DIR`: the process that owns one job. Hidden, because only a worker starts it.

use anyhow::Context;
use sleap_rtc_job as job;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs one job from its folder to its end, whether or not a client is connected.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job's folder.
    dir: PathBuf,
}

/// Runs the job. SIGTERM and SIGINT interrupt it, and what it has saved is kept; SIGHUP is ignored,
/// since the job must outlive a terminal.
///
/// An error means that the job could not be run at all. The outcome of a job that ran is in its folder.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // In a session of its own, the job does not get signals for the worker's terminal or process group.
    // This fails only for a group leader, which does not need it.
    let _ = rustix::process::setsid();
    // The job's files are for its owner only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    job::adopt_descendants().context("cannot become the parent of the job's processes")?;
    let interruption = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).context("cannot listen for signals")?;
        let interruption = interruption.clone();
        tokio::spawn(async move {
            signals.recv().await;
            interruption.cancel();
        });
    }
    let mut hangups = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    tokio::spawn(async move { while hangups.recv().await.is_some() {} });
    let outcome = job::run_job(&args.dir, interruption).await?;
    tracing::info!(?outcome, "the job has ended");
    Ok(())
}
