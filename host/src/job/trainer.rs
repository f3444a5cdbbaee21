//! One trainer process: its pipes, its group, its end.

use super::command::CommandLine;
use super::output::Stream;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const READ_BYTES: usize = 16 * 1024;
/// Pieces of output that may wait to be read: the pipes wait then, and the trainer with them.
const QUEUE: usize = 16;

/// Something that was printed.
pub type Piece = (Stream, Vec<u8>);

/// A trainer, and everything it started in its process group. Dropping it kills them all.
pub struct Trainer {
    /// The process itself.
    pub child: Child,
    /// What it prints. Ends when nobody holds its pipes any more.
    pub output: mpsc::Receiver<Piece>,
    group: Option<Pid>,
    readers: JoinSet<()>,
}

impl Trainer {
    /// Starts a trainer in a process group of its own, with only these variables.
    pub fn start(
        command: &CommandLine,
        folder: &Path,
        variables: &[(OsString, OsString)],
    ) -> io::Result<Self> {
        let mut child = Command::new(&command.program)
            .args(&command.arguments)
            .current_dir(folder)
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (to_runner, output) = mpsc::channel(QUEUE);
        let mut readers = JoinSet::new();
        if let Some(pipe) = child.stdout.take() {
            readers.spawn(read(Stream::Out, pipe, to_runner.clone()));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.spawn(read(Stream::Err, pipe, to_runner));
        }
        Ok(Self { child, output, group, readers })
    }

    /// Sends a signal to the whole group. A group that is gone already is no error.
    pub fn signal(&self, signal: Signal) {
        let Some(group) = self.group else { return };
        match kill_process_group(group, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::warn!(%error, ?signal, "the trainer could not be signalled"),
        }
    }

    /// The process has ended: kills what it left behind in its group.
    pub fn clear_group(&mut self) {
        self.signal(Signal::KILL);
        self.group = None;
    }

    /// Gives up on pipes that somebody outside the group still holds.
    pub fn stop_reading(&mut self) {
        self.readers.abort_all();
    }

    /// Processor time that the process has used so far, in clock ticks; unknown where the system
    /// does not tell.
    pub fn processor_ticks(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        // The name in parentheses may hold anything; user and system time are 12 and 13 after it.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
        let mut next = || fields.next()?.parse::<u64>().ok();
        Some(next()? + next()?)
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        self.clear_group();
    }
}

async fn read(
    stream: Stream,
    mut pipe: impl AsyncRead + Unpin + Send + 'static,
    to_runner: mpsc::Sender<Piece>,
) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        if to_runner.send((stream, buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
}
