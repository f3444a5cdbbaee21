//! Starts jobs in their slots, finds them again after a restart, and watches them to their end.

use super::handle::{ClusterNews, Launch, LaunchReply, Request};
use super::{Coordinator, Machine};
use crate::blocking::blocking;
use crate::worker::running::Running;
use crate::worker::{WorkerContext, job_watch, staged_job};
use sleap_rtc_base::disk::is_full;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{JobError, JobFolder, JobHandle, RunnerOptions, RunnerSettings, Unfinished};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{JobOutcome, JobState, Refusal, RefusalCode};
use sleap_rtc_protocol::worker::{Refused, WorkerEvent};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// How long a job that has waited is tried to be started while the disk is full, and how often.
const FULL_DISK_LIMIT: Duration = Duration::from_secs(3600);
const FULL_DISK_INTERVAL: Duration = Duration::from_secs(2);
/// How long to try to record the end of a job whose folder cannot be written, and how often.
const WRITE_LIMIT: Duration = Duration::from_secs(600);
const WRITE_INTERVAL: Duration = Duration::from_millis(500);

impl Coordinator {
    /// Finds the jobs that an earlier run of this worker has left. Running ones keep their slots.
    pub(crate) async fn find_jobs(&mut self) {
        let Unfinished { begun, queued } = JobFolder::unfinished(&self.context.state_dir);
        // All at once, because a process that does not answer is waited for.
        let attach = async |folder: JobFolder| (JobHandle::attach(&folder).await, folder);
        let attaching = begun.into_iter().map(|folder| tokio::spawn(attach(folder)));
        for attached in attaching.collect::<Vec<_>>() {
            let Ok((attached, folder)) = attached.await else { continue };
            let job = folder.id().clone();
            let handle = match attached {
                Ok(handle) => handle,
                Err(error) => {
                    // The process of a job that waited has died before it began.
                    if let Ok(JobState::Queued(entry)) = folder.record().map(|record| record.state)
                    {
                        self.found_queued(&folder, entry);
                    } else {
                        warn!(%job, error = %WithCauses(&error), folder = %folder.path().display(), "the job does not run any more");
                    }
                    continue;
                }
            };
            let settings = RunnerSettings::read(&folder).unwrap_or_default();
            let slot = self.machine.slots.slot_for(&settings, &self.machine.pool);
            if self.apply(WorkerEvent::JobFound { job: job.clone(), slot }).is_err() {
                continue;
            }
            match self.state.slot_of(&job) {
                Some(slot) => info!(%job, slot, "found a running job"),
                None => warn!(%job, "found a running job; it gets the next slot that becomes free"),
            }
            let gpus = settings.gpus.map(|indices| self.machine.pool.positions(&indices));
            self.running.insert(job, Running::new(&folder, gpus));
            if handle.is_elsewhere() {
                self.follow_submitted(&folder);
            }
            self.watch(folder, handle);
        }
        for (folder, entry) in queued {
            self.found_queued(&folder, entry);
        }
    }

