//! The requests to the coordinator.

use sleap_rtc_gpu::Survey;
use sleap_rtc_job::{JobFolder, JobHandle};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::progress::JobProgress;
use sleap_rtc_protocol::worker::{FIRST_FRAME, RESERVATION};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a slot stays reserved while the package arrives. The end of the connection frees it earlier.
const WHILE_CONNECTED: Duration = Duration::from_secs(7 * 24 * 3600);

/// A request to the coordinator.
pub(crate) enum Request {
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
    /// A job has made progress.
    Progress {
        job: JobId,
        progress: JobProgress,
    },
    /// The result of a GPU survey.
    Surveyed {
        survey: Survey,
    },
    /// Facts about this worker have changed and should be published.
    FactsChanged,
}

/// Sends requests to the coordinator.
#[derive(Clone)]
pub(crate) struct CoordinatorHandle {
    pub(crate) requests: mpsc::Sender<Request>,
}

impl CoordinatorHandle {
    /// Reserves a slot for `peer` until its offer should have arrived.
    pub(crate) async fn reserve(&self, peer: &PeerId) -> Result<(), Refusal> {
        self.reserve_for(peer, RESERVATION).await
    }

    /// Extends the reservation of `peer`, which has connected, until its first frame should have arrived.
    pub(crate) async fn await_first_frame(&self, peer: &PeerId) -> Result<(), Refusal> {
        self.reserve_for(peer, FIRST_FRAME).await
    }

    /// Extends the reservation of `peer` while its package arrives.
    pub(crate) async fn hold(&self, peer: &PeerId) -> Result<(), Refusal> {
        self.reserve_for(peer, WHILE_CONNECTED).await
    }

    async fn reserve_for(&self, peer: &PeerId, wait: Duration) -> Result<(), Refusal> {
        let peer = peer.clone();
        self.ask(|reply| Request::Reserve { peer, wait, reply }).await
    }

    /// Starts the staged job in the slot of `peer`.
    pub(crate) async fn start(
        &self,
        peer: &PeerId,
        folder: JobFolder,
    ) -> Result<JobHandle, Refusal> {
        let peer = peer.clone();
        self.ask(|reply| Request::Start { peer, folder, reply }).await
    }

    /// Reports that facts about this worker have changed.
    pub(crate) async fn facts_changed(&self) {
        self.tell(Request::FactsChanged).await;
    }

    /// Reports the result of a GPU survey.
    pub(crate) async fn surveyed(&self, survey: Survey) {
        self.tell(Request::Surveyed { survey }).await;
    }

    /// Reports the progress of a job.
    pub(crate) async fn progressed(&self, job: &JobId, progress: JobProgress) {
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

    pub(crate) async fn tell(&self, request: Request) {
        // The queue closes only when the worker ends.
        let _ = self.requests.send(request).await;
    }
}
