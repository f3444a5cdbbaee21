//! Runs signaling server, worker and client as real processes on loopback.

use crate::old_system::OldSystem;
use crate::programs::{call, root, target};
use anyhow::{Context, Result, bail, ensure};
use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The limit for a server to listen or a worker to enter its room.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The limit for one job with real sleap-nn on a slow CPU.
const JOB_WITHIN: Duration = Duration::from_secs(600);
/// The time between asking a process to end and killing it.
const GRACE: Duration = Duration::from_secs(15);
const POLL_EVERY: Duration = Duration::from_millis(50);
/// A folder below `target/` for one server, one worker and their clients.
pub struct Loopback {
    pub folder: PathBuf,
    binary: PathBuf,
    path: OsString,
    system: Option<OldSystem>,
}

/// A signaling server.
pub struct Server {
    pub process: RunningProgram,
    http: String,
    websocket: String,
}

/// A worker in a room.
pub struct Worker {
    pub process: RunningProgram,
    room_id: String,
    token: String,
}

impl Loopback {
    /// Empties the folder and creates the small package in it. Uses the development build.
    pub fn new(name: &str, trainer: &Path) -> Result<Self> {
        Self::with(name, trainer, &target().join("debug/sleap-rtc"))
    }

    /// The same, with another build of the program.
    pub fn with(name: &str, trainer: &Path, program: &Path) -> Result<Self> {
        let folder = target().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&folder)?;
        // Absolute, because each process has a working folder of its own.
        let folder = folder.canonicalize()?;
        // Labels, a small model's config and a script, as SLEAP exports them.
        let zip = root().join("tests/fixtures/train_single.zip");
        let unpack = ["-m", "zipfile", "-e"];
        call(Command::new("python3").args(unpack).arg(zip).arg(folder.join("package")))?;
        let before = env::var_os("PATH").unwrap_or_default();
        let path = [trainer.to_owned()].into_iter().chain(env::split_paths(&before));
        let path = env::join_paths(path)?;
        Ok(Self { folder, binary: program.canonicalize()?, path, system: None })
    }

    /// The same, with all of them in another system.
    pub fn within(self, system: OldSystem) -> Self {
        Self { system: Some(system), ..self }
    }

    /// Changes lines of the package's training configuration.
    pub fn configure(&self, changes: &[(&str, &str)]) -> Result<()> {
        let config = self.folder.join("package/single_instance.yaml");
        let mut text = fs::read_to_string(&config).with_context(|| config.display().to_string())?;
        for (from, to) in changes {
            ensure!(text.contains(from), "{from:?} is not in {}", config.display());
            text = text.replace(from, to);
        }
        Ok(fs::write(config, text)?)
    }

    /// A command with a separate home, so that the user's files are neither read nor changed.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let home = self.folder.join(name);
        fs::create_dir_all(&home)?;
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(&home).env("HOME", &home).env("PATH", &self.path);
        for variable in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "SLEAP_RTC_ENV"] {
            command.env_remove(variable);
        }
        if let Some(system) = &self.system {
            command = system.command(&command);
        }
        command.stdin(Stdio::null());
        Ok(command)
    }

    pub fn start_server(&self) -> Result<Server> {
        let command = self.command("signaling", &["signaling", "--ephemeral"])?;
        let mut process =
            RunningProgram::start("signaling server", command, &["--listen", "127.0.0.1:0"])?;
        let line = process.wait_line("listening on ")?;
        let (http, websocket) = line.split_once(" and ").context("an odd `listening on` line")?;
        println!("signaling server: {http}");
        let (http, websocket) = (http.to_owned(), websocket.to_owned());
        Ok(Server { process, http, websocket })
    }

    pub fn start_worker(&self, server: &Server) -> Result<Worker> {
        let mut command = self.command("worker", &["worker", "--ice-server", "none"])?;
        server.addresses(&mut command);
        // The demo trains on the CPU, so it configures no GPU.
        let mut process = RunningProgram::start("worker", command, &[])?;
        let room_id = process.wait_line("Room ID:")?;
        let token = process.wait_line("Token:")?;
        println!("worker: in room {room_id}");
        Ok(Worker { process, room_id, token })
    }

    /// Runs a client to its end, and shows its output.
    pub fn client(
        &self,
        server: &Server,
        worker: &Worker,
        arguments: &[&str],
        complete: impl FnOnce(&mut Command),
    ) -> Result<()> {
        println!("\n$ sleap-rtc {} …", arguments[0]);
        let mut command = self.command("client", arguments)?;
        complete(&mut command);
        self.join(&mut command, server, worker);
        let mut child =
            RunningProgram { name: "client", child: command.spawn()?, log: PathBuf::new() };
        let status = child.wait(JOB_WITHIN)?;
        ensure!(
            status.success(),
            "{} ended with {status}; {}",
            arguments[0],
            worker.process.hint()
        );
        Ok(())
    }

    /// Adds the room to a client's command.
    pub fn join(&self, command: &mut Command, server: &Server, worker: &Worker) {
        server.addresses(command);
        command.args(["--ice-server", "none", "--auto-select", "--room-id", &worker.room_id]);
        command.env("SLEAP_RTC_TOKEN", &worker.token);
    }
}

