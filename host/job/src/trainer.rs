//! One trainer process: its pipes, its group, its end.

use super::cgroup::TrainerCgroup;
use super::output::Stream;
use super::processes;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const READ_BYTES: usize = 16 * 1024;
/// The most pieces of output that wait to be read. When the queue is full, the pipes and the
/// trainer wait.
const QUEUE: usize = 16;

pub type Piece = (Stream, Vec<u8>);

/// A trainer and its process group. Dropping the value kills them all.
pub struct RunningTrainer {
    pub child: Child,
    /// What the trainer prints. Ends when no process holds its pipes any more.
    pub output: mpsc::Receiver<Piece>,
    group: Option<Pid>,
    cgroup: Option<TrainerCgroup>,
    readers: JoinSet<()>,
}

impl RunningTrainer {
    /// Starts a trainer in a process group of its own.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let cgroup = TrainerCgroup::create();
        if let (Some(cgroup), Some(pid)) = (&cgroup, child.id())
            && let Err(error) = cgroup.take(pid)
        {
            tracing::debug!(%error, "cannot move the trainer into its control group");
        }
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (to_runner, output) = mpsc::channel(QUEUE);
        let mut readers = JoinSet::new();
        if let Some(pipe) = child.stdout.take() {
            readers.spawn(read(Stream::Out, pipe, to_runner.clone()));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.spawn(read(Stream::Err, pipe, to_runner));
        }
        Ok(Self { child, output, group, cgroup, readers })
    }

    /// Sends a signal to the whole group. Succeeds if the group has already ended.
    pub fn signal(&self, signal: Signal) {
        let Some(group) = self.group else { return };
        match kill_process_group(group, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::warn!(%error, ?signal, "cannot signal the trainer"),
        }
    }

    /// Kills what remains in the group after its leader has ended.
    pub fn clear_group(&mut self) {
        self.signal(Signal::KILL);
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        self.group = None;
    }

    /// Stops reading pipes that a process outside the group still holds.
    pub fn stop_reading(&mut self) {
        self.readers.abort_all();
    }

    /// Processor time that the processes of the group have used, in clock ticks, if the system
    /// reports it. The trainer may be a script that only waits for the real one, so all are
    /// counted.
    pub fn processor_ticks(&self) -> Option<u64> {
        let group = self.group?.as_raw_nonzero().get();
        let own = processes::all().into_values().filter(|process| process.group == group);
        own.map(|process| process.ticks).reduce(u64::saturating_add)
    }
}

impl Drop for RunningTrainer {
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
