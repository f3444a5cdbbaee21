//! The client: finds a worker, submits a job, follows it and downloads the result.
//!
//! | module | what it does |
//! |---|---|
//! | [`error`] | every way a client can end without success |
//! | [`package`] | the user's package, checked before anything is sent |
//! | `room` | this client's place in the room: discovery, requests, offers |
//! | `introduction` | what the room sees of this client |
//! | `connect` | opens connections: over iroh, over WebRTC |
//! | `selection` | chooses the worker: by policy, by name, or by asking the user |
//! | `cache_key` | the secret behind this user's name at workers' caches |
//! | `unreliable` | the workers that failed lately |
//! | `explain` | ranks a room without submitting a job |
//! | `prompt` | the list that the user chooses from |
//! | `untrusted` | why a worker is not trusted |
//! | `trust` | which workers are trusted |
//! | `known_removals` | which devices are removed from the rooms, according to their workers |
//! | `known_workers` | the workers that the user has accepted |
//! | `room_notes` | the files behind `known_removals` and `known_workers` |
//! | `submission` | the conversation about one job over `sleap-rtc/1` |
//! | `reconnect` | continues over another connection when one is lost |
//! | [`interrupt`] | what Ctrl-C and SIGTERM mean to a client that follows a job |
//! | [`record`] | the user's record of submitted jobs |
//! | [`report`] | one file about a finished job |
//! | `ending` | notifies the user when a job has ended |
//! | `notification` | a notification on the desktop |
//! | `action` | what to do with an existing job |
//! | [`probe`] | measures each way to a worker |
//! | [`existing_job`] | attach, logs, stop, cancel, fetch |
//! | `python` | one job with a Python worker |
//! | [`rooms`] | the rooms that this device has paired with |
//! | [`shared`] | jobs on storage that both sides see |
//! | `videos`, `mounted` | the videos that labels name: on a worker's mount, or sent along |
//! | [`queue_text`] | where waiting jobs stand, in words |
//! | [`display`] | shows a running job: a view on a terminal, plain lines on a pipe |
//! | `screen` | the user's terminal |
//! | [`top`] | a room on a full screen |
//! | `tracking` | builds the package of a prediction |
//! | `read_progress` | shows how far the reading of a package is |
//! | `viewer` | SLEAP's loss viewer |
//! | `output` | where results go |
//! | `partial_download` | where results are until they are complete |

mod action;
mod cache_key;
mod candidates;
mod connect;
pub mod display;
mod ending;
mod error;
pub mod existing_job;
mod explain;
pub mod interrupt;
mod introduction;
mod known_removals;
mod known_workers;
mod mounted;
mod notification;
mod output;
pub mod package;
mod partial_download;
pub mod probe;
mod prompt;
mod python;
pub mod queue_text;
mod read_progress;
mod reconnect;
pub mod record;
pub mod report;
mod room;
mod room_notes;
pub mod rooms;
pub(crate) mod screen;
mod selection;
pub mod shared;
mod submission;
pub mod top;
pub mod tracking;
mod trust;
mod unreliable;
mod untrusted;
pub mod videos;
mod viewer;

pub use action::Action;
pub use error::{ClientError, JobRefused, UnknownJob};
pub use explain::{explain, snapshot};
pub use introduction::user;
pub use mounted::find_mounted;
pub use output::Output;
pub use prompt::row;
pub use read_progress::ReadProgress;
pub use untrusted::Untrusted;
pub use viewer::ViewerPorts;

use crate::config::{Config, Wait};
use connect::Talk;
use display::{Detail, Display, say};
use error::{Ended, JobFailure};
use interrupt::{Interrupts, Stage};
use record::{Record, Submitting};
use room::{Connected, Offered, Room};
use selection::Search;
use shared::SharedJob;
use sleap_rtc_net::dialect::ClientEnd;
use sleap_rtc_policy::Policies;
use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
use sleap_rtc_protocol::job::{JobDescription, JobOutcome, JobRight, JobSpec};
use sleap_rtc_transfer::Package;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::goal::Goal;
use sleap_rtc_trust::session::{JobString, SessionString};
use std::path::PathBuf;
use submission::Submission;
use tokio::sync::watch;
use viewer::Viewer;

