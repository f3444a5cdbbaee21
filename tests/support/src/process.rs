//! A child process with captured output, in a process group of its own.

use crate::wait_for;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{
    ffi::OsStr,
    fmt,
    io::{Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Everything that came through one pipe so far.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn follow(&self, mut pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        let captured = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                captured
                    .0
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&buffer[..length]);
            }
        })
    }

    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A running program. Dropping it kills its process group.
pub struct Process {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Captured,
    stderr: Captured,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with captured output, and with only the environment variables that it sets.
    pub fn start(what: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{what} does not start: {error}"));
        let (stdout, stderr) = (Captured::default(), Captured::default());
        let readers = vec![
            stdout.follow(child.stdout.take().unwrap()),
            stderr.follow(child.stderr.take().unwrap()),
        ];
        let stdin = child.stdin.take();
        Self { what: what.to_owned(), child, stdin, stdout, stderr, readers, status: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Types a line on standard input.
    pub fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }

    /// Closes standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The exit status, if it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status
    }

    /// Waits until `find` returns something for the output on stdout.
    #[track_caller]
    pub fn wait_stdout<T>(
        &mut self,
        what: &str,
        limit: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.wait_output(what, limit, |this| find(&this.stdout()))
    }

    /// The same for the output on stderr.
    #[track_caller]
    pub fn wait_stderr<T>(
        &mut self,
        what: &str,
        limit: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.wait_output(what, limit, |this| find(&this.stderr()))
    }

    #[track_caller]
    fn wait_output<T>(
        &mut self,
        what: &str,
        limit: Duration,
        find: impl Fn(&Self) -> Option<T>,
    ) -> T {
        wait_for(&format!("{what} from {}", self.what), limit, || {
            // Checked before the output is read, so that the last lines of a process that has ended
            // count.
            let ended = self.try_wait();
            if ended.is_some() {
                self.read_all();
            }
            let found = find(self);
            if let (None, Some(status)) = (&found, ended) {
                panic!("{} ended with {status} before {what}{}", self.what, self.transcript());
            }
            found
        })
    }

    /// Waits for the end and returns the exit code, or 128 + the number of the signal.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> i32 {
        let what = format!("the end of {}", self.what);
        let status = wait_for(&what, limit, || self.try_wait());
        self.read_all();
        status.code().or(status.signal().map(|number| 128 + number)).unwrap_or(-1)
    }

    /// Waits for the rest of the output of a process that has ended.
    fn read_all(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// Sends `signal` to the process, but not to its group.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.rustix_pid(), signal);
    }

    /// Kills the process group.
    pub fn kill(&mut self) {
        if self.try_wait().is_none() {
            let _ = kill_process_group(self.rustix_pid(), Signal::KILL);
            let _ = self.child.wait().map(|status| self.status = Some(status));
        }
    }

    fn rustix_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The output, for a failure's message.
    pub fn transcript(&self) -> String {
        let name = &self.what;
        format!("\n--- {name} stdout\n{}\n--- {name} stderr\n{}", self.stdout(), self.stderr())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("{}", self.transcript());
        }
    }
}

/// The same command, started by another program: `strace`, `nohup`, a shell with limits.
pub fn under(wrapper: &[String], command: Command) -> Command {
    let Some((program, arguments)) = wrapper.split_first() else { return command };
    let mut wrapped = Command::new(program);
    wrapped.args(arguments).arg(command.get_program()).args(command.get_args()).env_clear();
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

/// A process as `/proc` describes it.
pub struct Found {
    pub pid: i32,
    pub command: String,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pid, self.command)
    }
}

/// Every other process whose folder, command line or environment contains `folder`.
pub fn processes_in(folder: &Path) -> Vec<Found> {
    let marker = folder.to_str().expect("temporary folders have plain names");
    let own = std::process::id() as i32;
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own).filter_map(|pid| found(pid, marker)).collect()
}

fn found(pid: i32, marker: &str) -> Option<Found> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let text = |name: &str| {
        std::fs::read(proc.join(name)).map(|b| String::from_utf8_lossy(&b).replace('\0', " "))
    };
    // A zombie has an empty command line, and its parent has not waited for it yet.
    let command = text("cmdline").ok().filter(|command| !command.is_empty())?;
    let cwd = std::fs::read_link(proc.join("cwd")).unwrap_or_default();
    let named = command.contains(marker)
        || cwd.starts_with(marker)
        || text("environ").is_ok_and(|environment| environment.contains(marker));
    named.then_some(Found { pid, command })
}

/// The time that a process has computed so far, in seconds. 0 if it has ended.
pub fn cpu_s(pid: i32) -> f64 {
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<u64> = fields.split(' ').skip(11).take(2).flat_map(str::parse).collect();
        Some(fields.iter().sum::<u64>())
    };
    ticks().unwrap_or(0) as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Kills processes that a test left behind.
pub fn kill_all(processes: &[Found]) {
    for pid in processes.iter().filter_map(|process| Pid::from_raw(process.pid)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The peak memory of process `pid` in MiB (`VmHWM`).
pub fn memory_peak_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// The Python for the stand-in trainer, by its real path: launchers such as pyenv's take time and
/// look for their settings in `HOME`. `cargo xtask test` names it, so that not every test asks.
pub fn python() -> &'static Path {
    static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(python) = std::env::var_os("SLEAP_RTC_PYTHON") {
            return python.into();
        }
        let command = ["-c", "import sys; print(sys.executable)"];
        let output = Command::new("python3").args(command).output();
        let output = output.expect("the stand-in trainer needs python3 on PATH");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    });
    &PYTHON
}

/// A command that inherits nothing from this process's environment.
pub fn clean_command(program: impl AsRef<OsStr>, home: &Path, path: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("PATH", path).env("RUST_BACKTRACE", "1");
    command.env("LANG", "C.UTF-8").current_dir(home);
    command
}

/// `program` with the folder and the environment of `command`, for a program that starts the
/// command with limits or in another view.
#[allow(dead_code, reason = "the torture has no use for it")]
pub fn with_program(command: &Command, program: &str) -> Command {
    let mut other = Command::new(program);
    let folder = command.get_current_dir().expect("commands here have a folder");
    other.env_clear().current_dir(folder);
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    other
}
