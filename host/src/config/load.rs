//! Loads the configuration: maps the file, the environment and the options onto [`Config`].

use super::file::{self, FileClient, FileIce, FileWorker};
use super::paths::FileMount;
use super::server::FileServer;
use super::values::{OneOrMore, Rate};
use super::{
    ClientConfig, Config, ConfigError, Overrides, PathMapping, PythonSilence, RetentionConfig,
    SandboxConfig, ServerConfig, Sources, WorkerConfig,
};
use sleap_rtc_base::ice::{IceConfig, IceServer};
use sleap_rtc_base::mounts::{Mount, Mounts};
use sleap_rtc_protocol::capabilities::Gpu;
use sleap_rtc_protocol::queue::QueueLimits;
use sleap_rtc_signaling::client::{Address, Endpoints, Servers};
use sleap_rtc_signaling::ice::IceOffer;
use sleap_rtc_signaling::server::{ClusterOptions, TlsFiles};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

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
    let named = NamedServers {
        option: overrides.signaling,
        websockets: addresses_of(file.signaling_websocket, |address| address.0),
        http: addresses_of(file.signaling_http, |address| address.0),
    };
    let (signaling, names_server) = servers(sources, named, &mut warnings)?;
    Ok(Config {
        signaling,
        names_server,
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
            wait: overrides.wait.or(file.client.wait.0),
            whole_log: overrides.whole_log,
            notify: overrides.notify || file.client.notify,
            ..client(sources, file.client, overrides.bwlimit, overrides.path_map, &base)
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
        page: file.page,
        announce: file.announce,
        cluster: file.cluster.map(|brokers| ClusterOptions {
            brokers: brokers.0.into_iter().map(|broker| broker.0).collect(),
            token_file: file.cluster_token_file.map(in_file),
        }),
        limits: file.limits,
    }
}

fn client(
    sources: &Sources,
    file: FileClient,
    bwlimit: Option<u64>,
    path_map: Vec<PathMapping>,
    base: &Path,
) -> ClientConfig {
    ClientConfig {
        user: file.user,
        room: file.room,
        state_dir: sources.data("client"),
        jobs_dir: sources.data("client/jobs"),
        bwlimit: bwlimit.or(file.bwlimit.map(|Rate(rate)| rate)),
        max_result_bytes: file.max_result.0,
        reconnect_for: file.reconnect_for.0,
        wait: None,
        whole_log: false,
        notify: file.notify,
        on_end: file.on_end.map(|command| program(sources, base, command.0)),
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

fn addresses_of<T>(written: Option<OneOrMore<T>>, address: fn(T) -> Address) -> Vec<Address> {
    written.map(|written| written.0.into_iter().map(address).collect()).unwrap_or_default()
}

/// How the options and the file name the signaling servers.
struct NamedServers {
    option: Option<Servers>,
    websockets: Vec<Address>,
    http: Vec<Address>,
}

/// The signaling servers, and whether somebody has named them.
fn servers(
    sources: &Sources,
    named: NamedServers,
    warnings: &mut Vec<String>,
) -> Result<(Servers, bool), ConfigError> {
    if let Some(servers) = named.option {
        return Ok((servers, true));
    }
    const WS: &str = "SLEAP_RTC_SIGNALING_WS";
    const HTTP: &str = "SLEAP_RTC_SIGNALING_HTTP";
    let read = |name, text: &Option<String>, parse: fn(&str) -> Result<Address, String>| {
        let texts =
            text.iter().flat_map(|text| text.split(',')).filter(|one| !one.trim().is_empty());
        let addresses: Result<Vec<_>, _> = texts.map(parse).collect();
        addresses.map_err(|message| ConfigError::Variable { name, message })
    };
    let websockets = read(WS, &sources.signaling_websocket, Address::websocket)?;
    let http = read(HTTP, &sources.signaling_http, Address::http)?;
    let mixed = websockets.is_empty() != http.is_empty();
    let name = if websockets.is_empty() { HTTP } else { WS };
    let or = |given: Vec<Address>, file| if given.is_empty() { file } else { given };
    let (websockets, http) = (or(websockets, named.websockets), or(http, named.http));
    let are_named = !websockets.is_empty() || !http.is_empty();
    let servers = Servers::complete(websockets, http).map_err(ConfigError::Servers)?;
    let differs = |one: &Endpoints| one.websocket.host_str() != one.http.host_str();
    if mixed && servers.iter().any(differs) {
        warnings.push(format!(
            "{name} and the configuration file name two different signaling servers; set both {WS} \
             and {HTTP}"
        ));
    }
    Ok((servers, are_named))
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
        executor: file.executor.0,
        slurm: file.slurm.into(),
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
        queue: QueueLimits {
            jobs: file.queue,
            bytes: file.queue_bytes.0,
            jobs_per_user: file.queue_per_user,
        },
        queue_patience: file.queue_patience.0,
        pass_env: file.pass_env,
        mounts: mounts(sources, base, file.mounts),
        trainer: file.trainer.map(|command| program(sources, base, command.0)),
        sandbox: SandboxConfig {
            choice: file.sandbox,
            read: file.sandbox_read.iter().map(|text| sources.path(base, text)).collect(),
            write: file.sandbox_write.iter().map(|text| sources.path(base, text)).collect(),
            home: sources.home.clone(),
            limits: file.limits.into(),
        },
        on_job_end: file.on_job_end.map(|command| program(sources, base, command.0)),
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
fn program(sources: &Sources, base: &Path, mut words: Vec<String>) -> Vec<String> {
    // A path with spaces, written without quotes.
    let whole = sources.path(base, &words.join(" "));
    if words.len() > 1 && words.iter().any(|word| word.contains('/')) && whole.is_file() {
        words = vec![words.join(" ")];
    }
    if let Some(program) = words.first_mut().filter(|program| program.contains('/')) {
        *program = sources.path(base, program).to_string_lossy().into_owned();
    }
    words
}
