//! What a job's process on another machine and its worker tell each other through the job's folder.
//!
//! Neither locks nor sockets reach across machines on every file system, so nothing here relies on them:
//!
//! | file | who writes it | what it means |
//! |---|---|---|
//! | `claim.json` | created once, by the first of the two | only its creator writes events |
//! | `heartbeat` | the job's process, every few seconds | the process lives |
//! | `commands.jsonl` | the worker, one line per command | what the user wants |

use super::control::JobCommand;
use super::error::{JobError, damaged, io_error};
use super::events::{EventLog, open_at};
use super::folder::JobFolder;
use serde_json::json;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::job::{JobOutcome, JobState};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const CLAIM: &str = "claim.json";
const HEARTBEAT: &str = "heartbeat";
const COMMANDS: &str = "commands.jsonl";
/// How often a job's process shows that it lives.
pub const BEAT_EVERY: Duration = Duration::from_secs(10);
/// How often a job's process looks for commands.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The longest line of commands.
const MAX_COMMAND_BYTES: u64 = 1024;
const MAX_HEARTBEAT_BYTES: u64 = 1024;

/// Prepares the folder for a process on another machine. A file that is missing at first may seem to be
/// missing for a minute on a network file system.
pub fn prepare(folder: &JobFolder) -> Result<(), JobError> {
    append(folder, b"")
}

/// Takes the right to write the job's events, for this process and for ever. Returns false if another
/// process has taken it.
pub fn claim(folder: &JobFolder) -> Result<bool, JobError> {
    let path = folder.path().join(CLAIM);
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        file => file.map_err(io_error("create", &path))?,
    };
    let name = rustix::system::uname();
    let slurm_job = std::env::var("SLURM_JOB_ID").ok();
    let by = json!({
        "host": name.nodename().to_string_lossy(), "pid": std::process::id(), "slurm_job": slurm_job,
    });
    file.write_all(by.to_string().as_bytes()).map_err(io_error("write to", &path))?;
    Ok(true)
}

/// What the job's process last showed of its life: another text each time.
pub fn heartbeat(folder: &JobFolder) -> Option<String> {
    let mut text = String::new();
    let file = File::open(folder.path().join(HEARTBEAT)).ok()?;
    file.take(MAX_HEARTBEAT_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Shows that this process lives, if the job is on another machine than its worker. Returns when another
/// process has ended the job: this one must write nothing more.
pub async fn taken_over(folder: Option<JobFolder>) {
    let Some(folder) = folder else { return std::future::pending().await };
    for count in 0_u64.. {
        let (path, text) =
            (folder.path().join(HEARTBEAT), format!("{count} {}", std::process::id()));
        if let Err(error) = fs::write(&path, text) {
            tracing::warn!(error = %WithCauses(&error), "cannot show that the job's process lives");
        }
        sleep(BEAT_EVERY).await;
        let state = folder.record().map(|record| record.state);
        if matches!(state, Ok(JobState::Finished(_))) {
            return;
        }
    }
}

/// Gives a command to the job's process, which obeys within seconds. A job that has not begun ends at once.
pub fn command(folder: &JobFolder, command: JobCommand) -> Result<(), JobError> {
    if let JobState::Finished(_) = folder.record()?.state {
        return Err(JobError::NotRunning);
    }
    let mut line = serde_json::to_vec(&command).map_err(|e| JobError::Command(e.into()))?;
    line.push(b'\n');
    append(folder, &line)?;
    if command == JobCommand::Cancel && claim(folder)? {
        EventLog::open(folder.clone())?.settle(JobOutcome::Cancelled)?;
    }
    Ok(())
}

fn append(folder: &JobFolder, line: &[u8]) -> Result<(), JobError> {
    let path = folder.path().join(COMMANDS);
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    let mut file = file.map_err(io_error("open", &path))?;
    let bytes = file.metadata().map_err(io_error("read", &path))?.len();
    file.write_all(line).map_err(|error| {
        // Half a line would join with the next one. This worker alone writes to the file.
        let _ = file.set_len(bytes);
        io_error("write to", &path)(error)
    })
}

/// Whether the user has cancelled the job.
pub fn is_cancelled(folder: &JobFolder) -> bool {
    let mut commands = Commands { folder: folder.clone(), position: 0 };
    commands.read().is_ok_and(|commands| commands.contains(&JobCommand::Cancel))
}

/// Passes the worker's commands on, until `end`.
pub async fn obey(folder: JobFolder, to_runner: mpsc::Sender<JobCommand>, end: CancellationToken) {
    let mut commands = Commands { folder, position: 0 };
    while end.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
        let new = commands.read().unwrap_or_else(|error| {
            tracing::warn!(error = %WithCauses(&error), "cannot read the commands to the job");
            Vec::new()
        });
        for command in new {
            if to_runner.send(command).await.is_err() {
                return;
            }
        }
    }
}

/// Reads each command once.
struct Commands {
    folder: JobFolder,
    position: u64,
}

impl Commands {
    /// Returns the commands that are new since the last call.
    fn read(&mut self) -> Result<Vec<JobCommand>, JobError> {
        let path = self.folder.path().join(COMMANDS);
        let mut lines = open_at(&path, self.position)?;
        let (mut commands, mut line) = (Vec::new(), Vec::new());
        loop {
            line.clear();
            let read = (&mut lines).take(MAX_COMMAND_BYTES).read_until(b'\n', &mut line);
            let bytes = read.map_err(io_error("read", &path))?;
            if line.last() != Some(&b'\n') {
                return Ok(commands);
            }
            self.position += bytes as u64;
            match serde_json::from_slice(&line) {
                Ok(command) => commands.push(command),
                // Half a line, from a disk that was full. Those after it count.
                Err(error) => {
                    let error = damaged(&path, error);
                    tracing::warn!(error = %WithCauses(&error), "ignored a command to the job");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::job_folder;

    #[test]
    fn one_process_may_write_events() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        assert!(claim(&folder).unwrap());
        assert!(!claim(&folder).unwrap());
    }

    #[test]
    fn each_command_is_read_once_and_whole() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        prepare(&folder).unwrap();
        assert!(claim(&folder).unwrap(), "as if the job had begun");
        let mut commands = Commands { folder: folder.clone(), position: 0 };
        assert_eq!(commands.read().unwrap(), []);
        command(&folder, JobCommand::Stop { all: true }).unwrap();
        append(&folder, br#"{"command":"can"#).unwrap();
        assert_eq!(commands.read().unwrap(), [JobCommand::Stop { all: true }]);
        assert!(!is_cancelled(&folder));
        append(&folder, b"cel\"}\n").unwrap();
        assert_eq!(commands.read().unwrap(), [JobCommand::Cancel]);
        assert!(is_cancelled(&folder) && commands.read().unwrap().is_empty());
    }

    #[test]
    fn a_job_that_has_not_begun_is_cancelled_at_once_and_never_begins() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        prepare(&folder).unwrap();
        command(&folder, JobCommand::Cancel).unwrap();
        assert_eq!(folder.outcome().unwrap(), Some(JobOutcome::Cancelled));
        assert!(!claim(&folder).unwrap());
        assert!(matches!(command(&folder, JobCommand::Cancel), Err(JobError::NotRunning)));
    }
}
