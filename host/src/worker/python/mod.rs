//! One connection of a Python client: adapts the Python dialect to the same jobs and events.
//!
//! The client says what kind of package comes, sends it as a zip, and reads the job's texts and the
//! result from the same channel. Log text goes out in whole lines, so that no piece of it can be
//! taken for a word of the protocol.

mod texts;

use super::error::ConnectionError;
use super::staged_job::StagedJob;
use super::{Client, admission, delivery, staged_job};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{EventStream, JobCommand, JobFolder, JobHandle};
use sleap_rtc_net::rtc::{Channel, Message};
use sleap_rtc_protocol::job::{
    JobDescription, JobEvent, JobOutcome, JobSpec, JobType, Refusal, RefusalCode, SharedPaths,
};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::python::{ClientText, FileMeta, KEEP_ALIVE, WorkerText};
use sleap_rtc_transfer as transfer;
use std::path::{Path, PathBuf};
use std::time::Duration;
use texts::Texts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{info, warn};

/// Silence (keep-alives do not count) of a client that has something left to say.
const SILENCE: Duration = Duration::from_secs(30);
/// How long one message may wait for room.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// How long the last bytes may take to be acknowledged.
const FLUSH: Duration = Duration::from_secs(60);
/// How long the client may take to hang up once it has everything.
const LINGER: Duration = Duration::from_secs(10);
/// The Python worker's chunk.
const RESULT_CHUNK_BYTES: usize = 32 * 1024;

/// Serves one Python client until its job is over and sent, or it is gone.
pub(super) async fn serve(client: Client, channel: Channel) -> Result<(), ConnectionError> {
    let mut wire = Wire { channel, pending: None };
    let served = converse(&client, &mut wire).await;
    if let Err((texts, error)) = &served {
        let cause = match error {
            ConnectionError::Refused(refusal) => Some(refusal.message.clone()),
            ConnectionError::Io(error) => Some(error.to_string()),
            ConnectionError::Folder(error) => Some(WithCauses(error).to_string()),
            ConnectionError::Protocol(what) => Some((*what).to_owned()),
            _ => None,
        };
        for text in cause.iter().flat_map(|cause| texts.refusal(cause)) {
            wire.send(&text).await?;
        }
    }
    match wire.channel.flush(FLUSH).await {
        Ok(()) => {
            info!(peer = %client.peer, "the client has everything");
            // What is acknowledged may not have been read: the client is the one to hang up.
            wire.until_client_leaves().await;
        }
        Err(_) => info!(peer = %client.peer, "the client left before it had everything"),
    }
    served.map_err(|(_, error)| error)
}

/// The channel, with room to put one message back.
struct Wire {
    channel: Channel,
    pending: Option<Message>,
}

impl Wire {
    async fn send(&self, text: &WorkerText) -> Result<(), ConnectionError> {
        self.within(self.channel.send_text(text.encode())).await
    }

    async fn send_bytes(&self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.within(self.channel.send_binary(bytes.into())).await
    }

    async fn within<E>(
        &self,
        sending: impl Future<Output = Result<(), E>>,
    ) -> Result<(), ConnectionError> {
        match tokio::time::timeout(SEND_LIMIT, sending).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(ConnectionError::Gone),
        }
    }

    /// The next message that is no keep-alive. Cancel safe.
    async fn recv(&mut self) -> Result<Message, ConnectionError> {
        if let Some(message) = self.pending.take() {
            return Ok(message);
        }
        loop {
            match self.channel.recv().await.ok_or(ConnectionError::Gone)? {
                Message::Binary(bytes) if bytes == KEEP_ALIVE => {}
                message => return Ok(message),
            }
        }
    }

    async fn until_client_leaves(&mut self) {
        let leaving = async { while self.channel.recv().await.is_some() {} };
        if tokio::time::timeout(LINGER, leaving).await.is_err() {
            tracing::debug!("the client stays; closing");
        }
    }

    async fn recv_soon(&mut self) -> Result<Message, ConnectionError> {
        tokio::time::timeout(SILENCE, self.recv()).await.map_err(|_| {
            ConnectionError::Protocol("nothing came for 30 s before the package was whole")
        })?
    }
}

/// What the client said before its job began.
#[derive(Default)]
struct Introduction {
    job_type: Option<JobType>,
    output_dir: Option<String>,
    meta: Option<FileMeta>,
    job_label: Option<String>,
    shared_input: Option<String>,
    shared_output: Option<String>,
    /// `SHARED_STORAGE_JOB::start` was said: no content follows.
    is_shared: bool,
}

type Conversation<T> = Result<T, (Texts, ConnectionError)>;

async fn converse(client: &Client, wire: &mut Wire) -> Conversation<()> {
    let said = introduction(wire).await.map_err(|error| (Texts::default(), error))?;
    let label = said.is_shared.then(|| said.job_label.clone().unwrap_or_default());
    let mut texts = Texts::new(said.job_type, label);
    match job(client, wire, &said, &mut texts).await {
        Ok(()) => Ok(()),
        Err(error) => Err((texts, error)),
    }
}

