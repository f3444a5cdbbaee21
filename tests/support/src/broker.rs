//! The broker of a cluster of signaling servers: Debian's `nats-server`, in a folder of the test.

use crate::process::Process;
use crate::{SOON, Site, TestServer};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = "/usr/sbin/nats-server";
const LISTENS: &str = "Listening for client connections on ";

/// A running broker.
pub struct TestBroker {
    process: Process,
    folder: PathBuf,
    address: SocketAddr,
}

impl TestBroker {
    /// `None`, with the reason on stderr, where none is installed.
    pub fn start(site: &Site) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!(
                "skipped: {PROGRAM} is missing; `cargo xtask test` installs nats-server where it may"
            );
            return None;
        }
        let folder = site.folder("broker");
        let (process, address) = launch(&folder, "-1");
        Some(Self { process, folder, address })
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the same address, with what it had stored.
    pub fn start_again(&mut self) {
        let port = self.address.port().to_string();
        (self.process, self.address) = launch(&self.folder, &port);
    }

    /// A signaling server of its cluster. With `more` lines under `[signaling]`.
    pub fn server(&self, site: &Site, more: &str) -> TestServer {
        let config = format!("[signaling]\ncluster = \"nats://{}\"\n{more}", self.address);
        TestServer::persistent_on(site, Ipv4Addr::LOCALHOST.into(), &config)
    }
}

fn launch(folder: &Path, port: &str) -> (Process, SocketAddr) {
    let mut command = Command::new(PROGRAM);
    command.env_clear().args(["-a", "127.0.0.1", "-p", port, "-js", "-sd"]).arg(folder);
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
