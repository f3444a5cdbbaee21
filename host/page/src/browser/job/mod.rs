//! One job: from its package to its result, over one connection after another.
//!
//! | module | what it does |
//! |---|---|
//! | `choose` | finds a worker that takes the job |
//! | `upload` | sends the package |
//! | `fetch` | fetches the result, over as many connections as it takes |
//! | `download` | receives it over one of them |
//! | `news` | what the page is told, and what it asks for |

mod choose;
mod download;
mod fetch;
mod news;
mod upload;

pub use choose::Choice;
pub use news::{Command, JobNews, Phase, Results};

use super::clock::sleep;
use super::connect::connect;
use super::engine::{Engine, Opened, Reply, Request, Session};
use super::parcel::Parcel;
use super::random;
use super::room::Room;
use super::talk::{Received, Talk, TalkError, refused};
use crate::words::{self, has_line};
use futures_channel::mpsc::UnboundedReceiver;
use futures_util::future::{Either, FutureExt, select};
use futures_util::stream::{Peekable, StreamExt};
use sleap_rtc_protocol::disorder::Disorder;
use sleap_rtc_protocol::event_cursor::{Arrival, EventCursor, EventsAfter};
use sleap_rtc_protocol::frame::{ClientFrame, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::ids::{CacheOwner, JobId, JobSecret, PeerId};
use sleap_rtc_protocol::job::{JobRight, JobSpec};
use sleap_rtc_trust::device::{DeviceId, DeviceKey};
use sleap_rtc_trust::goal::Goal;
use sleap_rtc_trust::job_key::JobKey;
use sleap_rtc_trust::session::JobString;
use std::pin::{Pin, pin};
use wasm_bindgen::JsValue;
use web_time::{Duration, Instant};

/// How long a worker may take to answer a submission, which includes its policies.
const ACCEPT_LIMIT: Duration = Duration::from_secs(30);
/// How long a worker may prepare itself. Ours ask their trainers for at most 100 s.
const PREPARE_LIMIT: Duration = Duration::from_secs(120);
/// How long the last message may take to leave.
const FLUSH: Duration = Duration::from_secs(5);
const RETRY_LEAST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(15);

/// What jobs need of the page.
#[derive(Clone)]
pub struct Surroundings {
    /// The room.
    pub room: Room,
    /// This browser.
    pub device: DeviceKey,
    /// The engine.
    pub engine: Engine,
}

/// A package that is about to be submitted.
pub struct Draft {
    /// It, at the engine.
    pub package: Session,
    /// What it is.
    pub opened: Opened,
    /// Who is to get it.
    pub choice: Choice,
}

/// A package that is being submitted.
struct Submission {
    package: Session,
    lists: Vec<TransferFrame>,
    spec: JobSpec,
}

/// One job, and what is known of it.
pub struct JobTask<T> {
    around: Surroundings,
    id: JobId,
    secret: JobSecret,
    worker: Option<PeerId>,
    device: Option<DeviceId>,
    cursor: EventCursor,
    disorder: Disorder,
    submission: Option<Submission>,
    /// Whether it waits in line where no slot is free.
    may_wait: bool,
    commands: Peekable<UnboundedReceiver<Command>>,
    tell: T,
}

impl<T: Fn(JobNews)> JobTask<T> {
    /// A new job, with an id of its own.
    ///
    /// # Errors
    /// The browser has no random numbers.
    pub fn new(
        around: Surroundings,
        commands: UnboundedReceiver<Command>,
        tell: impl FnOnce(&JobId) -> T,
    ) -> Result<Self, JsValue> {
        let id = JobId::from_random(u64::from_le_bytes(random::bytes()?));
        let secret = JobSecret::from_random(u128::from_le_bytes(random::bytes()?));
        let tell = tell(&id);
        Ok(Self::at_its_start(around, id, secret, commands, tell))
    }

    /// A job that a worker has.
    pub fn known(
        around: Surroundings,
        job: JobString,
        commands: UnboundedReceiver<Command>,
        tell: T,
    ) -> Self {
        let this = Self::at_its_start(around, job.job, job.secret, commands, tell);
        // Whose package is on its way rather waits than ends.
        Self { worker: Some(job.worker), device: job.device, may_wait: true, ..this }
    }

    /// A job that no worker is known to have, and of which nothing has been seen.
    fn at_its_start(
        around: Surroundings,
        id: JobId,
        secret: JobSecret,
        commands: UnboundedReceiver<Command>,
        tell: T,
    ) -> Self {
        Self {
            around,
            id,
            secret,
            worker: None,
            device: None,
            cursor: EventCursor::new(EventsAfter::Event(0)),
            disorder: Disorder::default(),
            submission: None,
            may_wait: false,
            commands: commands.peekable(),
            tell,
        }
    }

    /// Which one.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// Submits the package, follows the job to its end, and fetches its result when it is asked to.
    pub async fn submit(mut self, draft: Draft) {
        match self.hand_in(draft).await {
            Ok(talk) => self.live(Some(talk)).await,
            Err(error) => (self.tell)(JobNews::Phase(Phase::Failed(error.to_string()))),
        }
    }

    /// Follows a job that a worker has, and goes on to send its `package` if the worker lacks it.
    pub async fn attach(mut self, package: Option<Parcel>) {
        if let Some(parcel) = package
            && let Err(error) = self.open_again(&parcel).await
        {
            (self.tell)(JobNews::Phase(Phase::Failed(error.to_string())));
            return;
        }
        self.live(None).await;
    }

    async fn open_again(&mut self, parcel: &Parcel) -> Result<(), TalkError> {
        let mut package = self.around.engine.session();
        let opened = package.open(parcel).await.map_err(|e| TalkError::Files(e.to_string()))?;
        self.read(package, *opened).await?;
        let owner = self.worker.as_ref().map(|worker| self.cache_owner(worker));
        if let Some(submission) = &mut self.submission {
            submission.spec.cache_owner = owner;
        }
        Ok(())
    }

    async fn hand_in(&mut self, draft: Draft) -> Result<Talk, TalkError> {
        let Draft { package, opened, choice } = draft;
        self.read(package, opened).await?;
        loop {
            match self.choose(&choice).await {
                Ok(talk) => return Ok(talk),
                Err(none) => (self.tell)(JobNews::Phase(Phase::NoWorker(none))),
            }
            self.may_wait = loop {
                match self.commands.next().await.ok_or(TalkError::Lost)? {
                    Command::Retry => break false,
                    Command::Wait => break true,
                    _ => {}
                }
            };
        }
    }

    /// Reads the whole package once. Then it can be submitted.
    async fn read(&mut self, mut package: Session, opened: Opened) -> Result<(), TalkError> {
        (self.tell)(JobNews::Phase(Phase::Reading));
        let lists = hash(&mut package, &self.tell, opened.description.package_bytes).await?;
        let spec = JobSpec {
            id: self.id.clone(),
            right: JobRight::Secret { secret: self.secret.clone() },
            name: opened.name,
            description: opened.description,
            shared: None,
            skips_inference: false,
            cache_owner: None,
        };
        self.submission = Some(Submission { package, lists, spec });
        Ok(())
    }

    /// Follows the job to its end, over `talk` and those after it.
    async fn live(&mut self, mut talk: Option<Talk>) {
        let mut wait = RETRY_LEAST;
        loop {
            let began = Instant::now();
            let followed = match talk.take() {
                Some(talk) => self.converse(talk).await,
                None => match self.connect_again().await {
                    Ok(talk) => self.converse(talk).await,
                    Err(error) => Err(error),
                },
            };
            match followed {
                Ok(()) => break,
                Err(error) if error.may_heal() => {
                    (self.tell)(JobNews::Phase(Phase::Lost));
                    if began.elapsed() > RETRY_MOST {
                        wait = RETRY_LEAST;
                    }
                    sleep(wait).await;
                    wait = RETRY_MOST.min(wait * 2);
                    if self.is_given_up() {
                        return;
                    }
                }
                Err(error) => {
                    (self.tell)(JobNews::Phase(Phase::Failed(error.to_string())));
                    return;
                }
            }
        }
        self.submission = None;
        (self.tell)(JobNews::Phase(Phase::Over));
        self.serve_results().await;
    }

    /// Whether nobody asks anything of the job any more: its room was left, or the user has forgotten it.
    fn is_given_up(&mut self) -> bool {
        let next = Pin::new(&mut self.commands).peek().now_or_never();
        next.is_some_and(|next| next.is_none())
    }

    fn known_job(&self) -> Goal {
        Goal::KnownJob(self.id.clone(), self.secret.clone())
    }

    async fn connect_again(&mut self) -> Result<Talk, TalkError> {
        let worker = self.worker.clone().ok_or(TalkError::Unknown)?;
        let Surroundings { room, device, .. } = &self.around;
        let known = connect(room, device, &worker, &self.known_job(), self.device).await;
        match known {
            // It has lost the connection before it had the job.
            Err(TalkError::Unknown) if self.submission.is_some() && self.cursor.seen() == 0 => {
                let mut workers = room.workers().into_iter();
                let knows_lines = workers.any(|facts| facts.peer_id == worker && has_line(&facts));
                let goal = Goal::NewJob { may_wait: self.may_wait && knows_lines };
                connect(room, device, &worker, &goal, self.device).await
            }
            other => other,
        }
    }

    /// Everything that is left, over one connection.
    async fn converse(&mut self, mut talk: Talk) -> Result<(), TalkError> {
        let (last_event, outcome, has_package) = self.greet(&mut talk).await?;
        self.remember(&talk);
        if let Some(submission) = &mut self.submission
            && !has_package
        {
            (self.tell)(JobNews::Phase(Phase::Sending));
            let Submission { package, lists, .. } = submission;
            upload::upload(&mut talk, package, lists, &self.tell).await?;
        }
        (self.tell)(JobNews::Phase(Phase::Following));
        let (number, seen) = self.cursor.open();
        if outcome.is_some() && seen >= last_event {
            return Ok(());
        }
        while self.cursor.outcome().is_none() {
            let next = match select(pin!(talk.next()), self.commands.next()).await {
                Either::Left((heard, _)) => Either::Left(heard?),
                Either::Right((command, _)) => Either::Right(command.ok_or(TalkError::Unknown)?),
            };
            match next {
                Either::Left(Received::Frame(frame)) => {
                    let event = match refused(frame)? {
                        WorkerFrame::Event { event, .. } => event,
                        WorkerFrame::Waiting { news, .. } => {
                            (self.tell)(JobNews::Waiting(Box::new(news)));
                            continue;
                        }
                        _ => continue,
                    };
                    match self.cursor.apply(number, event) {
                        Ok(Arrival::New(event)) => {
                            self.disorder.end();
                            (self.tell)(JobNews::Event(event));
                        }
                        Ok(Arrival::Repeated) => {
                            self.disorder.repeated().map_err(TalkError::Broken)?;
                        }
                        Err(misplaced) => {
                            self.disorder.gap(misplaced).map_err(TalkError::Broken)?;
                            // It is read again over another connection.
                            return Err(TalkError::Lost);
                        }
                    }
                }
                Either::Left(_) => {}
                Either::Right(Command::Stop) => talk.send(&ClientFrame::Stop { all: false })?,
                Either::Right(Command::Cancel) => {
                    talk.send(&ClientFrame::Cancel { reason: "cancelled in the browser".into() })?;
                }
                Either::Right(_) => {}
            }
        }
        talk.connection().flush(FLUSH).await;
        Ok(())
    }

    async fn greet(
        &mut self,
        talk: &mut Talk,
    ) -> Result<(u64, Option<sleap_rtc_protocol::job::JobOutcome>, bool), TalkError> {
        let key = JobKey::new(&self.id, &self.secret);
        let after = self.cursor.position();
        let greeting = match &self.submission {
            Some(submission) if after == EventsAfter::Event(0) => {
                key.submit(&submission.spec, &self.secret, talk.transcript())
            }
            _ => key.attach((&self.id, &self.secret), after, talk.transcript()),
        };
        talk.send(&greeting)?;
        let ready_by = Instant::now() + PREPARE_LIMIT;
        loop {
            match talk.frame_within(ACCEPT_LIMIT).await? {
                WorkerFrame::Accepted { last_event, outcome, has_package, outlook, .. } => {
                    if self.cursor.seen() == 0 {
                        (self.tell)(JobNews::Outlook(outlook.unwrap_or_default()));
                    }
                    self.cursor.accepted(last_event);
                    // A job with events has its package.
                    return Ok((last_event, outcome, has_package || last_event > 0));
                }
                WorkerFrame::Preparing { .. } if Instant::now() > ready_by => {
                    return Err(TalkError::Silent(PREPARE_LIMIT));
                }
                WorkerFrame::Preparing { what } => {
                    let what = words::message(&what);
                    (self.tell)(JobNews::Phase(Phase::Preparing(what)));
                }
                _ => {}
            }
        }
    }

    /// Tells the page how to come back to this job.
    fn remember(&mut self, talk: &Talk) {
        self.device = talk.device().or(self.device);
        if let Some(worker) = self.worker.clone() {
            let (room, device) = (self.around.room.credential().clone(), self.device);
            let (job, secret) = (self.id.clone(), self.secret.clone());
            (self.tell)(JobNews::Placed(Box::new(JobString { room, worker, device, job, secret })));
        }
    }

    /// Who the worker keeps the files for: it keeps them for this browser's next job.
    fn cache_owner(&self, worker: &PeerId) -> CacheOwner {
        CacheOwner::of(&self.around.device.to_bytes()[..], worker)
    }
}

/// Reads the whole package once.
async fn hash(
    package: &mut Session,
    tell: &impl Fn(JobNews),
    total_bytes: Option<u64>,
) -> Result<Vec<TransferFrame>, TalkError> {
    let files = |error: super::engine::EngineError| TalkError::Files(error.to_string());
    package.ask(&Request::Hash, &JsValue::NULL, false).map_err(files)?;
    loop {
        match package.answer().await.map_err(files)? {
            (Reply::HashedBytes(bytes), _) => {
                tell(JobNews::Read { bytes, total_bytes: total_bytes.unwrap_or(bytes) });
            }
            (Reply::Lists(lists), _) => return Ok(lists),
            _ => {}
        }
    }
}
