//! The worker: admits jobs, runs them, serves their clients.
//!
//! ```text
//! signaling ──▶ Coordinator (slots, admission) ──▶ connection (one task each)
//!                    ▲        │                        ├── ours    sleap-rtc/1
//!                    └────────┴── job watcher          └── legacy  Python clients
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `identity` | who this worker is, kept under a lock from one start to the next |
//! | `announce` | prints how to join |
//! | `coordinator` | owns the slots; the only one that changes them |
//! | `facts` | what is known of this worker: as the room sees it, and as its policies do |
//! | `gpus` | looks at the GPUs again and again |
//! | `gpu_pool` | the GPUs that jobs may have, and what has become of each |
//! | `gpu_memory` | which GPUs there were when the worker last ran |
//! | `trainers` | which trainers this machine has |
//! | `running` | what is known of each running job, and what the room sees of it |
//! | `usage` | how much each user has used this worker lately |
//! | `retention` | which jobs' folders may go |
//! | `slots` | which GPUs belong to which slot |
//! | `answering` | answers job requests, with the policies |
//! | `connection` | answers one offer and finds out which dialect is spoken |
//! | `ours` | one connection of our own client |
//! | `uploads` | packages on their way in, which may change connections |
//! | `legacy` | one connection of a Python client |
//! | `legacy_texts` | the words that it hears |
//! | `staging` | from a received package to a running job, in either dialect |

mod announce;
mod answering;
mod connection;
mod coordinator;
mod error;
mod facts;
mod gpu_memory;
mod gpu_pool;
mod gpus;
mod identity;
mod legacy;
mod legacy_texts;
mod ours;
mod retention;
mod running;
mod slots;
mod staging;
mod trainers;
mod uploads;
mod usage;

use crate::config::{Config, RetentionConfig, SlotsConfig, WorkerConfig};
use coordinator::{Coordinator, Machine};
use facts::Facts;
use gpu_memory::GpuMemory;
use gpu_pool::{GpuPool, Identity as GpuIdentity};
use gpus::Looks;
use identity::{IdentityError, StateFolder};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_job::RunnerOptions;
use sleap_rtc_net::rtc::RtcOptions;
use sleap_rtc_policy::{Policies, PolicyError};
use sleap_rtc_protocol::capabilities::{Capabilities, PROBLEMS, WORKER_TAGS, WorkerFacts};
use sleap_rtc_protocol::ids::{PeerId, RoomCredentials};
use sleap_rtc_protocol::job::{JobDescription, JobType, Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::{IceServers, Metadata, PeerInfo, Role};
use sleap_rtc_protocol::worker::WorkerStatus;
use sleap_rtc_signaling::client::{
    HttpApi, Identity, SignalingClient, SignalingError, SignalingEvent,
};
use sleap_rtc_transfer::{Cache, Hashes, Limits, Pace};
use slots::{SlotGpus, SlotsError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use trainers::KnownTrainers;

/// What the command line says beyond the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// Which room it works in.
    pub room: WorkerRoom,
    /// Where its credentials are written, besides standard output; readable by its owner only.
    pub credentials_file: Option<PathBuf>,
    /// Whether running jobs are waited for before the worker ends. Else they go on by themselves.
    pub drain: bool,
}

/// Which room a worker works in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerRoom {
    /// That of last time; a new one when there is none.
    Kept,
    /// A new one, with a new identity.
    New,
    /// This one.
    Join(RoomCredentials),
}

