//! Follows a job on a Python worker: reads its texts and its result.

use super::{PythonSession, temporary_file};
use crate::blocking::blocking;
use crate::client::error::{JobRefused, Misbehavior};
use crate::client::output::Output;
use crate::client::partial_download::PartialDownload;
use crate::client::viewer::Viewer;
use crate::client::{ClientError, Job, concluded};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_net::python::{IncomingFile, IncomingFileError, PythonMessage};
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobType, NumberedEvent};
use sleap_rtc_protocol::meter::Direction;
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::python::{ClientText, FileMeta, WorkerText};
use sleap_rtc_transfer::{self as transfer, Limits, Progress};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// How often a Python peer expects a keep-alive.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// How long to wait for further messages after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// The time from a run's end to the next text or the result, in which the worker only packs the
/// models.
const AFTER_A_RUN: Duration = Duration::from_secs(30);

/// The state of the job.
pub(crate) struct Follower<'f, 's> {
    session: &'f mut PythonSession<'s>,
    job: &'f Job,
    partial: PartialDownload,
    outcome: JobOutcome,
    is_running: bool,
    /// Whether a run has started. Earlier texts are about the package.
    has_run: bool,
    download: Option<IncomingFile>,
    result: Option<PathBuf>,
    is_done: bool,
    shown_events: u64,
}