/// Everything up to the package's first byte, or to the start of a shared-storage job.
async fn introduction(wire: &mut Wire) -> Result<Introduction, ConnectionError> {
    let mut said = Introduction::default();
    loop {
        let text = match wire.recv_soon().await? {
            Message::Text(text) => text,
            content @ Message::Binary(_) => {
                wire.pending = Some(content);
                return Ok(said);
            }
        };
        match ClientText::decode(&text) {
            ClientText::PackageType(job_type) => said.job_type = Some(job_type),
            ClientText::OutputDir(path) => said.output_dir = Some(path),
            ClientText::JobId(label) => said.job_label = Some(label),
            ClientText::SharedInputPath(path) => said.shared_input = Some(path),
            ClientText::SharedOutputPath(path) => said.shared_output = Some(path),
            ClientText::FileMeta(meta) => said.meta = Some(meta),
            ClientText::SharedStorageJob => {
                said.is_shared = true;
                return Ok(said);
            }
            ClientText::EndOfFile => {
                wire.pending = Some(Message::Text(text));
                return Ok(said);
            }
            ClientText::ZmqCtrl(_) | ClientText::Other(_) => {}
        }
    }
}

fn invalid(message: impl Into<String>) -> ConnectionError {
    ConnectionError::Refused(Refusal::new(RefusalCode::Invalid, message))
}

async fn job(
    client: &Client,
    wire: &mut Wire,
    said: &Introduction,
    texts: &mut Texts,
) -> Result<(), ConnectionError> {
    client.coordinator.hold(&client.peer).await?;
    let shared = if said.is_shared { Some(shared_paths(said)?) } else { None };
    let folder = JobFolder::create(&client.context.state_dir, &spec(said, shared)?, &client.peer)?;
    let staged = StagedJob::new(folder.clone(), None);
    let found = stage(client, wire, said, &folder).await?;
    // Some clients do not say what they send.
    if said.job_type.is_none() {
        texts.set_job_type(found.job_type);
    }
    let handle = staged.start(client).await?;
    follow(client, wire, said, &folder, &handle, texts).await
}

/// The paths of a shared-storage job, checked one by one so that the client hears which is wrong.
fn shared_paths(said: &Introduction) -> Result<SharedPaths, ConnectionError> {
    let path = |text: &Option<String>, which: &str| {
        let text = text.as_deref().ok_or_else(|| invalid(format!("no {which} path was given")))?;
        RelPath::new(text).map_err(|error| invalid(format!("{which}: {error}")))
    };
    Ok(SharedPaths {
        input: path(&said.shared_input, "input")?,
        output: path(&said.shared_output, "output")?,
    })
}

fn spec(said: &Introduction, shared: Option<SharedPaths>) -> Result<JobSpec, ConnectionError> {
    let (id, secret) =
        staged_job::fresh_ids().ok_or(ConnectionError::Protocol("no identifier for the job"))?;
    let name = said.meta.as_ref().map_or("package", |meta| base_name(&meta.name));
    let job_type = said.job_type.unwrap_or(JobType::Training);
    let description = JobDescription::unknown(job_type);
    Ok(JobSpec { id, secret, name: name.to_owned(), description, shared })
}

/// The last part of a path of either system: a name for people, never a place on disk.
fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().filter(|name| !name.is_empty()).unwrap_or("package")
}

async fn stage(
    client: &Client,
    wire: &mut Wire,
    said: &Introduction,
    folder: &JobFolder,
) -> Result<JobDescription, ConnectionError> {
    if let Some(paths) = &folder.spec().shared {
        let places = delivery::shared_places(&client.context, paths)?;
        for which in ["input", "output"] {
            wire.send(&WorkerText::PathValidated(which.to_owned())).await?;
        }
        delivery::take_in_place(folder, places.input).await?;
    } else {
        let zip = receive(client, wire, said, folder).await?;
        let (into, limits, from) = (folder.files_dir(), client.context.limits.clone(), zip.clone());
        let unpacked = tokio::task::spawn_blocking(move || transfer::unpack(&from, &into, &limits));
        let unpacked = unpacked.await.map_err(|_| ConnectionError::Thread)?;
        unpacked.map_err(|error| {
            // The client knows the zip by the name that it gave.
            let error = error.with_archive_name(&zip, &folder.spec().name);
            invalid(WithCauses(&error).to_string())
        })?;
        tokio::fs::remove_file(&zip).await?;
    }
    Ok(admission::check_files(&client.context, folder, &folder.spec().description).await?)
}

/// Spools the package to disk. The announced size must be what comes.
async fn receive(
    client: &Client,
    wire: &mut Wire,
    said: &Introduction,
    folder: &JobFolder,
) -> Result<PathBuf, ConnectionError> {
    let meta = said.meta.as_ref().ok_or_else(|| invalid("file content came before FILE_META"))?;
    let limit_bytes = client.context.limits.max_bytes;
    if meta.size > limit_bytes {
        return Err(invalid(format!(
            "the package has {} bytes, this worker takes {limit_bytes}",
            meta.size
        )));
    }
    let path = folder.path().join("package.zip");
    let mut file = tokio::fs::File::create(&path).await?;
    let mut received = 0u64;
    loop {
        match wire.recv_soon().await? {
            Message::Binary(bytes) => {
                received += bytes.len() as u64;
                if received > meta.size {
                    return Err(size_differs(meta.size, received));
                }
                file.write_all(&bytes).await?;
            }
            Message::Text(text) if ClientText::decode(&text) == ClientText::EndOfFile => break,
            Message::Text(_) => {}
        }
    }
    file.flush().await?;
    if received != meta.size {
        return Err(size_differs(meta.size, received));
    }
    info!(job = %folder.id(), bytes = received, "package complete");
    Ok(path)
}

