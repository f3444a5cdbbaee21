//! Start-up: finds the GPUs, enters the room, and builds what all connections share.

use super::delivery::Deliveries;
use super::gpu_pool::GpuPool;
use super::gpus::{self, Surveys};
use super::history::History;
use super::identity::{self, StateFolder};
use super::job_ends::JobEnds;
use super::job_right;
use super::last_gpus::RememberedGpus;
use super::peaks::Peaks;
use super::slots::{self, SlotGpus, SlotsError};
use super::staged_job::ArrivingJobs;
use super::storage::DiskAlarm;
use super::trainers::KnownTrainers;
use super::trust::ClientCheck;
use super::uploads::Uploads;
use super::worker_view::WorkerView;
use super::{WorkerContext, WorkerError, WorkerRoom};
use crate::config::{Config, ExecutorConfig, WorkerConfig};
use parking_lot::RwLock;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::slurm::{SlurmOptions, SlurmWatch, TimeLimit, WatchTimes};
use sleap_rtc_job::{Confinement, Executor, RunnerOptions, RunnerSettings};
use sleap_rtc_policy::{ExtensionPoint, Policies, PolicyError};
use sleap_rtc_protocol::capabilities::{Capabilities, MOUNTS, SANDBOX, WORKER_TAGS, WorkerFacts};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::problems::Problems;
use sleap_rtc_protocol::queue::QueueLimits;
use sleap_rtc_protocol::signaling::{IceServers, Metadata, PeerInfo, Role};
use sleap_rtc_protocol::worker::WorkerStatus;
use sleap_rtc_signaling::client::{
    Events, PeerIdentity, Servers, SignalingClient, SignalingError, warn_of_apart,
};
use sleap_rtc_transfer::{Cache, Hashes, Limits, Pace};
use sleap_rtc_trust::credential::Credential;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A result is hashed after its trainer has ended, so a file of this age is complete.
const SETTLED: Duration = Duration::from_millis(50);

/// A worker in its room.
pub(crate) struct Entered {
    pub(crate) identity: PeerIdentity,
    pub(crate) room: Credential,
    pub(crate) signaling: SignalingClient,
    pub(crate) events: Events,
}

/// Loads the policies that a worker asks, and compiles them before the first question.
pub(crate) fn policies(config: &Config) -> Result<Policies, PolicyError> {
    let policies = Policies::load(&config.policy)?;
    policies.prepare(&[
        ExtensionPoint::Compatibility,
        ExtensionPoint::Estimate,
        ExtensionPoint::Queueing,
    ]);
    Ok(policies)
}

/// Signs in, registers, and saves the identity and the room for the next start.
pub(crate) async fn enter(
    config: &Config,
    wanted: &WorkerRoom,
    state: &StateFolder,
    capabilities: &Capabilities,
) -> Result<Entered, WorkerError> {
    let (server, identity, mut room) = identity::join(state, &config.signaling, wanted).await?;
    let servers = config.signaling.beginning_with(&server);
    let registered = match register(&servers, &identity, &room, capabilities).await {
        Err(SignalingError::RoomRefused { .. }) if *wanted == WorkerRoom::Kept => {
            warn!("the room of the last run does not exist any more; creating a new one");
            room = identity::new_room(&server, &identity).await?;
            register(&servers, &identity, &room, capabilities).await
        }
        registered => registered,
    };
    let (signaling, events) = registered?;
    identity::remember(state, &config.signaling, &identity, &room)?;
    warn_of_apart(&config.signaling, &signaling.server(), &room.for_server());
    Ok(Entered { identity, room, signaling, events })
}

/// Finds the GPUs that jobs may use: those of the configuration, or those that the driver lists. The slots
/// or `CUDA_VISIBLE_DEVICES` may select some of them.
pub(crate) async fn find_gpus(
    config: &WorkerConfig,
    memory: &RememberedGpus,
) -> Result<GpuPool, SlotsError> {
    let visible = || std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let names = slots::named_gpus(&config.slots)
        .or_else(|| visible().map(|text| sleap_rtc_gpu::visible_devices(&text)));
    let pool = match &config.gpus {
        Some(gpus) => {
            slots::check(&config.slots, gpus)?;
            GpuPool::configured(gpus, names)
        }
        // The GPUs are on other machines.
        None if config.executor == ExecutorConfig::Slurm => GpuPool::configured(&[], None),
        // No GPU is selected.
        None if names.as_ref().is_some_and(Vec::is_empty) => GpuPool::configured(&[], None),
        None => {
            let mut pool = GpuPool::detected(names, memory.gpus());
            let survey = gpus::survey(|words| info!("{words}")).await;
            pool.apply_survey(&survey);
            pool.merge_duplicates();
            memory.remember(pool.identities());
            pool
        }
    };
    gpus::report_changes(&[], &pool.problems());
    for gpu in pool.accelerators().gpus {
        info!(model = %gpu.model, memory_mib = gpu.memory_mib, "GPU found");
    }
    if pool.len() == 0 && !pool.is_unknown() && config.executor == ExecutorConfig::Local {
        match visible() {
            Some(text) => {
                warn!(CUDA_VISIBLE_DEVICES = text, "no GPU found: jobs run on the CPU");
            }
            None => warn!("no GPU found: jobs run on the CPU"),
        }
    }
    Ok(pool)
}

