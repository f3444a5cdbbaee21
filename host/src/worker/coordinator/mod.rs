//! Admission: who gets a slot, and what discovery sees of it.
//!
//! One task owns the slots. Connections and job watchers send it requests; nobody else changes
//! the state.

mod handle;
mod jobs;
mod offers;
mod requests;

pub(super) use handle::CoordinatorHandle;

use super::Site;
use super::answering::response;
use super::running::Running;
use super::slots::{SlotGpus, mark_taken};
use handle::Request;
use sleap_rtc_base::deadline;
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::{
    AppMessage, ClientMessage, JobResponse, MetadataPatch, PeerMessage, ServerMessage,
};
use sleap_rtc_protocol::worker::{Refused, WorkerEvent, WorkerState, WorkerStatus};
use sleap_rtc_signaling::client::{SignalingClient, SignalingEvent};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Connections that are not for a new job: each must prove its right, so few need to wait.
const MAX_OTHER_CONNECTIONS: usize = 16;
/// Job requests whose policies are being asked at this moment.
const MAX_REQUESTS_IN_FLIGHT: usize = 32;
/// How long connections get to say goodbye when the worker ends.
const GOODBYE: Duration = Duration::from_secs(3);

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
        let mut now = facts.changing();
        let failures = self.site.policies.all_failures();
        if !failures.is_empty() {
            now.insert("policy_failures".into(), serde_json::json!(failures));
        }
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
            ServerMessage::Unreadable(asked) => self.on_unreadable(asked).await,
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
                self.site.job_over.send_replace(());
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
