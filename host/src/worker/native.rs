//! One connection of a client that speaks `sleap-rtc/1`. The protocol's `frame` module has a
//! diagram.

use super::coordinator::{CoordinatorHandle, HandoverStep, Launch};
use super::error::{ConnectionError, refused};
use super::job_right::{Shown, kept};
use super::staged_job::{self, StagedJob};
use super::uploads::{Successor, Upload};
use super::{Client, Serves, admission, delivery, following, queue_status};
use crate::blocking::blocking;
use sleap_rtc_job::{Expected, JobError, JobFolder};
use sleap_rtc_net::dialect::{DialectError, WorkerEnd};
use sleap_rtc_net::route::Route;
use sleap_rtc_protocol::event_cursor::EventsAfter;
use sleap_rtc_protocol::frame::{ClientFrame, WorkerFrame};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{JobOutcome, JobSpec, JobState, RefusalCode};
use sleap_rtc_protocol::worker::FIRST_FRAME;
use sleap_rtc_transfer::{self as transfer, Limits, Progress, TransferError, free_space};
use sleap_rtc_trust::job_key;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

/// How long the last frame may take to reach the client.
pub(crate) const FLUSH: Duration = Duration::from_secs(5);

/// Serves one client until it is done or disconnects.
pub(crate) async fn serve(client: Client, mut link: WorkerEnd) -> Result<(), ConnectionError> {
    let (peer, coordinator) = (client.caller.peer.clone(), client.coordinator.clone());
    let watching = tokio::spawn(watch_route(peer, link.route(), coordinator));
    let _watching = AbortOnDropHandle::new(watching);
    let served = match link.recv_within(FIRST_FRAME).await? {
        ClientFrame::Submit { spec, proof } => match kept(&link, *spec, proof.as_ref()) {
            Ok(spec) => submit(&client, &mut link, spec).await,
            Err(refused) => Err(refused),
        },
        ClientFrame::Attach { job, secret, after } => {
            attach(&client, &mut link, &job, &Shown::Secret(secret), after).await
        }
        ClientFrame::AttachByProof { job, proof, after } => {
            attach(&client, &mut link, &job, &Shown::Proof(proof), after).await
        }
        ClientFrame::Sample => {
            link.send_sample().await;
            Ok(())
        }
        _ => Err(ConnectionError::Protocol("the first frame must be submit or attach")),
    };
    // Another connection continues the work of this one.
    if let Err(ConnectionError::Replaced) = &served {
        return Ok(());
    }
    let refusal = served.as_ref().err().and_then(ConnectionError::refusal);
    if let Some(refusal) = refusal {
        link.send(&WorkerFrame::Refused { refusal }).await?;
    }
    end(link).await;
    served
}

/// Delivers what was sent, and closes; bounded.
pub(crate) async fn end(link: WorkerEnd) {
    link.flush(FLUSH).await;
    link.close().await;
}

/// Logs the route of the client's connection, and publishes each change in the room.
async fn watch_route(
    peer: PeerId,
    mut route: watch::Receiver<Option<Route>>,
    coordinator: CoordinatorHandle,
) {
    let mut before = None;
    loop {
        let now = route.borrow_and_update().clone();
        let way = now.as_ref().map(|now| now.way.clone());
        if let Some(now) = now.filter(|_| way != before) {
            match before.is_none() {
                true => info!(%peer, route = %now, "the client is connected"),
                false => info!(%peer, route = %now, "the route has changed"),
            }
            before = way;
            coordinator.facts_changed().await;
        }
        if route.changed().await.is_err() {
            return;
        }
    }
}

async fn open(client: &Client, job: &JobId) -> Result<Option<JobFolder>, ConnectionError> {
    let (state_dir, job) = (client.context.state_dir.clone(), job.clone());
    let folder = blocking(move || JobFolder::open(&state_dir, &job).ok()).await?;
    client.context.trust.check_owner(folder.as_ref().and_then(JobFolder::device))?;
    Ok(folder)
}

