//! The broker of a cluster of signaling servers: Debian's `nats-server` on loopback.

use crate::process::Process;
use crate::{SOON, Site, TestServer};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const PROGRAM: &str = "/usr/sbin/nats-server";
const LISTENS: &str = "Listening for client connections on ";

/// A running broker, with JetStream in a folder of its own.
pub struct TestBroker {
    process: Process,
    folder: TempDir,
    arguments: Vec<String>,
    address: SocketAddr,
}

impl TestBroker {
    /// `None`, with the reason on stderr, where none is installed.
    pub fn start() -> Option<Self> {
        Self::with(&["-js"])
    }

    /// The same, with these arguments.
    pub fn with(arguments: &[&str]) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!(
                "skipped: {PROGRAM} is missing; `cargo xtask test` installs nats-server where it may"
            );
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().copied().map(str::to_owned).collect();
        let (process, address) = launch(folder.path(), &arguments, "-1");
        Some(Self { process, folder, arguments, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the same address, with what it had stored.
    pub fn start_again(&mut self) {
        let port = self.address.port().to_string();
        (self.process, self.address) = launch(self.folder.path(), &self.arguments, &port);
    }

    /// Starts it again at the same address, with nothing.
    pub fn start_again_empty(&mut self) {
        self.folder = tempfile::tempdir().unwrap();
        self.start_again();
    }

    /// A signaling server of its cluster, at this address.
    pub fn server(&self, site: &Site, address: IpAddr) -> TestServer {
        TestServer::persistent_on(site, address, &self.config())
    }

    /// The configuration of such a server.
    pub fn config(&self) -> String {
        format!("[signaling]\ncluster = \"nats://{}\"\n", self.address)
    }
}

fn launch(folder: &Path, arguments: &[String], port: &str) -> (Process, SocketAddr) {
    let mut command = Command::new(PROGRAM);
    command.env_clear().args(["-a", "127.0.0.1", "-p", port, "-sd"]).arg(folder).args(arguments);
    let mut process = Process::start("nats-server", &mut command);
    let address = process.wait_stderr("its address", SOON, |text| {
        let (_, rest) = text.split_once(LISTENS)?;
        rest.contains("Server is ready").then(|| rest.lines().next()?.trim().parse().ok())?
    });
    (process, address)
}

/// The servers as a program knows them, for `SLEAP_RTC_SIGNALING_WS` and `…_HTTP`.
pub fn server_lists(servers: &[&TestServer]) -> [(&'static str, String); 2] {
    let list = |scheme: &str| {
        let urls: Vec<String> =
            servers.iter().map(|server| format!("{scheme}://{}", server.address())).collect();
        urls.join(",")
    };
    [("SLEAP_RTC_SIGNALING_WS", list("ws")), ("SLEAP_RTC_SIGNALING_HTTP", list("http"))]
}