fn size_differs(announced: u64, received: u64) -> ConnectionError {
    invalid(format!("the package was announced with {announced} bytes, but {received} came"))
}

/// Passes events on until the job is over, then sends the result.
async fn follow(
    client: &Client,
    wire: &mut Wire,
    said: &Introduction,
    folder: &JobFolder,
    handle: &JobHandle,
    texts: &mut Texts,
) -> Result<(), ConnectionError> {
    let gui = said.meta.as_ref().is_some_and(FileMeta::wants_progress);
    let mut events = handle.events(0);
    let outcome = stream(wire, handle, &mut events, texts, gui).await?;
    info!(job = %folder.id(), ?outcome, "the job is over");
    if folder.spec().shared.is_some() {
        delivery::deliver(&client.context, folder).await?;
        let output = said.shared_output.clone().unwrap_or_default();
        return wire.send(&texts.shared_end(&outcome, output)).await;
    }
    for text in texts.before_result() {
        wire.send(&text).await?;
    }
    if let Some(result) = result_file(said, folder, texts.job_type()).await? {
        send_result(wire, &result).await?;
        if wire.channel.flush(FLUSH).await.is_ok() {
            info!(job = %folder.id(), bytes = result.meta.size, "the client has the result");
            folder.mark_fetched(now_ms());
        }
    }
    for text in texts.after_result() {
        wire.send(&text).await?;
    }
    Ok(())
}

async fn stream(
    wire: &mut Wire,
    handle: &JobHandle,
    events: &mut EventStream,
    texts: &mut Texts,
    gui: bool,
) -> Result<JobOutcome, ConnectionError> {
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(numbered) = event else { return Ok(JobOutcome::Interrupted) };
                if matches!(numbered.event, JobEvent::Progress { .. }) && !gui {
                    continue;
                }
                for text in texts.of(&numbered.event) {
                    wire.send(&text).await?;
                }
                if let JobEvent::Finished { outcome } = numbered.event {
                    return Ok(outcome);
                }
            }
            message = wire.recv() => obey(handle, message?).await,
        }
    }
}

/// The loss viewer's buttons. Only known commands are passed on, and never the client's own bytes:
/// the trainer would unpickle them.
async fn obey(handle: &JobHandle, message: Message) {
    let Message::Text(text) = message else { return };
    let ClientText::ZmqCtrl(control) = ClientText::decode(&text) else { return };
    let command = match control.get("command").and_then(|command| command.as_str()) {
        Some("stop") => JobCommand::Stop { all: false },
        Some("cancel") => JobCommand::Cancel,
        _ => return warn!("an unknown control command was ignored"),
    };
    if let Err(error) = handle.command(command).await {
        warn!(error = %WithCauses(&error), "a command did not reach the job");
    }
}

/// A file on its way to the client.
struct ResultFile {
    meta: FileMeta,
    path: PathBuf,
}

/// Training: one zip of all models. Inference: the predictions as they are.
async fn result_file(
    said: &Introduction,
    folder: &JobFolder,
    job_type: JobType,
) -> Result<Option<ResultFile>, ConnectionError> {
    let results = folder.results_dir();
    let (name, path, default_dir) = match job_type {
        // An empty archive would pass for models.
        JobType::Training if !folder.has_results() => return Ok(None),
        JobType::Training => {
            let zip = folder.path().join("result.zip");
            let (from, to) = (results.clone(), zip.clone());
            let packing = tokio::task::spawn_blocking(move || transfer::pack(&from, &to));
            let packed = packing.await.map_err(|_| ConnectionError::Thread)?;
            packed.map_err(|error| invalid(WithCauses(&error).to_string()))?;
            let package = said.meta.as_ref().map_or("package.zip", |meta| base_name(&meta.name));
            (format!("trained_{package}"), zip, "models")
        }
        JobType::Inference => match only_file(&results) {
            Some(path) => (file_name(&path), path, "."),
            None => return Ok(None),
        },
    };
    let rest = said.output_dir.clone().unwrap_or_else(|| default_dir.to_owned());
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

async fn send_result(wire: &Wire, result: &ResultFile) -> Result<(), ConnectionError> {
    let mut file = tokio::fs::File::open(&result.path).await?;
    wire.send(&WorkerText::FileMeta(result.meta.clone())).await?;
    let mut buffer = vec![0; RESULT_CHUNK_BYTES];
    loop {
        let length = file.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        wire.send_bytes(&buffer[..length]).await?;
    }
    wire.send(&WorkerText::EndOfFile).await
}
