//! `sleap-rtc signaling`: the server at which workers and clients meet.

use super::exit::{Exit, ExitWith, Failure};
use super::{interrupt, print};
use crate::config::ServerConfig;
use crate::signaling::server::{self, ServerOptions};
use crate::signaling::store::Store;
use anyhow::Context;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;

/// The examples under `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  Serve on the ports that Python peers expect, 8080 and 8001:
    sleap-rtc signaling
  Serve on one port, behind a proxy that adds TLS:
    sleap-rtc signaling --listen 127.0.0.1:8080";

/// The options of `signaling`.
#[derive(clap::Args)]
pub struct SignalingArgs {
    /// Address for HTTP and WebSocket; may be repeated [default: 0.0.0.0:8080 and 0.0.0.0:8001]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// File for rooms and identities [default: in the user's data folder]
    #[arg(long, value_name = "FILE", conflicts_with = "ephemeral")]
    state: Option<PathBuf>,
    /// Keep rooms and identities in memory only: they end with the server
    #[arg(long)]
    ephemeral: bool,
}

/// How the server starts, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalingOptions {
    /// Instead of the configured addresses, when not empty.
    listen: Vec<SocketAddr>,
    /// Where rooms and identities are kept.
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Configured,
    File(PathBuf),
    Memory,
}

impl SignalingArgs {
    pub(super) fn check(self) -> SignalingOptions {
        let state = match self.state {
            _ if self.ephemeral => State::Memory,
            Some(path) => State::File(path),
            None => State::Configured,
        };
        SignalingOptions { listen: self.listen, state }
    }
}

/// Serves until Ctrl-C or SIGTERM.
pub(super) async fn run(options: SignalingOptions, config: ServerConfig) -> Result<Exit, Failure> {
    let shutdown = interrupt::until_asked_to_end()?;
    let addresses = if options.listen.is_empty() { config.listen } else { options.listen };
    let store = match options.state {
        State::Memory => Store::ephemeral(),
        State::File(path) => Store::open(&path),
        State::Configured => Store::open(&config.state),
    };
    let store = store.exit(Exit::Usage)?;
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("cannot listen on {address}"));
        listeners.push(listener.exit(Exit::Connect).map_err(|failure| {
            failure.hint("another program may have the port; choose one with --listen ADDR:PORT")
        })?);
    }
    for listener in &listeners {
        let address = listener.local_addr().exit(Exit::Unexpected)?;
        let line = format!("listening on http://{address} and ws://{address}");
        print::line(&line).exit(Exit::Unexpected)?;
    }
    let options = ServerOptions { ice: config.ice };
    server::run(listeners, store, options, shutdown).await.exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}
