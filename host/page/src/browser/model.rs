//! The state of the page.

use super::engine::{Opened, Session};
use super::job::{Choice, Command, JobNews, Phase, Results};
use super::message::Screen;
use super::parcel::{Parcel, Recipe};
use super::prediction::PredictionForm;
use super::room::Room;
use super::store::{KnownJob, KnownRoom};
use crate::words;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::chart::Scale;
use sleap_rtc_protocol::course::Course;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::{JobEvent, NumberedEvent};
use sleap_rtc_protocol::meter::{Direction, Meter, Progress};
use sleap_rtc_protocol::queue_report::QueueStatus;
use web_time::Instant;

/// The state of the page.
#[derive(Default)]
pub struct Model {
    /// The rooms that the browser remembers.
    pub rooms: Vec<KnownRoom>,
    /// Why the last room was not entered.
    pub refusal: Option<String>,
    /// Whether a code is tried.
    pub is_pairing: bool,
    /// What the user may compare after pairing.
    pub paired: Option<String>,
    /// The room that the page is in.
    pub here: Option<Here>,
    /// What is shown.
    pub screen: Screen,
    /// The package that was given.
    pub given: Option<Given>,
    /// The prediction that the user puts together.
    pub form: PredictionForm,
    /// Who is to get it.
    pub choice: Choice,
    /// The jobs of the room, the newest first.
    pub jobs: Vec<JobState>,
    /// How curves are drawn.
    pub scale: Scale,
    /// The run and the epoch at the pointer.
    pub pointed: Option<(usize, u64)>,
    /// What lines of the log must have in them.
    pub search: String,
    /// Whether all lines of the log are shown, and not only the last ones.
    pub shows_all_lines: bool,
}

/// A room that the page is in.
pub struct Here {
    /// The room.
    pub room: Room,
    /// Whether the server is there.
    pub link: Link,
    /// Its workers.
    pub workers: Vec<WorkerFacts>,
}

/// The state of the connection to the signaling server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Connecting.
    Connecting,
    /// Connected.
    Up,
    /// Lost.
    Down,
}

/// A package that was given.
pub struct Given {
    /// It.
    pub parcel: Parcel,
    /// What is known of it.
    pub state: GivenState,
}

/// What is known of a package.
pub enum GivenState {
    /// It is being read.
    Reading,
    /// It cannot be used. The text says why.
    Unusable(String),
    /// It can be sent.
    Ready(Session, Box<Opened>),
}

/// A job, as the page shows it.
pub struct JobState {
    /// Which one.
    pub id: JobId,
    /// What the browser remembers of it. Its string is empty until a worker has it.
    pub known: KnownJob,
    /// Its package, as long as it is on its way.
    pub package: Option<Parcel>,
    /// Its phase.
    pub phase: Phase,
    /// Where it stands in line, while it waits.
    pub waiting: Option<Box<QueueStatus>>,
    /// What its events say.
    pub course: Course,
    /// What its worker expects of it, one line each.
    pub expected: Vec<String>,
    /// Bytes of its package that have been read, and its size.
    pub read: Option<(u64, u64)>,
    /// The transfer that is under way, or was the last.
    pub meter: Option<Meter>,
    /// How far it is.
    pub transfer: Option<Progress>,
    /// What did not work.
    pub trouble: Option<String>,
    /// Whether the user is asked about a cancellation.
    pub asks_cancel: bool,
    /// The commands for its task, while the task has not started.
    pub asleep: Option<UnboundedReceiver<Command>>,
    /// Sends commands to its task.
    pub commands: UnboundedSender<Command>,
    /// Its result, once it is here.
    pub results: Option<Results>,
    /// The folder into which its result was saved.
    pub saved: Option<String>,
}

impl Given {
    /// Whether it is for a prediction.
    pub fn is_prediction(&self) -> bool {
        matches!(self.parcel.recipe, Recipe::Prediction { .. })
    }
}

impl Model {
    /// A job.
    pub fn job(&self, id: &JobId) -> Option<&JobState> {
        self.jobs.iter().find(|job| job.id == *id)
    }

    /// A job, to change.
    pub fn job_mut(&mut self, id: &JobId) -> Option<&mut JobState> {
        self.jobs.iter_mut().find(|job| job.id == *id)
    }
}

impl JobState {
    /// Asks its task for something.
    pub fn ask(&self, command: Command) {
        // The task lives as long as the job is in the list.
        let _ = self.commands.unbounded_send(command);
    }

    /// A job of which nothing is known yet.
    pub fn new(id: JobId, known: KnownJob, commands: UnboundedSender<Command>) -> Self {
        Self {
            id,
            known,
            package: None,
            phase: Phase::Lost,
            waiting: None,
            course: Course::default(),
            expected: Vec::new(),
            read: None,
            meter: None,
            transfer: None,
            trouble: None,
            asks_cancel: false,
            asleep: None,
            commands,
            results: None,
            saved: None,
        }
    }

    /// Takes news. Returns whether the browser has something new to remember.
    pub fn take(&mut self, news: JobNews, now_ms: u64) -> bool {
        match news {
            JobNews::Phase(phase) => {
                if phase == Phase::Fetching {
                    self.trouble = None;
                }
                let is_sent = phase == Phase::Following && !self.known.is_sent;
                self.known.is_sent |= is_sent;
                self.phase = phase;
                return is_sent;
            }
            JobNews::Read { bytes, total_bytes } => self.read = Some((bytes, total_bytes)),
            JobNews::Transfer(direction, progress) => self.note(direction, progress),
            JobNews::Placed(job) => {
                self.known.job = job.to_string();
                return true;
            }
            JobNews::Chosen(worker) => self.known.worker = worker,
            JobNews::Waiting(news) => self.waiting = Some(news),
            JobNews::Outlook(outlook) => {
                self.expected = outlook.lines();
                self.course = Course::expecting(outlook.runs);
            }
            JobNews::Event(event) => {
                self.waiting = None;
                let ended = match &event.event {
                    JobEvent::Finished { outcome } => Some(words::outcome(outcome)),
                    _ => None,
                };
                // The worker's clock may be ahead.
                self.course.take(&NumberedEvent { at_ms: event.at_ms.min(now_ms), ..event });
                if ended.is_some() && self.known.ended != ended {
                    self.known.ended = ended;
                    return true;
                }
            }
            JobNews::Fetched(results) => self.results = Some(results),
            JobNews::Zip(_) => {}
            JobNews::Saved(folder) => self.saved = Some(folder),
            JobNews::Trouble(text) => self.trouble = Some(text),
        }
        false
    }

    fn note(&mut self, direction: Direction, progress: Progress) {
        let now = Instant::now();
        let meter = self.meter.take().filter(|meter| meter.direction == direction);
        let mut meter = meter.unwrap_or_else(|| Meter::new(direction, &self.known.worker, now));
        meter.note(progress, now);
        (self.meter, self.transfer) = (Some(meter), Some(progress));
    }

    /// Whether the worker has it and it has not ended, so that it can be cancelled.
    pub fn is_going_on(&self) -> bool {
        self.phase == Phase::Following && self.course.outcome.is_none()
    }

    /// Whether the trainer is at work, so that it can be stopped.
    pub fn is_running(&self) -> bool {
        self.is_going_on() && self.waiting.is_none()
    }
}
