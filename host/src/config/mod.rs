//! Combines the configuration file, environment variables and options into one checked [`Config`].
//!
//! The file is `sleap-rtc.toml` in the working directory, if no other user could have written it, or
//! else `~/.sleap-rtc/config.toml`. A key can be at the top level, under `[default]`, or under
//! `[environments.NAME]` (`SLEAP_RTC_ENV`). Of these, the last has precedence over the second, and the
//! second over the first. Options have precedence over environment variables, variables over the file,
//! and the file over the defaults.
//!
//! | module | what it does |
//! |---|---|
//! | `sources` | finds the file, and reads the environment |
//! | `load` | maps file, environment and options onto [`Config`] |
//! | `document` | parses the file, and merges its layers |
//! | `deserialize` | lets serde read values, with their lines for errors |
//! | `file` | the keys, their types and their defaults |
//! | `owner` | whose file it is |
//! | `worker`, `sandbox`, `slurm`, `server`, `ice`, `policy`, `values` | the types of values |
//! | [`units`] | sizes, times and rates |

mod deserialize;
mod document;
mod error;
mod file;
mod ice;
mod load;
mod owner;
mod paths;
mod policy;
mod sandbox;
mod server;
mod slurm;
mod sources;
#[cfg(test)]
mod tests;
pub mod units;
mod values;
mod worker;

pub use error::ConfigError;
pub use load::load;
pub use sandbox::{LimitsConfig, SandboxChoice, SandboxConfig};
pub use server::ServerConfig;
pub use slurm::{ExecutorConfig, SlurmConfig};
pub use sources::Sources;

use sleap_rtc_base::ice::{IceConfig, IceServer};
use sleap_rtc_base::mounts::Mounts;
use sleap_rtc_base::transport::Transport;
#[cfg(feature = "peer")]
use sleap_rtc_policy::PolicyConfig;
use sleap_rtc_protocol::capabilities::Gpu;
use sleap_rtc_protocol::ids::RoomName;
use sleap_rtc_protocol::queue::QueueLimits;
use sleap_rtc_signaling::client::Servers;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that can be configured, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was read, for the log. `None` if there is none.
    pub file: Option<PathBuf>,
    /// The signaling servers.
    pub signaling: Servers,
    /// Whether somebody has named them. Otherwise they are the default, on this machine.
    pub names_server: bool,
    /// STUN, TURN and local addresses.
    pub ice: IceConfig,
    /// `[ice] transport`.
    pub transport: Transport,
    /// `[worker]`.
    pub worker: WorkerConfig,
    /// `[client]`.
    pub client: ClientConfig,
    /// `[policy]`.
    #[cfg(feature = "peer")]
    pub policy: PolicyConfig,
    /// `[signaling]`: what `sleap-rtc signaling` serves.
    pub server: ServerConfig,
    /// A folder that worker and client both see.
    pub shared_storage_root: Option<PathBuf>,
    /// Warnings for the user, one sentence each.
    pub warnings: Vec<String>,
}

/// The configuration of a worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The folder for identity, room and jobs.
    pub state_dir: PathBuf,
    /// What people call the room of this worker, instead of the name of its host.
    pub room_name: Option<RoomName>,
    /// The GPUs, instead of detected ones; an empty list means no GPU.
    pub gpus: Option<Vec<Gpu>>,
    /// How many jobs may run at once, and on which GPUs.
    pub slots: SlotsConfig,
    /// What runs the jobs.
    pub executor: ExecutorConfig,
    /// `[worker.slurm]`.
    pub slurm: SlurmConfig,
    /// The operator's description of the worker, for policies and people.
    pub properties: serde_json::Map<String, serde_json::Value>,
    /// Whether the worker takes no new jobs.
    pub maintenance: bool,
    /// How long job folders are kept.
    pub retention: RetentionConfig,
    /// The largest package that the worker takes, unpacked, in bytes.
    pub max_package_bytes: u64,
    /// The bandwidth of all transfers of this worker together, in both directions, in bytes per
    /// second.
    pub bwlimit: Option<u64>,
    /// The size of the cache of received files, in bytes; 0 for no cache.
    pub cache_bytes: u64,
    /// How long a slot waits for a client that lost its connection during the upload.
    pub resume_within: Duration,
    /// How much may wait for a slot.
    pub queue: QueueLimits,
    /// How long others may overtake a waiting job before the log says so.
    pub queue_patience: Duration,
    /// Environment variables for the trainer, in addition to those that it always gets: names, or prefixes
    /// that end in `*`.
    pub pass_env: Vec<String>,
    /// Folders in which jobs may read videos that are not sent.
    pub mounts: Mounts,
    /// The command that runs sleap-nn, instead of the one on `PATH`: a program and its first arguments.
    pub trainer: Option<Vec<String>>,
    /// How jobs are confined.
    pub sandbox: SandboxConfig,
    /// The command that runs when a job has ended: a program and its first arguments.
    pub on_job_end: Option<Vec<String>>,
    /// Whether clients are served that cannot prove who they are: Python clients, and older versions
    /// of this program.
    pub python_clients: Option<bool>,
}