/// How a client finds its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Join {
    /// The worker that the session string names.
    Session(SessionString),
    /// A worker of a room, chosen in one of three ways.
    Room {
        /// The room's credentials.
        credentials: Credential,
        /// How to choose.
        choose: Choose,
    },
}

impl Join {
    /// The worker whose device is already known.
    fn named_device(&self) -> Option<(PeerId, DeviceId)> {
        match self {
            Self::Session(session) => Some((session.worker.clone(), session.device?)),
            Self::Room { .. } => None,
        }
    }

    fn credentials(&self) -> &Credential {
        match self {
            Self::Session(session) => &session.room,
            Self::Room { credentials, .. } => credentials,
        }
    }

    /// Whether the policy chooses the worker, so that any other one will do.
    fn chooses_by_policy(&self) -> bool {
        matches!(self, Self::Room { choose: Choose::Auto, .. })
    }

    /// Whether an interrupted submission may continue at its worker. A user who chooses from the list
    /// is asked again.
    fn allows(&self, job_ref: &JobString) -> bool {
        let worker = match self {
            Self::Session(session) => session.worker == job_ref.worker,
            Self::Room { choose, .. } => match choose {
                Choose::Prompt => false,
                Choose::Auto => true,
                Choose::Worker(worker) => *worker == job_ref.worker,
            },
        };
        worker && self.credentials().for_clients() == job_ref.room
    }
}

/// How a client chooses among the workers of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choose {
    /// The user picks from a list.
    Prompt,
    /// The selection policy decides.
    Auto,
    /// The user named the worker.
    Worker(PeerId),
}

/// A checked job, ready to be submitted.
pub struct Job {
    /// The files.
    pub package: Package,
    /// Its paths below the shared root, if both sides share storage.
    pub shared: Option<SharedJob>,
    /// Whether the worker leaves a shared package's `inference-script.sh` alone.
    pub skips_inference: bool,
    /// The name for people.
    pub name: String,
    /// The job's description for policies.
    pub description: JobDescription,
    /// Where the result goes.
    pub output: Output,
    /// The command that submits it again, without credentials.
    pub command: Vec<String>,
}

/// How to submit a job.
#[derive(Clone)]
pub struct SubmitOptions {
    /// How to find the worker.
    pub join: Join,
    /// The ports of SLEAP's loss viewer, if it is open.
    pub viewer: Option<ViewerPorts>,
    /// Whether the job waits where no slot is free, and how long.
    pub wait: Option<Wait>,
}

/// Submits `job` and follows it until its result has arrived, reconnecting if necessary. Returns where
/// the result is.
///
/// Once the worker has the package, the user can detach ([`ClientError::Detached`]) or cancel the job.
/// A job on a Python worker ends with its client.
pub async fn run(
    config: &Config,
    options: SubmitOptions,
    job: Job,
    mut interrupts: Interrupts,
) -> Result<PathBuf, ClientError> {
    let policies = Policies::load(&config.policy)?;
    let joining = Room::join(config, options.join.credentials().clone());
    let mut room = or_interrupt(&mut interrupts, joining).await?;
    if let Some((worker, device)) = options.join.named_device() {
        room.pin(worker, device);
    }
    let done = with_room(config, &mut room, &policies, options, &job, &mut interrupts).await;
    room.leave().await;
    done
}

