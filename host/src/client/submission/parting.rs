//! The last words when the user leaves or cancels.

use super::{FLUSH, Standing, Submission, WHILE_IT_RAN};
use crate::client::ClientError;
use crate::client::known::Action;
use crate::client::parting::Stage;
use sleap_rtc_net::dialect::ClientEnd;
use sleap_rtc_protocol::frame::ClientFrame;
use sleap_rtc_protocol::job::JobOutcome;
use std::time::Duration;

/// From a cancellation to the job's last event.
const CANCEL_LIMIT: Duration = Duration::from_secs(20);

impl Submission<'_> {
    /// The user leaves. Says so to a worker that has no whole package, and so no job: its slot is
    /// wanted by others.
    pub(in crate::client) async fn leave(&mut self, link: &ClientEnd) -> ClientError {
        if *self.stage.borrow() != Stage::HandingOver {
            return self.left();
        }
        say_cancel(link).await;
        ClientError::Cancelled
    }

    /// The user cancels the job.
    pub(in crate::client) async fn cancel(&mut self, link: &mut ClientEnd) -> ClientError {
        self.display.note("Cancelling the job …");
        let standing = Standing { last_event: 0, outcome: None, has_package: true };
        match self.cancelled(link, &standing).await {
            Ok(JobOutcome::Cancelled) => ClientError::Cancelled,
            Ok(_) => {
                self.display.note("The job was over before the word arrived.");
                self.left()
            }
            Err(error) => {
                tracing::debug!(%error, "the worker did not confirm");
                self.display.note("The worker does not answer; the job may not be cancelled.");
                self.left()
            }
        }
    }

    /// No connection came about any more.
    pub(in crate::client) fn given_up(&mut self, error: ClientError) -> ClientError {
        if *self.stage.borrow() == Stage::HandingOver {
            return error;
        }
        self.display.note(&format!("{error}."));
        self.left()
    }

    fn left(&self) -> ClientError {
        match self.action {
            Action::Attach { .. } => ClientError::Left(Box::new(self.known.clone())),
            // It was only looked at.
            _ => ClientError::Cancelled,
        }
    }

    /// Cancels the job and waits for its end.
    pub(super) async fn cancelled(
        &mut self,
        link: &mut ClientEnd,
        standing: &Standing,
    ) -> Result<JobOutcome, ClientError> {
        say_cancel(link).await;
        let silent = ClientError::Lost { worker: self.worker(), during: WHILE_IT_RAN };
        let end = self.follow(link, standing);
        tokio::time::timeout(CANCEL_LIMIT, end).await.unwrap_or(Err(silent))
    }
}

async fn say_cancel(link: &ClientEnd) {
    let cancel = ClientFrame::Cancel { reason: "the user pressed Ctrl-C".into() };
    if link.send(&cancel).await.is_ok() {
        link.flush(FLUSH).await;
    }
}