impl Server {
    /// Where its pages are.
    pub fn http(&self) -> &str {
        &self.http
    }

    fn addresses(&self, command: &mut Command) {
        command.env("SLEAP_RTC_SIGNALING_HTTP", &self.http);
        command.env("SLEAP_RTC_SIGNALING_WS", &self.websocket);
    }
}

/// A process that ends when the value is dropped.
pub struct RunningProgram {
    name: &'static str,
    child: Child,
    /// The file with its stdout. Its stderr is in a file next to it.
    log: PathBuf,
}

impl RunningProgram {
    /// Starts `command`, with its output in files in its working folder.
    pub fn start(name: &'static str, mut command: Command, arguments: &[&str]) -> Result<Self> {
        let folder = command.get_current_dir().unwrap_or(Path::new(".")).to_owned();
        let log = folder.join("out.txt");
        command.args(arguments).stdout(File::create(&log)?);
        command.stderr(File::create(log.with_extension("err"))?);
        let child = command.spawn().with_context(|| format!("cannot start the {name}"))?;
        Ok(Self { name, child, log })
    }

    /// The end of its log, for a message.
    pub fn hint(&self) -> String {
        let errors = self.log.with_extension("err");
        let text = fs::read_to_string(&errors).unwrap_or_default();
        let skip = text.lines().count().saturating_sub(15);
        let last: Vec<&str> = text.lines().skip(skip).collect();
        format!("the {}'s log ({}) ends:\n{}", self.name, errors.display(), last.join("\n"))
    }

    /// Waits for a line on stdout that contains `label`, and returns the rest of the line.
    pub fn wait_line(&mut self, label: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait()?;
            let text = fs::read_to_string(&self.log)?;
            if let Some((line, _)) = text.split_once(label).and_then(|(_, r)| r.split_once('\n')) {
                return Ok(line.trim().to_owned());
            }
            if let Some(status) = ended {
                bail!("the {} ended with {status}; {}", self.name, self.hint());
            }
            if start.elapsed() > READY_WITHIN {
                bail!("the {} did not print {label:?}; {}", self.name, self.hint());
            }
            sleep(POLL_EVERY);
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("the {} did not end within {} s", self.name, limit.as_secs());
            }
            sleep(POLL_EVERY);
        }
    }

    /// Asks it to end, as Ctrl-C or a service manager would, and waits.
    pub fn stop(mut self) -> Result<()> {
        terminate(&self.child);
        let status = self.wait(GRACE).with_context(|| self.hint())?;
        ensure!(status.success(), "the {} ended with {status}; {}", self.name, self.hint());
        Ok(())
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            terminate(&self.child);
            if self.wait(GRACE).is_err() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

/// Sends SIGTERM. The standard library can only kill, and this crate depends on nothing but cargo.
fn terminate(child: &Child) {
    let pid = child.id().to_string();
    let _ = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status();
}

/// The folder of the only model below `output`.
pub fn model_below(output: &Path) -> Result<PathBuf> {
    let mut folders = vec![output.to_owned()];
    while let Some(folder) = folders.pop() {
        if is_filled(&folder.join("best.ckpt")) {
            return Ok(folder);
        }
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        folders.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    bail!("no model (best.ckpt) below {}", output.display())
}

pub fn is_filled(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
}
