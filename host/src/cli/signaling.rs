//! `sleap-rtc signaling`: the server where workers and clients meet.

use super::exit::{Exit, ExitWith, Failure};
use super::{interrupt, print};
use crate::config::ServerConfig;
use sleap_rtc_base::os::{PortHolder, at_each_hang_up, port_holder};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_signaling::server::{
    self, ClusterOptions, ServerError, ServerOptions, Tls, TlsFiles,
};
use sleap_rtc_signaling::store::Store;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The most characters of another program's command that are shown.
const MAX_COMMAND_CHARS: usize = 60;

/// The examples under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Serve on the ports that Python peers expect, 8080 and 8001:
    sleap-rtc signaling
  Serve on one port, behind a proxy that adds TLS:
    sleap-rtc signaling --listen 127.0.0.1:8080 --trust-proxy
  Serve with TLS:
    sleap-rtc signaling --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key key.pem";

/// The options of `signaling`.
#[derive(clap::Args)]
pub struct SignalingArgs {
    /// Address for HTTP and WebSocket, repeatable [default: ports 8080 and 8001 of all
    /// addresses, IPv4 and IPv6]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// File for rooms and identities [default: in your data folder]
    #[arg(long, value_name = "FILE", conflicts_with = "ephemeral")]
    state: Option<PathBuf>,
    /// Keep rooms and identities in memory only, and lose them when the server ends
    #[arg(long)]
    ephemeral: bool,
    /// Certificate chain in PEM, to serve https and wss; SIGHUP reads it again
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Take clients' addresses from `X-Forwarded-For`; only behind a proxy that sets it
    #[arg(long)]
    trust_proxy: bool,
    /// Do not relay between peers that have no direct path
    #[arg(long)]
    no_relay: bool,
    /// Do not serve the client for browsers at /app/
    #[arg(long)]
    no_page: bool,
}

/// How the server starts, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalingOptions {
    /// Overrides the configured addresses unless empty.
    listen: Vec<SocketAddr>,
    /// Where rooms and identities are kept.
    state: State,
    /// Overrides the configured certificate.
    tls: Option<TlsFiles>,
    /// In addition to the configuration.
    trust_proxy: bool,
    /// Overrides the configuration.
    no_relay: bool,
    /// Overrides the configuration.
    no_page: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Configured,
    File(PathBuf),
    Memory,
}

impl SignalingArgs {
    pub(crate) fn check(self) -> SignalingOptions {
        let state = match self.state {
            _ if self.ephemeral => State::Memory,
            Some(path) => State::File(path),
            None => State::Configured,
        };
        let tls = self.tls_cert.zip(self.tls_key).map(|(cert, key)| TlsFiles { cert, key });
        let Self { listen, trust_proxy, no_relay, no_page, .. } = self;
        SignalingOptions { listen, state, tls, trust_proxy, no_relay, no_page }
    }
}

impl SignalingOptions {
    /// Everything as it is configured.
    #[cfg(feature = "worker")]
    pub(crate) fn configured() -> Self {
        let (listen, state) = (Vec::new(), State::Configured);
        let (trust_proxy, no_relay, no_page) = (false, false, false);
        Self { listen, state, tls: None, trust_proxy, no_relay, no_page }
    }
}

/// A server that has its sockets and its state, and is about to serve.
pub(crate) struct Serving {
    listeners: Vec<TcpListener>,
    store: Store,
    options: ServerOptions,
}

impl Serving {
    /// Opens everything that can be missing, taken or broken. Where a port is taken, the error says
    /// how to listen `elsewhere`.
    pub(crate) fn open(
        options: SignalingOptions,
        config: ServerConfig,
        elsewhere: &str,
    ) -> Result<Self, Failure> {
        let addresses = if options.listen.is_empty() { config.listen } else { options.listen };
        let tls = options.tls.or(config.tls).map(Tls::load).transpose().exit(Exit::Usage)?;
        let cluster = config.cluster.as_ref().map(ClusterOptions::load).transpose();
        let cluster = cluster.exit(Exit::Usage)?;
        let store = match options.state {
            State::Memory => Store::ephemeral(),
            State::File(path) => Store::open(&path),
            State::Configured => Store::open(&config.state),
        };
        let store = store.exit(Exit::Usage)?;
        let listeners = server::listen(&addresses).map_err(|error| {
            let holder = port_holder(error.address.port());
            Failure::new(Exit::Connect, error).hint(port_advice(holder, elsewhere))
        })?;
        let options = ServerOptions {
            sockets: server::raise_descriptor_limit(),
            ice: config.ice,
            tls,
            trust_proxy: options.trust_proxy || config.trust_proxy,
            relay: config.relay && !options.no_relay,
            page: config.page && !options.no_page,
            limits: config.limits,
            cluster,
        };
        Ok(Self { listeners, store, options })
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        self.listeners.iter().map(|listener| listener.local_addr().exit(Exit::Unexpected)).collect()
    }

    /// Whether it has a certificate.
    pub(crate) fn has_tls(&self) -> bool {
        self.options.tls.is_some()
    }

    /// Serves until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), Failure> {
        let Self { listeners, store, options } = self;
        server::run(listeners, store, options, shutdown).await.map_err(|error| match error {
            ServerError::Cluster(_) => Failure::new(Exit::Connect, error),
            error => Failure::new(Exit::Unexpected, error),
        })
    }
}

/// What to do about a port that is taken.
fn port_advice(holder: Option<PortHolder>, elsewhere: &str) -> String {
    match holder {
        None => format!("another program may use this port; {elsewhere}"),
        Some(PortHolder { pid, command }) => {
            let command = Printable::line(&command, MAX_COMMAND_CHARS);
            format!(
                "process {pid} of yours (`{command}`) uses this port; a server keeps running after its \
                 terminal closes: end it with `kill {pid}`,\nor {elsewhere}"
            )
        }
    }
}

/// Serves until Ctrl-C or SIGTERM.
pub(crate) async fn run(options: SignalingOptions, config: ServerConfig) -> Result<Exit, Failure> {
    let shutdown = interrupt::until_asked_to_end()?;
    const ELSEWHERE: &str = "choose another one with `sleap-rtc signaling --listen ADDR:PORT`, or \
                             with `listen` under [signaling] in the configuration file";
    let serving = Serving::open(options, config, ELSEWHERE)?;
    let s = if serving.has_tls() { "s" } else { "" };
    for address in serving.addresses()? {
        let line = format!("listening on http{s}://{address} and ws{s}://{address}");
        print::line(&line).exit(Exit::Unexpected)?;
    }
    let reloaded = serving.options.tls.clone();
    at_each_hang_up(move || match reloaded.as_ref().map(Tls::reload) {
        Some(Ok(())) => tracing::info!("certificate reloaded"),
        Some(Err(error)) => {
            let cause = error.source().map(ToString::to_string);
            tracing::error!(%error, cause, "cannot read the new certificate; the old one stays in use");
        }
        None => tracing::info!("SIGHUP is ignored: there is no certificate to reload"),
    })
    .exit(Exit::Unexpected)?;
    serving.run(shutdown).await?;
    Ok(Exit::Success)
}