/// Why a worker could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The state folder cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The signaling server cannot be used.
    #[error(transparent)]
    Signaling(#[from] SignalingError),
    /// A system without `/proc`, by which a worker reaches its jobs.
    #[error(
        "/proc is not mounted here, and a worker needs it to reach its jobs: mount it with \
         `mount -t proc proc /proc`, or have the container's engine do so"
    )]
    NoProc,
    /// A configured policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The configured slots do not fit this machine.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// The credentials could not be shown or written.
    #[error("cannot write the room's credentials to {path}")]
    Credentials {
        /// Where to.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Results are written by a trainer that has ended when they are first hashed.
const SETTLED: Duration = Duration::from_millis(50);

/// What all connections of this worker share, read only.
pub(crate) struct Site {
    ice: IceConfig,
    /// The ICE servers that the signaling server has given, the newest.
    given_ice: watch::Receiver<IceServers>,
    pub(crate) policies: Policies,
    pub(crate) state_dir: PathBuf,
    pub(crate) runner: RunnerOptions,
    pub(crate) limits: Limits,
    /// What results were hashed to before.
    pub(crate) hashes: Hashes,
    /// How long an upload waits for a client that lost its connection.
    pub(crate) resume_within: Duration,
    /// Packages on their way in.
    pub(crate) uploads: uploads::Uploads,
    pub(crate) shared_root: Option<PathBuf>,
    /// The operator wants no new jobs here.
    pub(crate) maintenance: bool,
    /// Held while results are copied to shared storage.
    pub(crate) delivering: tokio::sync::Mutex<()>,
    /// When the GPUs are looked at.
    looks: Looks,
    gpu_memory: GpuMemory,
    trainers: KnownTrainers,
    slots: SlotsConfig,
    retention: RetentionConfig,
    /// A job has ended: its folder takes room from now on, and its user has used the worker.
    job_over: watch::Sender<()>,
    facts: RwLock<Facts>,
}

impl Site {
    /// This worker as the room sees it.
    pub(crate) fn facts(&self) -> WorkerFacts {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).worker.clone()
    }

    /// This worker as its own policies see it when they are asked about a job of `client`.
    pub(crate) fn facts_for(&self, client: &PeerId) -> WorkerFacts {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).for_job_of(client)
    }

    /// How the next connection is made: accounts on TURN servers do not last for ever.
    pub(crate) fn rtc(&self) -> RtcOptions {
        RtcOptions::new(&self.ice, &self.given_ice.borrow())
    }

    /// Refuses a job that has no trainer here that works.
    pub(crate) async fn check_trainer(&self, job: &JobDescription) -> Result<(), Refusal> {
        self.trainers.check(job).await
    }

    /// Whether a job of `client` has or would have GPUs that work, by a fresh look at them.
    pub(crate) async fn check_machine(&self, client: &PeerId) -> Result<(), Refusal> {
        self.looks.fresh().await;
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        if facts.can_run_job_of(client) { Ok(()) } else { Err(out_of_service(&facts.worker)) }
    }

    /// The refusal of a worker that has no slot that can run a job.
    pub(crate) fn out_of_service(&self) -> Refusal {
        out_of_service(&self.facts())
    }

    /// Keeps in mind which GPUs there are, for the next start.
    fn remember_gpus(&self, gpus: Vec<GpuIdentity>) {
        self.gpu_memory.remember(gpus);
    }

    /// Changes what they see, and returns what the room is to see.
    fn update_facts(&self, change: impl FnOnce(&mut Facts)) -> WorkerFacts {
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
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
    let policies = Policies::load(&config.policy)?;
    let gpu_memory = GpuMemory::load(&config.worker.state_dir);
    let pool = find_gpus(&config.worker, &gpu_memory).await?;
    let slots = SlotGpus::plan(&config.worker.slots, &pool);
    let api = HttpApi::new(&config.signaling.http);
    let capabilities = capabilities(&pool, &slots, &config.worker);
    let entering = enter(&config, &options.room, &state, &api, &capabilities);
    let Some(entered) = shutdown.run_until_cancelled(entering).await else { return Ok(()) };
    let Entered { identity, room, signaling, events } = entered?;
    let site = Arc::new(site(
        &config,
        policies.clone(),
        &capabilities,
        &identity,
        signaling.ice_servers(),
        Looks::new(pool.is_watched()),
        gpu_memory,
    ));
    announce::credentials(&identity.peer_id, &room, options.credentials_file.as_deref())?;
    info!(peer = %identity.peer_id, room = %room.room_id, "registered");

    let is_watched = pool.is_watched();
    let machine = Machine { pool, slots };
    let coordinator =
        Coordinator::new(site.clone(), signaling.clone(), identity.peer_id.clone(), machine);
    let background = Background::start(site, &coordinator, is_watched);
    coordinator.run(events, shutdown, options.drain).await;
    background.end().await;
    for (point, failures) in policies.all_failures() {
        warn!("the {point} plugin failed {failures} times since the worker was started");
    }

    // The newest token: the first one may have expired long ago.
    let identity = signaling.identity();
    signaling.close().await;
    if let Err(error) = api.delete_peer(&identity.id_token, &identity.peer_id).await {
        // Closing the socket has deregistered already; old servers have no such call for strangers.
        tracing::debug!(%error, "the server did not confirm the deregistration");
    }
    info!("deregistered");
    Ok(())
}