/// Takes a job, or continues one that its client has submitted over another connection.
async fn submit(
    client: &Client,
    link: &mut WorkerEnd,
    spec: JobSpec,
) -> Result<(), ConnectionError> {
    let (job, uploads) = (spec.id.clone(), &client.context.uploads);
    let mut upload = None;
    if let Some(folder) = open(client, &job).await? {
        if job_key::verifier(&job, &folder.spec().right) != job_key::verifier(&job, &spec.right) {
            return Err(refused(RefusalCode::Unauthorized, "another job has this id"));
        }
        upload = link.meanwhile(uploads.take_over(&job)).await;
        let begun = folder.clone();
        if upload.is_none() && blocking(move || has_begun(&begun)).await? {
            return resume(client, link, &folder, EventsAfter::Event(0)).await;
        }
        if upload.is_none() && client.serves != Serves::ExistingJob {
            // A worker that was stopped during the upload has left this folder.
            link.meanwhile(staged_job::give_up(&client.context, &folder)).await;
        }
    }
    let upload = match upload {
        Some(upload) => upload,
        None => {
            queue_status::until_searched(client, link).await?;
            begin(client, spec).await?
        }
    };
    let folder = upload.staged.folder().clone();
    let ended = upload.staged.ended();
    let handle = match StagedJob::unless_ended(ended, stage(client, link, upload)).await? {
        Launch::Runs(handle) => handle,
        Launch::Submitted(_) | Launch::Waits => {
            queue_status::until_it_starts(client, link, &folder).await?
        }
    };
    following::follow(client, link, &folder, &handle, 0).await
}

/// Whether the job waits for a process of its own, or has had one.
fn has_begun(folder: &JobFolder) -> bool {
    match folder.record().map(|record| record.state) {
        Ok(JobState::Running { .. } | JobState::Queued(_)) => true,
        Ok(JobState::Finished(outcome)) => {
            // The only event of a job whose package never was complete is this end.
            outcome != JobOutcome::Interrupted
                || folder.last_event().is_ok_and(|last| last.is_some_and(|last| last.seq > 1))
        }
        Ok(JobState::Staging) | Err(_) => false,
    }
}

async fn begin(client: &Client, spec: JobSpec) -> Result<Upload, ConnectionError> {
    let Serves::NewJob { may_wait } = client.serves else {
        let text = "the worker has no such job; a new one needs an offer of its own";
        return Err(refused(RefusalCode::NotFound, text));
    };
    let peer = &client.caller.peer;
    admission::check(&client.context, peer, &spec.description).await?;
    let job = &spec.description;
    let wait = may_wait.then(|| job.package_bytes.unwrap_or(0));
    client.coordinator.hold(&client.caller, job.user.as_deref(), wait).await?;
    let state_dir = &client.context.state_dir;
    let (folder, job, owner, device) =
        (state_dir.clone(), spec.clone(), peer.clone(), client.device);
    let made = blocking(move || JobFolder::create(&folder, &job, &owner, device)).await?;
    let folder = made.map_err(|error| match error {
        JobError::Io { source, .. } if sleap_rtc_base::disk::is_full(&source) => {
            client.context.disk_alarm.raise();
            let bytes = spec.description.package_bytes.unwrap_or(0);
            refused(RefusalCode::Other, free_space::full(state_dir, bytes, &source).to_string())
        }
        other => other.into(),
    })?;
    Ok(client.context.uploads.begin(folder))
}

/// Receives the package, checks it, and starts the job or lets it wait.
async fn stage(
    client: &Client,
    link: &mut WorkerEnd,
    mut upload: Upload,
) -> Result<Launch, ConnectionError> {
    let context = &client.context;
    let folder = upload.staged.folder().clone();
    let spec = folder.spec();
    let shared =
        spec.shared.as_ref().map(|paths| delivery::shared_places(context, paths)).transpose()?;
    let has_package = upload.is_complete;
    let (job, last_event, outcome) = (spec.id.clone(), 0, None);
    let outlook = admission::outlook(context, folder.owner(), &spec.description).await;
    let outlook = Some(Box::new(outlook));
    link.send(&WorkerFrame::Accepted { job, last_event, outcome, has_package, outlook }).await?;
    if shared.is_some() {
        client.coordinator.step(folder.owner(), HandoverStep::Complete).await;
    }
    match shared.zip(spec.shared.as_ref()) {
        Some((places, paths)) => {
            let take = async {
                delivery::claim_output(&places, paths).await?;
                delivery::take_in_place(&folder, places.input).await
            };
            queue_status::announced(client, link, "it is copying the package", take).await??;
        }
        None if has_package => {}
        None => upload = receive(client, link, upload).await?,
    }
    client.coordinator.step(folder.owner(), HandoverStep::Complete).await;
    let starting = async {
        admission::check_files(context, &folder, &spec.description).await?;
        upload.staged.start(client).await
    };
    Ok(queue_status::announced(client, link, "it is checking the package", starting).await??)
}

