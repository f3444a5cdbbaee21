//! `sleap-rtc run-job DIR`: the process that owns one job. Hidden; the worker starts it.

use anyhow::Context;
use sleap_rtc_job as job;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs one job from its folder to its end, whether or not anybody listens.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job's folder.
    dir: PathBuf,
}

/// Runs the job. SIGTERM and SIGINT cancel it; SIGHUP does nothing: the terminal is not ours.
///
/// An error means that the job could not be run at all; how the job itself ended is in its folder.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // A session of its own: signals meant for the worker's terminal or group do not reach the job.
    // It fails only for the leader of a group, which has what is wanted here already.
    let _ = rustix::process::setsid();
    let cancel = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).context("cannot listen for signals")?;
        let cancel = cancel.clone();
        tokio::spawn(async move {
            signals.recv().await;
            cancel.cancel();
        });
    }
    let mut hangups = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    tokio::spawn(async move { while hangups.recv().await.is_some() {} });
    let outcome = job::run_job(&args.dir, cancel).await?;
    tracing::info!(?outcome, "the job has ended");
    Ok(())
}
