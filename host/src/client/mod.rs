//! The client: finds a worker, submits a job, follows it, brings the result back.
//!
//! | module | what it does |
//! |---|---|
//! | [`error`] | every way a client can end without success |
//! | [`package`] | what is to be sent, checked before anything is |
//! | `room` | this client's place in the room: discovery, requests, offers |
//! | `selection` | which worker gets the job: by policy, by name, or by asking the user |
//! | `explain` | what the policy makes of a room, without a job |
//! | `prompt` | the list that the user chooses from |
//! | `submission` | what is said about one job over `sleap-rtc/1` |
//! | `reconnect` | goes on over another connection when one is lost |
//! | [`parting`] | what Ctrl-C and SIGTERM mean to a client that stays with a job |
//! | [`record`] | what this user has submitted, so that it can be come back to |
//! | [`known`] | coming back to a job: attach, logs, stop, cancel, fetch |
//! | `legacy` | one job with a Python worker |
//! | `legacy_script` | the script as Python workers read it |
//! | [`shared`] | jobs on storage that both sides see |
//! | [`meter`] | how far a transfer is, in words |
//! | [`display`] | bars and log on a terminal, plain lines on a pipe |
//! | `given`, `view` | what was given, and what is in it |
//! | `tracking` | the package of a prediction |
//! | `reading` | that a package is being read |
//! | `viewer` | SLEAP's loss viewer |
//! | `output` | where results go |
//! | `collected` | where they are until they are whole |

mod collected;
pub mod display;
pub mod error;
mod explain;
mod given;
pub mod known;
mod legacy;
mod legacy_script;
pub mod meter;
mod output;
pub mod package;
pub mod parting;
mod prompt;
mod reading;
mod reconnect;
pub mod record;
mod room;
mod selection;
pub mod shared;
mod submission;
pub mod tracking;
mod view;
mod viewer;

pub use error::ClientError;
pub use explain::{explain, snapshot};
pub use output::Output;
pub use prompt::row;
pub use reading::Reading;
pub use room::user;
pub use viewer::ViewerPorts;

use crate::config::Config;
use display::{Display, say};
use parting::{Interrupts, Stage};
use record::{Record, Submitting};
use room::{Connected, Dialect, Offered, Room};
use shared::SharedJob;
use sleap_rtc_policy::Policies;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId, RoomCredentials};
use sleap_rtc_protocol::job::{JobDescription, JobOutcome, JobSpec};
use sleap_rtc_protocol::session::{JobString, SessionString};
use sleap_rtc_transfer::Package;
use std::path::PathBuf;
use submission::Submission;
use tokio::sync::watch;
use viewer::Viewer;

/// How a client finds its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Join {
    /// Straight to the worker that the string names.
    Session(SessionString),
    /// Into a room, then by one of three ways.
    Room {
        /// What opens it.
        credentials: RoomCredentials,
        /// The way.
        choose: Choose,
    },
}

impl Join {
    fn credentials(&self) -> &RoomCredentials {
        match self {
            Self::Session(session) => &session.room,
            Self::Room { credentials, .. } => credentials,
        }
    }

    /// Whether a job that is on its way to this worker is where it should be. A user who wants to
    /// choose is asked again.
    fn allows(&self, known: &JobString) -> bool {
        let worker = match self {
            Self::Session(session) => session.worker == known.worker,
            Self::Room { choose, .. } => match choose {
                Choose::Prompt => false,
                Choose::Auto => true,
                Choose::Worker(worker) => *worker == known.worker,
            },
        };
        worker && *self.credentials() == known.room
    }
}

/// How a client chooses among the workers of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choose {
    /// The user picks from a list.
    Prompt,
    /// The selection policy decides.
    Auto,
    /// The user has named it.
    Worker(PeerId),
}

/// A job, checked and ready to go.
pub struct Job {
    /// The files.
    pub package: Package,
    /// Its places below the shared root, where both sides see one file system.
    pub shared: Option<SharedJob>,
    /// Name for people.
    pub name: String,
    /// What policies are told.
    pub description: JobDescription,
    /// Where the result goes.
    pub output: Output,
}

/// What a client wants beyond the job itself.
pub struct Wishes {
    /// How to find the worker.
    pub join: Join,
    /// SLEAP's loss viewer, when it is open.
    pub viewer: Option<ViewerPorts>,
}

/// Submits `job` and stays with it until its result is here, over one connection after another
/// where it must be. Returns where the result is.
///
/// Once the worker has the package, the user may leave it to the worker ([`ClientError::Left`]) or
/// cancel it. A job on a Python worker ends with its client.
pub async fn run(
    config: &Config,
    wishes: Wishes,
    job: Job,
    mut interrupts: Interrupts,
) -> Result<PathBuf, ClientError> {
    let policies = Policies::load(&config.policy)?;
    let joining = Room::join(config, wishes.join.credentials().clone());
    let mut room = or_interrupt(&mut interrupts, joining).await?;
    let done = with_room(config, &mut room, &policies, wishes, &job, &mut interrupts).await;
    room.leave().await;
    done
}

