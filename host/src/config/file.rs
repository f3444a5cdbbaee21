//! The keys of the configuration file, with their types and defaults. Paths are as they were written.

use super::document::Document;
use super::error::ConfigError;
use super::ice::UsedServer;
use super::paths::FileMount;
use super::policy::FilePolicy;
use super::sandbox::{FileJobLimits, SandboxChoice};
use super::server::{self, FileServer};
use super::slurm::{ExecutorName, FileSlurm};
use super::values::{
    CommandLine, HostAddress, OneOrMore, Rate, Size, Time, TransportName, WaitChoice,
};
use super::worker::WorkerProperties;
use super::{PathMapping, SlotsConfig, values};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use sleap_rtc_protocol::capabilities::Gpu;
use sleap_rtc_protocol::ids::RoomName;
use sleap_rtc_signaling::client::Address;
use std::path::Path;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// The keys of a layer.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileConfig {
    pub(crate) signaling_websocket: Option<OneOrMore<WebsocketAddress>>,
    pub(crate) signaling_http: Option<OneOrMore<HttpAddress>>,
    pub(crate) shared_storage_root: Option<String>,
    pub(crate) ice: FileIce,
    pub(crate) worker: FileWorker,
    pub(crate) client: FileClient,
    pub(crate) policy: FilePolicy,
    #[serde(rename = "signaling", deserialize_with = "server::deserialize")]
    pub(crate) server: FileServer,
    // Known, so that a similar key is recognized.
    default: Option<Misplaced>,
    environments: Option<Misplaced>,
}

/// `[ice]`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileIce {
    pub(crate) servers: Option<Vec<UsedServer>>,
    pub(crate) from_signaling: Option<bool>,
    pub(crate) bind: Vec<HostAddress>,
    pub(crate) transport: Option<TransportName>,
}

/// `[worker]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileWorker {
    pub(crate) state_dir: Option<String>,
    pub(crate) room_name: Option<RoomName>,
    pub(crate) gpus: Option<Vec<FileGpu>>,
    pub(crate) slots: SlotsConfig,
    pub(crate) executor: ExecutorName,
    pub(crate) slurm: FileSlurm,
    pub(crate) properties: WorkerProperties,
    pub(crate) maintenance: bool,
    pub(crate) keep_results: Time,
    pub(crate) keep_unfetched: Time,
    pub(crate) keep_results_bytes: Size,
    pub(crate) max_package: Size,
    pub(crate) bwlimit: Option<Rate>,
    pub(crate) cache: Size,
    pub(crate) resume_within: Time,
    #[serde(deserialize_with = "values::within::<0, 1000, _, _>")]
    pub(crate) queue: usize,
    pub(crate) queue_bytes: Size,
    #[serde(deserialize_with = "values::within::<1, 1000, _, _>")]
    pub(crate) queue_per_user: usize,
    pub(crate) queue_patience: Time,
    pub(crate) pass_env: Vec<String>,
    pub(crate) trainer: Option<CommandLine>,
    pub(crate) mounts: Vec<FileMount>,
    pub(crate) sandbox: SandboxChoice,
    pub(crate) sandbox_read: Vec<String>,
    pub(crate) sandbox_write: Vec<String>,
    pub(crate) limits: FileJobLimits,
    pub(crate) python_clients: Option<bool>,
    pub(crate) on_job_end: Option<CommandLine>,
}

impl Default for FileWorker {
    fn default() -> Self {
        Self {
            state_dir: None,
            room_name: None,
            gpus: None,
            slots: SlotsConfig::PerGpu,
            executor: ExecutorName::default(),
            slurm: FileSlurm::default(),
            properties: WorkerProperties::default(),
            maintenance: false,
            keep_results: Time(14 * DAY),
            keep_unfetched: Time(90 * DAY),
            keep_results_bytes: Size(100 << 30),
            max_package: Size(50 << 30),
            bwlimit: None,
            cache: Size(50 << 30),
            resume_within: Time(Duration::from_secs(120)),
            queue: 20,
            queue_bytes: Size(100 << 30),
            queue_per_user: 8,
            queue_patience: Time(DAY),
            pass_env: Vec::new(),
            trainer: None,
            mounts: Vec::new(),
            sandbox: SandboxChoice::Auto,
            sandbox_read: Vec::new(),
            sandbox_write: Vec::new(),
            limits: FileJobLimits::default(),
            python_clients: None,
            on_job_end: None,
        }
    }
}