/// What goes on beside the coordinator.
struct Background {
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Background {
    fn start(site: Arc<Site>, coordinator: &Coordinator, has_gpus_to_watch: bool) -> Self {
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let handle = coordinator.handle();
        tasks.spawn(trainers::watch(site.clone(), handle.clone(), end.clone()));
        tasks.spawn(retention::watch(site.clone(), end.clone()));
        tasks.spawn(usage::watch(site.clone(), handle.clone(), end.clone()));
        if has_gpus_to_watch {
            tasks.spawn(gpus::watch(site, handle, end.clone()));
        }
        Self { tasks, end }
    }

    async fn end(self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// A worker in its room.
struct Entered {
    identity: Identity,
    room: RoomCredentials,
    signaling: SignalingClient,
    events: tokio::sync::mpsc::Receiver<SignalingEvent>,
}

/// Signs in, registers, and keeps both identity and room for the next start.
async fn enter(
    config: &Config,
    wanted: &WorkerRoom,
    state: &StateFolder,
    api: &HttpApi,
    capabilities: &Capabilities,
) -> Result<Entered, WorkerError> {
    let server = &config.signaling.http;
    let (identity, mut room) = identity::join(state, api, server, wanted).await?;
    let registered = match register(config, &identity, &room, capabilities).await {
        Err(SignalingError::RoomRefused { .. }) if *wanted == WorkerRoom::Kept => {
            warn!("the room of last time is gone from the server; a new one takes its place");
            room = api.create_room(&identity.id_token).await?;
            register(config, &identity, &room, capabilities).await
        }
        registered => registered,
    };
    let (signaling, events) = registered?;
    identity::remember(state, server, &identity, &room)?;
    Ok(Entered { identity, room, signaling, events })
}

/// The GPUs that jobs may have: as configured, else as the driver says; of them those that the
/// slots or `CUDA_VISIBLE_DEVICES` name.
async fn find_gpus(config: &WorkerConfig, memory: &GpuMemory) -> Result<GpuPool, SlotsError> {
    let visible = || std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let names = slots::named_gpus(&config.slots)
        .or_else(|| visible().map(|text| sleap_rtc_gpu::visible_devices(&text)));
    let pool = match &config.gpus {
        Some(gpus) => {
            slots::check(&config.slots, gpus)?;
            GpuPool::configured(gpus, names)
        }
        // Nothing to look for.
        None if names.as_ref().is_some_and(Vec::is_empty) => GpuPool::configured(&[], None),
        None => {
            let mut pool = GpuPool::detected(names, memory.gpus());
            pool.see(&gpus::look().await);
            pool.merge_doubles();
            memory.remember(pool.identities());
            pool
        }
    };
    gpus::report_changes(&[], &pool.problems());
    for gpu in pool.accelerators().gpus {
        info!(model = %gpu.model, memory_mib = gpu.memory_mib, "GPU found");
    }
    if pool.len() == 0 && !pool.is_unknown() {
        warn!("no GPU found: jobs run on the CPU");
    }
    Ok(pool)
}

fn out_of_service(facts: &WorkerFacts) -> Refusal {
    let problems = facts.problems().join("; ");
    let text = match problems.is_empty() {
        true => "no slot of the worker can run a job at the moment".to_owned(),
        false => format!("the worker takes no new jobs: {problems}"),
    };
    Refusal::new(RefusalCode::Maintenance, text)
}

fn capabilities(pool: &GpuPool, slots: &SlotGpus, config: &WorkerConfig) -> Capabilities {
    // The Python worker's three words, then each of sleap-nn's heads by its own name.
    const MODELS: [&str; 8] = [
        "base",
        "centroid",
        "topdown",
        "single_instance",
        "centered_instance",
        "bottomup",
        "multi_class_bottomup",
        "multi_class_topdown",
    ];
    let mut own = config.properties.clone();
    let problems = pool.problems();
    if !problems.is_empty() {
        own.insert(PROBLEMS.to_owned(), serde_json::json!(problems));
    }
    Capabilities {
        accelerators: pool.accelerators(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        sleap_version: None,
        slots: slots.usable(pool).into_iter().map(u32::from).sum(),
        supported_models: MODELS.map(str::to_owned).to_vec(),
        supported_job_types: vec![JobType::Training, JobType::Inference],
        own,
    }
}

fn site(
    config: &Config,
    policies: Policies,
    capabilities: &Capabilities,
    identity: &Identity,
    given_ice: watch::Receiver<IceServers>,
    looks: Looks,
    gpu_memory: GpuMemory,
) -> Site {
    let mut runner = RunnerOptions::new(&config.worker.pass_env);
    runner.settings.trainer = config.worker.trainer.clone();
    runner.settings.shared_root = config.shared_storage_root.clone();
    let limits = limits(&config.worker);
    Site {
        ice: config.ice.clone(),
        given_ice,
        policies,
        state_dir: config.worker.state_dir.clone(),
        runner,
        uploads: uploads::Uploads::new(limits.cache.clone()),
        limits,
        hashes: Hashes::open(&config.worker.state_dir.join("hashes.sqlite"), SETTLED),
        resume_within: config.worker.resume_within,
        shared_root: config.shared_storage_root.clone(),
        maintenance: config.worker.maintenance,
        delivering: tokio::sync::Mutex::default(),
        looks,
        gpu_memory,
        trainers: KnownTrainers::new(),
        slots: config.worker.slots.clone(),
        retention: config.worker.retention,
        job_over: watch::Sender::new(()),
        facts: RwLock::new(Facts {
            worker: own_facts(identity, capabilities),
            slots: Vec::new(),
            gpus: Vec::new(),
        }),
    }
}

/// What packages may be like, and the cache in which most of them are found in part.
fn limits(config: &WorkerConfig) -> Limits {
    let pace = config.bwlimit.map(Pace::new);
    let limits = Limits { max_bytes: config.max_package_bytes, pace, ..Limits::default() };
    let folder = config.state_dir.join("cache");
    match Cache::open(&folder, config.cache_bytes) {
        Ok(cache) => Limits { cache: Some(cache), ..limits },
        Err(error) => {
            warn!(error = %WithCauses(&error), "receiving packages without a cache");
            limits
        }
    }
}

fn own_facts(identity: &Identity, capabilities: &Capabilities) -> WorkerFacts {
    WorkerFacts::from_peer(&PeerInfo {
        peer_id: identity.peer_id.clone(),
        role: Role::Worker,
        metadata: metadata(capabilities),
        connected_at: serde_json::Value::Null,
    })
}

fn metadata(capabilities: &Capabilities) -> Metadata {
    // Nobody should come before the coordinator has said what is wrong.
    let status = match capabilities.slots {
        0 => WorkerStatus::Maintenance,
        _ => WorkerStatus::Available,
    };
    Metadata {
        tags: WORKER_TAGS.map(str::to_owned).to_vec(),
        properties: capabilities.properties(status, capabilities.slots),
    }
}

type Registered = (SignalingClient, tokio::sync::mpsc::Receiver<SignalingEvent>);

async fn register(
    config: &Config,
    identity: &Identity,
    room: &RoomCredentials,
    capabilities: &Capabilities,
) -> Result<Registered, SignalingError> {
    let endpoints = config.signaling.clone();
    // A token of its own: the registration must outlive `shutdown`, so that leaving is orderly.
    let (metadata, cancel) = (metadata(capabilities), CancellationToken::new());
    let (identity, room) = (identity.clone(), room.clone());
    SignalingClient::connect(endpoints, identity, room, Role::Worker, metadata, cancel).await
}

/// The client at the other end of a connection.
pub(crate) struct Client {
    peer: PeerId,
    site: Arc<Site>,
    coordinator: coordinator::CoordinatorHandle,
    /// Whether this connection was admitted for a new job, and so holds a slot.
    new_job: bool,
}
