//! The coordinator: assigns slots to jobs, and publishes the worker's state in the room.
//!
//! One task owns the slots. Connections and job watchers send it requests; nothing else changes the
//! state.
//!
//! | module | what it does |
//! |---|---|
//! | `handle` | sends requests to the coordinator |
//! | `offers` | offers of connections |
//! | `requests` | questions of peers that arrive through the signaling server |
//! | `jobs` | starts jobs in their slots, and finds them again after a restart |

mod handle;
mod jobs;
mod offers;
mod requests;

pub(crate) use handle::CoordinatorHandle;

use super::WorkerContext;
use super::answering::response;
use super::gpu_pool::GpuPool;
use super::gpus::{measure_others, report_changes};
use super::running::Running;
use super::slots::{SlotGpus, mark_taken};
use handle::Request;
use sleap_rtc_base::deadline;
use sleap_rtc_gpu::Survey;
use sleap_rtc_protocol::capabilities::{Accelerators, PROBLEMS};
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

/// The most connections for existing jobs at once. Each must prove its right to a job, so a few suffice.
const MAX_OTHER_CONNECTIONS: usize = 16;
/// The most job requests whose policies are evaluated at once.
const MAX_REQUESTS_IN_FLIGHT: usize = 32;
/// How long connections may take to close when the worker ends.
const GOODBYE: Duration = Duration::from_secs(3);

/// An open connection for a new job.
struct NewJobConnection {
    number: u64,
    cancel: CancellationToken,
    /// Whether the client chose its job's id. A Python client does not know the id that this worker chose.
    names_its_job: bool,
    /// The job, once it is running.
    job: Option<JobId>,
}

/// The worker's GPUs, and their slots.
pub(crate) struct Machine {
    pub(crate) pool: GpuPool,
    pub(crate) slots: SlotGpus,
}

pub(crate) struct Coordinator {
    context: Arc<WorkerContext>,
    signaling: SignalingClient,
    own_id: PeerId,
    state: WorkerState,
    machine: Machine,
    running: HashMap<JobId, Running>,
    /// The properties that the room sees.
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
    pub(crate) fn new(
        context: Arc<WorkerContext>,
        signaling: SignalingClient,
        own_id: PeerId,
        machine: Machine,
    ) -> Self {
        let (sender, requests) = mpsc::channel(64);
        let mut coordinator = Self {
            published: context.facts().changing(),
            context,
            signaling,
            own_id,
            state: WorkerState::new(machine.slots.len()),
            machine,
            running: HashMap::new(),
            new_jobs: HashMap::new(),
            next_number: 0,
            others: Arc::new(tokio::sync::Semaphore::new(MAX_OTHER_CONNECTIONS)),
            asking: Arc::new(tokio::sync::Semaphore::new(MAX_REQUESTS_IN_FLIGHT)),
            tasks: TaskTracker::new(),
            connections: CancellationToken::new(),
            requests,
            handle: CoordinatorHandle { requests: sender },
        };
        coordinator.use_slots();
        coordinator
    }

    /// Applies which slots are usable, and in which order they are assigned.
    fn use_slots(&mut self) {
        let Machine { pool, slots } = &self.machine;
        let (usable, order) = (slots.usable(pool), slots.order(pool));
        let _ = self.apply(WorkerEvent::SlotsUsable { usable });
        self.state.prefer(&order);
    }

    /// A handle for other tasks.
    pub(crate) fn handle(&self) -> CoordinatorHandle {
        self.handle.clone()
    }

