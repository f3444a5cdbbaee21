//! The receiving end of a transfer.

use super::goodbye::{aborted, conclude};
use super::link::send_frame;
use super::writer::{ChunkReport, Writer};
use super::{
    Accept, Incoming, Limits, Link, LinkError, Pace, Progress, QUEUE_CHUNKS, SizeQuestion,
    TransferError,
};
use bytes::Bytes;
use sleap_rtc_protocol::frame::TransferFrame;
use sleap_rtc_protocol::lists::{IncomingLists, want_frames};
use sleap_rtc_protocol::transfer::Manifest;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often a report is sent while chunks arrive.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// A report is sent early after this many bytes.
const REPORT_BYTES: u64 = 2 << 20;

/// Receives a package or a result into `destination`, which is created if it is missing.
///
/// A file appears under its name only when it is complete and verified. Content that already exists
/// under its name, in the staging folder of an earlier attempt or in the cache, is verified and not
/// requested again. On failure the other side learns the reason, and verified content stays for the
/// next attempt. Returns the manifest of the received files.
pub async fn receive<L: Link>(
    link: &mut L,
    destination: &Path,
    limits: &Limits,
    progress: impl FnMut(Progress),
) -> Result<Manifest, TransferError> {
    match receive_or_fail(link, destination, limits, progress).await {
        Ok(manifest) => Ok(manifest),
        Err(error) => Err(conclude(link, error).await),
    }
}

async fn receive_or_fail<L: Link>(
    link: &mut L,
    destination: &Path,
    limits: &Limits,
    progress: impl FnMut(Progress),
) -> Result<Manifest, TransferError> {
    let manifest = receive_manifest(link, limits).await?;
    let total_bytes = manifest.total_bytes();
    let mut reporter = ProgressReporter {
        now: Progress { total_bytes, ..Progress::default() },
        reported_bytes: 0,
        reported_at: Instant::now(),
        has_news: false,
        idle: limits.idle,
        progress,
    };
    if let Some(SizeQuestion { above_bytes, ask }) = limits.question
        && total_bytes > above_bytes
    {
        let asked = tokio::spawn(ask(total_bytes));
        if !reporter.during(link, asked).await? {
            return Err(TransferError::Declined { bytes: total_bytes, above_bytes });
        }
    }
    let (destination, cache) = (destination.to_owned(), limits.cache.clone());
    let preparing = tokio::task::spawn_blocking(move || Writer::new(&destination, manifest, cache));
    let mut writer = reporter.during(link, preparing).await??;
    reporter.now.done_bytes = writer.done_bytes();
    reporter.now.already_there_bytes = writer.done_bytes();
    let wants = writer.wants();
    if !wants.is_empty() {
        for frame in want_frames(&wants) {
            send_frame(link, frame, limits.idle).await?;
        }
        reporter.report(link).await?;
        writer = receive_chunks(link, writer, limits.pace.as_ref(), &mut reporter).await?;
    }
    let finishing = tokio::task::spawn_blocking(move || writer.finish());
    let manifest = reporter.during(link, finishing).await?;
    reporter.now.done_bytes = total_bytes;
    (reporter.progress)(reporter.now);
    send_frame(link, TransferFrame::Complete, limits.idle).await?;
    Ok(manifest)
}

/// How long the other side may send nothing useful.
struct IdleTimer {
    idle: Duration,
    useful_at: Instant,
    heard_at: Instant,
}

impl IdleTimer {
    fn new(idle: Duration) -> Self {
        let now = Instant::now();
        Self { idle, useful_at: now, heard_at: now }
    }

    /// Something has arrived.
    fn hear(&mut self) {
        self.heard_at = Instant::now();
    }

    /// Something useful has arrived.
    fn restore(&mut self) {
        self.useful_at = Instant::now();
    }

    fn ends_at(&self) -> Instant {
        self.useful_at + self.idle
    }

    fn is_over(&self) -> bool {
        self.ends_at() <= Instant::now()
    }

