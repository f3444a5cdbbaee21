//! One connection of a Python client: adapts the Python dialect to the same jobs and events.
//!
//! The client names the type of its package, sends it as a zip, and reads the job's texts and the result
//! from the same channel. Log text is sent in whole lines, so that no part of it can be taken for a
//! keyword of the protocol.

mod texts;

use super::coordinator::{HandoverStep, Launch};
use super::error::ConnectionError;
use super::staged_job::StagedJob;
use super::{Client, admission, delivery};
use crate::blocking::blocking;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{EventStream, JobCommand, JobFolder, JobHandle};
use sleap_rtc_net::python::{IncomingFile, IncomingFileError, PythonMessage, PythonWorkerEnd};
use sleap_rtc_protocol::ids::{JobId, JobSecret};
use sleap_rtc_protocol::job::{
    JobDescription, JobEvent, JobOutcome, JobRight, JobSpec, JobType, Refusal, RefusalCode,
    SharedPaths,
};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::python::{ClientText, FileMeta, WorkerText};
use sleap_rtc_transfer as transfer;
use sleap_rtc_trust::job_key::JobKey;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use texts::Texts;
use tracing::{info, warn};

/// How long a client may be silent (keep-alives do not count) before its package is complete.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the last bytes may take to be acknowledged.
const FLUSH: Duration = Duration::from_secs(60);
/// How long the client may take to hang up once it has everything.
const LINGER: Duration = Duration::from_secs(10);
/// The chunk size of Python workers.
const RESULT_CHUNK_BYTES: usize = 32 * 1024;

/// Serves one Python client until its job is over and its result sent, or until it disconnects.
pub(crate) async fn serve(
    client: Client,
    mut link: PythonWorkerEnd,
) -> Result<(), ConnectionError> {
    let served = converse(&client, &mut link).await;
    if let Err((texts, error)) = &served {
        let refusal = error.refusal();
        for text in refusal.iter().flat_map(|refusal| texts.refusal(&refusal.message)) {
            link.send(&text).await?;
        }
    }
    match link.flush(FLUSH).await {
        Ok(()) => {
            info!(peer = %client.caller.peer, "the client has received everything");
            // The client closes the connection, because it may not have read yet what it has
            // acknowledged.
            if !link.closed_within(LINGER).await {
                tracing::debug!("the client did not close the connection; closing it");
            }
        }
        Err(_) => {
            info!(peer = %client.caller.peer, "the client disconnected before it had received everything")
        }
    }
    served.map_err(|(_, error)| error)
}

/// The next message of a client whose package is not complete.
async fn recv_soon(
    link: &mut PythonWorkerEnd,
) -> Result<PythonMessage<ClientText>, ConnectionError> {
    match tokio::time::timeout(SILENCE, link.recv()).await {
        Ok(message) => Ok(message?),
        Err(_) => {
            let what = "sent nothing for 30 s although its package was not complete";
            Err(ConnectionError::Protocol(what))
        }
    }
}

/// What the client sends before its job begins.
#[derive(Default)]
struct Introduction {
    job_type: Option<JobType>,
    output_dir: Option<String>,
    meta: Option<FileMeta>,
    job_label: Option<String>,
    shared_input: Option<String>,
    shared_output: Option<String>,
    /// Whether the package is on shared storage, so that no content follows.
    is_shared: bool,
}

async fn converse(
    client: &Client,
    link: &mut PythonWorkerEnd,
) -> Result<(), (Texts, ConnectionError)> {
    let introduction = read_introduction(link).await.map_err(|error| (Texts::default(), error))?;
    let label = introduction.is_shared.then(|| introduction.job_label.clone().unwrap_or_default());
    let mut texts = Texts::new(introduction.job_type, label);
    match run_job(client, link, &introduction, &mut texts).await {
        Ok(()) => Ok(()),
        Err(error) => Err((texts, error)),
    }
}

