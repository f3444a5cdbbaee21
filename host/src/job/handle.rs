//! The worker's side of a job: start its process, follow its events, give it commands.
//!
//! The process outlives whoever started it. A [`JobHandle`] can be had again at any time, for a job
//! that runs or one that has ended.

use super::command::scrubbed;
use super::control::{self, ACCEPTED, JobCommand};
use super::folder::{EventReader, FolderError, JobFolder};
use super::settings::RunnerSettings;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, NumberedEvent};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;
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

/// Why a job cannot be started, followed or commanded.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its process cannot be started.
    #[error("cannot start {binary}: {source}")]
    Start {
        /// The program.
        binary: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Its process ended at once or says nothing.
    #[error("the job's process does not answer; what it said is in {0}")]
    Silent(PathBuf),
    /// There is nobody to take a command.
    #[error("the job does not run")]
    NotRunning,
    /// The command did not get through.
    #[error("the job did not take the command: {0}")]
    Command(io::Error),
}

/// How to start a job's process.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// This program, which knows `run-job`.
    pub binary: PathBuf,
    /// How the process is to run.
    pub settings: RunnerSettings,
}

/// Starts the process of a job whose package is whole. Returns when it answers.
///
/// Call it within a Tokio runtime.
pub async fn start(folder: &JobFolder, options: &RunnerOptions) -> Result<JobHandle, JobError> {
    options.settings.write(folder)?;
    let said = folder.path().join("run-job.log");
    let start_error = |source| JobError::Start { binary: options.binary.clone(), source };
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&said);
    let log = log.map_err(start_error)?;
    let mut pass = options.settings.pass_env.clone();
    pass.push("RUST_LOG".to_owned());
    let mut child = Command::new(&options.binary)
        .arg("run-job")
        .arg(folder.path())
        .env_clear()
        .envs(scrubbed(std::env::vars_os(), &pass))
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(start_error)?)
        .stderr(log)
        .spawn()
        .map_err(start_error)?;
    let deadline = Instant::now() + START_LIMIT;
    let answer = loop {
        if control::connect(folder).await.is_ok() || folder.outcome()?.is_some() {
            break Ok(JobHandle { folder: folder.clone() });
        }
        let gone = child.try_wait().map_err(start_error)?.is_some();
        if folder.outcome()?.is_none() && (gone || Instant::now() > deadline) {
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

/// A job that was started, by whomever and whenever.
#[derive(Debug, Clone)]
pub struct JobHandle {
    folder: JobFolder,
}

impl JobHandle {
    /// A job whose process was started earlier.
    pub fn attach(folder: JobFolder) -> Self {
        Self { folder }
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
            reader: None,
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

    /// Waits for the job's end.
    pub async fn outcome(&self) -> Result<JobOutcome, JobError> {
        let mut events = self.events(0);
        while let Some(numbered) = events.next().await? {
            if let JobEvent::Finished { outcome } = numbered.event {
                return Ok(outcome);
            }
        }
        Ok(JobOutcome::Interrupted)
    }
}

/// The events of one job, in order, as they happen.
#[derive(Debug)]
pub struct EventStream {
    folder: JobFolder,
    after: u64,
    reader: Option<EventReader>,
    socket: Option<UnixStream>,
    closed_at: Option<Instant>,
    settled: bool,
    over: bool,
}

impl EventStream {
    /// The next event; nothing after the last one. Waits as long as the job runs; safe to cancel.
    ///
    /// When the job's process has gone without a last event, this writes it
    /// ([`JobOutcome::Interrupted`]).
    pub async fn next(&mut self) -> Result<Option<NumberedEvent>, JobError> {
        loop {
            if self.over {
                return Ok(None);
            }
            if let Some(numbered) = self.read()? {
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

    fn read(&mut self) -> Result<Option<NumberedEvent>, JobError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            empty => empty.insert(EventReader::open(&self.folder, self.after)?),
        };
        Ok(reader.next()?)
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
            Err(FolderError::Locked(_)) if closed_at.elapsed() < EXIT_LIMIT => {
                sleep(LOOK_INTERVAL).await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