/// An element of `[worker] gpus`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileGpu {
    model: String,
    memory_mib: u64,
}

impl From<FileGpu> for Gpu {
    fn from(FileGpu { model, memory_mib }: FileGpu) -> Self {
        Self { model, memory_mib, ..Self::default() }
    }
}

/// `[client]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileClient {
    pub(crate) user: Option<String>,
    pub(crate) room: Option<RoomName>,
    pub(crate) bwlimit: Option<Rate>,
    pub(crate) max_result: Size,
    pub(crate) reconnect_for: Time,
    pub(crate) wait: WaitChoice,
    pub(crate) notify: bool,
    pub(crate) on_end: Option<CommandLine>,
    #[serde(alias = "legacy_silence")]
    pub(crate) python_silence: Time,
    #[serde(alias = "legacy_run_silence")]
    pub(crate) python_run_silence: Time,
    pub(crate) python_tracking: bool,
    pub(crate) python_worker: bool,
    pub(crate) path_map: Vec<PathMapping>,
}

impl Default for FileClient {
    fn default() -> Self {
        Self {
            user: None,
            room: None,
            bwlimit: None,
            max_result: Size(50 << 30),
            // Laptops sleep at night.
            reconnect_for: Time(DAY / 2),
            wait: WaitChoice(None),
            notify: false,
            on_end: None,
            python_silence: Time(Duration::from_secs(120)),
            python_run_silence: Time(Duration::from_secs(3600)),
            python_tracking: false,
            python_worker: false,
            path_map: Vec::new(),
        }
    }
}

/// `signaling_websocket`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct WebsocketAddress(pub(crate) Address);

impl TryFrom<String> for WebsocketAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Address::websocket(&text).map(Self)
    }
}

/// `signaling_http`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct HttpAddress(pub(crate) Address);

impl TryFrom<String> for HttpAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Address::http(&text).map(Self)
    }
}

/// A layer inside another one.
struct Misplaced;

impl<'de> Deserialize<'de> for Misplaced {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("is allowed only at the top level of the file"))
    }
}

/// Keys of the Python program that have no effect here, with their sections.
const PYTHON_KEYS: [(&[&str], &str); 3] =
    [(&[], "connection_timeout"), (&[], "chunk_size"), (&["worker"], "io")];

/// Reads `text`, the content of `path`, for the environment of that name. Returns the configuration and
/// warnings for the user, one sentence each. Checks every layer, even those that are not in effect.
pub(crate) fn read(
    path: &Path,
    text: &str,
    environment: Option<&str>,
) -> Result<(FileConfig, Vec<String>), ConfigError> {
    let mut document = Document::parse(path, text)?;
    let mut warnings = Vec::new();
    for (sections, key) in PYTHON_KEYS {
        // One warning suffices, even if several layers have the key.
        if let Some(line) = document.remove(sections, key).first() {
            let (path, key) = (path.display(), [sections, &[key]].concat().join("."));
            warnings.push(format!(
                "{path}:{line}: `{key}` is a setting of the Python sleap-rtc and has no effect here"
            ));
        }
    }
    document.check::<FileConfig>()?;
    // As in the Python program, unset means `production`.
    let (config, is_known) = document.merge(environment.unwrap_or("production"))?;
    let names: Vec<&str> = document.environments().collect();
    if let Some(name) = environment.filter(|_| !is_known && !names.is_empty()) {
        warnings.push(format!(
            "{} has no section [environments.{name}] for SLEAP_RTC_ENV={name}; it has {}",
            path.display(),
            names.join(", ")
        ));
    }
    Ok((config, warnings))
}
