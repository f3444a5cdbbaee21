//! The conversation about one job over `sleap-rtc/1`: send the package, follow the events, fetch the
//! result. It can continue over another connection at any point.
//!
//! | module | what it does |
//! |---|---|
//! | `result` | downloads the result |
//! | `outlook` | says how long the job takes |
//! | `waiting` | a job that waits for a worker that is not ready, or for a slot |
//! | `detach` | the end of the conversation when the user detaches or cancels |

mod detach;
mod outlook;
mod result;
mod waiting;

use crate::client::action::Action;
use crate::client::display::Display;
use crate::client::error::{JobFailure, JobRefused, Misbehavior};
use crate::client::interrupt::Stage;
use crate::client::partial_download::PartialDownload;
use crate::client::record::RecordUpdater;
use crate::client::shared::SharedJob;
use crate::client::viewer::Viewer;
use crate::client::{ClientError, Job, concluded};
use crate::config::{ClientConfig, Wait};
use outlook::JobOutlook;
use sleap_rtc_base::deadline;
use sleap_rtc_net::dialect::{ClientEnd, DialectError};
use sleap_rtc_protocol::disorder::Disorder;
use sleap_rtc_protocol::event_cursor::{Arrival, ConnectionNumber, EventCursor, EventsAfter};
use sleap_rtc_protocol::frame::{ClientFrame, WorkerFrame};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobOutcome, JobSpec, NumberedEvent, RefusalCode};
use sleap_rtc_protocol::meter::Direction;
use sleap_rtc_transfer::{self as transfer, Limits, Pace, TransferError};
use sleap_rtc_trust::goal::Goal;
use sleap_rtc_trust::handshake::Transcript;
use sleap_rtc_trust::job_key::JobKey;
use sleap_rtc_trust::session::JobString;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a worker may take to answer a submission, which includes its policies.
const ACCEPT_LIMIT: Duration = Duration::from_secs(30);
/// How long a worker may be silent while it checks or copies the files, from the package's last byte to the first event.
const STAGE_LIMIT: Duration = Duration::from_secs(120);
/// How long that may take if the worker reports that it is at work.
const STAGE_AT_MOST: Duration = Duration::from_secs(1800);
/// How long the last message may take to reach the worker.
const FLUSH: Duration = Duration::from_secs(5);
const WHILE_IT_RAN: &str = "while the job ran";

/// How a conversation starts.
#[derive(Clone, Copy)]
pub(crate) enum Opening<'a> {
    /// With a new job for the worker.
    Submit(&'a JobSpec, &'a Job),
    /// With a job that the worker already has.
    Attach,
}

/// The state of one job's conversation, independent of the connection.
pub(crate) struct Submission<'a> {
    job_ref: &'a JobString,
    opening: Opening<'a>,
    action: Action,
    shared: Option<&'a SharedJob>,
    display: &'a mut Display,
    viewer: Option<Viewer>,
    cursor: EventCursor,
    disorder: Disorder,
    outlook: JobOutlook,
    /// Whether the viewer's stop button was pressed and the worker does not know it yet.
    stop_wanted: bool,
    /// The received part of the result.
    partial: Option<PartialDownload>,
    stage: watch::Sender<Stage>,
    progress: RecordUpdater,
    /// Limits the bandwidth.
    pace: Option<Pace>,
    /// The largest result that is fetched without a question, in bytes.
    max_result_bytes: u64,
    wait: Option<Wait>,
    /// When a job that still waits is withdrawn.
    withdraw_at: Option<Instant>,
}

/// A job's state when the conversation starts or resumes.
pub(crate) struct JobStatus {
    last_event: u64,
    outcome: Option<JobOutcome>,
    has_package: bool,
}