/// Reads everything up to the package's first byte, or to the start of a shared-storage job.
async fn read_introduction(link: &mut PythonWorkerEnd) -> Result<Introduction, ConnectionError> {
    let mut introduction = Introduction::default();
    loop {
        let text = match recv_soon(link).await? {
            PythonMessage::Text(text) => text,
            content @ PythonMessage::Content(_) => {
                link.put_back(content);
                return Ok(introduction);
            }
        };
        match text {
            ClientText::PackageType(job_type) => introduction.job_type = Some(job_type),
            ClientText::OutputDir(path) => introduction.output_dir = Some(path),
            ClientText::JobId(label) => introduction.job_label = Some(label),
            ClientText::SharedInputPath(path) => introduction.shared_input = Some(path),
            ClientText::SharedOutputPath(path) => introduction.shared_output = Some(path),
            ClientText::FileMeta(meta) => introduction.meta = Some(meta),
            ClientText::SharedStorageJob => {
                introduction.is_shared = true;
                return Ok(introduction);
            }
            end @ ClientText::EndOfFile => {
                link.put_back(PythonMessage::Text(end));
                return Ok(introduction);
            }
            ClientText::ZmqCtrl(_) | ClientText::Other(_) => {}
        }
    }
}

fn invalid(message: impl Into<String>) -> ConnectionError {
    ConnectionError::Refused(Refusal::new(RefusalCode::Invalid, message))
}

async fn run_job(
    client: &Client,
    link: &mut PythonWorkerEnd,
    introduction: &Introduction,
    texts: &mut Texts,
) -> Result<(), ConnectionError> {
    client.coordinator.hold(&client.caller, None, None).await?;
    let shared = if introduction.is_shared { Some(shared_paths(introduction)?) } else { None };
    let spec = job_spec(introduction, shared);
    if introduction.job_type.is_some() {
        client.context.trainers_searched().await?;
        client.context.check_trainer(&spec.description).await?;
    }
    let (state_dir, peer) = (client.context.state_dir.clone(), client.caller.peer.clone());
    let folder = blocking(move || JobFolder::create(&state_dir, &spec, &peer, None)).await??;
    let staged = StagedJob::new(folder.clone(), None, client.context.arriving.clone());
    let staging = stage(client, link, introduction, &folder);
    let description = StagedJob::unless_ended(staged.ended(), staging).await?;
    // Some clients do not name the type of their job.
    if introduction.job_type.is_none() {
        texts.set_job_type(description.job_type);
    }
    let handle = match staged.start(client).await? {
        Launch::Runs(handle) | Launch::Submitted(handle) => handle,
        Launch::Waits => return Err(invalid("the jobs of Python clients do not wait")),
    };
    follow(client, link, introduction, &folder, &handle, texts).await
}

/// The paths of a shared-storage job, checked one by one, so that the error names the wrong one.
fn shared_paths(introduction: &Introduction) -> Result<SharedPaths, ConnectionError> {
    let path = |text: &Option<String>, which: &str| {
        let text = text.as_deref().ok_or_else(|| invalid(format!("no {which} path was given")))?;
        RelPath::new(text).map_err(|error| invalid(format!("{which}: {error}")))
    };
    Ok(SharedPaths {
        input: path(&introduction.shared_input, "input")?,
        output: path(&introduction.shared_output, "output")?,
    })
}

fn job_spec(introduction: &Introduction, shared: Option<SharedPaths>) -> JobSpec {
    let id = JobId::from_random(rand::random());
    // A Python client never returns to a job.
    let secret = JobSecret::from_random(rand::random());
    let right = JobRight::Verifier { verifier: JobKey::new(&id, &secret).verifier() };
    let name = introduction.meta.as_ref().map_or("package", |meta| base_name(&meta.name));
    let job_type = introduction.job_type.unwrap_or(JobType::Training);
    let description = JobDescription::unknown(job_type);
    let name = name.to_owned();
    let (skips_inference, cache_owner) = (false, None);
    JobSpec { id, right, name, description, shared, skips_inference, cache_owner }
}

