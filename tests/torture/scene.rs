//! The scene of a round: a server, a worker and a client, each on a machine of its own if networks can
//! be created, and the disks that can be filled.

use crate::cluster::Cluster;
use crate::job::JobFolder;
use crate::plan::{Blow, Executor, Phase, Plan, Way};
use crate::program::Program;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_trust::session::JobString;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use support::disk::Disk;
use support::{
    Credentials, Machine, Network, Noise, Observer, SIGNATURE, SOON, Site, Zip, files_below,
    kill_all, labels_and_models, processes_in, stand_in, wait_for,
};

/// Large enough for faults to strike during the upload.
const LARGE_MIB: u64 = 48;
const SMALL_BYTES: u64 = 1 << 18;
/// Room for the package and the result, and little more.
const DISK_MIB: u64 = 160;
/// How long the slot of an interrupted upload is kept: longer than the short faults, and shorter
/// than the long ones.
const RESUME: &str = "10 s";
/// The length of the training, in epochs of two batches each.
pub const EPOCHS: u64 = 10;
const BATCH_S: &str = "0.12";
/// The length of the job before one that waits, in frames: long enough for the fault to strike before its end.
const FRAMES_BEFORE: &str = "240";

/// The rest of the configuration of a worker that hands its jobs to Slurm.
const SLURM: &str = "executor = \"slurm\"\nslots = 1\n\
    slurm = { ask_every = \"1 s\", gres = \"gpu:1\", lost_after = \"15 s\" }\n";

/// The programs of a round.
pub struct Scene {
    // Dropped in this order: programs before the disks and networks that they use.
    pub server: Program,
    pub worker: Program,
    /// On the worker's machine.
    cluster: Option<Cluster>,
    pub network: Option<Network>,
    pub worker_disk: Option<Disk>,
    pub client_disk: Option<Disk>,
    pub credentials: Credentials,
    address: SocketAddr,
    server_home: PathBuf,
    worker_home: PathBuf,
    pub package: PathBuf,
    /// Whether the client's job may wait for a slot.
    may_wait: bool,
    pub site: Site,
}

/// A client's machine: its home, its records of jobs, and the folder for its results.
pub struct ClientMachine {
    pub home: PathBuf,
    pub output: PathBuf,
    data: PathBuf,
}

