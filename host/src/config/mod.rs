//! Combines the configuration file, environment variables and options into one checked [`Config`].
//!
//! The file is `sleap-rtc.toml` in the working directory, if nobody else could have written it, or else
//! `~/.sleap-rtc/config.toml`. A key can be
//! at the top level, under `[default]`, or under `[environments.NAME]` (`SLEAP_RTC_ENV`); of these, the
//! last has precedence over the second, and that over the first. Options have precedence over environment
//! variables, these over the file, and the file over the defaults.
//!
//! | module | what it does |
//! |---|---|
//! | `document` | parses the file, and merges its layers |
//! | `deserialize` | lets serde read values, with their lines for errors |
//! | `file` | the keys, their types and their defaults |
//! | `owner` | whose file it is |
//! | `worker`, `sandbox`, `server`, `ice`, `policy`, `values` | the types of values |
//! | [`units`] | sizes, times and rates |

mod deserialize;
mod document;
mod error;
mod file;
mod ice;
mod owner;
mod paths;
mod policy;
mod sandbox;
mod server;
#[cfg(test)]
mod tests;
pub mod units;
mod values;
mod worker;

pub use error::ConfigError;
pub use sandbox::{LimitsConfig, SandboxChoice, SandboxConfig};
pub use server::ServerConfig;

use file::{FileClient, FileIce, FileWorker};
use paths::FileMount;
use server::FileServer;
use sleap_rtc_base::ice::{IceConfig, IceServer};
use sleap_rtc_base::mounts::{Mount, Mounts};
use sleap_rtc_base::transport::Transport;
#[cfg(feature = "peer")]
use sleap_rtc_policy::PolicyConfig;
use sleap_rtc_protocol::capabilities::Gpu;
use sleap_rtc_protocol::ids::RoomName;
use sleap_rtc_signaling::client::{Address, Endpoints};
use sleap_rtc_signaling::ice::IceOffer;
use sleap_rtc_signaling::server::TlsFiles;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use values::Rate;

/// Everything that can be configured, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was read, for the log. `None` if there is none.
    pub file: Option<PathBuf>,
    /// The addresses of the signaling server.
    pub signaling: Endpoints,
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
    /// Environment variables for the trainer, in addition to those that it always gets: names, or prefixes
    /// that end in `*`.
    pub pass_env: Vec<String>,
    /// Folders in which jobs may read videos that are not sent.
    pub mounts: Mounts,
    /// The command that runs sleap-nn, instead of the one on `PATH`: a program and its first arguments.
    pub trainer: Option<Vec<String>>,
    /// How jobs are confined.
    pub sandbox: SandboxConfig,
    /// Whether clients are served that cannot prove who they are: Python clients, and older versions
    /// of this program.
    pub python_clients: bool,
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
    /// How long to try to reconnect to a worker.
    pub reconnect_for: Duration,
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
    pub signaling: Option<Endpoints>,
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
    /// `--python-worker` of a client.
    pub python_worker: bool,
    /// `--path-map` of a client. These precede those of the file.
    pub path_map: Vec<PathMapping>,
}

impl Overrides {
    /// The same, with `server` as the signaling server where no option names one.
    #[must_use]
    pub fn or_server(self, server: Option<Endpoints>) -> Self {
        Self { signaling: self.signaling.or(server), ..self }
    }
}

/// The sources of the configuration, as values. [`Sources::from_process`] reads them from the process.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`, instead of the usual files.
    pub file: Option<PathBuf>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// Where programs keep their data, for instance `~/.local/share`.
    pub data_dir: Option<PathBuf>,
    /// Where programs keep files that they can regenerate, for instance `~/.cache`.
    pub cache_dir: Option<PathBuf>,
    /// `SLEAP_RTC_ENV`.
    pub environment: Option<String>,
    /// `SLEAP_RTC_SIGNALING_WS`.
    pub signaling_websocket: Option<String>,
    /// `SLEAP_RTC_SIGNALING_HTTP`.
    pub signaling_http: Option<String>,
    /// `SHARED_STORAGE_ROOT`.
    pub shared_storage_root: Option<PathBuf>,
}