/// The last part of a path of any system: a name for people, never a place on disk.
fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().filter(|name| !name.is_empty()).unwrap_or("package")
}

async fn stage(
    client: &Client,
    link: &mut PythonWorkerEnd,
    introduction: &Introduction,
    folder: &JobFolder,
) -> Result<JobDescription, ConnectionError> {
    if let Some(paths) = &folder.spec().shared {
        let places = delivery::shared_places(&client.context, paths)?;
        for which in ["input", "output"] {
            link.send(&WorkerText::PathValidated(which.to_owned())).await?;
        }
        client.coordinator.step(folder.owner(), HandoverStep::Complete).await;
        delivery::claim_output(&places, paths).await?;
        delivery::take_in_place(folder, places.input).await?;
    } else {
        let zip = receive(client, link, introduction, folder).await?;
        let (into, limits, from) = (folder.files_dir(), client.context.limits.clone(), zip.clone());
        let unpacked = blocking(move || transfer::unpack(&from, &into, &limits)).await?;
        unpacked.map_err(|error| {
            // The client knows the zip by the name that it gave.
            let error = error.with_archive_name(&zip, &folder.spec().name);
            invalid(WithCauses(&error).to_string())
        })?;
        tokio::fs::remove_file(&zip).await?;
    }
    Ok(admission::check_files(&client.context, folder, &folder.spec().description).await?)
}

/// Receives the package as a file in the job's folder.
async fn receive(
    client: &Client,
    link: &mut PythonWorkerEnd,
    introduction: &Introduction,
    folder: &JobFolder,
) -> Result<PathBuf, ConnectionError> {
    let meta = introduction.meta.as_ref();
    let meta = meta.ok_or_else(|| invalid("file content came before FILE_META"))?;
    let limit_bytes = client.context.limits.max_bytes;
    let zip = folder.path().join("package.zip");
    let mut file = IncomingFile::create(&zip, meta, limit_bytes).await.map_err(not_received)?;
    let (mut content_at, mut reports) =
        (Instant::now(), client.coordinator.upload_of(folder.owner()));
    loop {
        match recv_soon(link).await? {
            PythonMessage::Content(bytes) => {
                file.write(&bytes).await.map_err(not_received)?;
                content_at = Instant::now();
                reports.advanced();
            }
            PythonMessage::Text(ClientText::EndOfFile) => break,
            PythonMessage::Text(_) if content_at.elapsed() < SILENCE => {}
            PythonMessage::Text(_) => {
                let what = "sent no content for 30 s although its package was not complete";
                return Err(ConnectionError::Protocol(what));
            }
        }
    }
    client.coordinator.step(folder.owner(), HandoverStep::Complete).await;
    let bytes = file.received_bytes();
    file.finish().await.map_err(not_received)?;
    info!(job = %folder.id(), bytes, "package complete");
    Ok(zip)
}

fn not_received(error: IncomingFileError) -> ConnectionError {
    match error {
        IncomingFileError::Io(error) => error.into(),
        refused => invalid(format!("cannot take the package: {refused}")),
    }
}