pub(crate) fn capabilities(
    pool: &GpuPool,
    slots: &SlotGpus,
    config: &WorkerConfig,
    runner: &RunnerSettings,
) -> Capabilities {
    // The three words of Python workers, then the names of sleap-nn's heads.
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
    if !config.mounts.is_empty() {
        own.insert(MOUNTS.to_owned(), serde_json::json!(config.mounts.labels()));
    }
    let sandbox = runner.confinement.as_ref().map_or("off", Confinement::word);
    own.insert(SANDBOX.to_owned(), sandbox.into());
    Problems { gpus: pool.problems(), ..Problems::default() }.publish(&mut own);
    Capabilities {
        accelerators: pool.accelerators(),
        hostname: sleap_rtc_base::os::host_name(),
        sleap_version: None,
        slots: slots.usable(pool).into_iter().map(u32::from).sum(),
        supported_models: MODELS.map(str::to_owned).to_vec(),
        supported_job_types: vec![JobType::Training, JobType::Inference],
        own,
    }
}

#[allow(clippy::too_many_arguments, reason = "what a worker has, once")]
pub(crate) fn context(
    config: &Config,
    runner: RunnerSettings,
    policies: Policies,
    capabilities: &Capabilities,
    identity: &PeerIdentity,
    room: &Credential,
    given_ice: watch::Receiver<IceServers>,
    surveys: Surveys,
    last_gpus: RememberedGpus,
) -> Result<WorkerContext, WorkerError> {
    let (shared_root, mounts) = (config.shared_storage_root.clone(), config.worker.mounts.clone());
    let runner = RunnerOptions::new(RunnerSettings { shared_root, mounts, ..runner });
    let limits = limits(&config.worker);
    job_right::forget_secrets(&config.worker.state_dir);
    let trust = ClientCheck::new(&config.worker, room, &capabilities.hostname)?;
    let arriving = ArrivingJobs::default();
    Ok(WorkerContext {
        ice: config.ice.clone(),
        transport: config.transport,
        trust: Arc::new(trust),
        exchange: None,
        endpoint: None,
        given_ice,
        policies,
        state_dir: config.worker.state_dir.clone(),
        runner,
        executor: executor(&config.worker),
        slurm: watch(&config.worker),
        uploads: Uploads::new(limits.cache.clone(), arriving.clone()),
        arriving,
        limits,
        hashes: Hashes::open(&config.worker.state_dir.join("hashes.sqlite"), SETTLED),
        resume_within: config.worker.resume_within,
        shared_root: config.shared_storage_root.clone(),
        maintenance: config.worker.maintenance,
        deliveries: Deliveries::default(),
        surveys,
        history: History::open(&config.worker.state_dir),
        peaks: Peaks::default(),
        job_ends: JobEnds::new(config.worker.on_job_end.clone()),
        last_gpus,
        trainers: KnownTrainers::new(),
        slots: config.worker.slots.clone(),
        retention: config.worker.retention,
        unfetched: RwLock::default(),
        disk_alarm: DiskAlarm::default(),
        queue: queue(&config.worker),
        queue_patience: config.worker.queue_patience,
        queue_report: watch::Sender::default(),
        job_over: watch::Sender::new(()),
        facts: RwLock::new(WorkerView {
            worker: own_facts(identity, capabilities),
            slots: Vec::new(),
            gpus: Vec::new(),
        }),
    })
}

fn executor(config: &WorkerConfig) -> Executor {
    let slurm = &config.slurm;
    match config.executor {
        ExecutorConfig::Local => Executor::Local,
        ExecutorConfig::Slurm => Executor::Slurm(SlurmOptions {
            partition: slurm.partition.clone(),
            account: slurm.account.clone(),
            qos: slurm.qos.clone(),
            gres: slurm.gres.clone(),
            time: TimeLimit { longest: slurm.time_limit, factor: slurm.time_factor },
            options: slurm.options.clone(),
            environment: slurm.environment.clone(),
        }),
    }
}

/// How much may wait at the worker. A cluster has a queue of its own, and its order.
fn queue(config: &WorkerConfig) -> QueueLimits {
    match config.executor {
        ExecutorConfig::Local => config.queue,
        ExecutorConfig::Slurm => QueueLimits { jobs: 0, ..config.queue },
    }
}

fn watch(WorkerConfig { slurm, .. }: &WorkerConfig) -> SlurmWatch {
    SlurmWatch::new(WatchTimes { ask_every: slurm.ask_every, lost_after: slurm.lost_after })
}

/// The limits for packages, and the cache of their files.
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

fn own_facts(identity: &PeerIdentity, capabilities: &Capabilities) -> WorkerFacts {
    WorkerFacts::from_peer(&PeerInfo {
        peer_id: identity.peer_id.clone(),
        role: Role::Worker,
        metadata: metadata(capabilities),
        connected_at: serde_json::Value::Null,
    })
}

fn metadata(capabilities: &Capabilities) -> Metadata {
    // Clients must not choose this worker before the coordinator has published its problems.
    let status = match capabilities.slots {
        0 => WorkerStatus::Maintenance,
        _ => WorkerStatus::Available,
    };
    Metadata {
        tags: WORKER_TAGS.map(str::to_owned).to_vec(),
        properties: capabilities.properties(status, capabilities.slots),
    }
}

type Registered = (SignalingClient, Events);

async fn register(
    servers: &Servers,
    identity: &PeerIdentity,
    room: &Credential,
    capabilities: &Capabilities,
) -> Result<Registered, SignalingError> {
    // The registration must outlive `shutdown`, so that the worker can deregister.
    let (metadata, cancel) = (metadata(capabilities), CancellationToken::new());
    let (identity, room) = (identity.clone(), room.for_server());
    let servers = servers.clone();
    SignalingClient::connect(servers, identity, room, Role::Worker, metadata, cancel).await
}
