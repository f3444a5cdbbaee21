//! A worker of the real binary, with the stand-in trainer.

use crate::process::{Process, memory_peak_mib};
use crate::{A_WHILE, SOON, Site, TestServer, stand_in, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::session::SessionString;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// How to join a worker, as it printed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub session_string: String,
    pub room_id: String,
    pub token: String,
    /// What another worker joins with.
    pub worker_token: String,
    /// Taken from the session string.
    pub peer_id: String,
}

impl Credentials {
    /// Parses the block that a worker prints. `None` while it is incomplete.
    pub fn parse(text: &str) -> Option<Self> {
        let after = |label: &str| {
            let (_, rest) = text.split_once(label)?;
            let (value, _) = rest.split_once('\n')?;
            Some(value.trim().to_owned())
        };
        let session_string = format!("sleap-session:{}", after("sleap-session:")?);
        let session: SessionString = session_string.parse().expect("a session string");
        let (room_id, token) = (after("Room ID:")?, after("Token:")?);
        if session.room.peer().is_some() {
            after("Python token:")?;
        }
        let worker_token = match after("For another worker of this room: the token in ") {
            Some(file) => fs::read_to_string(file).ok()?.trim().to_owned(),
            None => token.clone(),
        };
        assert_eq!(session.room.room_id.as_str(), room_id, "session string and room differ");
        let peer_id = session.worker.to_string();
        Some(Self { session_string, room_id, token, worker_token, peer_id })
    }

    /// The part of the token that the signaling server sees: all that Python programs have.
    pub fn server_token(&self) -> &str {
        self.token.split_once('.').map_or(&self.token, |(server, _)| server)
    }

    /// The same room as a Python program, or an older one of ours, knows it.
    pub fn keyless(&self) -> Self {
        let session: SessionString = self.session_string.parse().expect("a session string");
        let room = Credential::keyless(session.room.for_server());
        let session_string = SessionString { room, device: None, ..session }.to_string();
        let token = self.server_token().to_owned();
        Self { session_string, worker_token: token.clone(), token, ..self.clone() }
    }
}

/// The settings of a worker to start.
pub struct WorkerSetup {
    home: PathBuf,
    path: PathBuf,
    config: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    given_ice_servers: bool,
    wrapper: Vec<String>,
}

impl WorkerSetup {
    /// Configures one GPU with this much memory. 0 means no GPU.
    pub fn gpu_mib(self, memory_mib: u64) -> Self {
        match memory_mib {
            0 => self.gpus_mib(&[]),
            _ => self.gpus_mib(&[memory_mib]),
        }
    }

    /// Configures these GPUs.
    pub fn gpus_mib(mut self, gpus: &[u64]) -> Self {
        let gpu = |mib| format!("{{ model = \"Test GPU {mib}\", memory_mib = {mib} }}");
        let gpus: Vec<String> = gpus.iter().map(gpu).collect();
        self.write_config(&format!("gpus = [{}]\n", gpus.join(", ")));
        self
    }

    /// Lets the worker detect GPUs.
    pub fn detect_gpus(mut self) -> Self {
        self.write_config("");
        self
    }

    /// Adds lines to the `[worker]` section.
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self
    }

    fn write_config(&mut self, gpus: &str) {
        self.config = format!(
            "[worker]\nstate_dir = \"{}\"\npass_env = [\"FAKE_SLEAP_*\"]\nsandbox_write = [\"{}\"]\n{gpus}",
            self.home.join("state").display(),
            trainer_log(&self.home).parent().unwrap().display(),
        );
    }

    /// Its home folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Joins the room of another worker, as its equal.
    pub fn join(self, other: &Credentials) -> Self {
        self.arguments(&["--room-id", &other.room_id, "--token", &other.worker_token])
    }

    /// Adds arguments.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&a| a.to_owned()));
        self
    }

    /// Sets an environment variable, for instance one that controls the stand-in trainer.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Uses the ICE servers that the signaling server gives, instead of none.
    pub fn given_ice_servers(mut self) -> Self {
        self.given_ice_servers = true;
        self
    }

    /// Starts it through another program.
    #[allow(dead_code, reason = "the torture's workers are started directly")]
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Searches this folder for trainers instead of the stand-in's.
    pub fn trainers_in(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.path);
        self
    }

    /// Starts it as its own signaling server, which listens at this address, and waits until it has
    /// printed its credentials.
    pub fn serve(mut self, listen: SocketAddr) -> TestWorker {
        self.arguments = vec!["--serve".to_owned()];
        let (worker, _) = self.config.split_once("[signaling]").unwrap_or((&self.config, ""));
        self.config = format!("{worker}[signaling]\nlisten = [\"{listen}\"]\n");
        self.start_at(([127, 0, 0, 1], 1).into())
    }

    /// Starts it and waits until it has printed its credentials.
    pub fn start(self, server: &TestServer) -> TestWorker {
        self.start_at(server.address())
    }

    /// The same, with the server at this address.
    pub fn start_at(self, server: SocketAddr) -> TestWorker {
        TestWorker::launch(self, server)
    }
}