/// Forwards the job's events until it is over, then sends the result.
async fn follow(
    client: &Client,
    link: &mut PythonWorkerEnd,
    introduction: &Introduction,
    folder: &JobFolder,
    handle: &JobHandle,
    texts: &mut Texts,
) -> Result<(), ConnectionError> {
    let wants_progress = introduction.meta.as_ref().is_some_and(FileMeta::wants_progress);
    let mut events = handle.events(0);
    let outcome = forward_events(link, handle, &mut events, texts, wants_progress).await?;
    info!(job = %folder.id(), ?outcome, "the job has finished");
    if folder.spec().shared.is_some() {
        delivery::deliver(&client.context, folder).await?;
        let output = introduction.shared_output.clone().unwrap_or_default();
        return Ok(link.send(&texts.shared_end(&outcome, output)).await?);
    }
    for text in texts.before_result() {
        link.send(&text).await?;
    }
    if let Some(result) = result_file(introduction, folder, texts.job_type()).await? {
        send_result(link, &result).await?;
        if link.flush(FLUSH).await.is_ok() {
            info!(job = %folder.id(), bytes = result.meta.size, "the client has the result");
            let fetched = folder.clone();
            blocking(move || fetched.mark_fetched(now_ms())).await?;
        }
    }
    for text in texts.after_result() {
        link.send(&text).await?;
    }
    Ok(())
}

async fn forward_events(
    link: &mut PythonWorkerEnd,
    handle: &JobHandle,
    events: &mut EventStream,
    texts: &mut Texts,
    wants_progress: bool,
) -> Result<JobOutcome, ConnectionError> {
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(numbered) = event else { return Ok(JobOutcome::Interrupted) };
                if matches!(numbered.event, JobEvent::Progress { .. }) && !wants_progress {
                    continue;
                }
                for text in texts.of(&numbered.event) {
                    link.send(&text).await?;
                }
                if let JobEvent::Finished { outcome } = numbered.event {
                    return Ok(outcome);
                }
            }
            message = link.recv() => obey(handle, message?).await,
        }
    }
}

/// Carries out the commands of the loss viewer's buttons. Forwards only known commands, and never
/// the client's own bytes, because the trainer would unpickle them.
async fn obey(handle: &JobHandle, message: PythonMessage<ClientText>) {
    let PythonMessage::Text(ClientText::ZmqCtrl(control)) = message else { return };
    let command = match control.get("command").and_then(|command| command.as_str()) {
        Some("stop") => JobCommand::Stop { all: false },
        Some("cancel") => JobCommand::Cancel,
        _ => return warn!("ignored an unknown control command"),
    };
    if let Err(error) = handle.command(command).await {
        warn!(error = %WithCauses(&error), "a command did not reach the job");
    }
}

/// A file for the client.
struct ResultFile {
    meta: FileMeta,
    path: PathBuf,
}

/// The result of a training is one zip of all models, that of an inference the predictions as they are.
async fn result_file(
    introduction: &Introduction,
    folder: &JobFolder,
    job_type: JobType,
) -> Result<Option<ResultFile>, ConnectionError> {
    let results = folder.results_dir();
    let (name, path, default_dir) = match job_type {
        // The client would take an empty archive for models.
        JobType::Training if !folder.has_results() => return Ok(None),
        JobType::Training => {
            let zip = folder.path().join("result.zip");
            let (from, to) = (results.clone(), zip.clone());
            let packed = blocking(move || transfer::pack(&from, &to)).await?;
            packed.map_err(|error| invalid(WithCauses(&error).to_string()))?;
            let meta = introduction.meta.as_ref();
            let package = meta.map_or("package.zip", |meta| base_name(&meta.name));
            (format!("trained_{package}"), zip, "models")
        }
        JobType::Inference => match only_file(&results) {
            Some(path) => (file_name(&path), path, "."),
            None => return Ok(None),
        },
    };
    let rest = introduction.output_dir.clone().unwrap_or_else(|| default_dir.to_owned());
    let size = tokio::fs::metadata(&path).await?.len();
    Ok(Some(ResultFile { meta: FileMeta { name, size, rest }, path }))
}

fn only_file(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    files.next()
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

async fn send_result(link: &PythonWorkerEnd, result: &ResultFile) -> Result<(), ConnectionError> {
    let mut file = tokio::fs::File::open(&result.path).await?;
    link.send(&WorkerText::FileMeta(result.meta.clone())).await?;
    Ok(link.send_content(&mut file, RESULT_CHUNK_BYTES, |_| {}).await?)
}
