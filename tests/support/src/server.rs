//! A signaling server: the real binary, or a Python program that behaves like the old server.

use crate::process::Process;
use crate::python_peer::python_program;
use crate::{SOON, Site};
use rustix::process::Signal;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// A running signaling server.
pub struct TestServer {
    process: Process,
    home: PathBuf,
    address: SocketAddr,
    kind: Kind,
}

/// The program that it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Forgetful,
    Persistent,
    Old,
}

impl TestServer {
    /// A server that forgets everything when it ends.
    pub fn ephemeral(site: &Site) -> Self {
        Self::launch(site.folder("server"), ([127, 0, 0, 1], 0).into(), Kind::Forgetful)
    }

    /// A server that keeps its state in its home folder, for [`Self::restart`].
    pub fn persistent(site: &Site) -> Self {
        Self::launch(site.folder("server"), ([127, 0, 0, 1], 0).into(), Kind::Persistent)
    }

    /// A server that forgets everything, at another address than the usual one.
    pub fn on(site: &Site, address: IpAddr) -> Self {
        Self::launch(site.folder("server"), (address, 0).into(), Kind::Forgetful)
    }

    /// The same, with this configuration file.
    pub fn configured(site: &Site, address: IpAddr, config: &str) -> Self {
        let home = site.folder("server");
        std::fs::write(home.join("sleap-rtc.toml"), config).unwrap();
        Self::launch(home, (address, 0).into(), Kind::Forgetful)
    }

    /// A server that keeps its state, at this address and with this configuration file.
    #[allow(dead_code, reason = "the torture starts its server itself")]
    pub fn persistent_on(site: &Site, address: IpAddr, config: &str) -> Self {
        let home = site.folder("server");
        std::fs::write(home.join("sleap-rtc.toml"), config).unwrap();
        Self::launch(home, (address, 0).into(), Kind::Persistent)
    }

    /// A server that forgets everything, and logs everything that it does.
    pub fn verbose(site: &Site) -> Self {
        let local = ([127, 0, 0, 1], 0).into();
        Self::launch_with(site.folder("server"), local, Kind::Forgetful, &["--log-level", "debug"])
    }

    /// A server that forgets everything, with limits on open files: the soft and the hard one.
    #[allow(dead_code, reason = "the torture has no use for it")]
    pub fn with_descriptors(site: &Site, soft: u32, hard: u32) -> Self {
        let home = site.folder("server");
        let server = Site::binary(&home, Path::new("/nonexistent"));
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$@\"");
        let mut command = super::process::with_program(&server, "sh");
        command.args(["-c", &script, "sh"]).arg(server.get_program());
        command.args(["signaling", "--ephemeral", "--listen", "127.0.0.1:0"]);
        let process = Process::start("signaling server", &mut command);
        Self::listening(process, home, Kind::Forgetful)
    }

    /// `tests/python/server.py`, which behaves like the Python server.
    pub fn old(site: &Site, arguments: &[&str]) -> Option<Self> {
        let process = python_program(site, "server.py", arguments)?;
        Some(Self::listening(process, site.path().to_owned(), Kind::Old))
    }

    fn launch(home: PathBuf, listen: SocketAddr, kind: Kind) -> Self {
        Self::launch_with(home, listen, kind, &[])
    }

    fn launch_with(home: PathBuf, listen: SocketAddr, kind: Kind, more: &[&str]) -> Self {
        let mut command = Site::binary(&home, Path::new("/nonexistent"));
        command.args(["signaling", "--listen", &listen.to_string()]).args(more);
        if kind == Kind::Forgetful {
            command.arg("--ephemeral");
        }
        Self::listening(Process::start("signaling server", &mut command), home, kind)
    }

    fn listening(mut process: Process, home: PathBuf, kind: Kind) -> Self {
        let address = process.wait_stdout("its `listening on` line", SOON, |text| {
            let (_, rest) = text.split_once("listening on http")?;
            let (_, rest) = rest.split_once("://")?;
            let (address, rest) = rest.split_once(" and ws")?;
            rest.contains('\n').then(|| address.parse().expect("an address"))
        });
        Self { process, home, address, kind }
    }

    /// Its address, for both HTTP and WebSocket.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its home folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Everything that it has logged and printed.
    pub fn transcript(&self) -> String {
        self.process.transcript()
    }

    /// Kills it, as in a crash.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to end, and returns the exit code.
    pub fn stop(&mut self) -> i32 {
        self.process.signal(Signal::TERM);
        self.process.wait(SOON)
    }

    /// Kills it and starts it again at the same address.
    pub fn restart(&mut self) {
        assert!(self.kind != Kind::Old, "the old server is not started again");
        self.kill();
        *self = Self::launch(self.home.clone(), self.address, self.kind);
    }
}