async fn with_room(
    config: &Config,
    room: &mut Room,
    policies: &Policies,
    wishes: Wishes,
    job: &Job,
    interrupts: &mut Interrupts,
) -> Result<PathBuf, ClientError> {
    if let Some(done) = go_on(config, room, &wishes, job, interrupts).await {
        return done;
    }
    let spec = spec(job)?;
    let connecting = selection::connect(room, policies, &wishes.join, &spec);
    let connected = or_interrupt(interrupts, connecting).await?;
    tracing::debug!(worker = %connected.worker, dialect = ?connected.dialect, "connected");
    match connected.dialect {
        Dialect::Ours => {
            let known = JobString {
                room: wishes.join.credentials().clone(),
                worker: connected.worker.clone(),
                job: spec.id.clone(),
                secret: spec.secret.clone(),
            };
            let submit = Submit { config, known: &known, spec: &spec, job, submitting: None };
            submit.run(room, connected, wishes.viewer, interrupts).await
        }
        Dialect::Legacy => {
            let viewer = wishes.viewer.map(Viewer::open);
            let mut display = Display::new(&connected.worker);
            let Connected { worker, connection, channel, .. } = connected;
            let (patience, stage) = (config.client.legacy, watch::Sender::new(Stage::HandingOver));
            let work = legacy::run(channel, &spec, job, patience, &stage, &mut display, viewer);
            let done = or_interrupt(interrupts, work).await;
            if matches!(done, Err(ClientError::Cancelled)) && *stage.borrow() == Stage::Following {
                say(&legacy::left_behind(&worker));
            }
            connection.close().await;
            done
        }
    }
}

/// Goes on with a submission of the same that broke off, where there is one and its worker is still
/// there for it.
async fn go_on(
    config: &Config,
    room: &mut Room,
    wishes: &Wishes,
    job: &Job,
    interrupts: &mut Interrupts,
) -> Option<Result<PathBuf, ClientError>> {
    let (known, submitting) = Record::broken_off(config, &wishes.join, job)?;
    let purpose = Purpose::KnownJob { job: known.job.clone() };
    let offer = async { room.offer(&known.worker, purpose).await };
    let connected = match or_interrupt(interrupts, offer).await {
        Ok(Offered::Yes(connected)) if connected.dialect == Dialect::Ours => connected,
        Err(ClientError::Cancelled) => return Some(Err(ClientError::Cancelled)),
        _ => return None,
    };
    say(&format!("Going on with {}, which broke off before {} had it", known.job, known.worker));
    let spec = match spec(job) {
        Ok(spec) => JobSpec { id: known.job.clone(), secret: known.secret.clone(), ..spec },
        Err(error) => return Some(Err(error)),
    };
    let submitting = Some(submitting);
    let submit = Submit { config, known: &known, spec: &spec, job, submitting };
    match submit.run(room, *connected, wishes.viewer, interrupts).await {
        // Its slot was given to somebody else meanwhile.
        Err(ClientError::Refused(why)) => {
            tracing::info!(why, "submitted anew");
            None
        }
        done => Some(done),
    }
}

/// A job on its way to one of our own workers.
struct Submit<'a> {
    config: &'a Config,
    known: &'a JobString,
    spec: &'a JobSpec,
    job: &'a Job,
    submitting: Option<Submitting>,
}

impl Submit<'_> {
    async fn run(
        self,
        room: &mut Room,
        connected: Connected,
        viewer: Option<ViewerPorts>,
        interrupts: &mut Interrupts,
    ) -> Result<PathBuf, ClientError> {
        let Self { config, known, spec, job, submitting } = self;
        let mut display = Display::new(&connected.worker);
        let record = Record::new(config, known, job);
        let progress = record.announce(&config.client.jobs_dir, submitting, &mut display);
        let submission = Submission::new(known, spec, job, &mut display, progress);
        let submission = submission.with_bwlimit(config.client.bwlimit);
        let mut submission = submission.with_viewer(viewer.map(Viewer::open));
        let patience = config.client.reconnect_for;
        let stay = reconnect::stay(room, connected, &mut submission, interrupts, patience);
        Ok(stay.await?.unwrap_or_else(|| job.output.path().to_owned()))
    }
}

fn spec(job: &Job) -> Result<JobSpec, ClientError> {
    let fresh = |error| ClientError::Internal(format!("no identifier for the job: {error}"));
    Ok(JobSpec {
        id: JobId::new(format!("job-{:016x}", rand::random::<u64>())).map_err(fresh)?,
        secret: JobSecret::new(format!("{:032x}", rand::random::<u128>())).map_err(fresh)?,
        name: job.name.clone(),
        description: job.description.clone(),
        shared: job.shared.as_ref().map(|shared| shared.paths().clone()),
    })
}

/// The end of a job as the client's own end.
pub fn concluded(outcome: JobOutcome) -> Result<(), ClientError> {
    match outcome {
        JobOutcome::Succeeded | JobOutcome::StoppedEarly => Ok(()),
        JobOutcome::Failed { message, .. } => Err(ClientError::JobFailed(message)),
        JobOutcome::Cancelled => Err(ClientError::Cancelled),
        JobOutcome::Interrupted => Err(ClientError::JobFailed(
            "the job was interrupted on the worker (the machine restarted, or the job was killed); \
             `sleap-rtc fetch` brings what was saved until then"
                .into(),
        )),
    }
}

/// Does `work`, unless the user wants to end it.
async fn or_interrupt<T>(
    interrupts: &mut Interrupts,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::select! {
        done = work => done,
        _ = interrupts.any() => Err(ClientError::Cancelled),
    }
}