impl<'a> Submission<'a> {
    /// A new job, whose result goes to its output.
    pub(crate) fn new(
        job_ref: &'a JobString,
        spec: &'a JobSpec,
        job: &'a Job,
        display: &'a mut Display,
        progress: RecordUpdater,
    ) -> Self {
        let opening = Opening::Submit(spec, job);
        let action = Action::Attach { output: job.output.clone(), after: 0 };
        let stage = watch::Sender::new(Stage::Uploading);
        let shared = job.shared.as_ref();
        Self { opening, shared, stage, ..Self::existing(job_ref, action, display, progress) }
    }

    /// An existing job, for `action`.
    pub(crate) fn existing(
        job_ref: &'a JobString,
        action: Action,
        display: &'a mut Display,
        progress: RecordUpdater,
    ) -> Self {
        let after = match action {
            Action::Attach { after, .. } | Action::Logs { after, .. } => EventsAfter::Event(after),
            // Only the job's state matters, which the worker reports by itself.
            Action::Stop { .. } | Action::Cancel | Action::Fetch(_) | Action::Why => {
                EventsAfter::Newest
            }
        };
        Self {
            job_ref,
            opening: Opening::Attach,
            action,
            shared: None,
            display,
            viewer: None,
            cursor: EventCursor::new(after),
            disorder: Disorder::default(),
            outlook: JobOutlook::default(),
            stop_wanted: false,
            partial: None,
            stage: watch::Sender::new(Stage::Viewing),
            progress,
            pace: None,
            max_result_bytes: u64::MAX,
            wait: None,
            withdraw_at: None,
        }
    }

    /// Shows the job in SLEAP's loss viewer as well.
    pub(crate) fn with_viewer(self, viewer: Option<Viewer>) -> Self {
        Self { viewer, ..self }
    }

    /// Limits transfers as the user has configured.
    pub(crate) fn with_limits(self, config: &ClientConfig) -> Self {
        let max_result_bytes = config.max_result_bytes;
        Self { pace: config.bwlimit.map(Pace::new), max_result_bytes, ..self }
    }

    /// The goal of the next connection.
    pub(crate) fn goal(&self) -> Goal {
        Goal::KnownJob(self.job_ref.job.clone(), self.job_ref.secret.clone())
    }

