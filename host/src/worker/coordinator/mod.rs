//! The coordinator: assigns slots to jobs, and publishes the worker's state in the room.
//!
//! One task owns the slots. Connections and job watchers send it requests; nothing else changes the
//! state.
//!
//! | module | what it does |
//! |---|---|
//! | `handle` | sends requests to the coordinator |
//! | `reservations` | who holds the reserved slots, and whom they may be taken from |
//! | `quotas` | what each peer and each address may use at once, and how often they may ask |
//! | `replies` | what is said to peers through the signaling server |
//! | `offers` | offers of connections |
//! | `requests` | questions of peers that arrive through the signaling server |
//! | `jobs` | starts jobs in their slots, and finds them again after a restart |
//! | `submitted` | the jobs that a cluster has |
//! | `granting` | who gets a slot or a place in the queue |
//! | `refusals` | what the others are told |
//! | `queueing` | the jobs that wait for a slot |

mod granting;
mod handle;
mod jobs;
mod offers;
mod queueing;
mod quotas;
mod refusals;
mod replies;
mod requests;
mod reservations;
mod submitted;

pub(crate) use handle::{ClusterNews, CoordinatorHandle, Launch};
pub(crate) use reservations::HandoverStep;

use super::WorkerContext;
use super::gpu_pool::GpuPool;
use super::gpus::{measure_others, report_changes};
use super::history;
use super::queue_report::Waiting;
use super::running::Running;
use super::slots::{SlotGpus, mark_taken};
use handle::Request;
use queueing::WithdrawnBy;
use quotas::{QuotaLimits, Quotas, Rates};
use replies::Replies;
use reservations::{Ending, Reservations};
use sleap_rtc_base::deadline;
use sleap_rtc_gpu::Survey;
use sleap_rtc_protocol::capabilities::Accelerators;
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::problems::Problems;
use sleap_rtc_protocol::signaling::{MetadataPatch, ServerMessage};
use sleap_rtc_protocol::standing::Caller;
use sleap_rtc_protocol::worker::{QueueEvent, Refused, WorkerEvent, WorkerState, WorkerStatus};
use sleap_rtc_signaling::client::{Events, SignalingClient, SignalingEvent};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Connections for existing jobs of callers that have proved their right to the job in the offer.
const PROVEN: QuotaLimits = QuotaLimits { total: 48, per_peer: 4, per_address: 32, per_job: 4 };
/// Connections for existing jobs of older programs, which prove it after they have connected.
const UNPROVEN: QuotaLimits = QuotaLimits { total: 4, per_peer: 1, per_address: 2, per_job: 1 };
/// Connections that measure the way to this worker, which each take seconds.
const PROBES: QuotaLimits = QuotaLimits { total: 4, per_peer: 1, per_address: 4, per_job: 1 };
/// Questions of peers that are answered beside the main loop.
const ASKING: QuotaLimits = QuotaLimits { total: 32, per_peer: 2, per_address: 24, per_job: 2 };
/// How long connections may take to close when the worker ends.
const GOODBYE: Duration = Duration::from_secs(3);

