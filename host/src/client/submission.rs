//! One job over `sleap-rtc/1`: hand over the package, follow the events, fetch the result.

use super::display::Display;
use super::error::WHILE_IT_RAN;
use super::output::Output;
use super::shared::SharedJob;
use super::viewer::Viewer;
use super::{ClientError, Job, concluded};
use crate::deadline;
use crate::dialect::{ClientEnd, DialectError};
use crate::rtc::Channel;
use crate::transfer::{self, Limits, TransferError};
use sleap_rtc_protocol::frame::{ClientFrame, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobSpec, NumberedEvent, RefusalCode};
use sleap_rtc_protocol::session::JobString;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A worker answers a submission within this time; its policies run meanwhile.
const ACCEPT_LIMIT: Duration = Duration::from_secs(30);
/// From the last byte of the package to the first event: the worker checks the files.
const STAGE_LIMIT: Duration = Duration::from_secs(120);
/// From a cancellation to the job's last event.
const CANCEL_LIMIT: Duration = Duration::from_secs(20);
/// Last words reach the worker within this time.
const FLUSH: Duration = Duration::from_secs(5);
const UPLOAD: &str = "Sending package";
const DOWNLOAD: &str = "Receiving result";

/// Submits the job on an open channel and stays with it. Returns where the result is.
pub(super) async fn run(
    channel: Channel,
    spec: &JobSpec,
    job: &Job,
    display: &mut Display,
    viewer: Option<Viewer>,
    interrupt: &CancellationToken,
) -> Result<PathBuf, ClientError> {
    let worker = display.worker_id();
    let mut submission = Submission { link: ClientEnd::new(channel), worker, display, viewer };
    let handed_over = tokio::select! {
        done = submission.hand_over(spec, job) => done,
        () = interrupt.cancelled() => Err(ClientError::Cancelled),
    };
    if let Err(ClientError::Cancelled) = handed_over {
        submission.say_cancel().await;
    }
    handed_over?;
    let outcome = submission.follow(interrupt).await?;
    concluded(outcome)?;
    let fetching = submission.fetch(&job.output, job.shared.as_ref());
    interrupt.run_until_cancelled(fetching).await.unwrap_or(Err(ClientError::Cancelled))
}

/// A connection to a job of ours.
pub(super) struct Submission<'a> {
    link: ClientEnd,
    worker: PeerId,
    display: &'a mut Display,
    viewer: Option<Viewer>,
}

/// Where a known job stands at the moment of coming back to it.
pub(super) struct Standing {
    /// Number of its last event.
    pub(super) last_event: u64,
    /// How it ended, if it has.
    pub(super) outcome: Option<JobOutcome>,
}

impl<'a> Submission<'a> {
    /// Comes back to a known job on an open channel; its events after `after` follow.
    pub(super) async fn attach(
        channel: Channel,
        display: &'a mut Display,
        known: &JobString,
        after: u64,
    ) -> Result<(Self, Standing), ClientError> {
        let worker = display.worker_id();
        let mut attached = Self { link: ClientEnd::new(channel), worker, display, viewer: None };
        let (job, secret) = (known.job.clone(), known.secret.clone());
        let during = "while coming back to the job";
        attached.send(&ClientFrame::Attach { job, secret, after }, during).await?;
        loop {
            match attached.recv(ACCEPT_LIMIT, during).await? {
                WorkerFrame::Accepted { last_event, outcome, .. } => {
                    return Ok((attached, Standing { last_event, outcome }));
                }
                frame => refused(frame)?,
            }
        }
    }

    /// Reads the events up to number `last`, which are there already, and shows them if asked to.
    pub(super) async fn read_until(&mut self, last: u64, show: bool) -> Result<(), ClientError> {
        let mut runs = Vec::new();
        let mut seen = 0;
        while seen < last {
            match self.recv(ACCEPT_LIMIT, "while the log was read").await? {
                WorkerFrame::Event { event, .. } => {
                    seen = event.seq;
                    if show {
                        self.show(event, &mut runs);
                    }
                }
                frame => refused(frame)?,
            }
        }
        Ok(())
    }

    /// Asks for an early end that keeps the model; `all` ends the runs to come as well.
    pub(super) async fn stop(&self, all: bool) -> Result<(), ClientError> {
        self.send(&ClientFrame::Stop { all }, "before the job was told to stop").await?;
        self.link.flush(FLUSH).await;
        Ok(())
    }

    async fn hand_over(&mut self, spec: &JobSpec, job: &Job) -> Result<(), ClientError> {
        let submit = ClientFrame::Submit { spec: Box::new(spec.clone()) };
        self.send(&submit, "while the job was handed over").await?;
        loop {
            match self.recv(ACCEPT_LIMIT, "while the job was handed over").await? {
                WorkerFrame::Accepted { .. } => break,
                frame => refused(frame)?,
            }
        }
        if spec.shared.is_some() {
            return Ok(());
        }
        let Self { link, display, .. } = self;
        let sent = transfer::send(link, &job.package, |progress| {
            display.transfer(UPLOAD, progress);
        });
        match sent.await {
            Ok(()) => {}
            Err(TransferError::Interrupted(reason)) => return Err(ClientError::Refused(reason)),
            Err(source) => return Err(ClientError::Transfer { what: "package", source }),
        }
        let bytes = job.package.manifest().total_bytes();
        self.display.transferred(UPLOAD, bytes);
        Ok(())
    }

