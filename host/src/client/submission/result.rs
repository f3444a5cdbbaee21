//! Brings a job's result back.

use super::{FLUSH, STAGE_LIMIT, Submission, refused};
use crate::client::ClientError;
use crate::client::collected::Collected;
use crate::client::meter::Direction;
use crate::client::output::Output;
use sleap_rtc_net::dialect::ClientEnd;
use sleap_rtc_protocol::frame::{ClientFrame, Delivery, TransferFrame, WorkerFrame};
use sleap_rtc_transfer::{self as transfer, Limits};
use std::path::PathBuf;
use std::time::Instant;

impl Submission<'_> {
    /// Fetches the result and puts it where it is to be.
    pub(super) async fn fetch(
        &mut self,
        link: &mut ClientEnd,
        output: &Output,
    ) -> Result<PathBuf, ClientError> {
        // Who comes back to a job may be where its storage is not: only its own client takes the
        // result from there.
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
        let collected = self.receive(link, output).await?;
        let place = output.publish(collected)?;
        self.progress.fetched();
        Ok(place)
    }

    /// Brings back what a job saved that did not come to its end, and says where it is.
    pub(super) async fn fetch_saved(
        &mut self,
        link: &mut ClientEnd,
        output: &Output,
    ) -> Result<(), ClientError> {
        let collected = self.receive(link, output).await?;
        if std::fs::read_dir(collected.path()).is_ok_and(|mut entries| entries.next().is_none()) {
            return Ok(());
        }
        let place = output.publish(collected)?;
        let place = std::path::absolute(&place).unwrap_or(place);
        self.display.note(&format!("What was saved is in {}", place.display()));
        Ok(())
    }

    /// Asks for a result and receives it; what an earlier connection or client brought of it is not
    /// asked for again.
    async fn receive(
        &mut self,
        link: &mut ClientEnd,
        output: &Output,
    ) -> Result<Collected, ClientError> {
        let fetch = ClientFrame::Fetch { by: Delivery::Connection };
        self.send(link, &fetch, "before the result was fetched").await?;
        let collected = match self.collected.take() {
            Some(collected) => collected,
            None => output.collect_of(&self.known.job)?,
        };
        let display = &mut *self.display;
        let limits = Limits { pace: self.pace.clone(), ..Limits::results() };
        let (start, mut already_there_bytes) = (Instant::now(), 0);
        let received = transfer::receive(link, collected.path(), &limits, |progress| {
            already_there_bytes = progress.already_there_bytes;
            display.transfer(Direction::Download, progress);
        });
        match received.await {
            Ok(manifest) => {
                let bytes = manifest.total_bytes();
                let took_ms = start.elapsed().as_secs_f64() * 1e3;
                tracing::debug!(bytes, already_there_bytes, took_ms, "the result is here");
                self.display.transferred(Direction::Download, bytes);
                link.flush(FLUSH).await;
                Ok(collected)
            }
            Err(source) => {
                self.display.broke_off();
                self.collected = Some(collected);
                Err(ClientError::Transfer { what: "result", source })
            }
        }
    }
}
