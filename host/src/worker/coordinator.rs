//! Admission: who gets a slot, and what discovery sees of it.
//!
//! One task owns the slots. Connections and job watchers send it requests; nobody else changes
//! the state.

use super::answering::{Answering, response};
use super::gpus::Seen;
use super::running::Running;
use super::slots::{SlotGpus, mark_taken};
use super::{Site, connection, staging};
use crate::deadline;
use crate::job::{JobCommand, JobFolder, JobHandle, RunnerOptions, RunnerSettings};
use crate::signaling::client::{SignalingClient, SignalingEvent};
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::progress::JobProgress;
use sleap_rtc_protocol::signaling::{
    AppMessage, ClientMessage, Description, ErrorFrame, JobRequest, JobResponse, MetadataPatch,
    PeerMessage, ServerMessage, WORKER_BUSY,
};
use sleap_rtc_protocol::worker::{
    FIRST_FRAME, RESERVATION, Refused, Slot, WorkerEvent, WorkerState, WorkerStatus,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Connections that are not for a new job: each must prove its right, so few need to wait.
const MAX_OTHER_CONNECTIONS: usize = 16;
/// Job requests whose policies are being asked at this moment.
const MAX_REQUESTS_IN_FLIGHT: usize = 32;
/// How long connections get to say goodbye when the worker ends.
const GOODBYE: Duration = Duration::from_secs(3);
/// A slot stays reserved while the package arrives; the connection's end frees it.
const WHILE_CONNECTED: Duration = Duration::from_secs(7 * 24 * 3600);

/// What connections and watchers ask of the coordinator.
enum Request {
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
    Measured {
        seen: Seen,
    },
    /// What is known of this worker has changed: discovery should see it.
    FactsChanged,
}

/// How tasks reach the coordinator.
#[derive(Clone)]
pub(super) struct CoordinatorHandle {
    requests: mpsc::Sender<Request>,
}

impl CoordinatorHandle {
    /// Reserves a slot for `peer`, until its offer should have come.
    pub(super) async fn reserve(&self, peer: &PeerId) -> Result<(), Refusal> {
        self.reserve_for(peer, RESERVATION).await
    }

    /// Keeps the slot of `peer`, which has connected, until it should have said something.
    pub(super) async fn await_first_frame(&self, peer: &PeerId) -> Result<(), Refusal> {
        self.reserve_for(peer, FIRST_FRAME).await
    }

    /// Keeps the slot of `peer` while its package arrives.
    pub(super) async fn hold(&self, peer: &PeerId) -> Result<(), Refusal> {
        self.reserve_for(peer, WHILE_CONNECTED).await
    }

    async fn reserve_for(&self, peer: &PeerId, wait: Duration) -> Result<(), Refusal> {
        let peer = peer.clone();
        self.ask(|reply| Request::Reserve { peer, wait, reply }).await
    }

    /// Runs the staged job in the slot of `peer`.
    pub(super) async fn start(
        &self,
        peer: &PeerId,
        folder: JobFolder,
    ) -> Result<JobHandle, Refusal> {
        let peer = peer.clone();
        self.ask(|reply| Request::Start { peer, folder, reply }).await
    }

    /// What is known of this worker has changed.
    pub(super) async fn facts_changed(&self) {
        self.tell(Request::FactsChanged).await;
    }

    /// Somebody has looked at the GPUs.
    pub(super) async fn measured(&self, seen: Seen) {
        self.tell(Request::Measured { seen }).await;
    }

    /// A job is further than before.
    pub(super) async fn progressed(&self, job: &JobId, progress: JobProgress) {
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

    async fn tell(&self, request: Request) {
        // A closed queue means that the worker ends, and the slots with it.
        let _ = self.requests.send(request).await;
    }
}

/// A live connection for a new job.
struct NewJobConnection {
    number: u64,
    cancel: CancellationToken,
    /// Whether the client chose its job's identifier; a Python client does not know ours.
    names_its_job: bool,
    /// The job, once it runs.
    job: Option<JobId>,
}

pub(super) struct Coordinator {
    site: Arc<Site>,
    signaling: SignalingClient,
    own_id: PeerId,
    state: WorkerState,
    slots: SlotGpus,
    running: HashMap<JobId, Running>,
    /// What discovery sees.
    published: serde_json::Map<String, serde_json::Value>,
    new_jobs: HashMap<PeerId, NewJobConnection>,
    next_number: u64,
    others: Arc<tokio::sync::Semaphore>,
    asking: Arc<tokio::sync::Semaphore>,
    tasks: TaskTracker,
    connections: CancellationToken,
    requests: mpsc::Receiver<Request>,
    handle: CoordinatorHandle,
}

impl Coordinator {
    pub(super) fn new(
        site: Arc<Site>,
        signaling: SignalingClient,
        own_id: PeerId,
        slots: SlotGpus,
    ) -> Self {
        let (sender, requests) = mpsc::channel(64);
        let facts = site.facts();
        let site_gpus = &facts.accelerators.gpus;
        Self {
            published: facts.changing(),
            site,
            signaling,
            own_id,
            state: WorkerState::new(slots.len()).preferring(slots.order(site_gpus)),
            slots,
            running: HashMap::new(),
            new_jobs: HashMap::new(),
            next_number: 0,
            others: Arc::new(tokio::sync::Semaphore::new(MAX_OTHER_CONNECTIONS)),
            asking: Arc::new(tokio::sync::Semaphore::new(MAX_REQUESTS_IN_FLIGHT)),
            tasks: TaskTracker::new(),
            connections: CancellationToken::new(),
            requests,
            handle: CoordinatorHandle { requests: sender },
        }
    }

    /// How others reach it.
    pub(super) fn handle(&self) -> CoordinatorHandle {
        self.handle.clone()
    }

    /// Serves until `shutdown` or until the signaling client is gone for good. With `drain` the jobs
    /// that run at the shutdown, and their clients, are waited for.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::Receiver<SignalingEvent>,
        shutdown: CancellationToken,
        drain: bool,
    ) {
        if self.site.maintenance {
            let _ = self.apply(WorkerEvent::Drain);
        }
        self.take_up_running_jobs().await;
        self.publish().await;
        let mut leaving = false;
        loop {
            let idle = self.state.is_idle();
            let tick = self.state.next_deadline();
            tokio::select! {
                () = shutdown.cancelled(), if !leaving => {
                    leaving = true;
                    self.leave(drain).await;
                    if !drain {
                        break;
                    }
                }
                event = events.recv() => match event {
                    Some(SignalingEvent::Message(message)) => self.on_message(message).await,
                    Some(SignalingEvent::Lost) => warn!("signaling lost; registering again"),
                    Some(SignalingEvent::Restored) => info!("registered again"),
                    None => break,
                },
                Some(request) = self.requests.recv() => self.on_request(request),
                () = deadline::reached(tick) => { let _ = self.apply(WorkerEvent::Tick { now: Instant::now() }); }
                // Who still fetches a result is let finish; each connection has its own limits.
                () = self.tasks.wait(), if leaving && idle => break,
            }
            self.publish().await;
        }
        self.connections.cancel();
        // Who still asks for a slot hears at once that the worker ends.
        drop(self.requests);
        self.tasks.close();
        if tokio::time::timeout(GOODBYE, self.tasks.wait()).await.is_err() {
            warn!("some connections did not end in time");
        }
    }

    /// Takes no new jobs from here on, and lets everybody see it.
    async fn leave(&mut self, drain: bool) {
        let jobs = self.state.jobs().count();
        match (jobs, drain) {
            (0, _) => info!("asked to end"),
            (_, true) => info!(jobs, "asked to end: waiting for the running jobs"),
            (_, false) => info!(jobs, "asked to end; running jobs go on by themselves"),
        }
        let _ = self.apply(WorkerEvent::Drain);
        self.publish().await;
        self.tasks.close();
    }

    /// Jobs that an earlier run of this worker started keep their slots.
    async fn take_up_running_jobs(&mut self) {
        for folder in JobFolder::unfinished(&self.site.state_dir) {
            let job = folder.id().clone();
            let handle = match JobHandle::attach(&folder).await {
                Ok(handle) => handle,
                Err(error) => {
                    warn!(%job, %error, folder = %folder.path().display(), "not running any more");
                    continue;
                }
            };
            let settings = RunnerSettings::read(&folder).unwrap_or_default();
            let slot = self.slots.place_of(&settings);
            if self.apply(WorkerEvent::JobFound { job: job.clone(), slot }).is_err() {
                continue;
            }
            match self.state.slot_of(&job) {
                Some(slot) => info!(%job, slot, "still running; taken up again"),
                None => warn!(%job, "still running; it takes the next slot that becomes free"),
            }
            self.running.insert(job, Running::new(&folder, settings.gpus));
            self.watch(folder, handle);
        }
    }

    fn apply(&mut self, event: WorkerEvent) -> Result<WorkerStatus, Refused> {
        let before = self.state.status();
        let after = self.state.apply(event)?;
        if before != after {
            info!(from = before.as_str(), to = after.as_str(), "status");
        }
        Ok(after)
    }

    /// Lets policies and discovery see what has changed.
    async fn publish(&mut self) {
        let (status, free) = (self.state.status(), self.state.free());
        let (running, slots) = (&self.running, self.slots.views(self.state.slots()));
        let facts = self.site.update_facts(|facts| {
            facts.slots = slots;
            let facts = &mut facts.worker;
            facts.jobs = Running::seen(running);
            facts.status = status;
            facts.slots_free = u32::try_from(free).unwrap_or(u32::MAX);
            let gpus = running.values().map(|job| job.gpus.as_deref());
            mark_taken(&mut facts.accelerators.gpus, gpus);
        });
        let now = facts.changing();
        let mut changed = now.clone();
        changed.retain(|key, value| self.published.get(key) != Some(value));
        if !changed.is_empty() {
            self.published = now;
            let properties = Some(changed);
            self.signaling.update(MetadataPatch { tags: None, properties }).await;
        }
    }

    async fn on_message(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::Offer(offer) => self.on_offer(offer).await,
            ServerMessage::PeerMessage(message) => self.on_peer_message(message).await,
            ServerMessage::Error(error) => warn!(error = error.text(), "the server reports"),
            // Nobody trickles, and the rest answers the signaling client's own questions.
            _ => {}
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Reserve { peer, wait, reply } => {
                let _ = reply.send(self.reserve(peer, wait));
            }
            Request::Start { peer, folder, reply } => self.start(peer, folder, reply),
            Request::ConnectionOver { peer, number } => {
                if self.new_jobs.get(&peer).is_some_and(|c| c.number == number) {
                    self.new_jobs.remove(&peer);
                    let _ = self.apply(WorkerEvent::PeerGone { peer });
                }
            }
            Request::JobOver { job } => {
                self.running.remove(&job);
                let _ = self.apply(WorkerEvent::JobEnded { job });
                self.site.look_at_gpus.notify_one();
                self.site.job_over.notify_one();
            }
            Request::Progress { job, progress } => {
                if let Some(running) = self.running.get_mut(&job) {
                    running.seen.progress = progress;
                }
            }
            Request::Measured { seen } => {
                let sessions = self.running.values().filter_map(Running::session).collect();
                self.site.update_facts(|facts| {
                    seen.apply(&mut facts.worker.accelerators.gpus, &sessions);
                });
            }
            Request::FactsChanged => {}
        }
    }

    fn reserve(&mut self, peer: PeerId, wait: Duration) -> Result<(), Refusal> {
        let now = Instant::now();
        // Reservations that ended a moment ago must not stand in the way.
        let _ = self.apply(WorkerEvent::Tick { now });
        match self.apply(WorkerEvent::NewJob { peer, until: now + wait }) {
            Ok(_) => Ok(()),
            Err(refused) => Err(self.no_slot(refused)),
        }
    }

    fn no_slot(&self, refused: Refused) -> Refusal {
        let status = self.state.status().as_str();
        match refused {
            Refused::Maintenance => Refusal::new(
                RefusalCode::Maintenance,
                format!("the worker takes no new jobs (status {status})"),
            ),
            _ => Refusal::new(
                RefusalCode::Busy,
                format!(
                    "Worker is currently busy (status: {status}). Use --room-id and --token to find \
                     available workers in the room, or try again later."
                ),
            ),
        }
    }

    async fn on_offer(&mut self, offer: Description) {
        let peer = offer.sender.clone();
        match offer.purpose.clone().unwrap_or_default() {
            Purpose::NewJob => match self.reserve(peer.clone(), RESERVATION) {
                Ok(()) => self.connect_new_job(offer),
                Err(refusal) => self.refuse(&offer, refusal).await,
            },
            Purpose::KnownJob { .. } | Purpose::Lane { .. } => {
                match self.others.clone().try_acquire_owned() {
                    Ok(permit) => {
                        info!(%peer, "offer for a known job accepted");
                        let serve = self.serve(offer, self.connections.child_token());
                        self.tasks.spawn(async move {
                            let _permit = permit;
                            serve.await;
                        });
                    }
                    Err(_) => {
                        let text = "too many connections to this worker; try again in a minute";
                        self.refuse(&offer, Refusal::new(RefusalCode::Busy, text)).await;
                    }
                }
            }
            Purpose::Unknown => {
                let text = "the worker does not know what this offer is for; update the worker";
                self.refuse(&offer, Refusal::new(RefusalCode::Invalid, text)).await;
            }
        }
    }

    fn connect_new_job(&mut self, offer: Description) {
        let peer = offer.sender.clone();
        let number = self.next_number;
        self.next_number += 1;
        let cancel = self.connections.child_token();
        info!(%peer, number, ours = offer.speaks_ours(), "offer accepted; slot reserved");
        let names_its_job = offer.speaks_ours();
        let connection =
            NewJobConnection { number, cancel: cancel.clone(), names_its_job, job: None };
        // A peer that offers again has given up its earlier attempt.
        if let Some(earlier) = self.new_jobs.insert(peer.clone(), connection) {
            earlier.cancel.cancel();
        }
        let serve = self.serve(offer, cancel);
        let coordinator = self.handle.clone();
        self.tasks.spawn(async move {
            serve.await;
            coordinator.tell(Request::ConnectionOver { peer, number }).await;
        });
    }

    fn serve(
        &self,
        offer: Description,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let peer = offer.sender.clone();
        let connection = connection::Connecting {
            site: self.site.clone(),
            signaling: self.signaling.clone(),
            coordinator: self.handle.clone(),
            own_id: self.own_id.clone(),
            offer,
        };
        async move {
            match cancel.run_until_cancelled(connection.serve()).await {
                None => info!(%peer, "connection ended by this worker"),
                Some(Ok(())) => info!(%peer, "connection done"),
                Some(Err(error)) => warn!(%peer, %error, "connection ended"),
            }
        }
    }

    /// Says no in both ways: an `error` frame, which the old server drops, and a peer message,
    /// which every server carries.
    async fn refuse(&self, offer: &Description, refusal: Refusal) {
        let peer = &offer.sender;
        info!(%peer, code = ?refusal.code, reason = %refusal.message, "offer refused");
        let status = self.state.status().as_str().to_owned();
        let busy = matches!(refusal.code, RefusalCode::Busy | RefusalCode::Maintenance);
        let error = ErrorFrame {
            sender: Some(self.own_id.clone()),
            target: Some(peer.clone()),
            code: Some(if busy { "WORKER_BUSY" } else { "REFUSED" }.into()),
            reason: Some(if busy { WORKER_BUSY } else { "refused" }.into()),
            message: Some(refusal.message.clone()),
            current_status: Some(status),
            attempt: offer.attempt,
        };
        self.send(ClientMessage::Error(error)).await;
        self.respond(peer, self.response(String::new(), Err(refusal), None)).await;
    }

    async fn on_peer_message(&mut self, message: PeerMessage) {
        let peer = message.from_peer_id;
        match message.payload {
            AppMessage::JobRequest(request) => self.on_job_request(peer, request).await,
            AppMessage::JobAssignment { job_id, .. } => {
                info!(%peer, job = job_id.escape_debug().to_string(), "job assigned");
            }
            AppMessage::JobCancel { job_id, .. } => self.on_job_cancel(peer, job_id).await,
            _ => {}
        }
    }

    /// Asks the policies beside the main loop, then reserves and answers.
    async fn on_job_request(&mut self, peer: PeerId, request: JobRequest) {
        if self.state.status() != WorkerStatus::Available {
            // The peer's own reservation still counts.
            let kept = self.reserve(peer.clone(), RESERVATION);
            if let Err(refusal) = kept {
                info!(%peer, reason = %refusal.message, "job request refused");
                return self
                    .respond(&peer, self.response(request.job_id, Err(refusal), None))
                    .await;
            }
        }
        let Ok(permit) = self.asking.clone().try_acquire_owned() else {
            let refusal = Refusal::new(RefusalCode::Busy, "too many job requests at once");
            return self.respond(&peer, self.response(request.job_id, Err(refusal), None)).await;
        };
        let answering = Answering {
            site: self.site.clone(),
            coordinator: self.handle.clone(),
            signaling: self.signaling.clone(),
            own_id: self.own_id.clone(),
            status: self.state.status(),
        };
        self.tasks.spawn(async move {
            answering.answer(peer, request).await;
            drop(permit);
        });
    }

    /// Only the peer that a job or a reservation belongs to may cancel it here.
    async fn on_job_cancel(&mut self, peer: PeerId, job_id: String) {
        let (status, cleanup_complete) = if self.release(&peer) {
            ("cancelled", true)
        } else if let Some(handle) = self.own_job(&peer, &job_id).await {
            info!(%peer, job = job_id.escape_debug().to_string(), "cancelled by its owner");
            if let Err(error) = handle.command(JobCommand::Cancel).await {
                warn!(%error, "the job could not be told to end");
            }
            // The trainer takes a moment; the job's last event says when it is over.
            ("cancelled", false)
        } else {
            info!(%peer, "a job that is not this peer's was not cancelled");
            ("not_found", true)
        };
        let status = status.to_owned();
        let payload = AppMessage::JobCancelled { job_id, status, cleanup_complete };
        self.send_app(&peer, payload).await;
    }

    /// Ends what `peer` has here short of a running job: its reservation, and the connection on
    /// which its package arrives.
    fn release(&mut self, peer: &PeerId) -> bool {
        let reserved = |slot: &Slot| matches!(slot, Slot::Reserved { peer: p, .. } if p == peer);
        if !self.state.slots().iter().any(reserved) {
            return false;
        }
        if let Some(connection) = self.new_jobs.get(peer).filter(|c| c.job.is_none()) {
            connection.cancel.cancel();
        }
        let _ = self.apply(WorkerEvent::PeerGone { peer: peer.clone() });
        info!(%peer, "reservation given back");
        true
    }

    async fn own_job(&self, peer: &PeerId, job_id: &str) -> Option<JobHandle> {
        let unnamed = self.new_jobs.get(peer).filter(|connection| !connection.names_its_job);
        let job = match unnamed.and_then(|connection| connection.job.clone()) {
            Some(job) => job,
            None => JobId::new(job_id).ok()?,
        };
        self.state.runs(&job).then_some(())?;
        let folder = JobFolder::open(&self.site.state_dir, &job).ok()?;
        if folder.owner() != peer {
            return None;
        }
        JobHandle::attach(&folder).await.ok()
    }

    fn start(
        &mut self,
        peer: PeerId,
        folder: JobFolder,
        reply: oneshot::Sender<Result<JobHandle, Refusal>>,
    ) {
        let job = folder.id().clone();
        if let Err(refused) = self.apply(WorkerEvent::JobStarted { peer, job: job.clone() }) {
            let refusal = Refusal::new(RefusalCode::Busy, refused.to_string());
            let _ = reply.send(Err(refusal));
            return;
        }
        if let Some(connection) = self.new_jobs.get_mut(folder.owner()) {
            connection.job = Some(job.clone());
        }
        let slot = self.state.slot_of(&job).unwrap_or_default();
        let settings = self.slots.settings(slot, &self.site.runner.settings);
        info!(%job, slot, gpus = ?settings.gpus, folder = %folder.path().display(), "job starts");
        self.running.insert(job.clone(), Running::new(&folder, settings.gpus.clone()));
        let (site, coordinator) = (self.site.clone(), self.handle.clone());
        let runner = RunnerOptions { settings, ..site.runner.clone() };
        self.spawn_for_job(job.clone(), async move {
            match crate::job::start(&folder, &runner).await {
                Ok(handle) => {
                    site.look_at_gpus.notify_one();
                    let _ = reply.send(Ok(handle.clone()));
                    staging::watch(&site, &coordinator, &folder, &handle).await;
                }
                Err(error) => {
                    warn!(%job, %error, "the job could not be started");
                    let text = format!("the worker could not start the job: {error}");
                    let _ = reply.send(Err(Refusal::new(RefusalCode::Invalid, text)));
                }
            }
        });
    }

    fn watch(&self, folder: JobFolder, handle: JobHandle) {
        let (site, coordinator) = (self.site.clone(), self.handle.clone());
        self.spawn_for_job(folder.id().clone(), async move {
            staging::watch(&site, &coordinator, &folder, &handle).await;
        });
    }

    /// Frees the job's slot when `work` is done. The worker's end only stops the watching: the job
    /// itself belongs to its own process.
    fn spawn_for_job(&self, job: JobId, work: impl Future<Output = ()> + Send + 'static) {
        let (coordinator, ended) = (self.handle.clone(), self.connections.clone());
        self.tasks.spawn(async move {
            if ended.run_until_cancelled(work).await.is_some() {
                coordinator.tell(Request::JobOver { job }).await;
            }
        });
    }

    fn response(
        &self,
        job_id: String,
        verdict: Result<(), Refusal>,
        minutes: Option<f64>,
    ) -> JobResponse {
        response(&self.site, self.state.status(), job_id, verdict, minutes)
    }

    async fn respond(&self, peer: &PeerId, response: JobResponse) {
        self.send_app(peer, AppMessage::JobResponse(response)).await;
    }

    async fn send_app(&self, peer: &PeerId, payload: AppMessage) {
        let (from_peer_id, to_peer_id) = (self.own_id.clone(), peer.clone());
        let message = PeerMessage { from_peer_id, to_peer_id, payload };
        self.send(ClientMessage::PeerMessage(message)).await;
    }

    async fn send(&self, message: ClientMessage) {
        if let Err(error) = self.signaling.send(message).await {
            warn!(%error, "a message could not be sent");
        }
    }
}