    /// Whether the job has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.cursor.seen() > 0
    }

    /// The current stage, as it changes.
    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Runs the rest of the conversation over a new connection. Returns where the result is, if it was
    /// requested.
    pub(crate) async fn converse(
        &mut self,
        link: &mut ClientEnd,
    ) -> Result<Option<PathBuf>, ClientError> {
        self.display.show_route(link.route());
        self.progress.connected(link.route());
        let status = self.greet(link).await?;
        if let Opening::Submit(spec, job) = self.opening
            && !status.has_package
        {
            self.enter(Stage::Uploading);
            self.hand_over(link, spec, job).await?;
        }
        match self.action.clone() {
            Action::Attach { output, .. } => {
                self.enter(Stage::Following);
                concluded(self.follow(link, &status).await?)?;
                self.enter(Stage::Viewing);
                self.fetch(link, &output).await.map(Some)
            }
            Action::Logs { follow: true, .. } => self.follow(link, &status).await.map(|_| None),
            Action::Logs { follow: false, .. } => {
                self.read_until(link, status.last_event).await.map(|()| None)
            }
            Action::Fetch(output) => {
                match status.outcome.ok_or(JobRefused::StillRunning)? {
                    outcome @ JobOutcome::Failed { .. } => {
                        self.fetch_saved(link, &output).await?;
                        return concluded(outcome).map(|()| None);
                    }
                    JobOutcome::Interrupted => {
                        let saved = self.fetch_saved(link, &output).await?;
                        return self.salvaged(saved).map(Some);
                    }
                    outcome => concluded(outcome)?,
                }
                self.fetch(link, &output).await.map(Some)
            }
            Action::Stop { all } => {
                check_still_runs(&status)?;
                self.send(link, &ClientFrame::Stop { all }, "before the job was stopped").await?;
                link.flush(FLUSH).await;
                Ok(None)
            }
            Action::Why => self.explain_waiting(link, &status).await.map(|()| None),
            Action::Cancel => {
                check_still_runs(&status)?;
                match self.cancel_and_follow(link, &status).await? {
                    JobOutcome::Cancelled => Ok(None),
                    // The job had ended before the request arrived.
                    other => concluded(other).map(|()| None),
                }
            }
        }
    }

    /// The end of a `fetch` of an interrupted job. There is nothing more than what the job had
    /// saved.
    fn salvaged(&mut self, saved: Option<PathBuf>) -> Result<PathBuf, ClientError> {
        let saved = saved.ok_or(ClientError::JobFailed(JobFailure::NothingSaved))?;
        self.display.note(
            "The job was interrupted on the worker (the machine restarted, its user logged out, or the \
             job was killed); what it had saved by then is complete",
        );
        Ok(saved)
    }

    fn enter(&mut self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    async fn greet(&mut self, link: &mut ClientEnd) -> Result<JobStatus, ClientError> {
        let during = "while the job was introduced";
        let after = self.cursor.position();
        // A worker that refuses this client does not wait to hear what it wants.
        let sent = self.send(link, &self.greeting(after, link.transcript()), during).await;
        if let Err(lost) = sent {
            let frame = link.recv_within(ACCEPT_LIMIT).await.map_err(|_| lost)?;
            return refused(frame).and(Err(self.lost(DialectError::Gone, during)));
        }
        loop {
            match self.prepared(link, during).await? {
                WorkerFrame::Accepted { last_event, outcome, has_package, outlook, .. } => {
                    if !self.has_begun() {
                        let outlook = outlook.map(|outlook| *outlook).unwrap_or_default();
                        self.outlook.accepted(outlook, last_event, self.display);
                    }
                    // A job with events has its package.
                    let has_package =
                        has_package || last_event > 0 || after != EventsAfter::Event(0);
                    self.cursor.accepted(last_event);
                    return Ok(JobStatus { last_event, outcome, has_package });
                }
                frame => refused(frame)?,
            }
        }
    }

    /// The first frame of the conversation. With a `transcript`, it has a proof instead of the
    /// job's secret.
    fn greeting(&self, after: EventsAfter, transcript: Option<&Transcript>) -> ClientFrame {
        let JobString { job, secret, .. } = self.job_ref;
        let key = JobKey::new(job, secret);
        match self.opening {
            // The worker answers whether it already has the job, and which parts.
            Opening::Submit(spec, _) if after == EventsAfter::Event(0) => {
                key.submit(spec, secret, transcript)
            }
            _ => key.attach((job, secret), after, transcript),
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
            Err(TransferError::Interrupted(reason)) => {
                return Err(JobRefused::ByWorker(reason).into());
            }
            Err(source) => {
                self.display.transfer_interrupted();
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

    /// Shows the job's events until the job ends.
    async fn follow(
        &mut self,
        link: &mut ClientEnd,
        status: &JobStatus,
    ) -> Result<JobOutcome, ClientError> {
        let (number, seen) = self.cursor.open();
        if let Some(outcome) = status.outcome.clone().filter(|_| seen >= status.last_event) {
            return Ok(outcome);
        }
        let begun = Instant::now();
        let mut awaited = Some(begun + STAGE_LIMIT);
        loop {
            if let Some(outcome) = self.cursor.outcome() {
                return Ok(outcome.clone());
            }
            if self.stop_wanted {
                self.send(link, &ClientFrame::Stop { all: false }, WHILE_IT_RAN).await?;
                self.stop_wanted = false;
            }
            let has_begun = self.cursor.seen() > 0;
            let staging = !has_begun && matches!(self.opening, Opening::Submit(..));
            let withdraw_at = self.withdraw_at.filter(|_| !has_begun);
            let frame = tokio::select! {
                frame = link.recv() => frame.map_err(|error| self.lost(error, WHILE_IT_RAN))?,
                () = Viewer::stop_wanted(&mut self.viewer) => {
                    self.stop_wanted = true;
                    continue;
                }
                () = deadline::reached(withdraw_at) => return self.withdraw(link).await,
                () = deadline::reached(awaited.filter(|_| staging)) => {
                    let what = Misbehavior::SilentAfterPackage;
                    return Err(ClientError::Worker { worker: self.worker(), what });
                }
            };
            match frame {
                WorkerFrame::Event { event, .. } => {
                    self.leave_queue(&event.event);
                    self.apply_event(number, event)?;
                }
                WorkerFrame::Waiting { news, .. } => {
                    // The worker has checked the files.
                    awaited = None;
                    self.wait_in_queue(&news);
                }
                WorkerFrame::Preparing { .. } => {
                    awaited = awaited
                        .and(Some((Instant::now() + STAGE_LIMIT).min(begun + STAGE_AT_MOST)));
                }
                frame => refused(frame)?,
            }
        }
    }

    /// Shows the existing events up to number `last`.
    async fn read_until(&mut self, link: &mut ClientEnd, last: u64) -> Result<(), ClientError> {
        let (number, _) = self.cursor.open();
        while self.cursor.seen() < last {
            match self.recv(link, ACCEPT_LIMIT, "while the log was read").await? {
                WorkerFrame::Event { event, .. } => self.apply_event(number, event)?,
                frame => refused(frame)?,
            }
        }
        Ok(())
    }

    /// Applies an event and shows it, unless it is a repetition.
    fn apply_event(
        &mut self,
        link: ConnectionNumber,
        event: NumberedEvent,
    ) -> Result<(), ClientError> {
        match self.cursor.apply(link, event) {
            Ok(Arrival::New(numbered)) => {
                self.disorder.end();
                self.show(&numbered);
                self.outlook.see(&numbered, self.display);
                self.progress.event(&numbered, &self.display.progress());
                Ok(())
            }
            Ok(Arrival::Repeated) => self.disorder.repeated().map_err(|why| self.disordered(why)),
            Err(misplaced) => {
                self.disorder.gap(misplaced).map_err(|why| self.disordered(why))?;
                tracing::warn!(%misplaced, "received an event out of order; reconnecting to read it again");
                Err(ClientError::Lost { worker: self.worker(), during: WHILE_IT_RAN })
            }
        }
    }

    fn disordered(&self, why: String) -> ClientError {
        ClientError::Worker { worker: self.worker(), what: Misbehavior::Disorder(why) }
    }

    fn show(&mut self, numbered: &NumberedEvent) {
        if let Some(viewer) = &self.viewer {
            viewer.show(&numbered.event);
        }
        self.display.see(numbered);
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
            | DialectError::Quic(_)
            | DialectError::Stalled
            | DialectError::Silent(_) => ClientError::Lost { worker, during },
            error => ClientError::Worker { worker, what: Misbehavior::Dialect { during, error } },
        }
    }

    fn worker(&self) -> PeerId {
        self.job_ref.worker.clone()
    }
}

fn check_still_runs(status: &JobStatus) -> Result<(), ClientError> {
    match status.outcome {
        None => Ok(()),
        Some(_) => Err(JobRefused::Finished.into()),
    }
}

/// A refusal ends the conversation at any time; other unexpected frames are ignored.
fn refused(frame: WorkerFrame) -> Result<(), ClientError> {
    let WorkerFrame::Refused { refusal } = frame else { return Ok(()) };
    Err(match refusal.code {
        RefusalCode::Invalid => ClientError::JobFailed(JobFailure::Reported(refusal.message)),
        RefusalCode::NotFound => ClientError::UnknownToWorker,
        RefusalCode::NoMember => ClientError::NotAdmitted(refusal.message),
        _ => JobRefused::ByWorker(refusal.message).into(),
    })
}
