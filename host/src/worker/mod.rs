//! The worker: admits jobs, runs them, and serves their clients.
//!
//! ```text
//! signaling ──▶ Coordinator (slots) ──▶ connection (one task each)
//!                    ▲        │            ├── native  sleap-rtc/1
//!                    └────────┴── job      └── python  Python clients
//!                                watch
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `submitted` | tells the coordinator where jobs of a cluster stand |
//! | `startup` | finds the GPUs, enters the room, and builds what all connections share |
//! | `identity` | the worker's identity and its locked state folder, kept across restarts |
//! | `announce` | prints the credentials |
//! | [`pairing`] | invites devices to the room by codes |
//! | [`members`] | who is a member of the room, and who was removed |
//! | [`control`] | lets other programs of this user ask about both |
//! | [`confinement`] | how jobs are confined |
//! | `coordinator` | owns the slots; the only one that changes them |
//! | `admission` | whether a job can run here, with the policies |
//! | `worker_view` | the facts about this worker: as the room sees them, and as its policies see them |
//! | `gpus` | surveys the GPUs regularly |
//! | `gpu_pool` | the GPUs that jobs may have, and the state of each |
//! | `last_gpus` | the GPUs that the worker had when it last ran |
//! | `trainers` | the trainers of this machine |
//! | `history` | what finished jobs took, from which estimates are made |
//! | `peaks` | the most GPU memory that running jobs have used |
//! | `running` | the running jobs, and what the room sees of them |
//! | `usage` | how much each user has recently used this worker |
//! | `retention` | removes old job folders |
//! | `storage` | whether the disk has room for jobs |
//! | `slots` | which GPUs belong to which slot |
//! | `answering` | answers job requests |
//! | `trust` | which clients are trusted |
//! | `connection` | answers one offer and finds out which dialect the client speaks |
//! | `job_right` | whether a client has the right to a job |
//! | `following` | what such a client then sees of its job, and its results |
//! | `native` | one connection of a client that speaks `sleap-rtc/1` |
//! | `python` | one connection of a Python client |
//! | `uploads` | packages that are arriving, which may move from one connection to the next |
//! | `staged_job` | a job that does not run yet |
//! | `queue_report` | where the jobs of this worker stand, as their clients and the room are told |
//! | `ordering` | asks the policy for the order of the queue |
//! | `queue_status` | reports to the client of a job what it waits for |
//! | `job_ends` | runs the operator's command when a job has ended |
//! | `job_watch` | follows a running job to its end |
//! | `memory_fit` | whether a job fits into the memory of the GPUs that it could get |
//! | `mounted` | which videos are on the worker's mounts |
//! | `delivery` | jobs on shared storage |

mod admission;
mod announce;
mod answering;
pub mod confinement;
mod connection;
pub mod control;
mod coordinator;
mod delivery;
mod error;
mod following;
mod gpu_pool;
pub(crate) mod gpus;
pub(crate) mod history;
mod identity;
mod job_ends;
mod job_right;
mod job_watch;
mod last_gpus;
pub mod members;
mod memory_fit;
mod mounted;
mod native;
mod ordering;
pub mod pairing;
mod peaks;
mod python;
mod queue_report;
mod queue_status;
mod retention;
mod running;
pub(crate) mod slots;
mod staged_job;
mod startup;
mod storage;
mod submitted;
mod trainers;
mod trust;
mod uploads;
mod usage;
mod worker_view;

