//! A Slurm of its own for a test: its controller and its nodes, all on this machine and of this user.
//!
//! Everything is in one folder: key, sockets, state and logs. Nothing in /etc or /var is used, so that it needs
//! no rights and several can run at once.

use crate::process::{Found, kill_all, processes_in};
use crate::{SOON, Site, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const MUNGED: &str = "/usr/sbin/munged";
const SLURMCTLD: &str = "/usr/sbin/slurmctld";
const SLURMD: &str = "/usr/sbin/slurmd";
/// Devices that stand in for GPUs. Slurm wants a different character device for each.
const DEVICES: [&str; 2] = ["/dev/zero", "/dev/full"];

/// A folder that this process and the nodes of a [`TestSlurm`] see through two mounts. They show the same
/// files, and share neither locks nor sockets, like two machines.
pub struct TwoMounts {
    content: PathBuf,
    path: PathBuf,
}

/// Mounts the first argument at the second one, in view of the program that follows alone.
const IN_ANOTHER_VIEW: &str = r#"umount -l "$1" && bindfs "$0" "$1" && shift && exec "$@""#;

impl TwoMounts {
    /// Mounts an empty folder at `path`. `None`, with the reason on stderr, where that is not possible.
    pub fn at(site: &Site, path: &Path) -> Option<Self> {
        let mounts = Self { content: site.folder("content"), path: path.to_owned() };
        let mounted = Command::new("bindfs").arg(&mounts.content).arg(path).status();
        match mounted.is_ok_and(|status| status.success()) {
            true => Some(mounts),
            false => {
                eprintln!("skipped: two mounts of a folder need root, FUSE and Debian's bindfs");
                None
            }
        }
    }

    /// The same program, with a mount of its own.
    fn elsewhere(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", IN_ANOTHER_VIEW]);
        command.arg(&self.content).arg(&self.path).arg(program);
        command
    }
}

impl Drop for TwoMounts {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// A running Slurm. Dropping it ends its daemons and everything that they have started.
pub struct TestSlurm {
    folder: PathBuf,
    nodes: usize,
    mounts: Option<TwoMounts>,
}

impl TestSlurm {
    /// Starts a Slurm with this many nodes, of four processors and two GPUs each. `None`, with the reason on
    /// stderr, where Slurm is not installed.
    pub fn start(site: &Site, nodes: usize) -> Option<Self> {
        Self::start_with(site, nodes, None)
    }

    /// The same, with nodes that see a folder through another mount.
    pub fn start_with(site: &Site, nodes: usize, mounts: Option<TwoMounts>) -> Option<Self> {
        if let Some(missing) =
            [MUNGED, SLURMCTLD, SLURMD].iter().find(|path| !Path::new(path).exists())
        {
            eprintln!(
                "skipped: {missing} is missing; `cargo xtask test` installs Slurm where it may"
            );
            return None;
        }
        let slurm = Self { folder: site.folder("slurm"), nodes, mounts };
        slurm.configure();
        slurm.start_munge();
        slurm.start_controller();
        (1..=nodes).for_each(|node| slurm.start_node(node));
        let idle = ["--noheader", "--Node", "--states=idle", "--format=%N", "--partition=main"];
        wait_for("idle nodes", SOON, || {
            (slurm.ask("sinfo", &idle).lines().count() == nodes).then_some(())
        });
        Some(slurm)
    }

    /// The configuration, for `SLURM_CONF`.
    pub fn conf(&self) -> PathBuf {
        self.folder.join("slurm.conf")
    }

    /// What a program of Slurm prints.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.call(program, arguments).stdout).into_owned()
    }

    fn call(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).env("SLURM_CONF", self.conf());
        command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// The states of all jobs that are not over.
    pub fn queue(&self) -> String {
        self.ask("squeue", &["--noheader", "--format=%T %r"])
    }

    /// Takes all processors of all nodes until [`Self::free`].
    pub fn occupy(&self) {
        for _ in 0..self.nodes {
            let blocker = ["--job-name=blocker", "--cpus-per-task=4", "--wrap=sleep 600"];
            let output = self.call("sbatch", &[&blocker[..], &["--output=/dev/null"]].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        wait_for("busy nodes", SOON, || {
            let running = self.ask("squeue", &["--noheader", "--name=blocker", "--states=R"]);
            (running.lines().count() == self.nodes).then_some(())
        });
    }

    /// Frees what [`Self::occupy`] has taken.
    pub fn free(&self) {
        self.call("scancel", &["--name=blocker"]);
    }

    /// Waits until no job is left.
    #[track_caller]
    pub fn wait_empty(&self) {
        wait_for("an empty queue", SOON, || self.queue().is_empty().then_some(()));
    }

    /// Starts the controller, with the state that it has saved.
    pub fn start_controller(&self) {
        self.daemon(SLURMCTLD, &[]);
        wait_for("the controller", SOON, || {
            self.ask("scontrol", &["ping"]).contains("UP").then_some(())
        });
    }

    /// Kills the controller, as in a crash.
    pub fn kill_controller(&self) {
        self.kill("slurmctld");
    }

    /// Starts a node, counted from 1.
    pub fn start_node(&self, node: usize) {
        self.daemon(SLURMD, &["-N", &format!("node{node}")]);
    }

    /// Kills the daemon of a node. The node's jobs live on.
    pub fn kill_node_daemon(&self, node: usize) {
        self.kill(&format!("node{node}"));
    }

    /// Kills a node and all jobs, as in a loss of power.
    pub fn kill_node(&self, node: usize) {
        self.kill_node_daemon(node);
        let mut steps = processes_in(&self.folder);
        steps.retain(|process| process.command.contains("slurmstepd"));
        kill_tree(steps);
    }

    fn kill(&self, daemon: &str) {
        let file = self.folder.join("run").join(format!("{daemon}.pid"));
        let Ok(text) = fs::read_to_string(&file) else { return };
        let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return };
        let _ = kill_process(pid, Signal::KILL);
        let status = format!("/proc/{pid}/status");
        wait_for("the end of a daemon", SOON, || {
            let status = fs::read_to_string(&status).unwrap_or_default();
            let lives =
                status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'));
            (!lives).then_some(())
        });
        let _ = fs::remove_file(file);
    }

    fn daemon(&self, program: &str, arguments: &[&str]) {
        let mut command = match &self.mounts {
            Some(mounts) if program == SLURMD => mounts.elsewhere(program),
            _ => Command::new(program),
        };
        command.arg("-f").arg(self.conf()).args(arguments).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().unwrap_or_else(|error| panic!("{program}: {error}"));
        let log = self.folder.display();
        assert!(status.success(), "{program} ended with {status}; its log is in {log}");
    }

    fn start_munge(&self) {
        let at = |name: &str| self.folder.join(name);
        let mut command = Command::new(MUNGED);
        command.args(["--force", "--num-threads=2"]).current_dir(&self.folder);
        for (option, file) in [
            ("--socket", "run/munge.socket"),
            ("--key-file", "munge/key"),
            ("--pid-file", "run/munged.pid"),
            ("--seed-file", "munge/seed"),
            ("--log-file", "munge/log"),
        ] {
            command.arg(option).arg(at(file));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().unwrap();
        assert!(status.success(), "munged ended with {status}");
        wait_for("munge", SOON, || at("run/munge.socket").exists().then_some(()));
    }

    fn configure(&self) {
        for (name, mode) in [("munge", 0o700), ("state", 0o700), ("spool", 0o700), ("run", 0o755)] {
            let folder = self.folder.join(name);
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
        }
        // Munge's socket must be in a folder that others can enter.
        fs::set_permissions(&self.folder, Permissions::from_mode(0o755)).unwrap();
        for node in 1..=self.nodes {
            fs::create_dir(self.folder.join(format!("spool/node{node}"))).unwrap();
        }
        let key = self.folder.join("munge/key");
        fs::write(&key, random_bytes()).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let gpus = DEVICES
            .map(|device| format!("NodeName=node[1-{}] Name=gpu File={device}\n", self.nodes));
        fs::write(self.folder.join("gres.conf"), gpus.concat()).unwrap();
        fs::write(self.conf(), self.settings()).unwrap();
    }

    fn settings(&self) -> String {
        let (folder, nodes) = (self.folder.display(), self.nodes);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let user =
            String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let user = user.trim();
        let mut text = format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser={user}\nSlurmdUser={user}\n\
             AuthType=auth/munge\nAuthInfo=socket={folder}/run/munge.socket\nCredType=cred/munge\n\
             SlurmctldPort={}\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
             JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n\
             MailProg=/bin/true\nStateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool/%n\n\
             SlurmctldPidFile={folder}/run/slurmctld.pid\nSlurmdPidFile={folder}/run/%n.pid\n\
             SlurmctldLogFile={folder}/slurmctld.log\nSlurmdLogFile={folder}/%n.log\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nGresTypes=gpu\n\
             SlurmdParameters=config_overrides\nReturnToService=2\nSchedulerType=sched/backfill\n\
             SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0\nMinJobAge=30\n\
             InactiveLimit=0\nKillWait=5\nOverTimeLimit=0\nSlurmctldTimeout=10\nSlurmdTimeout=10\n\
             MessageTimeout=5\nBatchStartTimeout=10\n",
            free_port()
        );
        for node in 1..=nodes {
            text += &format!(
                "NodeName=node{node} NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs=4 RealMemory=1000 \
                 Gres=gpu:{} State=UNKNOWN\n",
                free_port(),
                DEVICES.len()
            );
        }
        text + &format!(
            "PartitionName=main Nodes=node[1-{nodes}] Default=YES MaxTime=INFINITE DefaultTime=10 State=UP\n\
             PartitionName=short Nodes=node[1-{nodes}] MaxTime=2 State=UP\n"
        )
    }
}

impl Drop for TestSlurm {
    fn drop(&mut self) {
        // The controller first, so that nothing new starts.
        self.kill("slurmctld");
        (1..=self.nodes).for_each(|node| self.kill(&format!("node{node}")));
        kill_tree(processes_in(&self.folder));
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.join("slurmctld.log")).unwrap_or_default();
            eprintln!("--- slurmctld.log\n{log}");
        }
    }
}

/// Kills these processes and their descendants: a step forgets its environment, and its job has another folder.
fn kill_tree(mut found: Vec<Found>) {
    let entries = || fs::read_dir("/proc").unwrap().flatten();
    let mut seen = 0;
    while seen < found.len() {
        let parent = found[seen].pid;
        seen += 1;
        for pid in entries().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
            let is_child = after.split_whitespace().nth(1) == Some(&parent.to_string());
            if is_child && found.iter().all(|other| other.pid != pid) {
                found.push(Found { pid, command: String::new() });
            }
        }
    }
    kill_all(&found);
}

/// A port that the kernel gives to no connection, so that it stays free while its daemon is killed and started
/// again.
fn free_port() -> u16 {
    let random = || u16::from_le_bytes(*random_bytes().first_chunk().expect("many bytes"));
    let mut below_all = std::iter::repeat_with(|| 10_000 + random() % 20_000);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    below_all.find(is_free).expect("an endless iterator")
}

fn random_bytes() -> Vec<u8> {
    use std::io::Read;
    let mut bytes = vec![0; 128];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}