async fn with_room(
    config: &Config,
    room: &mut Room,
    policies: &Policies,
    options: SubmitOptions,
    job: &Job,
    interrupts: &mut Interrupts,
) -> Result<PathBuf, ClientError> {
    if let Some(done) = resume(config, room, &options, job, interrupts).await {
        return done;
    }
    let (mut search, mut refused) = (Search::new(config, options.wait), None);
    loop {
        // A worker that refused the job must not learn the secret of the next attempt.
        let secret = JobSecret::from_random(rand::random());
        let spec = spec(job, &secret);
        let connecting = selection::connect(room, policies, &options.join, &spec, &mut search);
        let connected = match or_interrupt(interrupts, connecting).await {
            Err(ClientError::NoWorker(_) | ClientError::Refused(_)) if refused.is_some() => break,
            connected => connected?,
        };
        let worker = connected.worker.clone();
        let options = SubmitOptions { wait: search.wait, ..options.clone() };
        let done =
            submit(config, room, &options, (&spec, secret), job, connected, interrupts).await;
        match done {
            Err(Unfinished::NotTaken(error)) if options.join.chooses_by_policy() => {
                say(&format!("Worker {worker} did not take the job after all: {error}"));
                search.avoid(&worker);
                refused = Some(error);
            }
            done => return done.map_err(Unfinished::into_error),
        }
    }
    Err(refused.unwrap_or(ClientError::UnknownToWorker))
}

/// Why a submission has no result.
enum Unfinished {
    /// The worker refused the job, or broke the protocol, before the job had begun.
    NotTaken(ClientError),
    /// It ended in another way.
    Ended(ClientError),
}

impl Unfinished {
    fn into_error(self) -> ClientError {
        match self {
            Self::NotTaken(error) | Self::Ended(error) => error,
        }
    }
}

/// Submits the job to the worker that has taken it.
async fn submit(
    config: &Config,
    room: &mut Room,
    options: &SubmitOptions,
    (spec, secret): (&JobSpec, JobSecret),
    job: &Job,
    connected: Connected,
    interrupts: &mut Interrupts,
) -> Result<PathBuf, Unfinished> {
    let Connected { worker, device, talk } = connected;
    match talk {
        Talk::Native(end) => {
            let job_ref = JobString {
                room: options.join.credentials().clone(),
                worker: worker.clone(),
                device,
                job: spec.id.clone(),
                secret,
            };
            let cache_owner = cache_key::owner_at(&config.client.state_dir, &worker);
            let spec = &JobSpec { cache_owner, ..spec.clone() };
            let wait = options.wait;
            let submit = Submit { config, job_ref: &job_ref, spec, job, wait, submitting: None };
            submit.run(room, end, options.viewer, interrupts).await
        }
        Talk::Python(connection, channel) => {
            let viewer = options.viewer.map(Viewer::open);
            let mut display = Display::new(&worker, Detail::of_job(&config.client));
            display.introduce(&spec.name, room.facts(&worker).await.as_ref());
            let (silence, stage) =
                (config.client.python_silence, watch::Sender::new(Stage::Uploading));
            let work = python::run(channel, spec, job, silence, &stage, &mut display, viewer);
            let done = or_interrupt(interrupts, work).await;
            if let Ok(result) = &done {
                display.sum_up(Some(result));
            }
            if matches!(done, Err(ClientError::Cancelled(Ended::Command)))
                && *stage.borrow() == Stage::Following
            {
                say(&python::abandoned_text(&worker));
            }
            connection.close().await;
            if let Some(end) = ending::of_python_job(spec, &worker, &done) {
                ending::notify(&config.client, &end, interrupts).await;
            }
            done.map_err(Unfinished::Ended)
        }
    }
}

/// Resumes an interrupted submission of the same package, if there is one and its worker can be
/// reached.
async fn resume(
    config: &Config,
    room: &mut Room,
    options: &SubmitOptions,
    job: &Job,
    interrupts: &mut Interrupts,
) -> Option<Result<PathBuf, ClientError>> {
    let (job_ref, submitting) = Record::interrupted(config, &options.join, job)?;
    if let Some(device) = job_ref.device {
        room.pin(job_ref.worker.clone(), device);
    }
    let goal = Goal::KnownJob(job_ref.job.clone(), job_ref.secret.clone());
    let offer = room.offer(&job_ref.worker, &goal);
    let connected = match or_interrupt(interrupts, offer).await {
        Ok(Offered::Yes(connected)) => *connected,
        Err(error @ ClientError::Cancelled(_)) => return Some(Err(error)),
        Err(error) if error.is_distrust() => return Some(Err(error)),
        _ => return None,
    };
    let Talk::Native(end) = connected.talk else { return None };
    say(&format!("Resuming the upload of {} to {}", job_ref.job, job_ref.worker));
    let cache_owner = cache_key::owner_at(&config.client.state_dir, &job_ref.worker);
    let spec = JobSpec { id: job_ref.job.clone(), cache_owner, ..spec(job, &job_ref.secret) };
    let submitting = Some(submitting);
    let wait = options.wait;
    let submit = Submit { config, job_ref: &job_ref, spec: &spec, job, wait, submitting };
    match submit.run(room, end, options.viewer, interrupts).await {
        // Another client has the slot by now.
        Err(Unfinished::NotTaken(why)) => {
            tracing::info!(%why, "the upload cannot be resumed; submitting the job again");
            None
        }
        done => Some(done.map_err(Unfinished::into_error)),
    }
}