/// In a separate folder, which jobs may change.
fn trainer_log(home: &Path) -> PathBuf {
    home.join("trainer/log")
}

/// A running `sleap-rtc worker`.
pub struct TestWorker {
    process: Process,
    setup: WorkerSetup,
    server: SocketAddr,
    credentials: Credentials,
}

impl TestWorker {
    /// A worker to start, with one GPU of 16,000 MiB.
    pub fn setup(site: &Site, name: &str) -> WorkerSetup {
        let setup = WorkerSetup {
            home: site.folder(name),
            path: stand_in(),
            config: String::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            given_ice_servers: false,
            wrapper: Vec::new(),
        };
        setup.gpu_mib(16_000)
    }

    fn launch(setup: WorkerSetup, server: SocketAddr) -> Self {
        fs::write(setup.home.join("sleap-rtc.toml"), &setup.config).unwrap();
        fs::create_dir_all(trainer_log(&setup.home).parent().unwrap()).unwrap();
        let mut command = Site::binary(&setup.home, &setup.path);
        command
            .arg("worker")
            .args(if setup.given_ice_servers { &[][..] } else { &["--ice-server", "none"] })
            .args(&setup.arguments)
            .env("SLEAP_RTC_SIGNALING_WS", format!("ws://{server}"))
            .env("SLEAP_RTC_SIGNALING_HTTP", format!("http://{server}"))
            .env("FAKE_SLEAP_LOG", trainer_log(&setup.home))
            .envs(setup.environment.iter().map(|(name, value)| (name, value)));
        let mut command = super::under(&setup.wrapper, command);
        let mut process = Process::start("worker", &mut command);
        let credentials = process.wait_stdout("its credentials", SOON, Credentials::parse);
        Self { process, setup, server, credentials }
    }

    /// The worker when it has found its trainer. Until then it answers late, and a client may prefer another
    /// one.
    #[track_caller]
    pub fn ready(self) -> Self {
        wait_for("the trainer", SOON, || self.log().contains("sleap-nn found").then_some(()));
        self
    }

    /// Two workers in a room, ready: the second has the larger GPU. The stand-in trains `batch_s` seconds per
    /// batch.
    #[track_caller]
    pub fn small_and_large(site: &Site, server: &TestServer, batch_s: f64) -> (Self, Self) {
        let setup = |name, mib| {
            let setup = Self::setup(site, name).gpu_mib(mib);
            setup.env("FAKE_SLEAP_BATCH_S", &batch_s.to_string())
        };
        let small = setup("small", 8_000).start(server).ready();
        let large = setup("large", 24_000).join(small.credentials()).start(server).ready();
        (small, large)
    }

    /// The address of the signaling server that this worker serves.
    pub fn served_at(&self) -> SocketAddr {
        let printed = self.stdout();
        let (_, rest) = printed.split_once("--signaling ws://").expect("the address of the server");
        rest.split_whitespace().next().unwrap().parse().expect("an address")
    }

