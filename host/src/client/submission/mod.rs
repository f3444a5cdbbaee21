//! What is said about one job over `sleap-rtc/1`: hand over the package, follow the events, fetch
//! the result. The conversation may go on over another connection at any point.
//!
//! | module | what it does |
//! |---|---|
//! | `result` | brings the result back |
//! | `parting` | the last words when the user leaves or cancels |

mod parting;
mod result;

use crate::client::collected::Collected;
use crate::client::display::Display;
use crate::client::known::Action;
use crate::client::meter::Direction;
use crate::client::parting::Stage;
use crate::client::record::Progress;
use crate::client::shared::SharedJob;
use crate::client::viewer::Viewer;
use crate::client::{ClientError, Job, concluded};
use sleap_rtc_base::deadline;
use sleap_rtc_net::dialect::{ClientEnd, DialectError};
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::event_cursor::{Arrival, ConnectionNumber, EventCursor, EventsAfter};
use sleap_rtc_protocol::frame::{ClientFrame, WorkerFrame};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobSpec, NumberedEvent, RefusalCode};
use sleap_rtc_protocol::session::JobString;
use sleap_rtc_transfer::{self as transfer, Limits, Pace, TransferError};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A worker answers a submission within this time; its policies run meanwhile.
const ACCEPT_LIMIT: Duration = Duration::from_secs(30);
/// From the last byte of the package to the first event: the worker checks the files.
const STAGE_LIMIT: Duration = Duration::from_secs(120);
/// Last words reach the worker within this time.
const FLUSH: Duration = Duration::from_secs(5);
const WHILE_IT_RAN: &str = "while the job ran";

/// How a conversation begins.
#[derive(Clone, Copy)]
pub(super) enum Opening<'a> {
    /// With a job that is to be the worker's.
    Submit(&'a JobSpec, &'a Job),
    /// With a job that the worker has.
    Attach,
}

/// What is known and done of one job, whichever connection it happens on.
pub(super) struct Submission<'a> {
    known: &'a JobString,
    opening: Opening<'a>,
    action: Action,
    shared: Option<&'a SharedJob>,
    display: &'a mut Display,
    viewer: Option<Viewer>,
    cursor: EventCursor,
    /// Names of the trainer runs, once the worker has said them.
    runs: Vec<String>,
    /// The viewer's stop button was pressed and the worker does not know yet.
    stop_wanted: bool,
    /// What has arrived of the result.
    collected: Option<Collected>,
    stage: watch::Sender<Stage>,
    progress: Progress,
    /// How fast files travel.
    pace: Option<Pace>,
}

/// Where a job stands at the moment of (coming back to) it.
struct Standing {
    last_event: u64,
    outcome: Option<JobOutcome>,
    has_package: bool,
}

impl<'a> Submission<'a> {
    /// A new job, which ends up where its output is to be.
    pub(super) fn new(
        known: &'a JobString,
        spec: &'a JobSpec,
        job: &'a Job,
        display: &'a mut Display,
        progress: Progress,
    ) -> Self {
        let opening = Opening::Submit(spec, job);
        let action = Action::Attach { output: job.output.clone(), after: 0 };
        let stage = watch::Sender::new(Stage::HandingOver);
        let shared = job.shared.as_ref();
        Self { opening, shared, stage, ..Self::back(known, action, display, progress) }
    }

    /// A known job, come back to for `action`.
    pub(super) fn back(
        known: &'a JobString,
        action: Action,
        display: &'a mut Display,
        progress: Progress,
    ) -> Self {
        let after = match action {
            Action::Attach { after, .. } | Action::Logs { after, .. } => EventsAfter::Event(after),
            // Only the job's state matters, which the worker reports by itself.
            Action::Stop { .. } | Action::Cancel | Action::Fetch(_) => EventsAfter::Newest,
        };
        Self {
            known,
            opening: Opening::Attach,
            action,
            shared: None,
            display,
            viewer: None,
            cursor: EventCursor::new(after),
            runs: Vec::new(),
            stop_wanted: false,
            collected: None,
            stage: watch::Sender::new(Stage::Nothing),
            progress,
            pace: None,
        }
    }

    /// Shows the job in SLEAP's loss viewer as well.
    pub(super) fn with_viewer(self, viewer: Option<Viewer>) -> Self {
        Self { viewer, ..self }
    }

    /// Keeps files to so many bytes per second.
    pub(super) fn with_bwlimit(self, bytes_per_s: Option<u64>) -> Self {
        Self { pace: bytes_per_s.map(Pace::new), ..self }
    }

    /// What the next connection is for.
    pub(super) fn purpose(&self) -> Purpose {
        Purpose::KnownJob { job: self.known.job.clone() }
    }