/// Receives the package. When the connection is lost, waits for the client to reconnect.
async fn receive(
    client: &Client,
    link: &mut WorkerEnd,
    mut upload: Upload,
) -> Result<Upload, ConnectionError> {
    let folder = upload.staged.folder().clone();
    let (job, owner, files) = (folder.id(), folder.owner(), folder.files_dir());
    let (cut, mut successor) = (link.cut(), None);
    let (mut reports, mut done_bytes) = (client.coordinator.upload_of(owner), 0);
    let progress = |progress: Progress| {
        if progress.done_bytes > done_bytes.max(progress.already_there_bytes) {
            done_bytes = progress.done_bytes;
            reports.advanced();
        }
    };
    let cache = staged_job::cache_for(client.context.limits.cache.as_ref(), &folder);
    let limits = Limits { cache, ..client.context.limits.clone() };
    let received = {
        let mut receiving = pin!(transfer::receive(link, &files, &limits, progress));
        tokio::select! {
            received = &mut receiving => received,
            next = upload.successor() => {
                successor = Some(next);
                // Ends the transfer cleanly, so that complete files stay.
                cut.cancel();
                receiving.await
            }
        }
    };
    let mut why = ConnectionError::from(DialectError::Gone);
    match received {
        Ok(manifest) => {
            info!(%job, bytes = manifest.total_bytes(), "package complete");
            upload.is_complete = true;
        }
        Err(error) if error.may_heal() => why = error.into(),
        Err(error) => {
            if let TransferError::NoProgress(_) = error {
                client.coordinator.stalled(owner).await;
            }
            return Err(error.into());
        }
    }
    until_complete(client, upload, successor, why).await
}

/// Waits for the client to reconnect while its package is incomplete, and passes the upload to the
/// new connection. Fails with `why` if the client does not return.
async fn until_complete(
    client: &Client,
    mut upload: Upload,
    mut successor: Option<Successor>,
    why: ConnectionError,
) -> Result<Upload, ConnectionError> {
    let folder = upload.staged.folder().clone();
    let (job, owner) = (folder.id(), folder.owner());
    while !upload.is_complete || successor.is_some() {
        let next = match successor.take() {
            Some(successor) => successor,
            None => {
                let within = client.context.resume_within;
                client.coordinator.step(owner, HandoverStep::Lost(within)).await;
                info!(%job, within_s = within.as_secs(), "connection lost; waiting for the client to reconnect");
                let Ok(next) = timeout(within, upload.successor()).await else {
                    return Err(why);
                };
                next
            }
        };
        info!(%job, "the client continues over another connection");
        match upload.pass_to(next).await {
            Ok(()) => return Err(ConnectionError::Replaced),
            Err(back) => upload = *back,
        }
    }
    Ok(upload)
}

/// Attaches a client that has the right to the job. The answer does not reveal whether the job or the secret is
/// wrong.
async fn attach(
    client: &Client,
    link: &mut WorkerEnd,
    job: &JobId,
    shown: &Shown,
    after: EventsAfter,
) -> Result<(), ConnectionError> {
    let folder =
        open(client, job).await?.filter(|folder| shown.opens(folder, link)).ok_or_else(|| {
            refused(RefusalCode::Unauthorized, "no such job here, or not your secret for it")
        })?;
    resume(client, link, &folder, after).await
}

async fn resume(
    client: &Client,
    link: &mut WorkerEnd,
    folder: &JobFolder,
    after: EventsAfter,
) -> Result<(), ConnectionError> {
    let handle = queue_status::begun(folder).await?;
    let reading = folder.clone();
    let known = blocking(move || reading.last_event().map(|last| (last, Expected::of(&reading))));
    let (last, expected) = known.await??;
    let outlook = Some(Box::new(expected.outlook(folder)));
    let last_event = last.as_ref().map_or(0, |event| event.seq);
    let outcome = last.as_ref().and_then(following::finished);
    let job = folder.id().clone();
    let has_package = true;
    link.send(&WorkerFrame::Accepted { job, last_event, outcome, has_package, outlook }).await?;
    let handle = match handle {
        Some(handle) => handle,
        None => queue_status::until_it_starts(client, link, folder).await?,
    };
    following::follow(client, link, folder, &handle, after.resolve(last_event)).await
}