    /// The error, once the time is over.
    fn over(&self) -> TransferError {
        match self.heard_at > self.useful_at {
            true => TransferError::NoProgress(self.idle),
            false => TransferError::Silent(self.idle),
        }
    }

    /// The next frame of a list. Fails if the other side aborts, or sends no frame of the list in
    /// time.
    async fn next_of_list<L: Link>(&mut self, link: &mut L) -> Result<Incoming, TransferError> {
        loop {
            let next =
                tokio::time::timeout_at(self.ends_at(), link.next(Accept::ControlAndChunks)).await;
            match next.map_err(|_| self.over())?? {
                Incoming::Control(TransferFrame::Abort { reason }) => return Err(aborted(&reason)),
                Incoming::Control(TransferFrame::Unknown) => self.hear(),
                of_list => {
                    self.restore();
                    return Ok(of_list);
                }
            }
        }
    }
}

async fn receive_manifest<L: Link>(
    link: &mut L,
    limits: &Limits,
) -> Result<Manifest, TransferError> {
    let mut lists = IncomingLists::new(limits.max_bytes);
    let mut idle_timer = IdleTimer::new(limits.idle);
    loop {
        let Incoming::Control(frame) = idle_timer.next_of_list(link).await? else {
            return Err(TransferError::Protocol("file content arrived before its list"));
        };
        if let Some(manifest) = lists.take(frame)? {
            return Ok(manifest);
        }
    }
}

/// Passes chunks to the writing thread, and its reports and repeated requests to the sender.
///
/// The thread answers every chunk with exactly one report, so the number of unanswered chunks
/// bounds both queues.
async fn receive_chunks<L: Link, P: FnMut(Progress)>(
    link: &mut L,
    writer: Writer,
    pace: Option<&Pace>,
    reporter: &mut ProgressReporter<P>,
) -> Result<Writer, TransferError> {
    let idle = reporter.idle;
    let (chunks, to_write) = mpsc::channel(QUEUE_CHUNKS);
    let (report, mut reports) = mpsc::channel(QUEUE_CHUNKS);
    let writing = tokio::task::spawn_blocking(move || write(writer, to_write, &report));
    let (mut unanswered, mut idle_timer) = (0, IdleTimer::new(idle));
    let mut ready_at = Instant::now();
    let outcome = loop {
        let paused = ready_at > Instant::now();
        let accept = Accept::with_chunks_if(unanswered < QUEUE_CHUNKS && !paused);
        tokio::select! {
            biased;
            report = reports.recv() => {
                unanswered -= 1;
                let is_useless = matches!(&report, Some(Ok(report)) if !report.is_new);
                if !is_useless {
                    idle_timer.restore();
                } else if idle_timer.is_over() {
                    break Err(idle_timer.over());
                }
                match reporter.record(link, report).await {
                    Ok(false) => {}
                    Ok(true) => break Ok(()),
                    Err(error) => break Err(error),
                }
            }
            () = tokio::time::sleep_until(ready_at), if paused => {}
            next = link.next(accept) => match chunk_in(next) {
                Ok(Some(chunk)) => {
                    idle_timer.hear();
                    ready_at = Instant::now() + pause_after(pace, &chunk);
                    unanswered += 1;
                    // Fails only after the writer has ended, whose last report has the reason.
                    let _ = chunks.try_send(chunk);
                }
                Ok(None) => {}
                Err(error) => break Err(error),
            },
            () = tokio::time::sleep_until(reporter.due_at()), if unanswered > 0 || reporter.has_news => {
                if let Err(error) = reporter.report(link).await {
                    break Err(error);
                }
            }
            () = tokio::time::sleep_until(idle_timer.ends_at()), if unanswered == 0 => {
                break Err(idle_timer.over());
            }
        }
    };
    drop(chunks);
    reports.close();
    // The writer cleans up before anyone learns that the transfer has ended.
    let writer = reporter.during(link, writing).await;
    outcome?;
    writer
}