/// How many jobs a worker runs at once, and on which GPUs. GPU indices are those of `nvidia-smi`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SlotsConfig {
    /// One slot for each GPU; one slot on a machine without GPUs.
    #[default]
    PerGpu,
    /// This number of slots, among which the GPUs are distributed.
    Count(usize),
    /// One slot for each list, with these GPUs; an empty list means the CPU.
    Gpus(Vec<Vec<u32>>),
}

/// How long a worker keeps the folders of finished jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Counted from the last fetch of the results, or from the end of a job without results.
    pub keep: Duration,
    /// Counted from the end of a job whose results nobody has fetched.
    pub keep_unfetched: Duration,
    /// The most bytes of all these folders together.
    pub bytes: u64,
}

/// The configuration of a client.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The user name for policies, which is not verified.
    pub user: Option<String>,
    /// The room to use where none is named.
    pub room: Option<RoomName>,
    /// The folder for the key of this device, and for the rooms with which it has paired.
    pub state_dir: PathBuf,
    /// The folder for records of the jobs that this user has submitted.
    pub jobs_dir: PathBuf,
    /// The bandwidth of its transfers, in bytes per second.
    pub bwlimit: Option<u64>,
    /// The largest result that is fetched without a question, in bytes.
    pub max_result_bytes: u64,
    /// How long to try to reconnect to a worker.
    pub reconnect_for: Duration,
    /// Whether jobs wait for a slot where none is free, and how long.
    pub wait: Option<Wait>,
    /// Whether to show the trainer's own output instead of what matters of it.
    pub whole_log: bool,
    /// Whether to show a notification on the desktop when a job has ended.
    pub notify: bool,
    /// The command that runs then: a program and its first arguments.
    pub on_end: Option<Vec<String>>,
    /// How long a Python worker may be silent.
    pub python_silence: PythonSilence,
    /// Whether Python workers are asked to track, though no known version sends predictions back.
    pub python_tracking: bool,
    /// Whether Python workers are used in rooms whose own workers prove who they are.
    pub python_worker: bool,
    /// The file for cached hashes; `None` for no cache.
    pub hashes: Option<PathBuf>,
    /// What the paths in labels stand for, on this machine or on a worker's mount.
    pub path_map: Vec<PathMapping>,
}

/// How long a job waits for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until it starts.
    UntilItStarts,
    /// At most this long.
    For(Duration),
}

/// The replacement for the beginning of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathMapping {
    /// The beginning of paths in the labels.
    pub from: String,
    /// The replacement: a path of this machine or of the worker, or `LABEL:path` on a worker's
    /// mount.
    pub to: String,
}

/// How long a Python worker may be silent (keep-alives do not count) before the client gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PythonSilence {
    /// During a run: validation of a large data set prints nothing.
    pub in_a_run: Duration,
    /// At any other time.
    pub otherwise: Duration,
}

/// Options, which have precedence over everything else.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--signaling`.
    pub signaling: Option<Servers>,
    /// `--ice-server`; an empty list for `none`.
    pub ice_servers: Option<Vec<IceServer>>,
    /// `--transport`.
    pub transport: Option<Transport>,
    /// `--shared-storage-root`.
    pub shared_storage_root: Option<PathBuf>,
    /// `--state-dir` of a worker.
    pub state_dir: Option<PathBuf>,
    /// `--maintenance` of a worker.
    pub maintenance: bool,
    /// `--bwlimit` of a client, in bytes per second.
    pub bwlimit: Option<u64>,
    /// `--log` of a client.
    pub whole_log: bool,
    /// `--notify` of a client.
    pub notify: bool,
    /// `--python-worker` of a client.
    pub python_worker: bool,
    /// `--wait` of a client.
    pub wait: Option<Wait>,
    /// `--path-map` of a client. These precede those of the file.
    pub path_map: Vec<PathMapping>,
}

impl Overrides {
    /// The same, with `servers` as the signaling servers where no option names one.
    #[must_use]
    pub fn or_servers(self, servers: Option<Servers>) -> Self {
        Self { signaling: self.signaling.or(servers), ..self }
    }
}

impl Config {
    /// The file in use, in words.
    pub fn source(&self) -> String {
        match &self.file {
            Some(path) => format!("the configuration is {}", path.display()),
            None => "there is no configuration file, so the defaults apply".to_owned(),
        }
    }
}
