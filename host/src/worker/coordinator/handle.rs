//! The requests to the coordinator.

use super::reservations::HandoverStep;
use sleap_rtc_gpu::Survey;
use sleap_rtc_job::slurm::SlurmState;
use sleap_rtc_job::{JobFolder, JobHandle};
use sleap_rtc_net::route::Route;
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{QueueEntry, Refusal, RefusalCode};
use sleap_rtc_protocol::progress::JobProgress;
use sleap_rtc_protocol::queue::Order;
use sleap_rtc_protocol::queue_report::{Decided, Decision};
use sleap_rtc_protocol::standing::Caller;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// The result of handing over a job.
pub(crate) enum Launch {
    /// It runs.
    Runs(JobHandle),
    /// A cluster has it, and decides when it runs.
    Submitted(JobHandle),
    /// It waits for a slot.
    Waits,
}

/// Receives the result of handing over a job.
pub(crate) type LaunchReply = oneshot::Sender<Result<Launch, Refusal>>;

impl Launch {
    /// What became of a job that was started, or handed over to a cluster.
    pub(crate) fn of(handle: &JobHandle) -> Self {
        match handle.is_elsewhere() {
            true => Self::Submitted(handle.clone()),
            false => Self::Runs(handle.clone()),
        }
    }
}

/// A request to the coordinator.
pub(crate) enum Request {
    /// Reserves a slot for a caller that has none yet, or a place in the queue if its job may wait. Then it
    /// makes `step`, if there is one.
    Reserve {
        caller: Caller,
        user: Option<String>,
        may_wait: bool,
        step: Option<HandoverStep>,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// The holder of a place in the queue names its job.
    Named {
        peer: PeerId,
        user: String,
        package_bytes: u64,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// The holder of a reservation comes closer to handing over its job.
    HandoverStep {
        peer: PeerId,
        step: HandoverStep,
    },
    /// The package of a holder of a reservation stopped arriving.
    Stalled {
        peer: PeerId,
    },
    /// The job of a holder of a reservation is complete.
    Start {
        peer: PeerId,
        folder: JobFolder,
        reply: LaunchReply,
    },
    /// A job is complete, and waits in the queue, as its folder says.
    Queued {
        peer: PeerId,
        folder: JobFolder,
        entry: QueueEntry,
        reply: LaunchReply,
    },
    /// The policy has ordered the queue.
    Ordered {
        order: Order,
    },
    /// The operator decides about a job of the queue.
    Decide {
        job: JobId,
        decision: Decision,
        reply: oneshot::Sender<Decided>,
    },
    /// The folder of a job of the queue says this now.
    Changed {
        job: JobId,
        entry: QueueEntry,
        reply: oneshot::Sender<Decided>,
    },
    /// A client withdraws its job from the queue. The reply says whether the job waited.
    Withdraw {
        job: JobId,
        reply: oneshot::Sender<bool>,
    },
    ConnectionOver {
        peer: PeerId,
        number: u64,
    },
    JobOver {
        job: JobId,
    },
    /// News of a cluster.
    Cluster(ClusterNews),
    /// A job has made progress.
    Progress {
        job: JobId,
        progress: JobProgress,
    },
    /// A client follows a job, over a connection that takes this way.
    Followed {
        job: JobId,
        route: watch::Receiver<Option<Route>>,
    },
    /// The result of a GPU survey.
    Surveyed {
        survey: Survey,
    },
    /// What is wrong with the worker's disk, if anything is.
    Storage {
        problem: Option<String>,
    },
    /// Facts about this worker have changed and should be published.
    FactsChanged,
}

/// What the coordinator is told of a cluster and of the jobs there.
pub(crate) enum ClusterNews {
    /// It has taken a job.
    Submitted(JobFolder),
    /// The state of a job has changed.
    State(JobId, SlurmState),
    /// A job has begun.
    Began(JobId),
    /// When a further job would start, in milliseconds since 1970.
    ExpectedStart(Option<u64>),
}

/// Sends requests to the coordinator.
#[derive(Clone)]
pub(crate) struct CoordinatorHandle {
    pub(crate) requests: mpsc::Sender<Request>,
}

impl CoordinatorHandle {
    /// Reserves a slot for a caller, in the name of `user`.
    pub(crate) async fn reserve(&self, caller: &Caller, user: Option<&str>) -> Result<(), Refusal> {
        let (caller, user) = (caller.clone(), user.map(str::to_owned));
        let (may_wait, step) = (false, None);
        self.ask(|reply| Request::Reserve { caller, user, may_wait, step, reply }).await
    }

    /// Keeps the slot, or the place, of a caller that has named its job and whose package arrives now.
    /// Reserves one if its reservation has ended: a place only if the job may `wait`, whose package has so
    /// many bytes.
    pub(crate) async fn hold(
        &self,
        caller: &Caller,
        user: Option<&str>,
        wait: Option<u64>,
    ) -> Result<(), Refusal> {
        let (caller, user) = (caller.clone(), user.map(str::to_owned));
        let (peer, may_wait) = (caller.peer.clone(), wait.is_some());
        let name = user.clone().unwrap_or_else(|| peer.to_string());
        let step = Some(HandoverStep::Introduced(user.clone()));
        self.ask(|reply| Request::Reserve { caller, user, may_wait, step, reply }).await?;
        let Some(package_bytes) = wait else { return Ok(()) };
        self.ask(|reply| Request::Named { peer, user: name, package_bytes, reply }).await
    }

    /// Reports a step of a holder of a reservation.
    pub(crate) async fn step(&self, peer: &PeerId, step: HandoverStep) {
        self.tell(Request::HandoverStep { peer: peer.clone(), step }).await;
    }

    /// Reports that the package of `peer`, which holds a reservation, makes progress.
    pub(crate) fn upload_of(&self, peer: &PeerId) -> UploadReports {
        UploadReports { requests: self.requests.clone(), peer: peer.clone(), reported_at: None }
    }

    /// Reports that the package of `peer` stopped arriving although its connection was there.
    pub(crate) async fn stalled(&self, peer: &PeerId) {
        self.tell(Request::Stalled { peer: peer.clone() }).await;
    }

    /// Starts the staged job in the slot of `peer`, or lets it wait in the place of `peer`.
    pub(crate) async fn start(&self, peer: &PeerId, folder: JobFolder) -> Result<Launch, Refusal> {
        let peer = peer.clone();
        self.ask(|reply| Request::Start { peer, folder, reply }).await
    }

    /// Applies a decision of the operator.
    pub(crate) async fn decide(&self, job: &JobId, decision: Decision) -> Decided {
        let (reply, answer) = oneshot::channel();
        self.tell(Request::Decide { job: job.clone(), decision, reply }).await;
        answer.await.unwrap_or(Decided::NotWaiting)
    }

    /// Withdraws a job from the queue. Returns false if it does not wait there.
    pub(crate) async fn withdraw(&self, job: &JobId) -> bool {
        let (reply, answer) = oneshot::channel();
        self.tell(Request::Withdraw { job: job.clone(), reply }).await;
        answer.await.unwrap_or(false)
    }

    /// Reports that facts about this worker have changed.
    pub(crate) async fn facts_changed(&self) {
        self.tell(Request::FactsChanged).await;
    }

    /// Reports the result of a GPU survey.
    pub(crate) async fn surveyed(&self, survey: Survey) {
        self.tell(Request::Surveyed { survey }).await;
    }

    /// Reports whether the disk has room for jobs.
    pub(crate) async fn storage(&self, problem: Option<String>) {
        self.tell(Request::Storage { problem }).await;
    }

    /// Reports news of a cluster.
    pub(crate) async fn cluster(&self, news: ClusterNews) {
        self.tell(Request::Cluster(news)).await;
    }

    /// Reports the progress of a job.
    pub(crate) async fn progressed(&self, job: &JobId, progress: JobProgress) {
        self.tell(Request::Progress { job: job.clone(), progress }).await;
    }

    /// Reports that a client follows a job, and which way its connection takes.
    pub(crate) async fn followed(&self, job: &JobId, route: watch::Receiver<Option<Route>>) {
        self.tell(Request::Followed { job: job.clone(), route }).await;
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Request,
    ) -> Result<T, Refusal> {
        let gone = || Refusal::new(RefusalCode::Maintenance, "the worker is shutting down");
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    pub(crate) async fn tell(&self, request: Request) {
        // The queue closes only when the worker ends.
        let _ = self.requests.send(request).await;
    }
}

/// The shortest time between two reports that a package makes progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Reports that a package makes progress, which keeps its slot.
pub(crate) struct UploadReports {
    requests: mpsc::Sender<Request>,
    peer: PeerId,
    reported_at: Option<Instant>,
}

impl UploadReports {
    /// Further bytes have arrived.
    pub(crate) fn advanced(&mut self) {
        if self.reported_at.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            let report =
                Request::HandoverStep { peer: self.peer.clone(), step: HandoverStep::Received };
            // When the queue is full, the next call reports it.
            if self.requests.try_send(report).is_ok() {
                self.reported_at = Some(Instant::now());
            }
        }
    }
}
