//! The worker's side of a job: starts its process, follows its events, sends it commands.
//!
//! The process outlives the worker that started it. A worker can get a [`JobHandle`] at any time, for a
//! job that runs or that has ended.

use super::command::trainer_environment;
use super::control::{self, ACCEPTED, JobCommand};
use super::error::{JobError, io_error};
use super::events::EventReader;
use super::folder::JobFolder;
use super::lease::Lease;
use super::settings::RunnerSettings;
use super::shared_folder;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobState, NumberedEvent};
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long a job's process may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to accept a command.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// How long a process may take to end after its socket has closed.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
/// How often to check a state that sends no notification.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How often to look for events even if the job does not announce any.
const CALM_INTERVAL: Duration = Duration::from_secs(1);
/// How often to look for events of a job on another machine, which cannot announce any.
const ELSEWHERE_INTERVAL: Duration = Duration::from_secs(1);
/// The most events to read at once. Each may be large.
const READ_AT_ONCE: usize = 8;

/// How to start a job's process.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// This program, which has the subcommand `run-job`.
    pub binary: PathBuf,
    /// How the process is to run.
    pub settings: RunnerSettings,
}

impl RunnerOptions {
    /// This program with these settings.
    pub fn new(settings: RunnerSettings) -> Self {
        let binary = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("sleap-rtc"));
        Self { binary, settings }
    }
}

/// Starts the process of a job whose package is complete. Returns once the process answers.
///
/// Must be called within a Tokio runtime.
pub(crate) async fn start(
    folder: &JobFolder,
    options: &RunnerOptions,
) -> Result<JobHandle, JobError> {
    options.settings.write(folder)?;
    let said = folder.path().join("run-job.log");
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&said);
    let log = log.map_err(io_error("write to", &said))?;
    let mut pass = options.settings.pass_env.clone();
    pass.push("SLEAP_RTC_LOG".to_owned());
    let mut child = Command::new(&options.binary)
        .arg("run-job")
        .arg(folder.path())
        .env_clear()
        .envs(trainer_environment(std::env::vars_os(), &pass))
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(io_error("write to", &said))?)
        .stderr(log)
        .spawn()
        .map_err(io_error("start", &options.binary))?;
    let answer = answered(folder, &mut child, said).await;
    if answer.is_err() {
        // Its slot is given away, so it must not begin later. It answers before it starts a trainer.
        let _ = child.start_kill();
    }
    // This task only reaps the process, so that it does not become a zombie while this program runs.
    tokio::spawn(async move {
        let status = child.wait().await;
        tracing::debug!(?status, "a job's process has ended");
    });
    answer
}

