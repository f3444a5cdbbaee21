//! Downloads a job's result.

use super::{FLUSH, STAGE_LIMIT, Submission, refused};
use crate::client::ClientError;
use crate::client::output::Output;
use crate::client::partial_download::PartialDownload;
use crate::question::confirm;
use sleap_rtc_net::dialect::ClientEnd;
use sleap_rtc_protocol::frame::{ClientFrame, Delivery, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::meter::{self, Direction};
use sleap_rtc_transfer::{self as transfer, Limits, SizeAnswer, SizeQuestion};
use std::path::PathBuf;
use std::time::Instant;

impl Submission<'_> {
    /// Fetches the result and moves it to its place.
    pub(crate) async fn fetch(
        &mut self,
        link: &mut ClientEnd,
        output: &Output,
    ) -> Result<PathBuf, ClientError> {
        // Only the submitting client takes the result from shared storage: another one may run on a
        // machine without it.
        if let Some(shared) = self.shared {
            let fetch = ClientFrame::Fetch { by: Delivery::SharedStorage };
            self.send(link, &fetch, "before the result was fetched").await?;
            loop {
                match self.recv(link, STAGE_LIMIT, "before the result was in place").await? {
                    WorkerFrame::Transfer(TransferFrame::Complete) => {
                        return output.publish_shared(shared);
                    }
                    frame => refused(frame)?,
                }
            }
        }
        let partial = self.receive(link, output).await?;
        let place = output.publish(partial)?;
        self.progress.fetched(&place);
        Ok(place)
    }

    /// Downloads what an incomplete job had saved, if anything, and prints the place.
    pub(crate) async fn fetch_saved(
        &mut self,
        link: &mut ClientEnd,
        output: &Output,
    ) -> Result<Option<PathBuf>, ClientError> {
        let partial = self.receive(link, output).await?;
        if std::fs::read_dir(partial.path()).is_ok_and(|mut entries| entries.next().is_none()) {
            return Ok(None);
        }
        let place = output.publish(partial)?;
        let shown = std::path::absolute(&place).unwrap_or_else(|_| place.clone());
        self.display.note(&format!("What was saved is in {}", shown.display()));
        Ok(Some(place))
    }

    /// Requests and receives a result, except the parts that an earlier connection or client
    /// received.
    async fn receive(
        &mut self,
        link: &mut ClientEnd,
        output: &Output,
    ) -> Result<PartialDownload, ClientError> {
        let fetch = ClientFrame::Fetch { by: Delivery::Connection };
        self.send(link, &fetch, "before the result was fetched").await?;
        let partial = match self.partial.take() {
            Some(partial) => partial,
            None => output.resume_download(&self.job_ref.job)?,
        };
        let display = &mut *self.display;
        let question = SizeQuestion { above_bytes: self.max_result_bytes, ask: is_wanted };
        let (pace, question) = (self.pace.clone(), Some(question));
        let limits = Limits { pace, question, ..Limits::results() };
        let (start, mut already_there_bytes) = (Instant::now(), 0);
        let received = transfer::receive(link, partial.path(), &limits, |progress| {
            already_there_bytes = progress.already_there_bytes;
            display.transfer(Direction::Download, progress);
        });
        match received.await {
            Ok(manifest) => {
                let bytes = manifest.total_bytes();
                let took_ms = start.elapsed().as_secs_f64() * 1e3;
                tracing::debug!(bytes, already_there_bytes, took_ms, "the result has arrived");
                self.display.transferred(Direction::Download, bytes);
                link.flush(FLUSH).await;
                Ok(partial)
            }
            Err(source) => {
                self.display.transfer_interrupted();
                self.partial = Some(partial);
                Err(ClientError::Transfer { what: "result", source })
            }
        }
    }
}

/// Asks whether to fetch a result that is larger than usual. Nobody wants it where nobody answers.
fn is_wanted(bytes: u64) -> SizeAnswer {
    let question = format!("The result has {}. Fetch it? [y/N] ", meter::bytes(bytes));
    Box::pin(async move { confirm(&question).await == Some(true) })
}