    /// Shows the job's events until it is over. An interrupt cancels the job and waits for its end.
    pub(super) async fn follow(
        &mut self,
        interrupt: &CancellationToken,
    ) -> Result<JobOutcome, ClientError> {
        let mut runs = Vec::new();
        let mut cancelling = None;
        let mut first = true;
        loop {
            let deadline = match cancelling {
                Some(since) => Some(since + CANCEL_LIMIT),
                None => first.then(|| Instant::now() + STAGE_LIMIT),
            };
            let frame = tokio::select! {
                frame = self.link.recv() => frame.map_err(|e| self.lost(e, WHILE_IT_RAN))?,
                () = interrupt.cancelled(), if cancelling.is_none() => {
                    self.display.note("Cancelling the job …");
                    self.say_cancel().await;
                    cancelling = Some(Instant::now());
                    continue;
                }
                () = Viewer::stop_wanted(&mut self.viewer) => {
                    self.send(&ClientFrame::Stop { all: false }, WHILE_IT_RAN).await?;
                    continue;
                }
                () = deadline::reached(deadline) => {
                    let what = "stayed silent after it had the package".to_owned();
                    let silent = ClientError::Worker { worker: self.worker.clone(), what };
                    return Err(if cancelling.is_some() { ClientError::Cancelled } else { silent });
                }
            };
            match frame {
                WorkerFrame::Event { event, .. } => {
                    first = false;
                    if let Some(outcome) = self.show(event, &mut runs) {
                        return Ok(outcome);
                    }
                }
                frame => refused(frame)?,
            }
        }
    }

    fn show(&mut self, event: NumberedEvent, runs: &mut Vec<String>) -> Option<JobOutcome> {
        if let Some(viewer) = &self.viewer {
            viewer.show(&event.event);
        }
        match event.event {
            JobEvent::Staged { runs: names } => *runs = names,
            JobEvent::RunStarted { name } => {
                let number = runs.iter().position(|run| *run == name).map_or(1, |at| at + 1);
                self.display.run_started(&name, number, runs.len());
            }
            JobEvent::Log { text } => self.display.log(&text),
            JobEvent::RunEnded { name, outcome } => self.display.run_ended(&name, &outcome),
            JobEvent::Finished { outcome } => return Some(outcome),
            JobEvent::Progress { .. } | JobEvent::Unknown => {}
        }
        None
    }

    pub(super) async fn fetch(
        &mut self,
        output: &Output,
        shared: Option<&SharedJob>,
    ) -> Result<PathBuf, ClientError> {
        self.send(&ClientFrame::Fetch, "before the result was fetched").await?;
        if let Some(shared) = shared {
            loop {
                match self.recv(STAGE_LIMIT, "before the result was in place").await? {
                    WorkerFrame::Transfer(TransferFrame::Complete) => {
                        return output.publish_shared(shared);
                    }
                    frame => refused(frame)?,
                }
            }
        }
        let collected = self.receive(output).await?;
        output.publish(collected)
    }

    /// Brings back what a job saved that did not come to its end, and says where it is.
    pub(super) async fn fetch_saved(&mut self, output: &Output) -> Result<(), ClientError> {
        self.send(&ClientFrame::Fetch, "before the result was fetched").await?;
        let collected = self.receive(output).await?;
        if std::fs::read_dir(collected.path()).is_ok_and(|mut entries| entries.next().is_none()) {
            return Ok(());
        }
        let place = output.publish(collected)?;
        let place = std::path::absolute(&place).unwrap_or(place);
        self.display.note(&format!("What was saved is in {}", place.display()));
        Ok(())
    }

    async fn receive(&mut self, output: &Output) -> Result<TempDir, ClientError> {
        let collected = output.collect()?;
        let Self { link, display, .. } = self;
        let limits = Limits::results();
        let received = transfer::receive(link, collected.path(), &limits, |progress| {
            display.transfer(DOWNLOAD, progress);
        });
        let manifest =
            received.await.map_err(|source| ClientError::Transfer { what: "result", source })?;
        self.display.transferred(DOWNLOAD, manifest.total_bytes());
        self.link.flush(FLUSH).await;
        Ok(collected)
    }

    async fn say_cancel(&self) {
        let cancel = ClientFrame::Cancel { reason: "the user pressed Ctrl-C".into() };
        if self.link.send(&cancel).await.is_ok() {
            self.link.flush(FLUSH).await;
        }
    }

    async fn send(&self, frame: &ClientFrame, during: &'static str) -> Result<(), ClientError> {
        self.link.send(frame).await.map_err(|error| self.lost(error, during))
    }

    async fn recv(
        &mut self,
        limit: Duration,
        during: &'static str,
    ) -> Result<WorkerFrame, ClientError> {
        self.link.recv_within(limit).await.map_err(|error| self.lost(error, during))
    }

    fn lost(&self, error: DialectError, during: &'static str) -> ClientError {
        let worker = self.worker.clone();
        match error {
            DialectError::Gone | DialectError::Channel(_) => ClientError::Lost { worker, during },
            other => ClientError::Worker { worker, what: format!("broke off {during}: {other}") },
        }
    }
}

/// A refusal at any moment is the worker's last word; other frames are not for this moment.
fn refused(frame: WorkerFrame) -> Result<(), ClientError> {
    match frame {
        WorkerFrame::Refused { refusal } if refusal.code == RefusalCode::Invalid => {
            Err(ClientError::JobFailed(refusal.message))
        }
        WorkerFrame::Refused { refusal } => Err(ClientError::Refused(refusal.message)),
        _ => Ok(()),
    }
}
