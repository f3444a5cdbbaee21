//! How connections and watchers reach the coordinator.

use sleap_rtc_gpu::Survey;
use sleap_rtc_job::{JobFolder, JobHandle};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::progress::JobProgress;
use sleap_rtc_protocol::worker::{FIRST_FRAME, RESERVATION};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A slot stays reserved while the package arrives; the connection's end frees it.
const WHILE_CONNECTED: Duration = Duration::from_secs(7 * 24 * 3600);

/// What connections and watchers ask of the coordinator.
pub(super) enum Request {
    Reserve {
        peer: PeerId,
        wait: Duration,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    Start {
        peer: PeerId,
        folder: JobFolder,
        reply: oneshot::Sender<Result<JobHandle, Refusal>>,
    },
    ConnectionOver {
        peer: PeerId,
        number: u64,
    },
    JobOver {
        job: JobId,
    },
    /// A job is further than before.
    Progress {
        job: JobId,
        progress: JobProgress,
    },
    /// The GPUs were looked at.
    Surveyed {
        survey: Survey,
    },
    /// What is known of this worker has changed: discovery should see it.
    FactsChanged,
}

/// How tasks reach the coordinator.
#[derive(Clone)]
pub(in crate::worker) struct CoordinatorHandle {
    pub(super) requests: mpsc::Sender<Request>,
}

impl CoordinatorHandle {
    /// Reserves a slot for `peer`, until its offer should have come.
    pub(in crate::worker) async fn reserve(&self, peer: &PeerId) -> Result<(), Refusal> {
        self.reserve_for(peer, RESERVATION).await
    }

    /// Keeps the slot of `peer`, which has connected, until it should have said something.
    pub(in crate::worker) async fn await_first_frame(&self, peer: &PeerId) -> Result<(), Refusal> {
        self.reserve_for(peer, FIRST_FRAME).await
    }

    /// Keeps the slot of `peer` while its package arrives.
    pub(in crate::worker) async fn hold(&self, peer: &PeerId) -> Result<(), Refusal> {
        self.reserve_for(peer, WHILE_CONNECTED).await
    }

    async fn reserve_for(&self, peer: &PeerId, wait: Duration) -> Result<(), Refusal> {
        let peer = peer.clone();
        self.ask(|reply| Request::Reserve { peer, wait, reply }).await
    }

    /// Runs the staged job in the slot of `peer`.
    pub(in crate::worker) async fn start(
        &self,
        peer: &PeerId,
        folder: JobFolder,
    ) -> Result<JobHandle, Refusal> {
        let peer = peer.clone();
        self.ask(|reply| Request::Start { peer, folder, reply }).await
    }

    /// What is known of this worker has changed.
    pub(in crate::worker) async fn facts_changed(&self) {
        self.tell(Request::FactsChanged).await;
    }

    /// Somebody has looked at the GPUs.
    pub(in crate::worker) async fn surveyed(&self, survey: Survey) {
        self.tell(Request::Surveyed { survey }).await;
    }

    /// A job is further than before.
    pub(in crate::worker) async fn progressed(&self, job: &JobId, progress: JobProgress) {
        self.tell(Request::Progress { job: job.clone(), progress }).await;
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

    pub(super) async fn tell(&self, request: Request) {
        // A closed queue means that the worker ends, and the slots with it.
        let _ = self.requests.send(request).await;
    }
}