impl<'f, 's> Follower<'f, 's> {
    /// The job has just been submitted.
    pub(crate) fn new(
        session: &'f mut PythonSession<'s>,
        job: &'f Job,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            session,
            job,
            partial: job.output.new_download()?,
            outcome: JobOutcome::Succeeded,
            is_running: false,
            has_run: false,
            download: None,
            result: None,
            is_done: false,
            shown_events: 0,
        })
    }

    /// Reads the job's texts and its result until the worker is done.
    pub(crate) async fn follow(mut self) -> Result<PathBuf, ClientError> {
        while !self.is_done {
            match self.next().await {
                Ok(PythonMessage::Text(text)) => self.on_text(text).await?,
                Ok(PythonMessage::Content(content)) => self.on_content(&content).await?,
                // It has reported the job's failure, and any further messages are lost.
                Err(_) if !self.outcome.is_success() => break,
                Err(error) => return Err(error),
            }
        }
        concluded(self.outcome.clone())?;
        if let Some(shared) = &self.job.shared {
            return self.job.output.publish_shared(shared);
        }
        let result = self.result.take().ok_or_else(|| self.broke(Misbehavior::NoResult))?;
        if let Output::Models(_) = self.job.output {
            let (zip, into) = (result.clone(), self.partial.path().to_owned());
            let unpack = move || transfer::unpack(&zip, &into, &Limits::results());
            let unpacked = blocking(unpack).await?;
            unpacked.map_err(|error| self.broke(Misbehavior::DamagedResult(error)))?;
            std::fs::remove_file(&result).map_err(temporary_file)?;
        }
        self.job.output.publish(self.partial)
    }

    /// The next message. Sends keep-alives meanwhile.
    async fn next(&mut self) -> Result<PythonMessage<WorkerText>, ClientError> {
        let limit = self.limit();
        let deadline = Instant::now() + limit;
        let mut keep_alive = tokio::time::interval(KEEP_ALIVE_EVERY);
        keep_alive.reset();
        let session = &mut *self.session;
        loop {
            tokio::select! {
                // A hung worker sends keep-alives too, and they are skipped here.
                message = session.link.recv() => {
                    return message.map_err(|_| session.lost("during the job"));
                }
                _ = keep_alive.tick() => {
                    session.link.send_keep_alive().await.map_err(|error| session.not_sent(error))?;
                }
                () = Viewer::stop_wanted(&mut session.viewer) => {
                    let stop = serde_json::json!({ "command": "stop" });
                    session.send(&ClientText::ZmqCtrl(stop)).await?;
                }
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        let when = match (self.has_run, self.is_running, &self.download) {
            (_, true, _) => "while it trained or tracked",
            (false, ..) => "after it had the package",
            (true, _, None) => "after the run, and sent no result",
            (true, _, Some(_)) => "before it had sent the whole result",
        };
        Err(self.broke(Misbehavior::Silent { limit, when }))
    }

    /// How long the worker may be silent now.
    fn limit(&self) -> Duration {
        let silence = self.session.silence;
        match (self.outcome.is_success(), self.is_running) {
            (false, _) => AFTER_FAILURE,
            (true, true) => silence.in_a_run,
            (true, false) if self.has_run && self.download.is_none() => {
                silence.otherwise.min(AFTER_A_RUN)
            }
            (true, false) => silence.otherwise,
        }
    }

    async fn on_text(&mut self, text: WorkerText) -> Result<(), ClientError> {
        if self.is_running && !has_meaning_in_a_run(&text) {
            self.log(text.encode());
            return Ok(());
        }
        match text {
            WorkerText::TrainJobStart(name) | WorkerText::InferenceJobStart(name) => {
                self.run_started(name);
            }
            WorkerText::TrainJobEnd(name) | WorkerText::InferenceJobEnd(name) => {
                self.run_ended(name, JobOutcome::Succeeded);
            }
            WorkerText::TrainJobError(name, code) | WorkerText::InferenceJobError(name, code) => {
                let message = format!("{name} ended with exit code {code}; see the log above");
                let outcome = JobOutcome::Failed { exit_code: code.parse().ok(), message };
                self.run_ended(name, outcome);
            }
            // Nothing has run yet, so another worker may be able to take the job.
            WorkerText::PathError(why) if !self.has_run => {
                let worker = self.session.worker.clone();
                return Err(JobRefused::PythonStorage { worker, why }.into());
            }
            WorkerText::InferenceError(message)
            | WorkerText::PathError(message)
            | WorkerText::JobFailed(_, message) => {
                self.outcome = JobOutcome::Failed { exit_code: None, message };
                self.is_done = true;
            }
            WorkerText::JobComplete(..) | WorkerText::InferenceJobsDone => self.is_done = true,
            WorkerText::FileMeta(meta) => self.download = Some(self.begin(&meta).await?),
            WorkerText::EndOfFile => self.end_file().await?,
            WorkerText::Log(text) => self.log(text),
            WorkerText::TrackLog(line) => self.log(format!("{}\n", line.trim_end())),
            WorkerText::ProgressReport(message) => self.show(JobEvent::Progress { message }),
            WorkerText::TrainingJobsDone if !self.has_run && self.outcome.is_success() => {
                return Err(self.broke(Misbehavior::NothingRun));
            }
            WorkerText::AuthChallenge => {
                return Err(JobRefused::PythonSecret(self.session.worker.clone()).into());
            }
            WorkerText::TrainingJobsDone
            | WorkerText::InferenceStart
            | WorkerText::PathValidated(_) => {}
        }
        Ok(())
    }

    fn log(&mut self, text: String) {
        self.show(JobEvent::Log { text });
    }

    /// Shows what would be an event of a job on one of our own workers.
    fn show(&mut self, event: JobEvent) {
        if let Some(viewer) = &self.session.viewer {
            viewer.show(&event);
        }
        let seq = self.shown_events.saturating_add(1);
        let numbered = NumberedEvent { seq, at_ms: now_ms(), event };
        self.shown_events = seq;
        self.session.display.see(&numbered);
    }

    fn run_started(&mut self, name: String) {
        (self.is_running, self.has_run) = (true, true);
        self.show(JobEvent::RunStarted { name });
    }

    fn run_ended(&mut self, name: String, outcome: JobOutcome) {
        self.is_running = false;
        self.show(JobEvent::RunEnded { name, outcome: outcome.clone() });
        if self.outcome.is_success() {
            self.outcome = outcome;
        }
    }

    /// Begins to receive a file. The worker's name for it is checked but not used.
    async fn begin(&self, meta: &FileMeta) -> Result<IncomingFile, ClientError> {
        RelPath::new(&meta.name).map_err(|error| self.broke(Misbehavior::ResultName(error)))?;
        let name = match self.job.output {
            Output::Models(_) => ".result.zip",
            Output::Predictions(_) => "predictions",
        };
        let path = self.partial.path().join(name);
        let file = IncomingFile::create(&path, meta, Limits::results().max_bytes).await;
        file.map_err(|error| self.not_received(error))
    }

    async fn on_content(&mut self, content: &[u8]) -> Result<(), ClientError> {
        let Some(download) = &mut self.download else { return Ok(()) };
        let written = download.write(content).await;
        let progress = Progress {
            done_bytes: download.received_bytes(),
            total_bytes: download.announced_bytes(),
            ..Progress::default()
        };
        written.map_err(|error| self.not_received(error))?;
        self.session.display.transfer(Direction::Download, progress);
        Ok(())
    }

    async fn end_file(&mut self) -> Result<(), ClientError> {
        let Some(download) = self.download.take() else { return Ok(()) };
        let bytes = download.received_bytes();
        let path = download.finish().await.map_err(|error| self.not_received(error))?;
        self.session.display.transferred(Direction::Download, bytes);
        self.result = Some(path);
        // A training ends with its file, an inference with a further message.
        self.is_done = self.job.description.job_type == JobType::Training;
        Ok(())
    }

    fn not_received(&self, error: IncomingFileError) -> ClientError {
        match error {
            IncomingFileError::Io(error) => self.job.output.error(error),
            refused => self.broke(Misbehavior::ResultFile(refused)),
        }
    }

    fn broke(&self, what: Misbehavior) -> ClientError {
        ClientError::Worker { worker: self.session.worker.clone(), what }
    }
}

/// During a run, only its end and its progress are messages; every other text belongs to its log.
fn has_meaning_in_a_run(text: &WorkerText) -> bool {
    matches!(
        text,
        WorkerText::TrainJobEnd(_)
            | WorkerText::TrainJobError(..)
            | WorkerText::InferenceJobEnd(_)
            | WorkerText::InferenceJobError(..)
            | WorkerText::InferenceError(_)
            | WorkerText::TrackLog(_)
            | WorkerText::ProgressReport(_)
            | WorkerText::JobComplete(..)
            | WorkerText::JobFailed(..)
    )
}