    /// The addresses that it has printed for others, as options.
    pub fn served_options(&self) -> Vec<String> {
        let printed = self.stdout();
        let options = printed.split("--signaling ").skip(1);
        options.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned).collect()
    }

    /// The link to the page that it has printed.
    #[track_caller]
    pub fn page_link(&self) -> String {
        let printed = self.stdout();
        let link = printed.lines().map(str::trim).find(|line| line.contains("/app/#"));
        link.expect("a link to the page").to_owned()
    }

    /// The credentials that the worker printed.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The credentials that it has printed last, if they are others than `known`.
    pub fn newest_credentials(&self, known: &Credentials) -> Option<Credentials> {
        let printed = self.stdout();
        let (_, last) = printed.rsplit_once("Session string (for")?;
        Credentials::parse(last).filter(|credentials| credentials.token != known.token)
    }

    /// The address of its signaling server.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    pub fn peer_id(&self) -> &str {
        &self.credentials.peer_id
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn home(&self) -> &Path {
        &self.setup.home
    }

    pub fn state_dir(&self) -> PathBuf {
        self.setup.home.join("state")
    }

    /// Everything that it printed for the user.
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// Everything that it logged.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Its peak memory in MiB.
    pub fn memory_peak_mib(&self) -> f64 {
        memory_peak_mib(self.pid()).expect("the worker runs")
    }

    /// The file in which the stand-in trainer records its starts.
    pub fn trainer_log(&self) -> PathBuf {
        trainer_log(&self.setup.home)
    }

    /// One entry `{argv, cwd, name, env, cuda}` for each start of the stand-in trainer, except for
    /// questions about its version and help.
    pub fn trainer_starts(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.trainer_log()).unwrap_or_default();
        let starts = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let asks = |word: &Value| word == "--version" || word == "--help";
        starts.filter(|start| !start["argv"].as_array().unwrap().iter().any(asks)).collect()
    }

    /// Waits until the room shows it as available and no process of a job remains.
    #[track_caller]
    pub fn wait_idle(&self, site: &Site, server: &TestServer) {
        let mut observer = crate::Observer::join(server, &self.credentials);
        observer.wait_status(self.peer_id(), "available", SOON);
        site.assert_only_processes(&[server.pid(), self.pid()]);
    }

    /// The same where these workers of the room run too.
    #[track_caller]
    pub fn wait_idle_of(&self, site: &Site, server: &TestServer, workers: &[&Self]) {
        let mut observer = crate::Observer::join(server, &self.credentials);
        observer.wait_status(self.peer_id(), "available", SOON);
        let mut known: Vec<u32> = workers.iter().map(|worker| worker.pid()).collect();
        known.push(server.pid());
        site.assert_only_processes(&known);
    }

    /// The content of each job's `job.json`, by id.
    pub fn jobs(&self) -> Vec<Value> {
        let folders = fs::read_dir(self.state_dir().join("jobs")).into_iter().flatten().flatten();
        let read = |folder: fs::DirEntry| fs::read(folder.path().join("job.json")).ok();
        folders.filter_map(|f| serde_json::from_slice(&read(f)?).ok()).collect()
    }

    /// Asks it to end, and returns the exit code.
    pub fn stop(&mut self) -> i32 {
        self.process.signal(Signal::TERM);
        self.process.wait(SOON)
    }

    /// Sends `signal` to the worker, but not to its group.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end, and returns the exit code.
    pub fn wait(&mut self) -> i32 {
        self.process.wait(A_WHILE)
    }

    /// Kills it, as in a crash.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after it was killed, with these lines added to its `[worker]` section.
    pub fn start_again(mut self, config: &str) -> Self {
        self.process.kill();
        let Self { mut setup, server, .. } = self;
        setup.config.push_str(config);
        Self::launch(setup, server)
    }

    /// Starts it again after it was killed, with `from` replaced in its configuration.
    pub fn with_config(mut self, from: &str, to: &str) -> Self {
        self.process.kill();
        let Self { mut setup, server, .. } = self;
        setup.config = setup.config.replace(from, to);
        Self::launch(setup, server)
    }

    /// Stops it and starts it again, with the same home and state, at another server.
    pub fn move_to(mut self, server: &TestServer) -> Self {
        self.stop();
        WorkerSetup { arguments: Vec::new(), ..self.setup }.start(server)
    }

    /// Stops it and starts it again, with the same home and state, as its own server at this address.
    pub fn move_home(mut self, listen: SocketAddr) -> Self {
        self.stop();
        self.setup.serve(listen)
    }

    /// Stops it and starts it again with the same home and state, and these arguments.
    pub fn restart(mut self, arguments: &[&str]) -> Self {
        self.stop();
        let Self { setup, server, .. } = self;
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        Self::launch(WorkerSetup { arguments, ..setup }, server)
    }
}