impl Scene {
    /// Sets up the scene for `plan`. Everything runs and waits for a client.
    pub fn build(site: Site, plan: &Plan, networks: bool) -> Self {
        let network = networks.then(|| Network::new().expect("a network could be made before"));
        if let (Some(network), Way::Relayed) = (&network, plan.way) {
            network.block_udp().expect("nftables");
        }
        let package = package(&site, plan);
        let (server_home, worker_home) = (site.folder("server"), site.folder("worker"));
        let address =
            network.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), Network::server_address);
        let listen = SocketAddr::new(address, 0);
        let server = on(&network, Machine::Server, || start_server(&site, &server_home, listen));
        let address = wait_for("the server's address", SOON, || listening(&server.stdout()));
        let state = worker_home.join("state");
        let worker_disk =
            plan.fills_disk_of(Machine::Worker).then(|| Disk::mount(&state, DISK_MIB));
        let cluster = (plan.executor == Executor::Slurm)
            .then(|| on(&network, Machine::Worker, Cluster::start));
        let config = worker_config(&state, plan.executor);
        fs::write(worker_home.join("sleap-rtc.toml"), config).unwrap();
        let worker = start_worker(&site, &network, &cluster, &worker_home, address, plan);
        let credentials =
            wait_for("the worker's credentials", SOON, || Credentials::parse(&worker.stdout()));
        Self {
            server,
            worker,
            cluster,
            network,
            worker_disk,
            client_disk: None,
            credentials,
            address,
            server_home,
            worker_home,
            package,
            may_wait: plan.has(Phase::Waiting),
            site,
        }
    }

    /// Starts a job that takes the worker's only slot for a while, and waits until it runs. A Slurm is occupied
    /// without the worker, until [`Self::free_cluster`].
    pub fn occupy(&mut self, plan: &Plan) -> Option<Program> {
        if self.on_cluster(Cluster::occupy).is_some() {
            return None;
        }
        let machine = self.client_machine(plan);
        let client = self.track("job-before", &machine);
        wait_for("the job before", SOON, || {
            let known = self.known_jobs(&machine).pop()?;
            JobFolder::of(&self.jobs_dir(), &known.job).run_job()
        });
        Some(client)
    }

    fn on_cluster<T>(&self, work: impl FnOnce(&Cluster) -> T) -> Option<T> {
        let cluster = self.cluster.as_ref()?;
        Some(on(&self.network, Machine::Worker, || work(cluster)))
    }

    pub fn free_cluster(&self) {
        self.on_cluster(Cluster::free);
    }

    /// Whether the job waits where it will run: it is said to wait before Slurm has it.
    pub fn has_submitted(&self, job: &JobId) -> bool {
        self.on_cluster(|cluster| cluster.has(job)).unwrap_or(true)
    }

    pub fn strike_cluster(&self, blow: Blow, job: &JobId) {
        self.on_cluster(|cluster| cluster.strike(blow, job)).expect("the plan says so");
    }

    /// The states of the jobs that Slurm has.
    pub fn cluster_queue(&self) -> Option<String> {
        self.on_cluster(Cluster::queue)
    }

    pub fn jobs_dir(&self) -> PathBuf {
        self.worker_home.join("state/jobs")
    }

    /// Starts the server again, at the same address and with its state.
    pub fn restart_server(&mut self) {
        self.server.kill();
        let Self { site, server_home, address, .. } = self;
        self.server =
            on(&self.network, Machine::Server, || start_server(site, server_home, *address));
    }

    /// Starts the worker again.
    pub fn restart_worker(&mut self, plan: &Plan) {
        self.worker.kill();
        let Self { site, network, cluster, worker_home, address, .. } = self;
        self.worker = start_worker(site, network, cluster, worker_home, *address, plan);
    }

    /// Kills the worker and all processes of its jobs.
    pub fn kill_workers_machine(&mut self) {
        self.worker.kill();
        kill_all(&processes_in(&self.worker_home));
    }

    /// A new client_machine for a client, on a separate disk if a fault fills it.
    pub fn client_machine(&mut self, plan: &Plan) -> ClientMachine {
        let home = self.site.folder("client");
        let disk = home.join("disk");
        if plan.fills_disk_of(Machine::Client) && self.client_disk.is_none() {
            self.client_disk = Some(Disk::mount(&disk, DISK_MIB));
        }
        ClientMachine { output: disk.join("models"), data: disk.join("data"), home }
    }

    /// Starts a command of the client at `client_machine`.
    pub fn client(
        &self,
        name: &str,
        client_machine: &ClientMachine,
        arguments: &[&str],
    ) -> Program {
        let mut command = Site::binary(&client_machine.home, Path::new("/nonexistent"));
        command.args(&arguments[..1]).args(["--ice-server", "none"]).args(&arguments[1..]);
        command.env("XDG_DATA_HOME", &client_machine.data);
        reach(&mut command, self.address);
        on(&self.network, Machine::Client, || Program::start(name, self.site.path(), &mut command))
    }

    /// Starts `client-train` with the round's package.
    pub fn train(&self, name: &str, client_machine: &ClientMachine) -> Program {
        let (package, output) = (text(&self.package), text(&client_machine.output));
        let Credentials { room_id, token, .. } = &self.credentials;
        let mut arguments = vec![
            "client-train",
            "--log",
            "--pkg-path",
            package,
            "--output",
            output,
            "--room-id",
            room_id,
            "--token",
            token,
            "--auto-select",
            // A fault at 69 % of a transfer still finds it under way where the machine is busy.
            "--bwlimit",
            "12 MB/s",
        ];
        if self.may_wait {
            arguments.push("--wait");
        }
        self.client(name, client_machine, &arguments)
    }

    /// Starts a job of another kind, before or after the round's job.
    pub fn track(&self, name: &str, client_machine: &ClientMachine) -> Program {
        let (labels, models) = labels_and_models(&self.site);
        let predictions = client_machine.home.join("predictions.slp");
        let Credentials { room_id, token, .. } = &self.credentials;
        let arguments = [
            "client-track",
            "--data-path",
            text(&labels),
            "--model-paths",
            text(&models[0]),
            "--model-paths",
            text(&models[1]),
            "-o",
            text(&predictions),
            "--room-id",
            room_id,
            "--token",
            token,
            "--auto-select",
        ];
        self.client(name, client_machine, &arguments)
    }

    /// The jobs of which the client at `client_machine` has a record, the newest last.
    pub fn known_jobs(&self, client_machine: &ClientMachine) -> Vec<JobString> {
        let files = files_below(&client_machine.data);
        let mut records: Vec<_> =
            files.iter().filter_map(|file| record(&client_machine.data.join(file))).collect();
        records.sort_by_key(|(written, _)| *written);
        records.into_iter().map(|(_, known)| known).collect()
    }

    /// Removes everything, because the round has passed.
    pub fn forget(mut self) {
        self.site.keep(false);
    }

    /// Copies to the folder what would disappear with the disks.
    pub fn rescue(&self) {
        for (disk, name) in [(&self.worker_disk, "worker-disk"), (&self.client_disk, "client-disk")]
        {
            if let Some(disk) = disk {
                disk.rescue(&self.site.path().join(name));
            }
        }
    }

    /// Observes the room from the server's machine.
    pub fn observer(&self) -> Observer {
        let Credentials { room_id, token, .. } = &self.credentials;
        on(&self.network, Machine::Server, || Observer::join_at(self.address, room_id, token))
    }
}