    /// Starts the job of `peer` in the slot that it holds, or lets it wait in the place that it holds.
    pub(crate) fn start(&mut self, peer: PeerId, folder: JobFolder, reply: LaunchReply) {
        if self.state.holds_place(&peer) {
            return self.let_wait(peer, folder, reply);
        }
        let job = folder.id().clone();
        let owner = peer.clone();
        let started = self.apply(WorkerEvent::JobStarted { peer, job: job.clone() });
        if started.is_ok() {
            self.reservations.started(&owner);
        }
        let slot = match (started, self.state.slot_of(&job)) {
            (Ok(_), Some(slot)) => slot,
            (Ok(_), None) => {
                let text = "the job has no slot; this is a bug";
                let _ = reply.send(Err(Refusal::new(RefusalCode::Invalid, text)));
                return;
            }
            (Err(refused), _) => {
                let refusal = match refused {
                    Refused::OutOfService => self.context.out_of_service(),
                    _ => Refusal::new(RefusalCode::Busy, refused.to_string()),
                };
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        if let Some(connection) = self.new_jobs.get_mut(folder.owner()) {
            connection.job = Some(job);
        }
        self.launch(folder, slot, LaunchedFor::Client(reply));
    }

    /// Starts a job in its slot.
    pub(crate) fn launch(&mut self, folder: JobFolder, slot: usize, launched_for: LaunchedFor) {
        let job = folder.id().clone();
        let Machine { slots, pool } = &self.machine;
        let settings = slots.settings(slot, pool, &self.context.runner.settings);
        info!(%job, slot, gpus = ?settings.gpus, folder = %folder.path().display(), "starting the job");
        self.running.insert(job.clone(), Running::new(&folder, slots.gpus(slot)));
        let (context, coordinator) = (self.context.clone(), self.handle.clone());
        self.spawn_for_job(job.clone(), async move {
            let settings = match context.executor.is_local() {
                true => settings.reading(context.trainers.scope().await),
                false => settings,
            };
            let runner = RunnerOptions { settings, ..context.runner.clone() };
            match launched_for.start(&context, &folder, &runner).await {
                Ok(handle) => {
                    context.surveys.request();
                    if handle.is_elsewhere() {
                        coordinator.cluster(ClusterNews::Submitted(folder.clone())).await;
                    }
                    launched_for.succeeded(&context, &handle);
                    job_watch::watch(&context, &coordinator, &folder, &handle).await;
                }
                Err(error) => {
                    let why = WithCauses(&error).to_string();
                    warn!(%job, error = why, "cannot start the job");
                    let message = format!("the worker could not start the job: {why}");
                    launched_for.failed(&context, folder, message).await;
                }
            }
        });
    }

    fn watch(&self, folder: JobFolder, handle: JobHandle) {
        let (context, coordinator) = (self.context.clone(), self.handle.clone());
        self.spawn_for_job(folder.id().clone(), async move {
            job_watch::watch(&context, &coordinator, &folder, &handle).await;
        });
    }

    /// Frees the job's slot when `work` is done. The end of the worker stops only `work`, because the job runs
    /// in a process of its own.
    fn spawn_for_job(&self, job: JobId, work: impl Future<Output = ()> + Send + 'static) {
        let (coordinator, ended) = (self.handle.clone(), self.connections.clone());
        self.tasks.spawn(async move {
            if ended.run_until_cancelled(work).await.is_some() {
                coordinator.tell(Request::JobOver { job }).await;
            }
        });
    }
}

/// Who waits for a job to start.
pub(crate) enum LaunchedFor {
    /// Its client, which receives the result.
    Client(LaunchReply),
    /// Nobody: the job has waited in the queue, and its client may have gone long ago.
    Queue,
}

impl LaunchedFor {
    async fn start(
        &self,
        context: &WorkerContext,
        folder: &JobFolder,
        runner: &RunnerOptions,
    ) -> Result<JobHandle, JobError> {
        match self {
            Self::Client(_) => context.executor.start(folder, runner).await,
            Self::Queue => start_patiently(context, folder, runner).await,
        }
    }

    fn succeeded(self, context: &WorkerContext, handle: &JobHandle) {
        match self {
            Self::Client(reply) => _ = reply.send(Ok(Launch::of(handle))),
            // Its clients look at its folder now.
            Self::Queue => context.queue_report.send_modify(|_| {}),
        }
    }

    /// A client may submit its job again. A job of the queue has failed.
    async fn failed(self, context: &WorkerContext, folder: JobFolder, message: String) {
        match self {
            Self::Client(reply) => {
                let refusal = Err(Refusal::new(RefusalCode::Invalid, message));
                if reply.send(refusal).is_err() {
                    // The connection that would have removed the folder has ended.
                    staged_job::give_up(context, &folder).await;
                }
            }
            Self::Queue => {
                record_end(context, folder, JobOutcome::Failed { exit_code: None, message }).await;
                context.queue_report.send_modify(|_| {});
            }
        }
    }
}

/// Starts a job that has waited. Waits while the disk is full.
async fn start_patiently(
    context: &WorkerContext,
    folder: &JobFolder,
    runner: &RunnerOptions,
) -> Result<JobHandle, JobError> {
    let deadline = Instant::now() + FULL_DISK_LIMIT;
    loop {
        match context.executor.start(folder, runner).await {
            Err(JobError::Io { source, .. }) if is_full(&source) && Instant::now() < deadline => {
                context.disk_alarm.raise();
                sleep(FULL_DISK_INTERVAL).await;
            }
            started => return started,
        }
    }
}

/// Records the end of a job that has no process, and has the operator's command run. Retries for a while if its
/// folder cannot be written.
pub(crate) async fn record_end(context: &WorkerContext, folder: JobFolder, outcome: JobOutcome) {
    let deadline = Instant::now() + WRITE_LIMIT;
    loop {
        let (writing, outcome) = (folder.clone(), outcome.clone());
        let error = match blocking(move || writing.settle(outcome)).await {
            Ok(Ok(ended)) => {
                let worker = context.facts().peer_id.to_string();
                return context.job_ends.report(&folder, ended, None, worker);
            }
            Ok(Err(error @ JobError::Io { .. })) if Instant::now() < deadline => error.to_string(),
            Ok(Err(error)) => {
                return warn!(job = %folder.id(), error = %WithCauses(&error), "cannot record the end of the job");
            }
            Err(error) => error.to_string(),
        };
        warn!(job = %folder.id(), error, "cannot record the end of the job yet; will retry");
        sleep(WRITE_INTERVAL).await;
    }
}
