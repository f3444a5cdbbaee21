//! One job with a Python worker, in the Python dialect.
//!
//! | module | what it does |
//! |---|---|
//! | `script` | rewrites the package's script for Python workers |
//! | `follow` | reads the job's texts and its result |

mod follow;
mod script;

use super::display::Display;
use super::error::{JobRefused, PackageFault};
use super::interrupt::Stage;
use super::viewer::Viewer;
use super::{ClientError, Job};
use crate::blocking::blocking;
use crate::config::PythonSilence;
use follow::Follower;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_net::python::{PythonClientEnd, PythonError, PythonMessage};
use sleap_rtc_net::rtc::Channel;
use sleap_rtc_package::script::{MAX_SCRIPT_BYTES, decode};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobSpec, JobType};
use sleap_rtc_protocol::meter::Direction;
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::python::{ClientText, FileMeta, MAX_MESSAGE_BYTES, WorkerText};
use sleap_rtc_transfer::{self as transfer, Progress};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

/// How long a worker may take to ask for a secret, over a slow network.
const CHALLENGE_WITHIN: Duration = Duration::from_secs(1);

/// Submits the job over a channel to a Python worker. Returns where the result is.
pub(crate) async fn run(
    channel: Channel,
    spec: &JobSpec,
    job: &Job,
    silence: PythonSilence,
    stage: &watch::Sender<Stage>,
    display: &mut Display,
    viewer: Option<Viewer>,
) -> Result<PathBuf, ClientError> {
    let worker = display.worker_id();
    let link = PythonClientEnd::new(channel);
    let mut session = PythonSession { link, worker, silence, display, viewer };
    session.await_challenge().await?;
    match &spec.shared {
        Some(_) => session.submit_shared(spec, job).await?,
        None => session.upload(job).await?,
    }
    stage.send_replace(Stage::Following);
    Follower::new(&mut session, job)?.follow().await
}

/// The message for a user who ends a client whose job runs on a Python worker.
pub(crate) fn abandoned_text(worker: &PeerId) -> String {
    format!(
        "{worker} is a Python worker, which does not notice that its client has gone. The training \
         continues there and keeps the GPU until it ends; its result is lost."
    )
}

struct PythonSession<'a> {
    link: PythonClientEnd,
    worker: PeerId,
    silence: PythonSilence,
    display: &'a mut Display,
    viewer: Option<Viewer>,
}

impl PythonSession<'_> {
    /// A worker that wants its room's secret asks as soon as the channel is open. Waiting for that
    /// spares a useless upload.
    async fn await_challenge(&mut self) -> Result<(), ClientError> {
        let first = tokio::time::timeout(CHALLENGE_WITHIN, self.link.recv()).await;
        match first {
            Err(_) => Ok(()),
            Ok(Err(_)) => Err(self.lost("before the upload")),
            Ok(Ok(PythonMessage::Text(WorkerText::AuthChallenge))) => {
                Err(JobRefused::PythonSecret(self.worker.clone()).into())
            }
            Ok(Ok(message)) => {
                self.link.put_back(message);
                Ok(())
            }
        }
    }

    async fn upload(&mut self, job: &Job) -> Result<(), ClientError> {
        let temporary = tempfile::tempdir().map_err(temporary_file)?;
        let (zip, name) = self.zip(job, temporary.path()).await?;
        let mut file = tokio::fs::File::open(&zip).await.map_err(temporary_file)?;
        let total_bytes = file.metadata().await.map_err(temporary_file)?.len();
        self.introduce(job, name, total_bytes).await?;
        let display = &mut *self.display;
        let sending = self.link.send_content(&mut file, MAX_MESSAGE_BYTES, |done_bytes| {
            let progress = Progress { done_bytes, total_bytes, ..Progress::default() };
            display.transfer(Direction::Upload, progress);
        });
        let sent = sending.await;
        sent.map_err(|error| self.not_sent(error))?;
        match self.link.flush(self.silence.otherwise).await {
            Ok(()) => self.display.transferred(Direction::Upload, total_bytes),
            // A worker that has disconnected may have sent its reason, which is read later.
            Err(error) => tracing::debug!(%error, "the upload was not acknowledged"),
        }
        Ok(())
    }

    /// The package as every Python worker reads it: a zip with one folder, which has the zip's
    /// name. Workers of the first version look nowhere else.
    async fn zip(&mut self, job: &Job, folder: &Path) -> Result<(PathBuf, String), ClientError> {
        let script = self.script(job)?;
        // An invalid folder name is only for people.
        let top = RelPath::new(&job.name).ok().filter(|name| !name.as_str().contains('/'));
        let top = top.map_or_else(|| "package".to_owned(), |name| name.to_string());
        let (package, zip) = (job.package.clone(), folder.join("package.zip"));
        let (to, name) = (zip.clone(), format!("{top}.zip"));
        let packed = blocking(move || transfer::pack_package(&package, &top, &script, &to)).await?;
        packed.map_err(|source| ClientError::Transfer { what: "package", source })?;
        Ok((zip, name))
    }

    /// The script in the package, and its replacement.
    fn script(&mut self, job: &Job) -> Result<(RelPath, Vec<u8>), ClientError> {
        let job_type = job.description.job_type;
        let unusable = |why: String| {
            let worker = self.worker.clone();
            PackageFault::NotForPython { worker, why }
        };
        let path = RelPath::new(job_type.script_name()).map_err(|e| unusable(e.to_string()))?;
        let read = job.package.read_small(&path, MAX_SCRIPT_BYTES);
        let text = read.map_err(|error| unusable(WithCauses(&error).to_string()))?;
        let text = decode(&text).unwrap_or_default();
        let script = script::rewrite(job_type, &text).map_err(unusable)?;
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

    async fn introduce(&self, job: &Job, name: String, size: u64) -> Result<(), ClientError> {
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

    /// Sends the paths of a shared-storage job, without waiting between them, as Python clients do.
    async fn submit_shared(&self, spec: &JobSpec, job: &Job) -> Result<(), ClientError> {
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

    async fn send(&self, text: &ClientText) -> Result<(), ClientError> {
        self.link.send(text).await.map_err(|error| self.not_sent(error))
    }

    fn not_sent(&self, error: PythonError) -> ClientError {
        match error {
            PythonError::File(error) => temporary_file(error),
            PythonError::Gone | PythonError::Stalled => self.lost("while sending"),
        }
    }

    fn lost(&self, during: &'static str) -> ClientError {
        ClientError::Lost { worker: self.worker.clone(), during }
    }
}

fn temporary_file(source: std::io::Error) -> ClientError {
    ClientError::TemporaryFile(source)
}