/// A job to submit to a worker that speaks `sleap-rtc/1`.
struct Submit<'a> {
    config: &'a Config,
    job_ref: &'a JobString,
    spec: &'a JobSpec,
    job: &'a Job,
    wait: Option<Wait>,
    submitting: Option<Submitting>,
}

impl Submit<'_> {
    async fn run(
        self,
        room: &mut Room,
        first: ClientEnd,
        viewer: Option<ViewerPorts>,
        interrupts: &mut Interrupts,
    ) -> Result<PathBuf, Unfinished> {
        let Self { config, job_ref, spec, job, wait, submitting } = self;
        let worker = &job_ref.worker;
        let mut display = Display::new(worker, Detail::of_job(&config.client));
        let facts = room.facts(worker).await;
        display.introduce(&spec.name, facts.as_ref());
        let host = facts.and_then(|facts| facts.hostname);
        let record = Record::new(config, job_ref, job, host);
        let progress = record.announce(&config.client.jobs_dir, submitting, &mut display);
        let submission = Submission::new(job_ref, spec, job, &mut display, progress);
        let submission = submission.with_limits(&config.client).with_wait(wait);
        let mut submission = submission.with_viewer(viewer.map(Viewer::open));
        let patience = config.client.reconnect_for;
        let following =
            reconnect::follow(room, worker, first, &mut submission, interrupts, patience);
        let done = following.await;
        let result = done.as_ref().ok().and_then(Option::as_deref);
        if let Some(end) = submission.end(result) {
            ending::notify(&config.client, &end, interrupts).await;
        }
        if let Err(error) = &done
            && !submission.has_begun()
        {
            submission.not_taken(error);
        }
        match done {
            Ok(result) => Ok(result.unwrap_or_else(|| job.output.path().to_owned())),
            Err(error) if error.is_refusal() && !submission.has_begun() => {
                Err(Unfinished::NotTaken(error))
            }
            Err(error) => Err(Unfinished::Ended(error)),
        }
    }
}

fn spec(job: &Job, secret: &JobSecret) -> JobSpec {
    JobSpec {
        id: JobId::from_random(rand::random()),
        right: JobRight::Secret { secret: secret.clone() },
        name: job.name.clone(),
        description: job.description.clone(),
        shared: job.shared.as_ref().map(|shared| shared.paths().clone()),
        skips_inference: job.skips_inference,
        // It is set once the worker is known.
        cache_owner: None,
    }
}

/// The job's outcome as the client's result.
pub fn concluded(outcome: JobOutcome) -> Result<(), ClientError> {
    match outcome {
        JobOutcome::Succeeded | JobOutcome::StoppedEarly => Ok(()),
        JobOutcome::Failed { message, .. } => {
            Err(ClientError::JobFailed(JobFailure::Reported(message)))
        }
        JobOutcome::Cancelled => Err(ClientError::Cancelled(Ended::Job)),
        JobOutcome::Interrupted => Err(ClientError::JobFailed(JobFailure::Interrupted)),
    }
}

/// Runs `work`, unless the user interrupts it.
async fn or_interrupt<T>(
    interrupts: &mut Interrupts,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::select! {
        done = work => done,
        _ = interrupts.any() => Err(ClientError::Cancelled(Ended::Command)),
    }
}
