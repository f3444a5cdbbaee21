//! A job that waits: for a worker that is not ready yet, or for a slot.

use super::{ACCEPT_LIMIT, FLUSH, JobStatus, Opening, Submission, refused};
use crate::client::ClientError;
use crate::client::error::JobRefused;
use crate::client::interrupt::Stage;
use crate::config::Wait;
use sleap_rtc_net::dialect::{ClientEnd, DialectError};
use sleap_rtc_protocol::frame::{ClientFrame, WorkerFrame};
use sleap_rtc_protocol::job::{JobEvent, JobOutcome};
use sleap_rtc_protocol::queue_report::QueueStatus;
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_trust::goal::Goal;
use std::time::{Duration, Instant};

/// How long a worker may prepare itself. Ours ask their trainers for at most 100 s.
const PREPARE_LIMIT: Duration = Duration::from_secs(120);
/// The most characters of what a worker says while it prepares.
const MAX_NEWS_CHARS: usize = 200;

impl Submission<'_> {
    /// The first frame of a worker that is ready. Shows what it waits for until then.
    pub(crate) async fn prepared(
        &mut self,
        link: &mut ClientEnd,
        during: &'static str,
    ) -> Result<WorkerFrame, ClientError> {
        let (start, mut is_shown) = (Instant::now(), false);
        loop {
            let frame = self.recv(link, ACCEPT_LIMIT, during).await?;
            let WorkerFrame::Preparing { what } = frame else { return Ok(frame) };
            if start.elapsed() > PREPARE_LIMIT {
                return Err(self.lost(DialectError::Silent(PREPARE_LIMIT), during));
            }
            if !std::mem::replace(&mut is_shown, true) {
                let what = Printable::line(&what, MAX_NEWS_CHARS);
                self.display.note(&format!("Waiting for the worker: {what} …"));
            }
        }
    }

    /// Whether, and how long, the job waits for a slot.
    pub(crate) fn with_wait(self, wait: Option<Wait>) -> Self {
        let withdraw_at = match wait {
            Some(Wait::For(limit)) => Instant::now().checked_add(limit),
            Some(Wait::UntilItStarts) | None => None,
        };
        Self { wait, withdraw_at, ..self }
    }

    /// Whether the job may be submitted again to a worker that does not know it.
    pub(crate) fn may_resubmit(&self) -> bool {
        matches!(self.opening, Opening::Submit(..)) && self.cursor.seen() == 0
    }

    /// The goal of a connection that submits the job again.
    pub(crate) fn resubmission_goal(&self) -> Goal {
        Goal::NewJob { may_wait: self.wait.is_some() }
    }

    /// The client ended with `why` before the job began. If the worker has refused the job, records that.
    pub(crate) fn not_taken(&mut self, why: &ClientError) {
        use ClientError::{JobFailed, NotAdmitted, Refused, UnknownToWorker};
        if matches!(why, Refused(_) | NotAdmitted(_) | UnknownToWorker | JobFailed(_)) {
            self.progress.refused(why);
        }
    }

    /// Records and shows where the job stands in the queue.
    pub(crate) fn wait_in_queue(&mut self, news: &QueueStatus) {
        if *self.stage.borrow() == Stage::Following {
            self.enter(Stage::Waiting);
        }
        self.progress.waiting(news);
        self.display.waiting(news);
    }

    /// Records and shows that the job no longer waits: `event` says that it has begun, or is over.
    pub(crate) fn leave_queue(&mut self, event: &JobEvent) {
        if *self.stage.borrow() == Stage::Waiting {
            self.enter(Stage::Following);
        }
        self.display.waited(event);
    }

    /// Says why the job waits: its place, the rule that gave it, and who is before it.
    pub(crate) async fn explain_waiting(
        &mut self,
        link: &mut ClientEnd,
        status: &JobStatus,
    ) -> Result<(), ClientError> {
        if status.outcome.is_some() {
            return Err(JobRefused::Finished.into());
        }
        loop {
            if status.last_event > 0 {
                return Err(JobRefused::Begun.into());
            }
            match self.recv(link, ACCEPT_LIMIT, "while it was asked").await? {
                WorkerFrame::Waiting { news, .. } => {
                    self.display.why_it_waits(&news);
                    return Ok(());
                }
                WorkerFrame::Event { .. } => return Err(JobRefused::Begun.into()),
                frame => refused(frame)?,
            }
        }
    }

    /// The job has waited for as long as its user wanted: withdraws it.
    pub(crate) async fn withdraw(
        &mut self,
        link: &mut ClientEnd,
    ) -> Result<JobOutcome, ClientError> {
        self.withdraw_at = None;
        let reason = "it has waited for as long as its user wanted".to_owned();
        self.send(link, &ClientFrame::Cancel { reason }, "before it was withdrawn").await?;
        link.flush(FLUSH).await;
        let waited = match self.wait {
            Some(Wait::For(waited)) => waited,
            Some(Wait::UntilItStarts) | None => Duration::ZERO,
        };
        let worker = self.worker();
        Err(JobRefused::WaitedInVain { worker, waited }.into())
    }
}
