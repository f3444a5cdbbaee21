//! Follows a job for a client that speaks `sleap-rtc/1`: sends its events, obeys commands, sends the results.

use super::error::ConnectionError;
use super::{Client, delivery, queue_status};
use crate::blocking::blocking;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{EventStream, JobCommand, JobFolder, JobHandle};
use sleap_rtc_net::dialect::{DialectError, WorkerEnd};
use sleap_rtc_protocol::frame::{ClientFrame, Delivery, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, NumberedEvent};
use sleap_rtc_transfer::{self as transfer, Package, TransferError};
use std::time::Duration;
use tracing::{info, warn};

/// How long a client may take, after the job, to fetch the results over the same connection.
const FETCH: Duration = Duration::from_secs(60);

/// Sends the job's events and follows the client's commands until it leaves.
pub(crate) async fn follow(
    client: &Client,
    link: &mut WorkerEnd,
    folder: &JobFolder,
    handle: &JobHandle,
    after: u64,
) -> Result<(), ConnectionError> {
    client.coordinator.followed(folder.id(), link.route()).await;
    let mut events = handle.events(after);
    let followed = stream(link, folder.id(), handle, &mut events).await?;
    info!(job = %folder.id(), outcome = ?followed.outcome, "the job has finished");
    let mut fetch = followed.fetch;
    loop {
        if let Some(by) = fetch.take() {
            send_results(client, link, folder, by).await?;
        }
        match link.recv_within(FETCH).await {
            Ok(ClientFrame::Fetch { by }) => fetch = Some(by),
            Ok(_) => {}
            // The client knows the end of the job, and needs nothing more.
            Err(DialectError::Gone | DialectError::Silent(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// How a job ended, and what its client requested meanwhile.
#[derive(Default)]
struct Followed {
    outcome: Option<JobOutcome>,
    fetch: Option<Delivery>,
}

async fn stream(
    link: &mut WorkerEnd,
    job: &JobId,
    handle: &JobHandle,
    events: &mut EventStream,
) -> Result<Followed, ConnectionError> {
    let mut followed = Followed::default();
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return Ok(followed) };
                followed.outcome = finished(&event);
                link.send(&WorkerFrame::Event { job: job.clone(), event }).await?;
                if followed.outcome.is_some() {
                    return Ok(followed);
                }
            }
            frame = link.recv() => match frame? {
                ClientFrame::Fetch { by } => followed.fetch = Some(by),
                frame => link.meanwhile(obey(job, handle, frame)).await,
            },
        }
    }
}

/// The outcome, if the event is the last one.
pub(crate) fn finished(event: &NumberedEvent) -> Option<JobOutcome> {
    match &event.event {
        JobEvent::Finished { outcome } => Some(outcome.clone()),
        _ => None,
    }
}

async fn obey(job: &JobId, handle: &JobHandle, frame: ClientFrame) {
    let command = match frame {
        ClientFrame::Stop { all } => JobCommand::Stop { all },
        ClientFrame::Cancel { reason } => {
            info!(%job, reason = reason.escape_debug().to_string(), "cancelled by the client");
            JobCommand::Cancel
        }
        _ => return,
    };
    if let Err(error) = handle.command(command).await {
        // The job may just have ended; its last event reports that.
        warn!(%job, error = %WithCauses(&error), "a command did not reach the job");
    }
}

async fn send_results(
    client: &Client,
    link: &mut WorkerEnd,
    folder: &JobFolder,
    by: Delivery,
) -> Result<(), ConnectionError> {
    if by == Delivery::SharedStorage && folder.spec().shared.is_some() {
        let delivery = delivery::deliver(&client.context, folder);
        queue_status::announced(client, link, "it is copying the results", delivery).await??;
        return Ok(link.send(&WorkerFrame::Transfer(TransferFrame::Complete)).await?);
    }
    let (results, hashes) = (folder.results_dir(), client.context.hashes.clone());
    let opening = blocking(move || Package::open_tree(&results, &hashes));
    let package = link.meanwhile(opening).await?;
    let package = package.map_err(TransferError::from)?;
    if let Err(error) = transfer::send(link, &package, &client.context.limits, |_| {}).await {
        if error.is_about_files() {
            package.distrust();
        }
        return Err(error.into());
    }
    let fetched = folder.clone();
    blocking(move || fetched.mark_fetched(now_ms())).await?;
    info!(job = %folder.id(), "results fetched");
    Ok(())
}
