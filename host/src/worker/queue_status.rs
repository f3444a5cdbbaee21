//! Reports to the client of a job that cannot start yet what it waits for.

use super::Client;
use super::coordinator::HandoverStep;
use super::error::{ConnectionError, refused};
use crate::blocking::blocking;
use sleap_rtc_job::{JobError, JobFolder, JobHandle};
use sleap_rtc_net::dialect::WorkerEnd;
use sleap_rtc_protocol::frame::{ClientFrame, WorkerFrame};
use sleap_rtc_protocol::job::{JobState, RefusalCode};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::info;

/// The shortest time between two frames about the same place.
const NEWS_INTERVAL: Duration = Duration::from_secs(2);
/// How long a job may be neither in the queue nor begun, while its process starts or its end is written.
const START_LIMIT: Duration = Duration::from_secs(3600);
/// How often to look whether a job that is no longer in the queue has begun.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a client hears that the worker cannot answer yet.
const PREPARING: Duration = Duration::from_secs(1);

/// Waits until this worker knows whether its trainers work, before anything is uploaded for them.
pub(crate) async fn until_searched(
    client: &Client,
    link: &mut WorkerEnd,
) -> Result<(), ConnectionError> {
    let what = "it has just started and is checking its trainer";
    Ok(announced(client, link, what, client.context.trainers_searched()).await??)
}

/// Does `work`. As long as that takes, tells the client every second what the worker is doing.
pub(crate) async fn announced<T>(
    client: &Client,
    link: &mut WorkerEnd,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, ConnectionError> {
    let mut work = pin!(work);
    loop {
        if let Ok(done) = timeout(PREPARING, link.meanwhile(work.as_mut())).await {
            return Ok(done);
        }
        link.send(&WorkerFrame::Preparing { what: what.to_owned() }).await?;
        // The client is not to blame, so its place stays.
        client.coordinator.step(&client.caller.peer, HandoverStep::Delayed).await;
    }
}

/// Reports where the job stands until it runs or is withdrawn, and obeys its client meanwhile. When this
/// returns, the job has a process or has ended.
pub(crate) async fn until_it_starts(
    client: &Client,
    link: &mut WorkerEnd,
    folder: &JobFolder,
) -> Result<JobHandle, ConnectionError> {
    let job = folder.id();
    let mut queue_report = client.context.queue_report.subscribe();
    let (mut sent, mut sent_at) = (None, Instant::now());
    let mut left_at = None;
    loop {
        let news = queue_report.borrow_and_update().news(job).cloned();
        if news.is_none() {
            if let Some(handle) = begun(folder).await? {
                return Ok(handle);
            }
            if left_at.get_or_insert_with(Instant::now).elapsed() >= START_LIMIT {
                let text = "the job neither waits nor runs; ask the worker's operator";
                return Err(refused(RefusalCode::Other, text));
            }
        }
        let has_left = news.is_none();
        let is_due = sent.is_none() || sent_at.elapsed() >= NEWS_INTERVAL;
        let has_changed = news.is_some() && sent != news;
        if has_changed && is_due {
            if let Some(news) = news.clone() {
                link.send(&WorkerFrame::Waiting { job: job.clone(), news }).await?;
            }
            (sent, sent_at) = (news, Instant::now());
        }
        tokio::select! {
            _ = queue_report.changed() => {}
            () = sleep(LOOK_INTERVAL), if has_left => {}
            () = sleep_until(sent_at + NEWS_INTERVAL), if has_changed && !is_due => {}
            frame = link.recv() => match frame? {
                // A job that has not begun has nothing to keep.
                ClientFrame::Cancel { .. } | ClientFrame::Stop { .. } => {
                    let withdrawn = client.coordinator.withdraw(job).await;
                    info!(%job, withdrawn, "a waiting job was withdrawn by its client");
                }
                _ => {}
            },
        }
    }
}

/// The job, if it runs or has ended. `None` while it waits for a slot.
pub(crate) async fn begun(folder: &JobFolder) -> Result<Option<JobHandle>, ConnectionError> {
    let reading = folder.clone();
    if let JobState::Queued(_) = blocking(move || reading.record()).await??.state {
        return Ok(None);
    }
    match JobHandle::attach(folder).await {
        Err(JobError::NotRunning) => {
            let text = "the job's package is not complete yet; try again in a moment";
            Err(refused(RefusalCode::Busy, text))
        }
        // The first attempt has recorded how the job ended.
        Err(JobError::Interrupted) => Ok(Some(JobHandle::attach(folder).await?)),
        attached => Ok(Some(attached?)),
    }
}