/// Waits until the job's process answers, or has ended.
async fn answered(
    folder: &JobFolder,
    child: &mut Child,
    said: PathBuf,
) -> Result<JobHandle, JobError> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        // A job may end before the connection is made.
        if control::connect(folder).await.is_ok() || folder.outcome()?.is_some() {
            return JobHandle::of(folder);
        }
        let gone = child.try_wait().is_ok_and(|status| status.is_some());
        // The job had begun before its process was killed: who watches it records that it was interrupted.
        if gone && matches!(folder.record()?.state, JobState::Running { .. }) {
            return JobHandle::of(folder);
        }
        if (gone && folder.outcome()?.is_none()) || Instant::now() > deadline {
            return Err(JobError::Silent(said));
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// A job that was started at any time by any worker. The handle keeps its folder from being removed.
#[derive(Debug, Clone)]
pub struct JobHandle {
    folder: JobFolder,
    /// Whether its process may be on another machine.
    is_elsewhere: bool,
    _lease: Arc<Lease>,
}

impl JobHandle {
    fn of(folder: &JobFolder) -> Result<Self, JobError> {
        let is_elsewhere = folder.is_elsewhere();
        Ok(Self { folder: folder.clone(), is_elsewhere, _lease: Arc::new(folder.lease()?) })
    }

    /// Cancels the job in `folder`.
    ///
    /// # Errors
    /// Its process cannot be reached.
    pub async fn cancel(folder: &JobFolder) -> Result<(), JobError> {
        Self::attach(folder).await?.command(JobCommand::Cancel).await
    }

    /// A job that was started earlier, perhaps by another process, and runs or has ended.
    ///
    /// If its process has died, this records that as the job's outcome and fails, once, with
    /// [`JobError::Interrupted`]. The watch of the cluster does that for a job on another machine.
    pub async fn attach(folder: &JobFolder) -> Result<Self, JobError> {
        let handle = Self::of(folder)?;
        if handle.is_elsewhere {
            return Ok(handle);
        }
        match folder.record()?.state {
            JobState::Finished(_) => return Ok(handle),
            JobState::Staging => return Err(JobError::NotRunning),
            // Nobody has started a process for it.
            JobState::Queued(_) if !RunnerSettings::exist(folder) => {
                return Err(JobError::NotRunning);
            }
            JobState::Queued(_) | JobState::Running { .. } => {}
        }
        let deadline = Instant::now() + EXIT_LIMIT;
        loop {
            if control::connect(folder).await.is_ok() {
                return Ok(handle);
            }
            if let JobState::Queued(_) = folder.record()?.state {
                // Its process has not begun yet, and may never come.
                if Instant::now() > deadline {
                    return Err(JobError::NotRunning);
                }
                sleep(LOOK_INTERVAL).await;
                continue;
            }
            match folder.settle(JobOutcome::Interrupted) {
                Ok(JobOutcome::Interrupted) => return Err(JobError::Interrupted),
                Ok(_) => return Ok(handle),
                // The process is starting or ending.
                Err(JobError::Locked(_)) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Whether the job's process may be on another machine.
    pub fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// The job's folder.
    pub fn folder(&self) -> &JobFolder {
        &self.folder
    }

    /// The job's events after number `after`, up to the last one.
    pub fn events(&self, after: u64) -> EventStream {
        EventStream {
            folder: self.folder.clone(),
            is_elsewhere: self.is_elsewhere,
            after,
            reading: ReaderState::Idle(None),
            ready: VecDeque::new(),
            socket: None,
            closed_at: None,
            settled: false,
            over: false,
        }
    }

    /// Sends the job a command. Returns once its process has accepted it, or once it is written down for a
    /// process on another machine.
    pub async fn command(&self, command: JobCommand) -> Result<(), JobError> {
        if self.is_elsewhere {
            let folder = self.folder.clone();
            let writing =
                tokio::task::spawn_blocking(move || shared_folder::command(&folder, command));
            return writing.await.map_err(|_| JobError::Thread)?;
        }
        let mut socket = control::connect(&self.folder).await.map_err(|_| JobError::NotRunning)?;
        let exchange = async {
            let mut line = serde_json::to_vec(&command)?;
            line.push(b'\n');
            socket.write_all(&line).await?;
            while socket.read_u8().await? != ACCEPTED {}
            Ok(())
        };
        match timeout(COMMAND_LIMIT, exchange).await {
            Ok(done) => done.map_err(JobError::Command),
            Err(_) => Err(JobError::Command(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// The events of one job, in order, as they happen.
#[derive(Debug)]
pub struct EventStream {
    folder: JobFolder,
    is_elsewhere: bool,
    after: u64,
    reading: ReaderState,
    /// Events that were read and not returned yet.
    ready: VecDeque<NumberedEvent>,
    socket: Option<UnixStream>,
    closed_at: Option<Instant>,
    settled: bool,
    over: bool,
}

/// The state of the reader. A thread for blocking work reads, because disks may be slow. A read
/// that has begun completes even if the caller stops waiting.
#[derive(Debug)]
enum ReaderState {
    /// No read is under way. The first read creates the reader.
    Idle(Option<EventReader>),
    Busy(JoinHandle<Result<(EventReader, Vec<NumberedEvent>), JobError>>),
}

fn read_some(
    reader: Option<EventReader>,
    folder: &JobFolder,
    after: u64,
    is_elsewhere: bool,
) -> Result<(EventReader, Vec<NumberedEvent>), JobError> {
    let mut reader = match reader {
        Some(reader) => reader,
        None => EventReader::open(folder, after)?,
    };
    if is_elsewhere && let Err(error) = reader.reopen() {
        // A network file system may fail for a moment.
        return if error.is_not_found() { Err(error) } else { Ok((reader, Vec::new())) };
    }
    let mut events = Vec::new();
    while events.len() < READ_AT_ONCE
        && let Some(event) = reader.read()?
    {
        events.push(event);
    }
    Ok((reader, events))
}

impl EventStream {
    /// The next event, or `None` after the last one. Waits for as long as the job runs. Cancel
    /// safe.
    ///
    /// If the job's process has died, this writes the last event ([`JobOutcome::Interrupted`]). If
    /// the folder cannot be read, the events end, and the log says why.
    pub async fn next(&mut self) -> Option<NumberedEvent> {
        let next = self.try_next().await;
        next.unwrap_or_else(|error| {
            tracing::error!(job = %self.folder.id(), error = %WithCauses(&error), "cannot read further events of the job");
            self.over = true;
            None
        })
    }

    async fn try_next(&mut self) -> Result<Option<NumberedEvent>, JobError> {
        loop {
            if self.over {
                return Ok(None);
            }
            if let Some(numbered) = self.read().await? {
                self.over = matches!(numbered.event, JobEvent::Finished { .. });
                return Ok(Some(numbered));
            }
            if self.settled {
                // The job ended before the event that the caller asked for.
                self.over = true;
                return Ok(None);
            }
            self.wait().await?;
        }
    }

    async fn read(&mut self) -> Result<Option<NumberedEvent>, JobError> {
        if let Some(event) = self.ready.pop_front() {
            return Ok(Some(event));
        }
        if let ReaderState::Idle(reader) = &mut self.reading {
            let (reader, folder, after) = (reader.take(), self.folder.clone(), self.after);
            let is_elsewhere = self.is_elsewhere;
            let work = move || read_some(reader, &folder, after, is_elsewhere);
            self.reading = ReaderState::Busy(tokio::task::spawn_blocking(work));
        }
        if let ReaderState::Busy(busy) = &mut self.reading {
            let read = busy.await.map_err(|_| JobError::Thread);
            self.reading = ReaderState::Idle(None);
            let (reader, events) = read??;
            self.reading = ReaderState::Idle(Some(reader));
            self.ready.extend(events);
        }
        Ok(self.ready.pop_front())
    }

    /// Returns once there may be new events.
    async fn wait(&mut self) -> Result<(), JobError> {
        if self.is_elsewhere {
            sleep(ELSEWHERE_INTERVAL).await;
            let folder = self.folder.clone();
            let record = tokio::task::spawn_blocking(move || folder.record()).await;
            match record.map_err(|_| JobError::Thread)? {
                Ok(record) => self.settled = matches!(record.state, JobState::Finished(_)),
                Err(error) if error.is_not_found() => return Err(error),
                // A network file system may fail for a moment.
                Err(error) => {
                    tracing::debug!(job = %self.folder.id(), error = %WithCauses(&error), "cannot read the job's record now");
                }
            }
            return Ok(());
        }
        if self.socket.is_none() {
            self.socket = control::connect(&self.folder).await.ok();
            if self.socket.is_some() {
                // Events from before the connection were not reported: read again.
                self.closed_at = None;
                return Ok(());
            }
        }
        let Some(socket) = &mut self.socket else { return self.wait_for_end().await };
        let mut bytes = [0; 256];
        match timeout(CALM_INTERVAL, socket.read(&mut bytes)).await {
            Ok(Ok(1..)) | Err(_) => {}
            Ok(Ok(0) | Err(_)) => self.socket = None,
        }
        Ok(())
    }

    /// Waits for a process that does not answer: it has ended, is ending, or is starting.
    async fn wait_for_end(&mut self) -> Result<(), JobError> {
        let closed_at = *self.closed_at.get_or_insert_with(Instant::now);
        match self.folder.settle(JobOutcome::Interrupted) {
            Ok(_) => {
                self.settled = true;
                Ok(())
            }
            Err(JobError::Locked(_)) if closed_at.elapsed() < EXIT_LIMIT => {
                sleep(LOOK_INTERVAL).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::job_folder;

    #[tokio::test]
    async fn a_job_that_was_killed_right_after_its_beginning_was_interrupted() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        folder.lock().unwrap().begin().unwrap();
        // As a process that began the job and was killed before it answered.
        let binary = PathBuf::from("/bin/false");
        let options = RunnerOptions { binary, settings: RunnerSettings::default() };
        let handle = start(&folder, &options).await.unwrap();
        let event = handle.events(0).next().await.unwrap().event;
        assert_eq!(event, JobEvent::Finished { outcome: JobOutcome::Interrupted });

        let never_began = job_folder(&state.path().join("another"));
        let error = start(&never_began, &options).await.unwrap_err();
        assert!(matches!(error, JobError::Silent(_)), "{error}");
    }
}