    /// Serves until `shutdown`, or until the signaling client gives up. With `drain`, waits at the shutdown
    /// for the running jobs and their clients.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::Receiver<SignalingEvent>,
        shutdown: CancellationToken,
        drain: bool,
    ) {
        if self.context.maintenance {
            let _ = self.apply(WorkerEvent::Drain);
        }
        self.find_running_jobs().await;
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
                // Clients may finish downloading their results; each connection has its own limits.
                () = self.tasks.wait(), if leaving && idle => break,
            }
            self.publish().await;
        }
        self.connections.cancel();
        // Requests that are still waiting for a slot fail at once.
        drop(self.requests);
        self.tasks.close();
        if tokio::time::timeout(GOODBYE, self.tasks.wait()).await.is_err() {
            warn!("some connections did not end in time");
        }
    }

    /// Stops taking new jobs, and publishes that.
    async fn leave(&mut self, drain: bool) {
        let jobs = self.state.jobs().count();
        match (jobs, drain) {
            (0, _) => info!("asked to end"),
            (_, true) => info!(jobs, "asked to end: waiting for the running jobs"),
            (_, false) => info!(jobs, "asked to end; running jobs continue on their own"),
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

    /// Publishes changes to the policies and to the room.
    async fn publish(&mut self) {
        let (status, free) = (self.state.status(), self.state.free());
        let Machine { pool, slots } = &self.machine;
        let (running, views) = (&self.running, slots.views(self.state.slots(), pool));
        let mut gpus = pool.gpus();
        mark_taken(&mut gpus, running.values().map(|job| job.gpus.as_deref()));
        let (in_service, mut problems) = (self.state.in_service(), pool.problems());
        problems.extend(self.context.trainers.problems());
        let facts = self.context.update_facts(|facts| {
            facts.slots = views;
            facts.gpus = gpus;
            let known = facts.gpus.iter().flatten().cloned().collect();
            let facts = &mut facts.worker;
            facts.accelerators = Accelerators { gpus: known, ..pool.accelerators() };
            facts.slots = u32::try_from(in_service).unwrap_or(u32::MAX);
            let had_problems = facts.properties.contains_key(PROBLEMS);
            if had_problems || !problems.is_empty() {
                facts.properties.insert(PROBLEMS.into(), serde_json::json!(problems));
            }
            facts.jobs = Running::seen(running);
            facts.status = status;
            facts.slots_free = u32::try_from(free).unwrap_or(u32::MAX);
        });
        let mut now = facts.changing();
        let failures = self.context.policies.all_failures();
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
            ServerMessage::Error(error) => warn!(error = error.text(), "error from the server"),
            // Candidates are part of the offers, and the signaling client handles the other answers.
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
                self.context.surveys.request();
                self.context.job_over.send_replace(());
            }
            Request::Progress { job, progress } => {
                if let Some(running) = self.running.get_mut(&job) {
                    running.seen.progress = progress;
                }
            }
            Request::Surveyed { survey } => self.apply_survey(&survey),
            Request::FactsChanged => {}
        }
    }

    /// Applies a survey: slots go out of service and return, and GPUs that are found later get slots of
    /// their own.
    fn apply_survey(&mut self, survey: &Survey) {
        let Machine { pool, slots } = &mut self.machine;
        let (before, count) = (pool.problems(), pool.len());
        pool.see(survey);
        report_changes(&before, &pool.problems());
        let sessions = self.running.values().filter_map(Running::session).collect();
        let jobs = self.running.values().map(|job| job.gpus.as_deref());
        pool.measure(|pool, gpus| {
            mark_taken(gpus, jobs);
            measure_others(gpus, pool, &sessions);
        });
        if pool.len() > count {
            *slots = SlotGpus::plan(&self.context.slots, pool);
            info!(gpus = pool.len(), slots = slots.len(), "new GPUs found");
        }
        self.context.remember_gpus(pool.identities());
        self.use_slots();
    }

    fn reserve(&mut self, peer: PeerId, wait: Duration) -> Result<(), Refusal> {
        let now = Instant::now();
        // Release reservations that have just expired.
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
            Refused::OutOfService => self.context.out_of_service(),
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
        response(&self.context, self.state.status(), job_id, verdict, minutes)
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
            warn!(%error, "cannot send a message");
        }
    }
}