/// The chunk in a message that follows the lists. Other frames are ignored or end the transfer.
fn chunk_in(next: Result<Incoming, LinkError>) -> Result<Option<Bytes>, TransferError> {
    match next? {
        Incoming::Chunk(chunk) => Ok(Some(chunk)),
        Incoming::Control(TransferFrame::Unknown) => Ok(None),
        Incoming::Control(TransferFrame::Abort { reason }) => Err(aborted(&reason)),
        Incoming::Control(_) => {
            Err(TransferError::Protocol("the sender sent a frame that only a receiver sends"))
        }
    }
}

/// How long to wait after `chunk` to stay within the rate limit.
fn pause_after(pace: Option<&Pace>, chunk: &Bytes) -> Duration {
    pace.map_or(Duration::ZERO, |pace| pace.take(chunk.len(), std::time::Instant::now()))
}

/// Runs on its own thread until there are no more chunks or one of them is rejected.
fn write(
    mut writer: Writer,
    mut chunks: mpsc::Receiver<Bytes>,
    reports: &mpsc::Sender<Result<ChunkReport, TransferError>>,
) -> Writer {
    while let Some(chunk) = chunks.blocking_recv() {
        let report = writer.push(&chunk);
        let failed = report.is_err();
        if reports.blocking_send(report).is_err() || failed {
            break;
        }
    }
    writer
}

/// Reports progress to the sender and to this side.
struct ProgressReporter<P> {
    now: Progress,
    reported_bytes: u64,
    reported_at: Instant,
    /// Whether something has arrived since.
    has_news: bool,
    idle: Duration,
    progress: P,
}

impl<P: FnMut(Progress)> ProgressReporter<P> {
    /// Records the writer's result for a chunk, and sends a report if one is due. Returns whether
    /// everything has arrived.
    async fn record<L: Link>(
        &mut self,
        link: &mut L,
        report: Option<Result<ChunkReport, TransferError>>,
    ) -> Result<bool, TransferError> {
        let report = report.ok_or(TransferError::Thread)??;
        self.now.done_bytes = report.done_bytes;
        self.has_news = true;
        if !report.again.is_empty() {
            tracing::debug!(pieces = ?report.again, "requesting damaged or displaced pieces again");
            let frame = TransferFrame::Want { pieces: report.again, more: false };
            send_frame(link, frame, self.idle).await?;
        }
        let due = self.reported_at.elapsed() >= REPORT_INTERVAL
            || self.now.done_bytes.abs_diff(self.reported_bytes) >= REPORT_BYTES;
        if due {
            self.report(link).await?;
        }
        Ok(report.finished)
    }

    async fn report<L: Link>(&mut self, link: &mut L) -> Result<(), TransferError> {
        self.reported_bytes = self.now.done_bytes;
        self.reported_at = Instant::now();
        (self.progress)(self.now);
        self.has_news = false;
        send_frame(link, TransferFrame::Verified { bytes: self.reported_bytes }, self.idle).await
    }

    /// When the next report is due. Without news it only keeps the sender from giving up.
    fn due_at(&self) -> Instant {
        self.reported_at + if self.has_news { REPORT_INTERVAL } else { self.idle / 4 }
    }

    /// Waits for `work` on the disk to end, even if the transfer fails meanwhile. Keeps reporting so
    /// that the sender does not give up, and keeps reading.
    async fn during<L: Link, T>(
        &mut self,
        link: &mut L,
        mut work: JoinHandle<T>,
    ) -> Result<T, TransferError> {
        let mut failure = None;
        loop {
            let report_at = self.reported_at + self.idle / 4;
            tokio::select! {
                biased;
                done = &mut work => {
                    let done = done.map_err(|_| TransferError::Thread)?;
                    return failure.map_or(Ok(done), Err);
                }
                () = tokio::time::sleep_until(report_at), if failure.is_none() => {
                    failure = self.report(link).await.err();
                }
                next = link.next(Accept::Control), if failure.is_none() => failure = chunk_in(next).err(),
            }
        }
    }
}
