//! One connection of our own client: `sleap-rtc/1`, as the `frame` module of the protocol draws it.

use super::connection::ConnectionError;
use super::staging::Unstarted;
use super::{Client, staging};
use crate::dialect::{DialectError, WorkerEnd};
use crate::job::{EventStream, JobCommand, JobFolder, JobHandle, now_ms};
use crate::transfer::{self, Package};
use sleap_rtc_protocol::frame::{ClientFrame, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::ids::{JobId, JobSecret};
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobSpec, NumberedEvent, Refusal, RefusalCode};
use std::time::Duration;
use tracing::{info, warn};

/// A client that connects says what it wants within this time.
const FIRST_FRAME: Duration = Duration::from_secs(30);
/// After the job a client fetches the results within this time, or comes back for them later.
const FETCH: Duration = Duration::from_secs(60);
/// Last words reach the other side within this time.
const FLUSH: Duration = Duration::from_secs(5);

/// Serves one client until it has what it wants or is gone.
pub(super) async fn serve(client: Client, mut link: WorkerEnd) -> Result<(), ConnectionError> {
    let served = match link.recv_within(FIRST_FRAME).await? {
        ClientFrame::Submit { spec } if client.new_job => submit(&client, &mut link, *spec).await,
        ClientFrame::Submit { .. } => Err(refused(
            RefusalCode::Invalid,
            "this connection was opened for a known job; a new job needs an offer of its own",
        )),
        ClientFrame::Attach { job, secret, after } => {
            attach(&client, &mut link, &job, &secret, after).await
        }
        _ => Err(ConnectionError::Protocol("the first frame must be submit or attach")),
    };
    if let Err(ConnectionError::Refused(refusal)) = &served {
        link.send(&WorkerFrame::Refused { refusal: refusal.clone() }).await?;
    }
    link.flush(FLUSH).await;
    served
}

fn refused(code: RefusalCode, message: impl Into<String>) -> ConnectionError {
    ConnectionError::Refused(Refusal::new(code, message))
}

async fn submit(
    client: &Client,
    link: &mut WorkerEnd,
    spec: JobSpec,
) -> Result<(), ConnectionError> {
    staging::check(&client.site, &client.peer, &spec.description).await?;
    client.coordinator.hold(&client.peer).await?;
    let folder = JobFolder::create(&client.site.state_dir, &spec, &client.peer)?;
    let unstarted = Unstarted::new(folder.clone());
    stage(client, link, &folder).await?;
    let handle = unstarted.start(client).await?;
    follow(client, link, &folder, &handle, 0).await
}

/// Gets the package into the job's folder and looks at it.
async fn stage(
    client: &Client,
    link: &mut WorkerEnd,
    folder: &JobFolder,
) -> Result<(), ConnectionError> {
    let site = &client.site;
    let spec = folder.spec();
    let shared =
        spec.shared.as_ref().map(|paths| staging::shared_places(site, paths)).transpose()?;
    let accepted = WorkerFrame::Accepted { job: spec.id.clone(), last_event: 0, outcome: None };
    link.send(&accepted).await?;
    match shared {
        Some(places) => staging::take_in_place(folder, places.input).await?,
        None => {
            let manifest =
                transfer::receive(link, &folder.files_dir(), &site.limits, |_| {}).await?;
            info!(job = %spec.id, bytes = manifest.total_bytes(), "package complete");
        }
    }
    staging::check_files(site, folder, &spec.description).await?;
    Ok(())
}

/// Back to a known job, for whoever holds its secret. An unknown job and a wrong secret get the
/// same answer.
async fn attach(
    client: &Client,
    link: &mut WorkerEnd,
    job: &JobId,
    secret: &JobSecret,
    after: u64,
) -> Result<(), ConnectionError> {
    let folder = JobFolder::open(&client.site.state_dir, job)
        .ok()
        .filter(|folder| folder.spec().secret.matches(secret))
        .ok_or_else(|| {
            refused(RefusalCode::Unauthorized, "no such job here, or not your secret for it")
        })?;
    let handle = JobHandle::attach(&folder).await?;
    let last = folder.last_event()?;
    let last_event = last.as_ref().map_or(0, |event| event.seq);
    let outcome = last.as_ref().and_then(finished);
    link.send(&WorkerFrame::Accepted { job: job.clone(), last_event, outcome }).await?;
    follow(client, link, &folder, &handle, after).await
}

/// Sends the job's events and obeys the client until it leaves.
async fn follow(
    client: &Client,
    link: &mut WorkerEnd,
    folder: &JobFolder,
    handle: &JobHandle,
    after: u64,
) -> Result<(), ConnectionError> {
    let mut events = handle.events(after);
    let outcome = stream(link, folder.id(), handle, &mut events).await?;
    info!(job = %folder.id(), ?outcome, "told the client");
    loop {
        match link.recv_within(FETCH).await {
            Ok(ClientFrame::Fetch) => send_results(client, link, folder).await?,
            Ok(ClientFrame::Ping) => link.send(&WorkerFrame::Pong).await?,
            Ok(_) => {}
            // The job is over and told: leaving is how a client says that it is content.
            Err(DialectError::Gone | DialectError::Silent(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn stream(
    link: &mut WorkerEnd,
    job: &JobId,
    handle: &JobHandle,
    events: &mut EventStream,
) -> Result<Option<JobOutcome>, ConnectionError> {
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return Ok(None) };
                let outcome = finished(&event);
                link.send(&WorkerFrame::Event { job: job.clone(), event }).await?;
                if outcome.is_some() {
                    return Ok(outcome);
                }
            }
            frame = link.recv() => obey(link, job, handle, frame?).await?,
        }
    }
}

fn finished(event: &NumberedEvent) -> Option<JobOutcome> {
    match &event.event {
        JobEvent::Finished { outcome } => Some(outcome.clone()),
        _ => None,
    }
}

async fn obey(
    link: &WorkerEnd,
    job: &JobId,
    handle: &JobHandle,
    frame: ClientFrame,
) -> Result<(), ConnectionError> {
    let command = match frame {
        ClientFrame::Stop { all } => JobCommand::Stop { all },
        ClientFrame::Cancel { reason } => {
            info!(%job, reason = reason.escape_debug().to_string(), "cancelled by the client");
            JobCommand::Cancel
        }
        ClientFrame::Ping => return Ok(link.send(&WorkerFrame::Pong).await?),
        _ => return Ok(()),
    };
    if let Err(error) = handle.command(command).await {
        // The job may have ended at this very moment; its last event says so.
        warn!(%job, %error, "a command did not reach the job");
    }
    Ok(())
}

async fn send_results(
    client: &Client,
    link: &mut WorkerEnd,
    folder: &JobFolder,
) -> Result<(), ConnectionError> {
    if folder.spec().shared.is_some() {
        staging::deliver(&client.site, folder).await?;
        return Ok(link.send(&WorkerFrame::Transfer(TransferFrame::Complete)).await?);
    }
    let results = folder.results_dir();
    let package = tokio::task::spawn_blocking(move || Package::open_tree(&results));
    let package = package.await.map_err(|_| ConnectionError::Gone)?;
    let package = package.map_err(transfer::TransferError::from)?;
    transfer::send(link, &package, |_| {}).await?;
    folder.mark_fetched(now_ms());
    info!(job = %folder.id(), "results fetched");
    Ok(())
}