use crate::config::{Config, RetentionConfig, SlotsConfig};
use crate::endpoint::{self, RelayReach};
use crate::pairing::PairError;
use announce::JoinedRoom;
use control::Control;
use coordinator::{Coordinator, Machine};
use gpu_pool::GpuIdentity;
use gpus::Surveys;
use history::History;
pub use identity::RunningWorker;
use identity::{IdentityError, StateFolder};
use job_ends::JobEnds;
use last_gpus::RememberedGpus;
use members::{Exchange, MembersError};
use parking_lot::RwLock;
use peaks::Peaks;
use queue_report::QueueReport;
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_base::transport::Transport;
use sleap_rtc_job::slurm::SlurmWatch;
use sleap_rtc_job::{Executor, RunnerOptions, SandboxError};
use sleap_rtc_net::quic::{Endpoint, QuicError};
use sleap_rtc_net::rtc::RtcOptions;
use sleap_rtc_policy::{Policies, PolicyError};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobDescription, Refusal, RefusalCode};
use sleap_rtc_protocol::queue::QueueLimits;
use sleap_rtc_protocol::signaling::{Description, IceServers};
use sleap_rtc_protocol::standing::Caller;
use sleap_rtc_signaling::client::{Endpoints, HttpApi, SignalingClient, SignalingError};
use sleap_rtc_transfer::{Hashes, Limits};
use sleap_rtc_trust::credential::{Credential, TokenError};
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::pairing::Code;
use slots::{SlotGpus, SlotsError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use trainers::KnownTrainers;
use trust::ClientCheck;
use url::Url;
use worker_view::WorkerView;

/// The most characters of a user's name in what others are told.
pub(crate) const USER_CHARS: usize = 40;

/// The options of the command line beyond the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// The room to enter.
    pub room: WorkerRoom,
    /// A file for the credentials, besides standard output. Only its owner can read it.
    pub credentials_file: Option<PathBuf>,
    /// Whether the worker waits for running jobs before it ends. Otherwise they continue on their own.
    pub drain: bool,
    /// Where others reach the server that the worker serves itself. `None` if it is configured like theirs.
    pub served_at: Option<Endpoints>,
}

impl WorkerOptions {
    /// Where browsers find the page of the server, if it has one.
    fn page(&self, server: &Endpoints) -> Url {
        self.served_at.as_ref().unwrap_or(server).http.clone()
    }
}

/// The room that a worker enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerRoom {
    /// The room of the last run, or a new one.
    Kept,
    /// A new room, with a new identity.
    New,
    /// This room.
    Join(Credential),
    /// The room of the worker that shows this code.
    Pair(Code),
}