/// An open connection for a new job.
struct NewJobConnection {
    number: u64,
    /// The number that its client has given to the offer.
    attempt: Option<u64>,
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
    replies: Replies,
    state: WorkerState,
    reservations: Reservations,
    /// What is wrong with the disk.
    storage_problem: Option<String>,
    is_leaving: bool,
    machine: Machine,
    running: HashMap<JobId, Running>,
    /// When the cluster would start a further job, in milliseconds since 1970.
    cluster_starts_ms: Option<u64>,
    /// The jobs of the queue.
    waiting: HashMap<JobId, Waiting>,
    /// Whether the policy is being asked for their order.
    is_ordering: bool,
    /// The properties that the room sees.
    published: serde_json::Map<String, serde_json::Value>,
    new_jobs: HashMap<PeerId, NewJobConnection>,
    next_number: u64,
    proven: Arc<Quotas>,
    unproven: Arc<Quotas>,
    probes: Arc<Quotas>,
    asking: Arc<Quotas>,
    rates: Rates,
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
        let replies = Replies {
            context: context.clone(),
            signaling: signaling.clone(),
            own_id: own_id.clone(),
        };
        let state = WorkerState::new(machine.slots.len()).with_queue(context.queue);
        let mut coordinator = Self {
            replies,
            reservations: Reservations::default(),
            storage_problem: None,
            is_leaving: false,
            published: context.facts().changing(),
            context,
            signaling,
            own_id,
            state,
            machine,
            running: HashMap::new(),
            cluster_starts_ms: None,
            waiting: HashMap::new(),
            is_ordering: false,
            new_jobs: HashMap::new(),
            next_number: 0,
            proven: Quotas::new(PROVEN),
            unproven: Quotas::new(UNPROVEN),
            probes: Quotas::new(PROBES),
            asking: Quotas::new(ASKING),
            rates: Rates::default(),
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
        let mib = slots.memory_mib(pool);
        let _ = self.apply(WorkerEvent::SlotsUsable { usable });
        let _ = self.apply(WorkerEvent::SlotMemory { mib });
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
        mut events: Events,
        shutdown: CancellationToken,
        drain: bool,
    ) {
        self.apply_maintenance();
        self.find_jobs().await;
        // It looks at the jobs that have ended, among them those that were just found without a process.
        self.tasks.spawn(history::catch_up(self.context.clone()));
        self.start_and_report_waiting();
        self.publish().await;
        loop {
            let idle = self.state.is_idle();
            let tick = self.state.next_deadline();
            let overtaken_warning = self.next_overtaken_warning();
            tokio::select! {
                () = shutdown.cancelled(), if !self.is_leaving => {
                    self.leave(drain).await;
                    if !drain {
                        break;
                    }
                }
                event = events.recv() => match event {
                    Some(SignalingEvent::Message(message)) => self.on_message(message).await,
                    Some(SignalingEvent::Lost) => warn!("signaling lost; registering again"),
                    Some(SignalingEvent::Restored) => {
                        info!("registered again");
                        if let Some(exchange) = &self.context.exchange {
                            exchange.greet_soon();
                        }
                    }
                    None => break,
                },
                Some(request) = self.requests.recv() => self.on_request(request),
                () = deadline::reached(tick) => self.expire(Instant::now()),
                () = deadline::reached(overtaken_warning) => self.warn_of_overtaken(),
                // Clients may finish downloading their results; each connection has its own limits.
                () = self.tasks.wait(), if self.is_leaving && idle => break,
            }
            self.start_and_report_waiting();
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
        self.is_leaving = true;
        self.apply_maintenance();
        self.publish().await;
        self.tasks.close();
    }

    fn apply(&mut self, event: impl Into<WorkerEvent>) -> Result<WorkerStatus, Refused> {
        let before = self.state.status();
        let after = self.state.apply(event)?;
        if before != after {
            info!(from = before.as_str(), to = after.as_str(), "status");
        }
        Ok(after)
    }

    /// Publishes changes to the policies and to the room.
    async fn publish(&mut self) {
        let (status, open) = (self.state.status(), self.state.open_slots());
        let Machine { pool, slots } = &self.machine;
        let (running, views) = (&self.running, slots.views(self.state.slots(), pool));
        let mut gpus = pool.gpus();
        mark_taken(&mut gpus, running.values().map(|job| job.gpus.as_deref()));
        let (in_service, problems) = (self.state.in_service(), self.problems());
        let line = self.context.queue_report.borrow().properties().clone();
        let facts = self.context.update_facts(|facts| {
            facts.slots = views;
            facts.gpus = gpus;
            let known = facts.gpus.iter().flatten().cloned().collect();
            let facts = &mut facts.worker;
            facts.accelerators = Accelerators { gpus: known, ..pool.accelerators() };
            facts.slots = u32::try_from(in_service).unwrap_or(u32::MAX);
            problems.publish(&mut facts.properties);
            facts.properties.extend(line);
            facts.jobs = Running::publish_all(running);
            facts.status = status;
            facts.slots_free = u32::try_from(open).unwrap_or(u32::MAX);
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

    fn problems(&self) -> Problems {
        let trainers = &self.context.trainers;
        Problems {
            gpus: self.machine.pool.problems(),
            training: trainers.problem(JobType::Training),
            inference: trainers.problem(JobType::Inference),
            disk: self.storage_problem.clone(),
        }
    }

    async fn on_message(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::Offer(offer) => self.on_offer(offer).await,
            ServerMessage::PeerMessage(message) => self.on_peer_message(message).await,
            ServerMessage::Unreadable(asked) => self.on_unreadable(asked).await,
            ServerMessage::Error(error) if error.sender.is_none() => {
                warn!(error = error.text(), "error from the server");
            }
            // Candidates are part of the offers, the signaling client handles the other answers, and this
            // worker has asked no peer for anything.
            _ => {}
        }
    }

    /// Counts a frame of `caller`. A peer or an address that sends too many gets no answer to the rest.
    fn is_within_rate(&mut self, caller: &Caller) -> bool {
        let is_within = self.rates.allow(caller, Instant::now());
        if !is_within {
            tracing::debug!(peer = %caller.peer, "too many frames; ignored one");
        }
        is_within
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Reserve { caller, user, may_wait, step, reply } => {
                let reserved = self.reserve(&caller, user.as_deref(), may_wait);
                if let (Ok(()), Some(step)) = (&reserved, step) {
                    self.step(&caller.peer, step);
                }
                let _ = reply.send(reserved);
            }
            Request::HandoverStep { peer, step } => self.step(&peer, step),
            Request::Stalled { peer } => self.end_reservation(&peer, Ending::Stalled),
            Request::Named { peer, user, package_bytes, reply } => {
                let named = match self.state.holds_place(&peer) {
                    true => self.apply(QueueEvent::PlaceNamed { peer, user, package_bytes }),
                    false => Ok(self.state.status()),
                };
                let _ = reply.send(named.map(drop).map_err(|refused| self.no_slot(refused)));
            }
            Request::Start { peer, folder, reply } => self.start(peer, folder, reply),
            Request::Queued { peer, folder, entry, reply } => {
                self.enter_queue(peer, folder, entry, reply);
            }
            Request::Ordered { order } => self.apply_order(order),
            Request::Decide { job, decision, reply } => self.decide(&job, decision, reply),
            Request::Changed { job, entry, reply } => {
                self.apply_written_decision(job, entry, reply);
            }
            Request::Withdraw { job, reply } => {
                let withdrawn = self.withdraw(&job, WithdrawnBy::Client);
                let _ = reply.send(withdrawn);
            }
            Request::ConnectionOver { peer, number } => {
                if self.new_jobs.get(&peer).is_some_and(|c| c.number == number) {
                    self.new_jobs.remove(&peer);
                    self.end_reservation(&peer, Ending::Lapsed);
                }
            }
            Request::JobOver { job } => {
                self.running.remove(&job);
                let _ = self.apply(WorkerEvent::JobEnded { job });
                self.context.surveys.request();
                self.context.job_over.send_replace(());
            }
            Request::Cluster(news) => self.on_cluster(news),
            Request::Progress { job, progress } => {
                self.update(&job, |running| running.published.progress = progress);
            }
            Request::Followed { job, route } => {
                self.update(&job, |running| running.route = Some(route));
            }
            Request::Surveyed { survey } => self.apply_survey(&survey),
            Request::Storage { problem } => self.apply_storage(problem),
            Request::FactsChanged => {}
        }
    }

    /// Changes what is known of a running job, unless it has ended.
    pub(crate) fn update(&mut self, job: &JobId, change: impl FnOnce(&mut Running)) {
        if let Some(running) = self.running.get_mut(job) {
            change(running);
        }
    }

    /// A worker whose disk is too full takes no new jobs.
    fn apply_storage(&mut self, problem: Option<String>) {
        self.storage_problem = problem;
        self.apply_maintenance();
    }

    /// Takes no new jobs while the operator, the disk or the end of the worker forbids it.
    fn apply_maintenance(&mut self) {
        let is_closed =
            self.context.maintenance || self.storage_problem.is_some() || self.is_leaving;
        let event = match is_closed {
            true => WorkerEvent::BeginMaintenance,
            false => WorkerEvent::EndMaintenance,
        };
        let _ = self.apply(event);
    }

    /// Applies a survey: slots go out of service and return, and GPUs that are found later get slots of
    /// their own.
    fn apply_survey(&mut self, survey: &Survey) {
        let Machine { pool, slots } = &mut self.machine;
        let (before, count) = (pool.problems(), pool.len());
        pool.apply_survey(survey);
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
}
