//! Our own programs as users run them: a signaling server, a worker and a client, with the stand-in
//! trainer. What a transfer took is what the client itself says in its log.

use super::files::{Payload, root};
use super::meter::{Cost, Meter, Scope};
use super::place::{Place, Side};
use super::running::{Deadline, RunningProgram};
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What a job's result is called where there is one job.
pub const RESULT: &str = "result";
/// For everything that takes a moment.
const SOON: Duration = Duration::from_secs(30);
/// The trainer does nothing for longer than it must.
const QUICK: [(&str, &str); 5] = [
    ("FAKE_SLEAP_START_S", "0.001"),
    ("FAKE_SLEAP_BATCH_S", "0.001"),
    ("FAKE_SLEAP_STEPS", "1"),
    ("FAKE_SLEAP_EPOCHS", "1"),
    ("FAKE_SLEAP_FRAMES", "1"),
];

/// How client and worker are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Over iroh.
    Direct,
    /// Over iroh, through the server's relay: where UDP is blocked.
    Relayed,
    /// Over WebRTC.
    Webrtc,
}

impl Way {
    fn arguments(self) -> [&'static str; 2] {
        let transport = if self == Self::Webrtc { "webrtc" } else { "iroh" };
        ["--transport", transport]
    }
}

/// A signaling server and a worker that has never seen a job, in a folder of their own.
pub struct Site<'a> {
    place: &'a Place,
    folder: tempfile::TempDir,
    way: Way,
    server: String,
    session: String,
    worker: Meter,
    _processes: [RunningProgram; 2],
}

/// One direction of one job.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    pub took: Duration,
    pub bytes: u64,
    pub already_there_bytes: u64,
    pub send: Cost,
    pub receive: Cost,
    /// Bytes on the wire, both ways, where they can be counted.
    pub wire_bytes: Option<u64>,
}

/// One job.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// From the start of the client to its offer: it reads and hashes the package meanwhile.
    pub prepare: Duration,
    /// From the offer to the open channel.
    pub connect: Duration,
    pub upload: Transfer,
    pub download: Transfer,
}

/// A line of the client's log about a connection or a transfer.
#[derive(Deserialize)]
pub struct Logged {
    message: String,
    took_ms: f64,
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    already_there_bytes: u64,
}

impl<'a> Site<'a> {
    /// Starts both below `folder`.
    pub fn start(place: &'a Place, folder: &Path, way: Way) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("site-").tempdir_in(folder)?;
        home(folder.path(), "client")?;
        let deadline = Deadline::after(SOON);
        let listen = format!("{}:0", place.address(Side::Right));
        let mut server = program(&home(folder.path(), "server")?)?;
        server.args(["signaling", "--ephemeral", "--listen", &listen]);
        let mut server = RunningProgram::start("signaling server", server, place, Side::Right)?;
        let address = server.line("its address", deadline, |line| {
            let (address, _) = line.strip_prefix("listening on http://")?.split_once(' ')?;
            Some(address.to_owned())
        })?;
        let home = home(folder.path(), "worker")?;
        let gpu = "{ model = \"Bench GPU\", memory_mib = 16000 }";
        let state = home.join("state");
        let config = format!(
            "[worker]\nstate_dir = {state:?}\npass_env = [\"FAKE_SLEAP_*\"]\ngpus = [{gpu}]\n"
        );
        fs::write(home.join("sleap-rtc.toml"), config)?;
        let mut worker = program(&home)?;
        worker.args(["worker", "--ice-server", "none"]).args(way.arguments()).envs(QUICK);
        let mut worker = RunningProgram::start("worker", at(worker, &address), place, Side::Right)?;
        let session = worker.line("session string", deadline, |line| {
            let start = line.find("sleap-session:")?;
            Some(line[start..].trim().to_owned())
        })?;
        let meter = Meter::start(worker.pid(), Scope::Process);
        Ok(Self {
            place,
            folder,
            way,
            server: address,
            session,
            worker: meter,
            _processes: [server, worker],
        })
    }

    /// Where the worker keeps its jobs.
    pub fn worker_jobs(&self) -> PathBuf {
        self.folder.path().join("worker/state/jobs")
    }