/// Why a worker cannot start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The state folder cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The signaling server cannot be used.
    #[error(transparent)]
    Signaling(#[from] SignalingError),
    /// The system has no `/proc`, through which a worker reaches its jobs.
    #[error(
        "/proc is not mounted, and a worker needs it to reach its jobs: mount it with \
         `mount -t proc proc /proc`, or configure the container to mount it"
    )]
    NoProc,
    /// This machine cannot connect over iroh, and the user wants nothing else.
    #[error("connections over iroh are not possible here; use --transport auto")]
    Endpoint(#[from] QuicError),
    /// A configured policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It is not known who is a member of the room.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// The worker could not pair with another one.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// Jobs cannot be confined as configured.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The configured slots do not fit this machine.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// The server's token is too long for an added secret.
    #[error("no room can be made that does not trust this signaling server")]
    Token(#[from] TokenError),
    /// The credentials cannot be written.
    #[error("cannot write the room's credentials to {path}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// The state that all connections and tasks of this worker share.
pub(crate) struct WorkerContext {
    ice: IceConfig,
    transport: Transport,
    /// Which clients are trusted.
    pub(crate) trust: Arc<ClientCheck>,
    /// Where notes of the room's other workers go.
    pub(crate) exchange: Option<Arc<Exchange>>,
    /// The endpoint that clients call over iroh, if there is one.
    endpoint: Option<Endpoint>,
    /// The ICE servers that the signaling server has given most recently.
    given_ice: watch::Receiver<IceServers>,
    pub(crate) policies: Policies,
    pub(crate) state_dir: PathBuf,
    pub(crate) runner: RunnerOptions,
    /// What starts new jobs.
    pub(crate) executor: Executor,
    /// Follows the jobs that were handed over to Slurm, under any configuration.
    pub(crate) slurm: SlurmWatch,
    pub(crate) limits: Limits,
    /// The cached hashes of results.
    pub(crate) hashes: Hashes,
    /// How long an upload waits for its client to reconnect.
    pub(crate) resume_within: Duration,
    /// The packages that are arriving, and may move from one connection to the next.
    pub(crate) uploads: uploads::Uploads,
    /// All jobs whose packages are arriving, also those of Python clients.
    pub(crate) arriving: staged_job::ArrivingJobs,
    pub(crate) shared_root: Option<PathBuf>,
    /// Whether the operator allows no new jobs.
    pub(crate) maintenance: bool,
    /// The results that are being copied to shared storage.
    pub(crate) deliveries: delivery::Deliveries,
    /// When the GPUs are surveyed.
    surveys: Surveys,
    /// What finished jobs took.
    history: History,
    /// The most GPU memory that running jobs have used.
    peaks: Peaks,
    /// Jobs that have ended, for the operator's command.
    job_ends: JobEnds,
    last_gpus: RememberedGpus,
    trainers: KnownTrainers,
    slots: SlotsConfig,
    retention: RetentionConfig,
    /// The unfetched results.
    unfetched: RwLock<retention::Unfetched>,
    /// Raised when something cannot be written because the disk is full.
    pub(crate) disk_alarm: storage::DiskAlarm,
    /// How much may wait for a slot.
    queue: QueueLimits,
    /// How long others may overtake a waiting job before the log says so.
    queue_patience: Duration,
    /// Where the jobs stand. The coordinator writes it.
    queue_report: watch::Sender<Arc<QueueReport>>,
    /// Notifies the retention and the usage when a job has ended.
    job_over: watch::Sender<()>,
    facts: RwLock<WorkerView>,
}

impl WorkerContext {
    /// This worker as the room sees it.
    pub(crate) fn facts(&self) -> WorkerFacts {
        self.facts.read().worker.clone()
    }

    /// This worker as its own policies see it when they are asked about a job of `client`.
    pub(crate) fn facts_for(&self, client: &PeerId) -> WorkerFacts {
        self.facts.read().for_job_of(client)
    }

    /// The options of the next connection. They change, because accounts on TURN servers expire.
    pub(crate) fn rtc(&self) -> RtcOptions {
        RtcOptions::new(&self.ice, &self.given_ice.borrow())
    }

    /// Refuses an offer of a transport that is disabled here.
    pub(crate) fn check_transport(&self, offer: &Description) -> Result<(), Refusal> {
        if self.transport.has_webrtc() || offer.iroh.is_some() {
            return Ok(());
        }
        let text = "this worker takes connections over iroh alone (`transport` under [ice]); use a \
                    client that has it, with `--transport auto`";
        Err(Refusal::new(RefusalCode::Invalid, text))
    }

    /// Waits until it is known whether the trainers of this machine work.
    pub(crate) async fn trainers_searched(&self) -> Result<(), Refusal> {
        match self.executor.is_local() {
            true => self.trainers.searched().await,
            false => Ok(()),
        }
    }

    /// Refuses a job whose trainer is missing or broken.
    pub(crate) async fn check_trainer(&self, job: &JobDescription) -> Result<(), Refusal> {
        match self.executor.is_local() {
            true => self.trainers.check(job).await,
            // The nodes have it.
            false => Ok(()),
        }
    }

    /// Refuses a job of `client` if no slot that it could get can run it, by a recent survey of the GPUs.
    pub(crate) async fn check_machine(&self, client: &PeerId) -> Result<(), Refusal> {
        self.surveys.recent().await;
        let facts = self.facts.read();
        if facts.can_run_job_of(client) { Ok(()) } else { Err(out_of_service(&facts.worker)) }
    }

    /// Refuses a job while unfetched results fill the space for results.
    pub(crate) fn check_results(&self) -> Result<(), Refusal> {
        self.unfetched.read().check(&self.retention)
    }

    /// The refusal of a worker whose slots cannot run jobs.
    pub(crate) fn out_of_service(&self) -> Refusal {
        out_of_service(&self.facts())
    }

    /// Saves the GPUs for the next start.
    fn remember_gpus(&self, gpus: Vec<GpuIdentity>) {
        self.last_gpus.remember(gpus);
    }

    /// Changes the facts, and returns those that the room sees.
    fn update_facts(&self, change: impl FnOnce(&mut WorkerView)) -> WorkerFacts {
        let mut facts = self.facts.write();
        change(&mut facts);
        facts.worker.clone()
    }
}

/// Runs a worker until `shutdown`, then deregisters.
///
/// Prints the session string and the room's credentials on stdout once it is registered.
pub async fn run(
    config: Config,
    options: WorkerOptions,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    if !Path::new("/proc/self/fd").exists() {
        return Err(WorkerError::NoProc);
    }
    let state = StateFolder::lock(&config.worker.state_dir)?;
    let runner = confinement::runner_settings(&config.worker)?;
    confinement::report(&runner);
    let policies = startup::policies(&config)?;
    let last_gpus = RememberedGpus::load(&config.worker.state_dir);
    let pool = startup::find_gpus(&config.worker, &last_gpus).await?;
    let slots = SlotGpus::configured(&config.worker, &pool);
    let endpoint = endpoint::open(&config, &config.worker.state_dir).await?;
    let mut capabilities = startup::capabilities(&pool, &slots, &config.worker, &runner);
    capabilities.own.extend(endpoint.as_ref().map(endpoint::property));
    let wanted = pairing::resolve(&options.room, &config).await?;
    let entering = startup::enter(&config, &wanted, &state, &capabilities);
    let Some(entered) = shutdown.run_until_cancelled(entering).await else { return Ok(()) };
    let startup::Entered { identity, room, signaling, events } = entered?;
    let context = startup::context(
        &config,
        runner,
        policies.clone(),
        &capabilities,
        &identity,
        &room,
        signaling.ice_servers(),
        Surveys::new(pool.is_watched()),
        last_gpus,
    )?;
    let own_id = identity.peer_id;
    let exchange = context.trust.members().map(|of| Exchange::new(of, &signaling, &own_id));
    let context = Arc::new(WorkerContext { endpoint: endpoint.clone(), exchange, ..context });
    let named = config.names_server.then(|| signaling.server());
    let reached = options.served_at.clone().or(named).map(|server| server.option());
    // Whoever reads the credentials may call at once.
    let control = Control::of(&config, &context, &own_id, &room, reached);
    let page = signaling.has_page().then(|| options.page(&signaling.server()));
    let joined = say_how_to_join(&config, &options, &context.trust, (&own_id, &room), page)?;
    let (is_watched, machine) = (pool.is_watched(), Machine { pool, slots });
    let coordinator = Coordinator::new(context.clone(), signaling.clone(), own_id, machine);
    let background = Background::start(context.clone(), &coordinator, is_watched);
    background.keep_members(&context, joined, coordinator.handle());
    if let Some(endpoint) = endpoint.clone() {
        background.spawn(endpoint::use_relay(endpoint, signaling.relay(), RelayReach::OwnServer));
    }
    background.spawn(control.serve(coordinator.handle()));
    coordinator.run(events, shutdown, options.drain).await;
    background.end().await;
    if let Some(endpoint) = endpoint {
        endpoint.close().await;
    }
    report_failures(&policies);
    deregister(signaling).await;
    Ok(())
}

/// Prints the credentials, and logs whom the room trusts.
fn say_how_to_join(
    config: &Config,
    options: &WorkerOptions,
    trust: &ClientCheck,
    (worker, room): (&PeerId, &Credential),
    page: Option<Url>,
) -> Result<JoinedRoom, WorkerError> {
    let joined = JoinedRoom {
        worker: worker.clone(),
        room: trust.members().map_or(room.clone(), |members| members.credential()),
        device: trust.device(),
        state_dir: config.worker.state_dir.clone(),
        file: options.credentials_file.clone(),
        page,
    };
    joined.announce()?;
    trust.report(&config.signaling);
    info!(peer = %worker, room = %room.room_id, "registered");
    Ok(joined)
}

fn report_failures(policies: &Policies) {
    for (point, failures) in policies.all_failures() {
        warn!("the {point} plugin failed {failures} times since the worker was started");
    }
}

async fn deregister(signaling: SignalingClient) {
    // The newest token, because the first one may have expired.
    let (identity, api) = (signaling.identity(), HttpApi::new(&signaling.server().http));
    signaling.close().await;
    if let Err(error) = api.delete_peer(&identity.id_token, &identity.peer_id).await {
        // Closing the socket has deregistered the worker already, and a Python server refuses this call.
        tracing::debug!(%error, "the server did not confirm the deregistration");
    }
    info!("deregistered");
}

/// The tasks beside the coordinator.
struct Background {
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Background {
    fn start(
        context: Arc<WorkerContext>,
        coordinator: &Coordinator,
        has_gpus_to_watch: bool,
    ) -> Self {
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let handle = coordinator.handle();
        if context.executor.is_local() {
            tasks.spawn(trainers::watch(context.clone(), handle.clone(), end.clone()));
        }
        tasks.spawn(submitted::watch(context.clone(), handle.clone(), end.clone()));
        tasks.spawn(retention::watch(context.clone(), end.clone()));
        tasks.spawn(storage::watch(context.clone(), handle.clone(), end.clone()));
        tasks.spawn(job_ends::watch(context.clone(), end.clone()));
        tasks.spawn(usage::watch(context.clone(), handle.clone(), end.clone()));
        if has_gpus_to_watch {
            tasks.spawn(gpus::watch(context, handle, end.clone()));
        }
        Self { tasks, end }
    }

    /// Keeps what is known of the room's members, where it has keys, in step with its other workers, and
    /// does what follows from it.
    fn keep_members(
        &self,
        context: &Arc<WorkerContext>,
        joined: JoinedRoom,
        coordinator: coordinator::CoordinatorHandle,
    ) {
        let (Some(members), Some(exchange)) = (context.trust.members(), &context.exchange) else {
            return;
        };
        let (exchange, state_dir) = (exchange.clone(), context.state_dir.clone());
        self.spawn(async move { exchange.run().await });
        self.spawn(members::cancel_jobs(members.clone(), state_dir, coordinator));
        let members = members.clone();
        self.spawn(async move { joined.announce_changes(&members).await });
    }

    /// Does `work` until the end.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tasks.spawn(async move { end.run_until_cancelled(work).await });
    }

    async fn end(self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn out_of_service(facts: &WorkerFacts) -> Refusal {
    let problems = facts.problems().join("; ");
    let text = match problems.is_empty() {
        true => "none of the worker's slots can run a job at the moment".to_owned(),
        false => format!("the worker takes no new jobs: {problems}"),
    };
    Refusal::new(RefusalCode::Maintenance, text)
}

/// The client at the other end of a connection.
pub(crate) struct Client {
    caller: Caller,
    /// Its device, if it has proven that.
    device: Option<DeviceId>,
    context: Arc<WorkerContext>,
    coordinator: coordinator::CoordinatorHandle,
    serves: Serves,
}

/// What a connection was admitted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serves {
    /// A new job. The connection holds a slot, or a place in the queue if the job may wait.
    NewJob { may_wait: bool },
    /// A job that the worker has, or a measurement of the way to it. The connection holds no slot.
    ExistingJob,
}

impl Serves {
    /// What an offer of this purpose is admitted for.
    fn of(purpose: Option<&Purpose>) -> Self {
        match purpose {
            None | Some(Purpose::NewJob) => Self::NewJob { may_wait: false },
            Some(Purpose::QueuedJob) => Self::NewJob { may_wait: true },
            Some(Purpose::KnownJob { .. } | Purpose::Probe | Purpose::Unknown) => Self::ExistingJob,
        }
    }
}
