//! One job with a Python worker, in the Python dialect.

mod script;

use super::display::Display;
use super::interrupt::Stage;
use super::meter::Direction;
use super::output::Output;
use super::partial_download::PartialDownload;
use super::viewer::Viewer;
use super::{ClientError, Job, concluded};
use crate::config::PythonSilence;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_net::rtc::{Channel, Message};
use sleap_rtc_package::script::{MAX_SCRIPT_BYTES, decode};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobSpec, JobType};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::python::{ClientText, FileMeta, KEEP_ALIVE, MAX_MESSAGE_BYTES, WorkerText};
use sleap_rtc_transfer::{self as transfer, Limits, Progress};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;

/// How often a Python peer expects a keep-alive.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// How long to wait for further messages after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// From a run's end to the next word, or to the result: nothing is left to do meanwhile but to pack
/// the models.
const AFTER_A_RUN: Duration = Duration::from_secs(30);
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// Submits the job over a channel to a Python worker. Returns where the result is.
pub(super) async fn run(
    channel: Channel,
    spec: &JobSpec,
    job: &Job,
    patience: PythonSilence,
    stage: &watch::Sender<Stage>,
    display: &mut Display,
    viewer: Option<Viewer>,
) -> Result<PathBuf, ClientError> {
    let worker = display.worker_id();
    if job.description.job_type == JobType::Inference {
        display.note(&format!(
            "{worker} is a Python worker; no known version sends its predictions back."
        ));
    }
    let mut session = Session { channel, worker, patience, display, viewer };
    match &spec.shared {
        Some(_) => session.submit_shared(spec, job).await?,
        None => session.upload(job).await?,
    }
    stage.send_replace(Stage::Following);
    session.follow(job).await
}

/// The message for a user who ends a client whose job runs on a Python worker.
pub(super) fn abandoned_text(worker: &PeerId) -> String {
    format!(
        "{worker} is a Python worker, which does not notice that its client has gone. The training \
         continues there and keeps the GPU until it ends; its result is lost."
    )
}

struct Session<'a> {
    channel: Channel,
    worker: PeerId,
    patience: PythonSilence,
    display: &'a mut Display,
    viewer: Option<Viewer>,
}

/// A result that is being received.
struct Download {
    meta: FileMeta,
    path: PathBuf,
    file: tokio::fs::File,
    received_bytes: u64,
}

/// The state of the flow.
struct Flow {
    partial: PartialDownload,
    outcome: JobOutcome,
    running: bool,
    download: Option<Download>,
    result: Option<PathBuf>,
    /// A run has begun: what is said before is about the package.
    began: bool,
    done: bool,
}