impl Sources {
    /// Reads the environment of the process. An empty variable counts as unset.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let text = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self {
            file,
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            home: dirs::home_dir(),
            data_dir: dirs::data_dir(),
            cache_dir: dirs::cache_dir(),
            environment: text("SLEAP_RTC_ENV"),
            signaling_websocket: text("SLEAP_RTC_SIGNALING_WS"),
            signaling_http: text("SLEAP_RTC_SIGNALING_HTTP"),
            shared_storage_root: std::env::var_os("SHARED_STORAGE_ROOT")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from),
        }
    }

    /// The file to use, and why the one in the working directory is ignored, if it is.
    fn find_file(&self) -> (Option<PathBuf>, Option<String>) {
        if let Some(file) = &self.file {
            return (Some(self.cwd.join(file)), None);
        }
        let here = self.cwd.join("sleap-rtc.toml");
        let distrust = match owner::distrust(&here) {
            // A file that exists but cannot be read is an error later, not a reason to search
            // further.
            Ok(None) => return (Some(here), None),
            Ok(distrust) => distrust,
            Err(_) if here.symlink_metadata().is_ok() => return (Some(here), None),
            Err(_) => None,
        };
        let in_home = self.home.as_ref().map(|home| home.join(".sleap-rtc/config.toml"));
        (in_home.filter(|path| path.symlink_metadata().is_ok()), distrust)
    }

    fn data(&self, name: &str) -> PathBuf {
        let base = self.data_dir.as_ref().map(|dir| dir.join("sleap-rtc"));
        base.unwrap_or_else(|| self.cwd.join(".sleap-rtc")).join(name)
    }

    /// Resolves a path of the file: it is relative to the file's folder, and `~/` is the user's home.
    fn path(&self, base: &Path, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => base.join(text),
        }
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

const DAY: Duration = Duration::from_secs(86_400);
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Loads and checks the configuration.
///
/// # Errors
///
/// Fails if a file cannot be read, or if a key or value is wrong.
pub fn load(sources: &Sources, overrides: Overrides) -> Result<Config, ConfigError> {
    let (path, distrust) = sources.find_file();
    let (file, mut warnings) = match &path {
        Some(path) => file::read(path, &read_text(path)?, sources.environment.as_deref())?,
        None => Default::default(),
    };
    let base = path.as_deref().and_then(Path::parent).unwrap_or(&sources.cwd).to_owned();
    let in_file = |text: &String| sources.path(&base, text);
    let transport = file.ice.transport.as_ref().map(|transport| transport.0);
    let ice = ice_config(file.ice, overrides.ice_servers);
    let server = server_config(sources, file.server, &base);
    warnings.extend(distrust);
    warnings.extend(ice.warnings().chain(server.ice.warnings()));
    let addresses = (file.signaling_websocket.map(|a| a.0), file.signaling_http.map(|a| a.0));
    Ok(Config {
        signaling: endpoints(sources, addresses, overrides.signaling, &mut warnings)?,
        ice,
        transport: overrides.transport.or(transport).unwrap_or_default(),
        shared_storage_root: overrides
            .shared_storage_root
            .or_else(|| sources.shared_storage_root.clone())
            .map(|root| sources.cwd.join(root))
            .or_else(|| file.shared_storage_root.as_ref().map(in_file)),
        worker: worker(sources, file.worker, overrides.state_dir, overrides.maintenance, &base),
        client: ClientConfig {
            python_worker: overrides.python_worker || file.client.python_worker,
            ..client(sources, file.client, overrides.bwlimit, overrides.path_map)
        },
        #[cfg(feature = "peer")]
        policy: file.policy.plugins(sources, &base),
        server,
        file: path,
        warnings,
    })
}

fn ice_config(file: FileIce, option: Option<Vec<IceServer>>) -> IceConfig {
    let servers = file.servers.map(|list| list.into_iter().map(|server| server.0).collect());
    let bind = file.bind.into_iter().map(|address| address.0).collect();
    IceConfig::new(option, servers, file.from_signaling, bind)
}

fn server_config(sources: &Sources, file: FileServer, base: &Path) -> ServerConfig {
    let in_file = |text: String| sources.path(base, &text);
    let listen = file.listen.map(|list| list.into_iter().map(|address| address.0).collect());
    let servers = file.ice_servers.into_iter().map(|server| server.0).collect();
    let tls = file.tls_cert.zip(file.tls_key);
    ServerConfig {
        listen: listen.unwrap_or_else(default_listen),
        state: file.state.map_or_else(|| sources.data("signaling.sqlite"), in_file),
        ice: IceOffer { servers, lifetime: file.ice_lifetime },
        tls: tls.map(|(cert, key)| TlsFiles { cert: in_file(cert), key: in_file(key) }),
        trust_proxy: file.trust_proxy,
        relay: file.relay,
        limits: file.limits,
    }
}

