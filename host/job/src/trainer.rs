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
pub struct RunningTrainer {
    /// The process itself.
    pub child: Child,
    /// What it prints. Ends when nobody holds its pipes any more.
    pub output: mpsc::Receiver<Piece>,
    group: Option<Pid>,
    readers: JoinSet<()>,
}

impl RunningTrainer {
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

    /// Processor time that the processes of its group have used so far, in clock ticks; unknown where
    /// the system does not tell. The trainer may be a script that only waits for the real one.
    pub fn processor_ticks(&self) -> Option<u64> {
        let group = self.group?.as_raw_nonzero().get();
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let ticks = processes.filter_map(|process| {
            let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
            ticks_in(&stat, group)
        });
        ticks.reduce(u64::saturating_add)
    }
}

/// What the process has used by its line in `/proc`, if it belongs to the group.
fn ticks_in(stat: &str, group: i32) -> Option<u64> {
    // The name in parentheses may hold anything. After it the group is number 2, user and system
    // time are 11 and 12.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if fields.nth(2)?.parse() != Ok(group) {
        return None;
    }
    let (user, system) = (fields.nth(8)?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(user + system)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_processes_of_the_group_count() {
        let stat = "12 (a b) c) S 1 77 77 0 -1 4194560 1 2 3 4 250 31 5 6 20 0 1 0 99 0 0";
        assert_eq!(ticks_in(stat, 77), Some(281));
        assert_eq!(ticks_in(stat, 1), None);
        assert_eq!(ticks_in("12 (x", 77), None);
    }
}
