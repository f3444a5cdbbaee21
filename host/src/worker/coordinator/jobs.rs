//! Starts jobs in their slots, finds them again after a restart, and watches them to their end.

use super::handle::Request;
use super::{Coordinator, Machine};
use crate::worker::job_watch;
use crate::worker::running::Running;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{JobFolder, JobHandle, RunnerOptions, RunnerSettings};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::worker::{Refused, WorkerEvent};
use tokio::sync::oneshot;
use tracing::{info, warn};

impl Coordinator {
    /// Finds the running jobs that an earlier run of this worker started. They keep their slots.
    pub(crate) async fn find_running_jobs(&mut self) {
        for folder in JobFolder::unfinished(&self.context.state_dir) {
            let job = folder.id().clone();
            let handle = match JobHandle::attach(&folder).await {
                Ok(handle) => handle,
                Err(error) => {
                    warn!(%job, error = %WithCauses(&error), folder = %folder.path().display(), "the job does not run any more");
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
            self.watch(folder, handle);
        }
    }

    pub(crate) fn start(
        &mut self,
        peer: PeerId,
        folder: JobFolder,
        reply: oneshot::Sender<Result<JobHandle, Refusal>>,
    ) {
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
            connection.job = Some(job.clone());
        }
        let Machine { slots, pool } = &self.machine;
        let settings = slots.settings(slot, pool, &self.context.runner.settings);
        info!(%job, slot, gpus = ?settings.gpus, folder = %folder.path().display(), "starting the job");
        self.running.insert(job.clone(), Running::new(&folder, slots.gpus(slot)));
        let (context, coordinator) = (self.context.clone(), self.handle.clone());
        self.spawn_for_job(job.clone(), async move {
            let settings = settings.reading(context.trainers.scope().await);
            let runner = RunnerOptions { settings, ..context.runner.clone() };
            match sleap_rtc_job::start(&folder, &runner).await {
                Ok(handle) => {
                    context.surveys.request();
                    let _ = reply.send(Ok(handle.clone()));
                    job_watch::watch(&context, &coordinator, &folder, &handle).await;
                }
                Err(error) => {
                    warn!(%job, error = %WithCauses(&error), "cannot start the job");
                    let text =
                        format!("the worker could not start the job: {}", WithCauses(&error));
                    let _ = reply.send(Err(Refusal::new(RefusalCode::Invalid, text)));
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
