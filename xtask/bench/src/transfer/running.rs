//! A process of a measurement, whose output is read line by line, with deadlines.

use super::place::{Place, Side};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// The most lines that wait to be read.
const WAITING: usize = 4096;
/// The number of lines that an error shows.
const SHOWN: usize = 6;
/// How often to check an ending process.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A time by which a measurement must be finished.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// This long from now.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// Whether the deadline has passed.
    pub fn is_over(self) -> bool {
        self.left().is_zero()
    }

    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// A program that this machine does not have.
#[derive(Debug)]
pub struct Missing(pub &'static str);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not installed", self.0)
    }
}

impl std::error::Error for Missing {}

/// A running process with its process group. Both end when the value is dropped.
pub struct RunningProgram {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    last: VecDeque<String>,
}

impl RunningProgram {
    /// Starts `command` at an end of `place`.
    pub fn start(what: &str, mut command: Command, place: &Place, side: Side) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let shown = command.get_program().to_string_lossy().into_owned();
        let mut child =
            place.spawn(side, command).with_context(|| format!("{what}: cannot start {shown}"))?;
        let (say, lines) = mpsc::sync_channel(WAITING);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        stdout.into_iter().for_each(|pipe| follow(pipe, say.clone()));
        stderr.into_iter().for_each(|pipe| follow(pipe, say.clone()));
        let stdin = child.stdin.take();
        Ok(Self { what: what.to_owned(), child, stdin, lines, last: VecDeque::new() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line for which `find` returns something.
    pub fn line<T>(
        &mut self,
        wanted: &str,
        deadline: Deadline,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        loop {
            match self.lines.recv_timeout(deadline.left()) {
                Ok(line) => {
                    let found = find(&line);
                    self.remember(line);
                    if let Some(found) = found {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{}: no {wanted} in time{}", self.what, self.said())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("{}: {status} before {wanted}{}", self.what, self.said())
                }
            }
        }
    }

    /// Writes a line to its standard input.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its input is closed")?;
        writeln!(stdin, "{line}").with_context(|| format!("{} has ended", self.what))?;
        Ok(stdin.flush()?)
    }

    /// Closes its standard input and waits for its successful end.
    pub fn end(&mut self, deadline: Deadline) -> Result<()> {
        self.stdin = None;
        loop {
            while let Ok(line) = self.lines.try_recv() {
                self.remember(line);
            }
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{}: {status}{}", self.what, self.said()),
                None if deadline.left().is_zero() => {
                    bail!("{}: not at its end in time{}", self.what, self.said())
                }
                None => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// Kills it with its process group.
    pub fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may have ended by itself.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }

    fn remember(&mut self, line: String) {
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn said(&self) -> String {
        let last: Vec<&str> = self.last.iter().map(String::as_str).collect();
        if last.is_empty() { String::new() } else { format!("; it said: {}", last.join(" / ")) }
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        self.kill();
    }
}

fn follow(pipe: impl Read + Send + 'static, say: SyncSender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            // The receiver is gone when the process is no longer needed.
            if say.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
}