fn client(
    sources: &Sources,
    file: FileClient,
    bwlimit: Option<u64>,
    path_map: Vec<PathMapping>,
) -> ClientConfig {
    ClientConfig {
        user: file.user,
        room: file.room,
        state_dir: sources.data("client"),
        jobs_dir: sources.data("client/jobs"),
        bwlimit: bwlimit.or(file.bwlimit.map(|Rate(rate)| rate)),
        reconnect_for: file.reconnect_for.0,
        python_silence: PythonSilence {
            in_a_run: file.python_run_silence.0,
            otherwise: file.python_silence.0,
        },
        python_tracking: file.python_tracking,
        python_worker: file.python_worker,
        hashes: sources.cache_dir.as_ref().map(|dir| dir.join("sleap-rtc/hashes.sqlite")),
        path_map: path_map.into_iter().chain(file.path_map).collect(),
    }
}

/// The ports that Python peers expect, over IPv4 and IPv6.
fn default_listen() -> Vec<SocketAddr> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let ports = [8080, 8001];
    ports.iter().flat_map(|port| any.map(|address| SocketAddr::new(address, *port))).collect()
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit: MAX_FILE_BYTES });
    }
    Ok(text)
}

fn endpoints(
    sources: &Sources,
    (file_websocket, file_http): (Option<Address>, Option<Address>),
    option: Option<Endpoints>,
    warnings: &mut Vec<String>,
) -> Result<Endpoints, ConfigError> {
    if let Some(endpoints) = option {
        return Ok(endpoints);
    }
    const WS: &str = "SLEAP_RTC_SIGNALING_WS";
    const HTTP: &str = "SLEAP_RTC_SIGNALING_HTTP";
    let read = |name, text: &Option<String>, parse: fn(&str) -> Result<Address, String>| {
        let address = text.as_deref().map(parse).transpose();
        address.map_err(|message| ConfigError::Variable { name, message })
    };
    let websocket = read(WS, &sources.signaling_websocket, Address::websocket)?;
    let http = read(HTTP, &sources.signaling_http, Address::http)?;
    let mixed = websocket.is_some() != http.is_some();
    let name = if websocket.is_some() { WS } else { HTTP };
    let endpoints = Endpoints::complete(websocket.or(file_websocket), http.or(file_http))
        .map_err(|message| ConfigError::Variable { name, message })?;
    let hosts = (endpoints.websocket.host_str(), endpoints.http.host_str());
    if mixed && hosts.0 != hosts.1 {
        warnings.push(format!(
            "{name} and the configuration file name two different signaling servers; set both {WS} \
             and {HTTP}"
        ));
    }
    Ok(endpoints)
}

fn worker(
    sources: &Sources,
    file: FileWorker,
    state_dir: Option<PathBuf>,
    maintenance: bool,
    base: &Path,
) -> WorkerConfig {
    WorkerConfig {
        state_dir: state_dir
            .map(|dir| sources.cwd.join(dir))
            .or_else(|| file.state_dir.map(|text| sources.path(base, &text)))
            .unwrap_or_else(|| sources.data("worker")),
        room_name: file.room_name,
        gpus: file.gpus.map(|gpus| gpus.into_iter().map(Gpu::from).collect()),
        slots: file.slots,
        properties: file.properties.0,
        maintenance: maintenance || file.maintenance,
        retention: RetentionConfig {
            keep: file.keep_results.0,
            keep_unfetched: file.keep_unfetched.0,
            bytes: file.keep_results_bytes.0,
        },
        max_package_bytes: file.max_package.0,
        bwlimit: file.bwlimit.map(|Rate(rate)| rate),
        cache_bytes: file.cache.0,
        resume_within: file.resume_within.0,
        pass_env: file.pass_env,
        mounts: mounts(sources, base, file.mounts),
        trainer: file.trainer.map(|command| trainer(sources, base, command.0)),
        sandbox: SandboxConfig {
            choice: file.sandbox,
            read: file.sandbox_read.iter().map(|text| sources.path(base, text)).collect(),
            write: file.sandbox_write.iter().map(|text| sources.path(base, text)).collect(),
            home: sources.home.clone(),
            limits: file.limits.into(),
        },
        python_clients: file.python_clients,
    }
}

fn mounts(sources: &Sources, base: &Path, mounts: Vec<FileMount>) -> Mounts {
    let mount = |FileMount { label, path }: FileMount| {
        let path = sources.path(base, &path);
        Mount { label: label.0, path: std::path::absolute(&path).unwrap_or(path) }
    };
    Mounts::new(mounts.into_iter().map(mount).collect())
}

/// Resolves the program of a command line if it is a path.
fn trainer(sources: &Sources, base: &Path, mut words: Vec<String>) -> Vec<String> {
    if let Some(program) = words.first_mut().filter(|program| program.contains('/')) {
        *program = sources.path(base, program).to_string_lossy().into_owned();
    }
    words
}
