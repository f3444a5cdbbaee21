//! The server's process: pinned to a core, and measured through `/proc`.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::TestBroker;

/// Files that a process has open in addition to its peers' sockets.
const OTHER_FILES: u64 = 500;
/// A tick of the times in `/proc/PID/stat`: `USER_HZ` is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Lets this process, and those that it starts, open enough sockets.
pub fn raise_file_limit(peers: usize) -> Result<()> {
    let needed = peers as u64 + OTHER_FILES;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    ensure!(
        limit.maximum.is_none_or(|most| most >= needed),
        "{peers} peers need {needed} open files (`ulimit -Hn` allows {}); raise it, or use --idle",
        limit.maximum.unwrap_or_default()
    );
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}

/// The cores of server and generator. On a machine with one core nothing is pinned.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    apart: Option<(usize, usize)>,
}

impl Cores {
    /// The first two cores that this process may use.
    pub fn find() -> Result<Self> {
        let all = sched_getaffinity(None)?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        Ok(Self { apart: usable.next().zip(usable.next()) })
    }

    /// Moves this thread, and the processes that it starts, to the server's core.
    fn take_servers(self) -> Result<()> {
        self.apart.map_or(Ok(()), |(server, _)| pin(server))
    }

    /// Moves this thread, and the processes that it starts, to the generator's core.
    pub fn take_generators(self) -> Result<()> {
        self.apart.map_or(Ok(()), |(_, generator)| pin(generator))
    }

    /// A description for the table.
    pub fn describe(self) -> &'static str {
        match self.apart {
            Some(_) => "the server on one core, the generator on another",
            None => "one core for server and generator together",
        }
    }
}

fn pin(core: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).context("cannot stay on one core")
}

/// A running server, with its state in a folder of its own.
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
    cores: Cores,
    folder: tempfile::TempDir,
}

impl ServerProcess {
    /// Starts it on a free port, and leaves this thread on the generator's core.
    pub fn start(cores: Cores) -> Result<Self> {
        Self::start_with(cores, "")
    }

    /// The same, with this configuration file.
    pub fn start_with(cores: Cores, config: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("sleap-rtc.toml"), config)?;
        let (child, address) = launch(&folder, "127.0.0.1:0", cores)?;
        Ok(Self { child, address, cores, folder })
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) -> Result<()> {
        kill_process(self.pid()?, Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// Kills it, as in a crash.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again, at the same address and with the same state.
    pub fn start_again(&mut self) -> Result<()> {
        self.child = launch(&self.folder, &self.address.to_string(), self.cores)?.0;
        Ok(())
    }

    /// The address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The processor time that it has used, in its own code and in the kernel.
    pub fn cpu(&self) -> Result<Duration> {
        cpu(self.child.id())
    }

    /// The memory that it uses, in bytes.
    pub fn memory_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(self.child.id().try_into()?).context("the server has ended")
    }
}

fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in parentheses and may contain any character. `utime` and `stime` are fields 14
    // and 15.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    Ok(TICK * ticks.sum::<Result<u32, _>>()?)
}

/// A broker on the servers' core.
pub struct BrokerProcess(TestBroker);

impl BrokerProcess {
    /// Starts it on a free port, and leaves this thread on the generator's core.
    pub fn start(cores: Cores) -> Result<Self> {
        cores.take_servers()?;
        let broker = TestBroker::start().context("there is no nats-server");
        cores.take_generators()?;
        Ok(Self(broker?))
    }

    /// The configuration of a server of its cluster.
    pub fn config(&self) -> String {
        self.0.config()
    }

    /// Kills it, as in a crash.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Starts it again, at the same address and with the same state.
    pub fn start_again(&mut self, cores: Cores) -> Result<()> {
        cores.take_servers()?;
        self.0.start_again();
        cores.take_generators()
    }

    /// The processor time that it has used.
    pub fn cpu(&self) -> Result<Duration> {
        cpu(self.0.pid())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(folder: &tempfile::TempDir, listen: &str, cores: Cores) -> Result<(Child, SocketAddr)> {
    let program = std::env::current_exe()?.with_file_name("sleap-rtc");
    cores.take_servers()?;
    let mut command = Command::new(&program);
    command.args(["signaling", "--listen", listen, "--state"]);
    command.arg(folder.path().join("state.sqlite")).current_dir(folder.path());
    command.env("HOME", folder.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(std::fs::File::create(folder.path().join("server.log"))?);
    let child = command.spawn().with_context(|| format!("cannot start {}", program.display()));
    cores.take_generators()?;
    let mut child = child?;
    let stdout = child.stdout.take().context("no standard output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        let rest = line.strip_prefix("listening on http://");
        if let Some((address, _)) = rest.and_then(|rest| rest.split_once(" and ws://")) {
            return Ok((child, address.parse()?));
        }
    }
    bail!("the server ended: {}", child.wait()?)
}