    /// Whether a worker that does not know the job may take it for a new one.
    pub(super) fn may_begin_anew(&self) -> bool {
        matches!(self.opening, Opening::Submit(..)) && self.cursor.seen() == 0
    }

    /// Where the job stands, as it changes.
    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Says all that is still to be said, over a connection that has just opened. Returns where
    /// the result is, if it was wanted.
    pub(super) async fn converse(
        &mut self,
        link: &mut ClientEnd,
    ) -> Result<Option<PathBuf>, ClientError> {
        let standing = self.greet(link).await?;
        if let Opening::Submit(spec, job) = self.opening
            && !standing.has_package
        {
            self.enter(Stage::HandingOver);
            self.hand_over(link, spec, job).await?;
        }
        match self.action.clone() {
            Action::Attach { output, .. } => {
                self.enter(Stage::Following);
                concluded(self.follow(link, &standing).await?)?;
                self.enter(Stage::Nothing);
                self.fetch(link, &output).await.map(Some)
            }
            Action::Logs { follow: true, .. } => self.follow(link, &standing).await.map(|_| None),
            Action::Logs { follow: false, .. } => {
                self.read_until(link, standing.last_event).await.map(|()| None)
            }
            Action::Fetch(output) => {
                match standing.outcome.ok_or_else(still_runs)? {
                    outcome @ (JobOutcome::Failed { .. } | JobOutcome::Interrupted) => {
                        self.fetch_saved(link, &output).await?;
                        return concluded(outcome).map(|()| None);
                    }
                    outcome => concluded(outcome)?,
                }
                self.fetch(link, &output).await.map(Some)
            }
            Action::Stop { all } => {
                not_over(&standing)?;
                self.send(link, &ClientFrame::Stop { all }, "before the job was told to stop")
                    .await?;
                link.flush(FLUSH).await;
                Ok(None)
            }
            Action::Cancel => {
                not_over(&standing)?;
                match self.cancelled(link, &standing).await? {
                    JobOutcome::Cancelled => Ok(None),
                    // It was over before the word arrived.
                    other => concluded(other).map(|()| None),
                }
            }
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    async fn greet(&mut self, link: &mut ClientEnd) -> Result<Standing, ClientError> {
        let during = "while the job was introduced";
        let after = self.cursor.position();
        let greeting = match self.opening {
            // The worker's answer tells whether it already has the job, and how much of it.
            Opening::Submit(spec, _) if after == EventsAfter::Event(0) => {
                ClientFrame::Submit { spec: Box::new(spec.clone()) }
            }
            _ => {
                let (job, secret) = (self.known.job.clone(), self.known.secret.clone());
                ClientFrame::Attach { job, secret, after }
            }
        };
        self.send(link, &greeting, during).await?;
        loop {
            match self.recv(link, ACCEPT_LIMIT, during).await? {
                WorkerFrame::Accepted { last_event, outcome, has_package, .. } => {
                    // A job with events has its package.
                    let has_package =
                        has_package || last_event > 0 || after != EventsAfter::Event(0);
                    self.cursor.accepted(last_event);
                    return Ok(Standing { last_event, outcome, has_package });
                }
                frame => refused(frame)?,
            }
        }
    }

    async fn hand_over(
        &mut self,
        link: &mut ClientEnd,
        spec: &JobSpec,
        job: &Job,
    ) -> Result<(), ClientError> {
        if spec.shared.is_some() {
            return Ok(());
        }
        let display = &mut *self.display;
        let limits = Limits { pace: self.pace.clone(), ..Limits::default() };
        let (start, mut already_there_bytes) = (Instant::now(), 0);
        let sent = transfer::send(link, &job.package, &limits, |progress| {
            already_there_bytes = progress.already_there_bytes;
            display.transfer(Direction::Upload, progress);
        });
        match sent.await {
            Ok(()) => {}
            Err(TransferError::Interrupted(reason)) => return Err(ClientError::Refused(reason)),
            Err(source) => {
                self.display.broke_off();
                if source.is_about_files() {
                    job.package.distrust();
                }
                return Err(ClientError::Transfer { what: "package", source });
            }
        }
        let bytes = job.package.manifest().total_bytes();
        let took_ms = start.elapsed().as_secs_f64() * 1e3;
        tracing::debug!(bytes, already_there_bytes, took_ms, "the worker has the package");
        self.display.transferred(Direction::Upload, bytes);
        Ok(())
    }

    /// Shows the job's events until it is over.
    async fn follow(
        &mut self,
        link: &mut ClientEnd,
        standing: &Standing,
    ) -> Result<JobOutcome, ClientError> {
        let (number, seen) = self.cursor.open();
        if let Some(outcome) = standing.outcome.clone().filter(|_| seen >= standing.last_event) {
            return Ok(outcome);
        }
        let awaited = Instant::now() + STAGE_LIMIT;
        loop {
            if let Some(outcome) = self.cursor.outcome() {
                return Ok(outcome.clone());
            }
            if std::mem::take(&mut self.stop_wanted) {
                self.stop_wanted = true;
                self.send(link, &ClientFrame::Stop { all: false }, WHILE_IT_RAN).await?;
                self.stop_wanted = false;
            }
            let staging = self.cursor.seen() == 0 && matches!(self.opening, Opening::Submit(..));
            let frame = tokio::select! {
                frame = link.recv() => frame.map_err(|error| self.lost(error, WHILE_IT_RAN))?,
                () = Viewer::stop_wanted(&mut self.viewer) => {
                    self.stop_wanted = true;
                    continue;
                }
                () = deadline::reached(staging.then_some(awaited)) => {
                    let what = "stayed silent after it had the package".to_owned();
                    return Err(ClientError::Worker { worker: self.worker(), what });
                }
            };
            match frame {
                WorkerFrame::Event { event, .. } => self.take(number, event)?,
                frame => refused(frame)?,
            }
        }
    }

    /// Shows the events up to number `last`, which are there already.
    async fn read_until(&mut self, link: &mut ClientEnd, last: u64) -> Result<(), ClientError> {
        let (number, _) = self.cursor.open();
        while self.cursor.seen() < last {
            match self.recv(link, ACCEPT_LIMIT, "while the log was read").await? {
                WorkerFrame::Event { event, .. } => self.take(number, event)?,
                frame => refused(frame)?,
            }
        }
        Ok(())
    }

    /// Takes an event in and shows it, unless it was here before.
    fn take(&mut self, link: ConnectionNumber, event: NumberedEvent) -> Result<(), ClientError> {
        match self.cursor.apply(link, event) {
            Ok(Arrival::New(event)) => {
                self.progress.event(self.cursor.seen(), &event);
                self.show(event);
                Ok(())
            }
            Ok(Arrival::Repeated) => Ok(()),
            Err(misplaced) => {
                tracing::warn!(%misplaced, "received an event out of order; reconnecting to read it again");
                Err(ClientError::Lost { worker: self.worker(), during: WHILE_IT_RAN })
            }
        }
    }

    fn show(&mut self, event: JobEvent) {
        if let Some(viewer) = &self.viewer {
            viewer.show(&event);
        }
        match event {
            JobEvent::Staged { runs } => self.runs = runs,
            JobEvent::RunStarted { name } => {
                let number = self.runs.iter().position(|run| *run == name).map_or(1, |at| at + 1);
                self.display.run_started(&name, number, self.runs.len());
            }
            JobEvent::Log { text } => self.display.log(&text),
            JobEvent::RunEnded { name, outcome } => self.display.run_ended(&name, &outcome),
            JobEvent::Finished { .. } | JobEvent::Progress { .. } | JobEvent::Unknown => {}
        }
    }

    async fn send(
        &self,
        link: &ClientEnd,
        frame: &ClientFrame,
        during: &'static str,
    ) -> Result<(), ClientError> {
        link.send(frame).await.map_err(|error| self.lost(error, during))
    }

    async fn recv(
        &self,
        link: &mut ClientEnd,
        limit: Duration,
        during: &'static str,
    ) -> Result<WorkerFrame, ClientError> {
        link.recv_within(limit).await.map_err(|error| self.lost(error, during))
    }

    fn lost(&self, error: DialectError, during: &'static str) -> ClientError {
        let worker = self.worker();
        match error {
            DialectError::Gone
            | DialectError::Channel(_)
            | DialectError::Stalled
            | DialectError::Silent(_) => ClientError::Lost { worker, during },
            other => ClientError::Worker { worker, what: format!("broke off {during}: {other}") },
        }
    }

    fn worker(&self) -> PeerId {
        self.known.worker.clone()
    }
}

fn still_runs() -> ClientError {
    ClientError::Refused(
        "the job still runs; `attach` waits for its result, `stop` ends it early".into(),
    )
}

fn not_over(standing: &Standing) -> Result<(), ClientError> {
    match standing.outcome {
        None => Ok(()),
        Some(_) => Err(ClientError::Refused("the job is over".into())),
    }
}

/// A refusal at any moment is the worker's last word; other frames are not for this moment.
fn refused(frame: WorkerFrame) -> Result<(), ClientError> {
    let WorkerFrame::Refused { refusal } = frame else { return Ok(()) };
    Err(match refusal.code {
        RefusalCode::Invalid => ClientError::JobFailed(refusal.message),
        RefusalCode::NotFound => ClientError::Forgotten,
        _ => ClientError::Refused(refusal.message),
    })
}
