//! The worker's side of a job: start its process, follow its events, give it commands.
//!
//! The process outlives whoever started it. A [`JobHandle`] can be had again at any time, for a job
//! that runs or one that has ended.

use super::command::scrubbed;
use super::control::{self, ACCEPTED, JobCommand};
use super::error::{JobError, io_error};
use super::events::EventReader;
use super::folder::JobFolder;
use super::keep::Hold;
use super::settings::RunnerSettings;
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
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long a job's process has to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long it has to take a command.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// How long a process whose socket has closed has to be gone.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
/// How often something is looked at that cannot be waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Events are looked for this often even when nothing wakes.
const CALM_INTERVAL: Duration = Duration::from_secs(1);
/// Events that are read at once: each may be large.
const READ_AT_ONCE: usize = 8;

/// How to start a job's process.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// This program, which knows `run-job`.
    pub binary: PathBuf,
    /// How the process is to run.
    pub settings: RunnerSettings,
}

impl RunnerOptions {
    /// This program, by default settings, with these further variables for trainers.
    pub fn new(pass_env: &[String]) -> Self {
        let settings = RunnerSettings { pass_env: pass_env.to_vec(), ..RunnerSettings::default() };
        let binary = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("sleap-rtc"));
        Self { binary, settings }
    }
}

/// Starts the process of a job whose package is whole. Returns when it answers.
///
/// Call it within a Tokio runtime.
pub async fn start(folder: &JobFolder, options: &RunnerOptions) -> Result<JobHandle, JobError> {
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
        .envs(scrubbed(std::env::vars_os(), &pass))
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(io_error("write to", &said))?)
        .stderr(log)
        .spawn()
        .map_err(io_error("start", &options.binary))?;
    let deadline = Instant::now() + START_LIMIT;
    let answer = loop {
        // A job may end before anybody connects.
        if control::connect(folder).await.is_ok() || folder.outcome()?.is_some() {
            break JobHandle::of(folder);
        }
        let gone = child.try_wait().is_ok_and(|status| status.is_some());
        if (gone && folder.outcome()?.is_none()) || Instant::now() > deadline {
            break Err(JobError::Silent(said));
        }
        sleep(LOOK_INTERVAL).await;
    };
    // The process belongs to nobody; this task only takes note of its end, so that it leaves no
    // zombie while this program runs.
    tokio::spawn(async move {
        let status = child.wait().await;
        tracing::debug!(?status, "a job's process has ended");
    });
    answer
}

/// A job that was started, by whomever and whenever. Its folder stays for as long as this lives.
#[derive(Debug, Clone)]
pub struct JobHandle {
    folder: JobFolder,
    _hold: Arc<Hold>,
}

impl JobHandle {
    fn of(folder: &JobFolder) -> Result<Self, JobError> {
        Ok(Self { folder: folder.clone(), _hold: Arc::new(folder.hold()?) })
    }

    /// A job that was started earlier, perhaps by another process, and runs or has ended.
    ///
    /// When its process is gone without a word, this writes that down and fails once with
    /// [`JobError::Interrupted`].
    pub async fn attach(folder: &JobFolder) -> Result<Self, JobError> {
        let handle = Self::of(folder)?;
        match folder.record()?.state {
            JobState::Finished(_) => return Ok(handle),
            JobState::Staging => return Err(JobError::NotRunning),
            JobState::Running { .. } => {}
        }
        let deadline = Instant::now() + EXIT_LIMIT;
        loop {
            if control::connect(folder).await.is_ok() {
                return Ok(handle);
            }
            match folder.settle(JobOutcome::Interrupted) {
                Ok(JobOutcome::Interrupted) => return Err(JobError::Interrupted),
                Ok(_) => return Ok(handle),
                // It comes or goes at this very moment.
                Err(JobError::Locked(_)) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// The job's folder.
    pub fn folder(&self) -> &JobFolder {
        &self.folder
    }

    /// The job's events that come after number `after`, to the last one.
    pub fn events(&self, after: u64) -> EventStream {
        EventStream {
            folder: self.folder.clone(),
            after,
            reading: Reading::Idle(None),
            ready: VecDeque::new(),
            socket: None,
            closed_at: None,
            settled: false,
            over: false,
        }
    }

    /// Gives the job a command. Returns when its process has taken it.
    pub async fn command(&self, command: JobCommand) -> Result<(), JobError> {
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
    after: u64,
    reading: Reading,
    /// Read and not handed out yet.
    ready: VecDeque<NumberedEvent>,
    socket: Option<UnixStream>,
    closed_at: Option<Instant>,
    settled: bool,
    over: bool,
}

/// Where the reading stands. Disks may be slow, so that a thread for blocking work does it; what it
/// has begun it ends, also when nobody waits any more.
#[derive(Debug)]
enum Reading {
    /// Nothing is read at the moment; there is no reader before the first time.
    Idle(Option<EventReader>),
    Busy(JoinHandle<Result<(EventReader, Vec<NumberedEvent>), JobError>>),
}

/// Reads the next events, as far as they are there.
fn read_some(
    reader: Option<EventReader>,
    folder: &JobFolder,
    after: u64,
) -> Result<(EventReader, Vec<NumberedEvent>), JobError> {
    let mut reader = match reader {
        Some(reader) => reader,
        None => EventReader::open(folder, after)?,
    };
    let mut events = Vec::new();
    while events.len() < READ_AT_ONCE
        && let Some(event) = reader.read()?
    {
        events.push(event);
    }
    Ok((reader, events))
}

impl EventStream {
    /// The next event; nothing after the last one. Waits as long as the job runs; safe to cancel.
    ///
    /// When the job's process has gone without a last event, this writes it
    /// ([`JobOutcome::Interrupted`]). A folder that cannot be read ends the events, with an error in
    /// the log.
    pub async fn next(&mut self) -> Option<NumberedEvent> {
        let next = self.try_next().await;
        next.unwrap_or_else(|error| {
            tracing::error!(job = %self.folder.id(), error = %WithCauses(&error), "the job's events end here");
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
                // It ended before what the caller asked for.
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
        if let Reading::Idle(reader) = &mut self.reading {
            let (reader, folder, after) = (reader.take(), self.folder.clone(), self.after);
            let work = move || read_some(reader, &folder, after);
            self.reading = Reading::Busy(tokio::task::spawn_blocking(work));
        }
        if let Reading::Busy(busy) = &mut self.reading {
            let read = busy.await.map_err(|_| JobError::Thread);
            self.reading = Reading::Idle(None);
            let (reader, events) = read??;
            self.reading = Reading::Idle(Some(reader));
            self.ready.extend(events);
        }
        Ok(self.ready.pop_front())
    }

    /// Returns when there may be something new.
    async fn wait(&mut self) -> Result<(), JobError> {
        if self.socket.is_none() {
            self.socket = control::connect(&self.folder).await.ok();
            if self.socket.is_some() {
                // What happened before the connection woke nobody: look again.
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

    /// Nobody answers: the process has gone, is going, or has not come yet.
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