/// When the record of a job was written, and its job string.
fn record(file: &Path) -> Option<(SystemTime, JobString)> {
    // A client that was killed may have left one that is not in its place yet.
    file.extension().filter(|ending| *ending == "json")?;
    let written = fs::metadata(file).and_then(|meta| meta.modified()).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    Some((written, record["string"].as_str()?.parse().ok()?))
}

fn on<T>(network: &Option<Network>, machine: Machine, work: impl FnOnce() -> T) -> T {
    match network {
        Some(network) => network.on(machine, work),
        None => work(),
    }
}

fn start_server(site: &Site, home: &Path, listen: SocketAddr) -> Program {
    let mut command = Site::binary(home, Path::new("/nonexistent"));
    command.args(["signaling", "--listen", &listen.to_string()]);
    Program::start("server", site.path(), &mut command)
}

fn listening(said: &str) -> Option<SocketAddr> {
    let (_, rest) = said.split_once("listening on http://")?;
    let (address, _) = rest.split_once(" and ws://")?;
    Some(address.parse().expect("an address"))
}

fn start_worker(
    site: &Site,
    network: &Option<Network>,
    cluster: &Option<Cluster>,
    home: &Path,
    server: SocketAddr,
    plan: &Plan,
) -> Program {
    let mut command = Site::binary(home, &stand_in());
    let epochs = EPOCHS.to_string();
    command.args(["worker", "--ice-server", "none"]);
    if plan.way == Way::Webrtc {
        command.args(["--transport", "webrtc"]);
    }
    command.envs([("FAKE_SLEAP_EPOCHS", epochs.as_str()), ("FAKE_SLEAP_BATCH_S", BATCH_S)]);
    command.envs(cluster.as_ref().map(|cluster| ("SLURM_CONF", cluster.conf())));
    if plan.has(Phase::Waiting) {
        // The job before.
        command.env("FAKE_SLEAP_FRAMES", FRAMES_BEFORE);
    }
    if plan.has(Phase::Download) {
        command.env("FAKE_SLEAP_CKPT_MIB", LARGE_MIB.to_string());
    }
    reach(&mut command, server);
    on(network, Machine::Worker, || Program::start("worker", site.path(), &mut command))
}

fn worker_config(state: &Path, executor: Executor) -> String {
    let executor = match executor {
        Executor::Machine => "",
        Executor::Slurm => SLURM,
    };
    format!(
        "[worker]\nstate_dir = \"{}\"\npass_env = [\"FAKE_SLEAP_*\"]\nresume_within = \"{RESUME}\"\n\
         gpus = [{{ model = \"Test GPU\", memory_mib = 16000 }}]\n{executor}",
        state.display()
    )
}

/// Configures the address of the server.
fn reach(command: &mut Command, server: SocketAddr) {
    command
        .env("SLEAP_RTC_SIGNALING_WS", format!("ws://{server}"))
        .env("SLEAP_RTC_SIGNALING_HTTP", format!("http://{server}"))
        .env("SLEAP_RTC_LOG", "info");
}

/// A training package of noise that no other round has.
fn package(site: &Site, plan: &Plan) -> PathBuf {
    let bytes = if plan.has(Phase::Upload) { LARGE_MIB << 20 } else { SMALL_BYTES };
    let noise = SIGNATURE.chain(Noise(1 + (plan.seed << 32 ^ plan.round)));
    let zip = Zip::new(site, "labels.pkg.zip").fixture("train_single.zip", "", &["one.pkg.slp"]);
    zip.stream("one.pkg.slp", noise, bytes, false).finish()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}