impl Session<'_> {
    async fn upload(&mut self, job: &Job) -> Result<(), ClientError> {
        let temporary = tempfile::tempdir().map_err(internal)?;
        let (zip, name) = self.zip(job, temporary.path()).await?;
        let size = tokio::fs::metadata(&zip).await.map_err(internal)?.len();
        self.introduce(job, name, size).await?;
        let mut file = tokio::fs::File::open(&zip).await.map_err(internal)?;
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let mut done_bytes = 0;
        loop {
            let length = file.read(&mut buffer).await.map_err(internal)?;
            if length == 0 {
                break;
            }
            self.send_bytes(&buffer[..length]).await?;
            done_bytes += length as u64;
            let progress = Progress { done_bytes, total_bytes: size, ..Progress::default() };
            self.display.transfer(Direction::Upload, progress);
        }
        self.send(&ClientText::EndOfFile).await?;
        match self.channel.flush(self.patience.otherwise).await {
            Ok(()) => self.display.transferred(Direction::Upload, size),
            // A worker that has hung up may have said why: that is still to be read.
            Err(error) => tracing::debug!(%error, "the upload was not acknowledged"),
        }
        Ok(())
    }

    /// The package as every Python worker reads it: a zip with one folder, which has the zip's
    /// name. Those of the first version look nowhere else.
    async fn zip(&mut self, job: &Job, folder: &Path) -> Result<(PathBuf, String), ClientError> {
        let script = self.script(job)?;
        // A name that is not a valid folder name is only for people.
        let top = RelPath::new(&job.name).ok().filter(|name| !name.as_str().contains('/'));
        let top = top.map_or_else(|| "package".to_owned(), |name| name.to_string());
        let (package, zip) = (job.package.clone(), folder.join("package.zip"));
        let (to, name) = (zip.clone(), format!("{top}.zip"));
        let packing = move || transfer::pack_package(&package, &top, &script, &to);
        let packed = tokio::task::spawn_blocking(packing).await;
        let packed = packed.map_err(|error| ClientError::Internal(error.to_string()))?;
        packed.map_err(|error| ClientError::Internal(WithCauses(&error).to_string()))?;
        Ok((zip, name))
    }

    /// The script in the package, and what takes its place.
    fn script(&mut self, job: &Job) -> Result<(RelPath, Vec<u8>), ClientError> {
        let job_type = job.description.job_type;
        let unusable = |why: String| {
            ClientError::Package(format!("{} is a Python worker: {why}", self.worker))
        };
        let path = RelPath::new(job_type.script_name());
        let path = path.map_err(|error| ClientError::Internal(error.to_string()))?;
        let read = job.package.read_small(&path, MAX_SCRIPT_BYTES);
        let text = read.map_err(|error| unusable(error.to_string()))?;
        let text = decode(&text).unwrap_or_default();
        let script = script::rewrite(job_type, &text);
        let script = script.map_err(unusable)?;
        if !script.left_out.is_empty() {
            self.display.note(&format!(
                "{} is a Python worker: it trains by the configuration alone, without what {} sets: {}",
                self.worker,
                path,
                script.left_out.join(", ")
            ));
        }
        Ok((path, script.text.into_bytes()))
    }

    async fn introduce(&mut self, job: &Job, name: String, size: u64) -> Result<(), ClientError> {
        let job_type = job.description.job_type;
        let output_dir = match job_type {
            JobType::Training => "models",
            JobType::Inference => ".",
        };
        let gui = if self.viewer.is_some() { "True" } else { "False" };
        self.send(&ClientText::PackageType(job_type)).await?;
        self.send(&ClientText::OutputDir(output_dir.into())).await?;
        let meta = FileMeta { name, size, rest: gui.into() };
        self.send(&ClientText::FileMeta(meta)).await
    }

    /// The paths of a shared-storage job, without waiting between them, as Python clients do.
    async fn submit_shared(&mut self, spec: &JobSpec, job: &Job) -> Result<(), ClientError> {
        let Some(paths) = &spec.shared else { return Ok(()) };
        let bytes = job.package.manifest().total_bytes();
        self.introduce(job, paths.input.file_name().to_owned(), bytes).await?;
        for text in [
            ClientText::JobId(spec.id.to_string()),
            ClientText::SharedInputPath(paths.input.to_string()),
            ClientText::SharedOutputPath(paths.output.to_string()),
            ClientText::SharedStorageJob,
        ] {
            self.send(&text).await?;
        }
        Ok(())
    }

    /// Reads the job's texts and its result until the worker is done.
    async fn follow(&mut self, job: &Job) -> Result<PathBuf, ClientError> {
        let mut flow = Flow {
            partial: job.output.new_download()?,
            outcome: JobOutcome::Succeeded,
            running: false,
            download: None,
            result: None,
            began: false,
            done: false,
        };
        while !flow.done {
            match self.next(&flow).await {
                Ok(Message::Text(text)) => self.on_text(&mut flow, job, &text).await?,
                Ok(Message::Binary(bytes)) => self.on_bytes(&mut flow, job, &bytes).await?,
                // It has reported the job's failure; whatever else it had to send is lost.
                Err(_) if !flow.outcome.is_success() => break,
                Err(error) => return Err(error),
            }
        }
        concluded(flow.outcome)?;
        if let Some(shared) = &job.shared {
            return job.output.publish_shared(shared);
        }
        let result = flow.result.ok_or_else(|| self.broke("sent no result".into()))?;
        if let Output::Models(_) = job.output {
            let (zip, into) = (result.clone(), flow.partial.path().to_owned());
            let unpacking = tokio::task::spawn_blocking(move || {
                transfer::unpack(&zip, &into, &Limits::results())
            });
            let unpacked = unpacking.await.map_err(|e| ClientError::Internal(e.to_string()))?;
            unpacked.map_err(|error| {
                self.broke(format!("sent a damaged result: {}", WithCauses(&error)))
            })?;
            std::fs::remove_file(&result).map_err(internal)?;
        }
        job.output.publish(flow.partial)
    }

    /// The next message. Meanwhile sends keep-alives; the time limit depends on the state.
    async fn next(&mut self, flow: &Flow) -> Result<Message, ClientError> {
        let limit = match (flow.outcome.is_success(), flow.running) {
            (false, _) => AFTER_FAILURE,
            (true, true) => self.patience.in_a_run,
            (true, false) if flow.began && flow.download.is_none() => {
                self.patience.otherwise.min(AFTER_A_RUN)
            }
            (true, false) => self.patience.otherwise,
        };
        let deadline = Instant::now() + limit;
        let mut keep_alive = tokio::time::interval(KEEP_ALIVE_EVERY);
        keep_alive.reset();
        loop {
            tokio::select! {
                message = self.channel.recv() => match message {
                    // A hung worker sends keep-alives too.
                    Some(Message::Binary(bytes)) if bytes == KEEP_ALIVE => {}
                    Some(message) => return Ok(message),
                    None => return Err(self.lost("during the job")),
                },
                _ = keep_alive.tick() => self.send_bytes(KEEP_ALIVE).await?,
                () = Viewer::stop_wanted(&mut self.viewer) => {
                    let stop = serde_json::json!({ "command": "stop" });
                    self.send(&ClientText::ZmqCtrl(stop)).await?;
                }
                () = tokio::time::sleep_until(deadline) => {
                    let limit_s = limit.as_secs();
                    let what = match (flow.began, flow.running) {
                        (_, true) => "while it trained or tracked",
                        (false, _) => "after it had the package",
                        (true, _) if flow.download.is_none() => "after the run, and sent no result",
                        (true, _) => "before it had sent the whole result",
                    };
                    return Err(self.broke(format!("was silent for {limit_s} s {what}")));
                }
            }
        }
    }

    async fn on_text(&mut self, flow: &mut Flow, job: &Job, text: &str) -> Result<(), ClientError> {
        let text = WorkerText::decode(text);
        // During a run, only its end and its progress are messages; everything else is its log.
        let word_of_run = matches!(
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
        );
        if flow.running && !word_of_run {
            self.display.log(&text.encode());
            return Ok(());
        }
        match text {
            WorkerText::TrainJobStart(name) | WorkerText::InferenceJobStart(name) => {
                (flow.running, flow.began) = (true, true);
                self.show(&JobEvent::RunStarted { name: name.clone() });
                self.display.run_started(&name, 1, 1);
            }
            WorkerText::TrainJobEnd(name) | WorkerText::InferenceJobEnd(name) => {
                self.run_ended(flow, name, JobOutcome::Succeeded);
            }
            WorkerText::TrainJobError(name, code) | WorkerText::InferenceJobError(name, code) => {
                let message = format!("{name} ended with exit code {code}; see the log above");
                let outcome = JobOutcome::Failed { exit_code: code.parse().ok(), message };
                self.run_ended(flow, name, outcome);
            }
            // Nothing has run yet, so another worker may be able to take the job.
            WorkerText::PathError(message) if !flow.began => {
                return Err(ClientError::Refused(format!(
                    "worker {} cannot use the shared storage: {message}; without \
                     --shared-storage-root the package is sent instead",
                    self.worker
                )));
            }
            WorkerText::InferenceError(message)
            | WorkerText::PathError(message)
            | WorkerText::JobFailed(_, message) => {
                flow.outcome = JobOutcome::Failed { exit_code: None, message };
                flow.done = true;
            }
            WorkerText::JobComplete(..) | WorkerText::InferenceJobsDone => flow.done = true,
            WorkerText::FileMeta(meta) => flow.download = Some(self.begin(flow, job, meta).await?),
            WorkerText::EndOfFile => self.end_file(flow, job).await?,
            WorkerText::Log(text) => self.display.log(&text),
            WorkerText::TrackLog(line) => self.display.log(&format!("{}\n", line.trim_end())),
            WorkerText::ProgressReport(message) => self.show(&JobEvent::Progress { message }),
            WorkerText::TrainingJobsDone if !flow.began && flow.outcome.is_success() => {
                let what = "reports success but has run nothing: it found no training in the \
                            package";
                return Err(self.broke(what.into()));
            }
            WorkerText::AuthChallenge => {
                return Err(ClientError::Refused(format!(
                    "worker {} (Python sleap-rtc 0.0.7 or newer) asks for its room's secret, which this \
                     program does not support; start that worker without a secret, or use this program's worker",
                    self.worker
                )));
            }
            WorkerText::TrainingJobsDone
            | WorkerText::InferenceStart
            | WorkerText::PathValidated(_) => {}
        }
        Ok(())
    }

    fn show(&self, event: &JobEvent) {
        if let Some(viewer) = &self.viewer {
            viewer.show(event);
        }
    }

    fn run_ended(&mut self, flow: &mut Flow, name: String, outcome: JobOutcome) {
        flow.running = false;
        self.display.run_ended(&name, &outcome);
        self.show(&JobEvent::RunEnded { name, outcome: outcome.clone() });
        if flow.outcome.is_success() {
            flow.outcome = outcome;
        }
    }

    /// The worker's name for the file is checked but not used.
    async fn begin(&self, flow: &Flow, job: &Job, meta: FileMeta) -> Result<Download, ClientError> {
        let bad = |why: String| self.broke(format!("sent a result that was refused: {why}"));
        RelPath::new(&meta.name).map_err(|error| bad(error.to_string()))?;
        let limit_bytes = Limits::results().max_bytes;
        if meta.size > limit_bytes {
            return Err(bad(format!(
                "{} bytes, but at most {limit_bytes} are accepted",
                meta.size
            )));
        }
        let name = match job.output {
            Output::Models(_) => ".result.zip",
            Output::Predictions(_) => "predictions",
        };
        let path = flow.partial.path().join(name);
        let file = tokio::fs::File::create(&path).await.map_err(|e| job.output.error(e))?;
        Ok(Download { meta, path, file, received_bytes: 0 })
    }

    async fn on_bytes(
        &mut self,
        flow: &mut Flow,
        job: &Job,
        bytes: &[u8],
    ) -> Result<(), ClientError> {
        let Some(download) = &mut flow.download else { return Ok(()) };
        download.received_bytes += bytes.len() as u64;
        let (done_bytes, total_bytes) = (download.received_bytes, download.meta.size);
        if done_bytes > total_bytes {
            return Err(self.broke(format!("sent more than the announced {total_bytes} bytes")));
        }
        download.file.write_all(bytes).await.map_err(|error| job.output.error(error))?;
        let progress = Progress { done_bytes, total_bytes, ..Progress::default() };
        self.display.transfer(Direction::Download, progress);
        Ok(())
    }

    async fn end_file(&mut self, flow: &mut Flow, job: &Job) -> Result<(), ClientError> {
        let Some(mut download) = flow.download.take() else { return Ok(()) };
        download.file.flush().await.map_err(|error| job.output.error(error))?;
        let (got, announced) = (download.received_bytes, download.meta.size);
        if got != announced {
            let what = format!("announced a result of {announced} bytes but sent {got}");
            return Err(self.broke(what));
        }
        self.display.transferred(Direction::Download, got);
        flow.result = Some(download.path);
        // A training ends with its file, an inference with a further message.
        flow.done = job.description.job_type == JobType::Training;
        Ok(())
    }

    async fn send(&self, text: &ClientText) -> Result<(), ClientError> {
        self.within(self.channel.send_text(text.encode())).await
    }

    async fn send_bytes(&self, bytes: &[u8]) -> Result<(), ClientError> {
        self.within(self.channel.send_binary(bytes.into())).await
    }

    async fn within<E>(
        &self,
        sending: impl Future<Output = Result<(), E>>,
    ) -> Result<(), ClientError> {
        match tokio::time::timeout(SEND_LIMIT, sending).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(self.lost("while sending")),
        }
    }

    fn lost(&self, during: &'static str) -> ClientError {
        ClientError::Lost { worker: self.worker.clone(), during }
    }

    fn broke(&self, what: String) -> ClientError {
        ClientError::Worker { worker: self.worker.clone(), what }
    }
}

fn internal(error: std::io::Error) -> ClientError {
    ClientError::Internal(format!("cannot use a temporary file: {error}"))
}
