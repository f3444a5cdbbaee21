//! The operator's command that runs when a job has ended.

use super::WorkerContext;
use crate::hook::JobEnd;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::JobFolder;
use sleap_rtc_protocol::job::JobOutcome;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// The most ends that wait while the command runs.
const WAITING: usize = 64;
/// How long the command may still run when the worker ends.
const GOODBYE: Duration = Duration::from_secs(5);

/// Jobs that have ended.
pub(crate) struct JobEnds {
    command: Option<Vec<String>>,
    sender: Sender<JobEnd>,
    arriving: Mutex<Receiver<JobEnd>>,
}

impl JobEnds {
    /// `command` is a program and its first arguments; without one, nothing happens.
    pub(crate) fn new(command: Option<Vec<String>>) -> Self {
        let (sender, arriving) = mpsc::channel(WAITING);
        Self { command, sender, arriving: Mutex::new(arriving) }
    }

    /// Has the command run for a job of the worker with this peer id, beside everything else.
    pub(crate) fn report(
        &self,
        folder: &JobFolder,
        outcome: JobOutcome,
        took_s: Option<f64>,
        worker: String,
    ) {
        let (id, name) = (folder.id().to_string(), folder.spec().name.clone());
        let described = &folder.spec().description;
        let (job_type, user) = (Some(described.job_type), described.user.clone());
        let result = folder.has_results().then(|| folder.results_dir());
        let end = JobEnd { id, name, job_type, outcome, user, worker, took_s, result };
        if self.command.is_some() && self.sender.try_send(end).is_err() {
            warn!(job = %folder.id(), "`on_job_end` is too slow: it does not run for this job");
        }
    }

    /// Runs the command for each end, one after the other, until `shutdown` and for those that wait then.
    async fn serve(&self, shutdown: &CancellationToken) {
        let mut arriving = self.arriving.lock().await;
        while let Some(end) = next(&mut arriving, shutdown).await {
            let Some(command) = &self.command else { continue };
            match end.run(command).await {
                Ok(()) => debug!(job = end.id, "`on_job_end` is done"),
                Err(error) => {
                    warn!(job = end.id, error = %WithCauses(&error), "`on_job_end` failed");
                }
            }
        }
    }
}

async fn next(
    arriving: &mut MutexGuard<'_, Receiver<JobEnd>>,
    shutdown: &CancellationToken,
) -> Option<JobEnd> {
    tokio::select! {
        biased;
        end = arriving.recv() => end,
        () = shutdown.cancelled() => None,
    }
}

/// Serves until `shutdown`.
pub(crate) async fn watch(context: Arc<WorkerContext>, shutdown: CancellationToken) {
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GOODBYE).await;
    };
    tokio::select! {
        () = context.job_ends.serve(&shutdown) => {}
        () = late => warn!("`on_job_end` was still running when the worker ended"),
    }
}
