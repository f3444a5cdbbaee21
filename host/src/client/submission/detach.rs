//! The end of the conversation when the user detaches or cancels.

use super::{FLUSH, JobStatus, Submission, WHILE_IT_RAN};
use crate::client::ClientError;
use crate::client::action::Action;
use crate::client::error::Ended;
use crate::client::interrupt::Stage;
use sleap_rtc_net::dialect::ClientEnd;
use sleap_rtc_protocol::frame::ClientFrame;
use sleap_rtc_protocol::job::JobOutcome;
use std::time::Duration;

/// How long a job may take to end after it was cancelled.
const CANCEL_LIMIT: Duration = Duration::from_secs(20);

impl Submission<'_> {
    /// The user detaches. Cancels a job whose package is incomplete, so that the worker's slot is free
    /// for others.
    pub(crate) async fn detach(&mut self, link: &ClientEnd) -> ClientError {
        if *self.stage.borrow() != Stage::Uploading {
            return self.detached();
        }
        send_cancel(link).await;
        ClientError::Cancelled(Ended::Upload)
    }

    /// The user cancels the job.
    pub(crate) async fn cancel(&mut self, link: &mut ClientEnd) -> ClientError {
        self.display.note("Cancelling the job …");
        let status = JobStatus { last_event: 0, outcome: None, has_package: true };
        match self.cancel_and_follow(link, &status).await {
            Ok(JobOutcome::Cancelled) => ClientError::Cancelled(Ended::Job),
            Ok(_) => {
                self.display.note("The job had already finished.");
                self.detached()
            }
            Err(error) => {
                tracing::debug!(%error, "the worker did not confirm the cancellation");
                self.display.note("The worker does not answer; the job may still be running.");
                self.detached()
            }
        }
    }

    /// The client could not reconnect.
    pub(crate) fn given_up(&mut self, error: ClientError) -> ClientError {
        if *self.stage.borrow() == Stage::Uploading {
            return error;
        }
        self.display.note(&format!("{error}."));
        self.detached()
    }

    fn detached(&self) -> ClientError {
        match self.action {
            Action::Attach { .. } => {
                let waits = *self.stage.borrow() == Stage::Waiting;
                ClientError::Detached { job: Box::new(self.job_ref.clone()), waits }
            }
            // The client only showed the job.
            Action::Logs { .. } => ClientError::Cancelled(Ended::Log),
            Action::Stop { .. } | Action::Why | Action::Cancel | Action::Fetch(_) => {
                ClientError::Cancelled(Ended::Command)
            }
        }
    }

    /// Cancels the job and waits until it has ended.
    pub(crate) async fn cancel_and_follow(
        &mut self,
        link: &mut ClientEnd,
        status: &JobStatus,
    ) -> Result<JobOutcome, ClientError> {
        send_cancel(link).await;
        let silent = ClientError::Lost { worker: self.worker(), during: WHILE_IT_RAN };
        let end = self.follow(link, status);
        tokio::time::timeout(CANCEL_LIMIT, end).await.unwrap_or(Err(silent))
    }
}

async fn send_cancel(link: &ClientEnd) {
    let cancel = ClientFrame::Cancel { reason: "the user pressed Ctrl-C".into() };
    if link.send(&cancel).await.is_ok() {
        link.flush(FLUSH).await;
    }
}