    /// Starts the client, always the same user's, that tracks one file, or trains with a package;
    /// its result gets this name.
    pub fn client(
        &self,
        payload: &Path,
        models: Option<&Path>,
        result: &str,
    ) -> Result<RunningProgram> {
        let home = self.folder.path().join("client");
        let mut client = program(&home)?;
        match models {
            Some(models) => {
                client.args(["client-track", "--data-path"]).arg(payload).arg("--model-paths");
                client.args(["centroid", "centered_instance"].map(|name| models.join(name)));
                client.arg("-o").arg(home.join(format!("{result}.slp")));
            }
            None => {
                client.args(["client-train", "--pkg-path"]).arg(payload);
                client.arg("--output").arg(home.join(result));
            }
        }
        client.args(["--session-string", &self.session, "--ice-server", "none"]);
        client.args(self.way.arguments());
        client.args(["--log-format", "json", "--log-level", "debug"]);
        RunningProgram::start("client", at(client, &self.server), self.place, Side::Left)
    }

    /// Runs one job to its end.
    pub fn job(&mut self, payload: &Payload, deadline: Deadline) -> Result<Job> {
        let is_one = payload.path.is_file();
        self.job_of(&payload.path, is_one.then_some(&payload.models), RESULT, deadline)
    }

    /// Runs one job to its end.
    pub fn job_of(
        &mut self,
        payload: &Path,
        models: Option<&PathBuf>,
        result: &str,
        deadline: Deadline,
    ) -> Result<Job> {
        let start = Instant::now();
        self.worker.lap();
        let mut running = self.client(payload, models.map(PathBuf::as_path), result)?;
        let mut client = Meter::start(running.pid(), Scope::Process);
        let connect = logged(&mut running, "the connection is open", deadline)?.took();
        let prepare = start.elapsed().saturating_sub(connect);
        let wire = self.place.wire_bytes();
        let sent = logged(&mut running, "the worker has the package", deadline)?;
        let wired = self.place.wire_bytes();
        let upload = sent.transfer(client.lap(), self.worker.lap(), wired.zip(wire));
        let received = logged(&mut running, "the result has arrived", deadline)?;
        let wire = self.place.wire_bytes().zip(wired);
        let download = received.transfer(self.worker.lap(), client.lap(), wire);
        running.end(deadline)?;
        Ok(Job { prepare, connect, upload, download })
    }
}

impl Logged {
    pub fn took(&self) -> Duration {
        Duration::from_secs_f64(self.took_ms / 1e3)
    }

    fn transfer(&self, send: Cost, receive: Cost, wire: Option<(u64, u64)>) -> Transfer {
        Transfer {
            took: self.took(),
            bytes: self.bytes,
            already_there_bytes: self.already_there_bytes,
            send,
            receive,
            wire_bytes: wire.map(|(after, before)| after - before),
        }
    }
}

/// The client's next line with this message.
pub fn logged(client: &mut RunningProgram, message: &str, deadline: Deadline) -> Result<Logged> {
    client.line(&format!("line {message:?}"), deadline, |line| {
        let logged: Logged = serde_json::from_str(line).ok()?;
        (logged.message == message).then_some(logged)
    })
}

fn home(folder: &Path, name: &str) -> Result<PathBuf> {
    let home = folder.join(name);
    fs::create_dir(&home)?;
    Ok(home)
}

fn at(mut command: Command, server: &str) -> Command {
    command.env("SLEAP_RTC_SIGNALING_WS", format!("ws://{server}"));
    command.env("SLEAP_RTC_SIGNALING_HTTP", format!("http://{server}"));
    command
}

/// The program beside this one, with nothing of this process's environment.
fn program(home: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?.with_file_name("sleap-rtc"));
    let trainer = root().join("tests/stand-in");
    let python = support::python().parent().context("python3 has no folder")?.display();
    let path = format!("{}:{python}:/usr/local/bin:/usr/bin:/bin", trainer.display());
    command.env_clear().env("HOME", home).env("PATH", path).env("LANG", "C.UTF-8");
    command.current_dir(home);
    Ok(command)
}
