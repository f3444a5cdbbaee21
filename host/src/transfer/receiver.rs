//! The end that wants the files.

use super::writer::{Report, Writer};
use super::{
    Incoming, Limits, Link, Progress, QUEUE_CHUNKS, TransferError, aborted, conclude, say,
};
use bytes::Bytes;
use sleap_rtc_protocol::frame::{PIECES_PER_FRAME, TransferFrame};
use sleap_rtc_protocol::transfer::{
    BlobHash, Cuts, FileEntry, MAX_FILES, MIN_PIECE_BYTES, Manifest, ManifestError, Piece,
};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often the sender is told how far we are, unless [`TELL_BYTES`] come sooner.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// How many bytes go by without telling.
const TELL_BYTES: u64 = 4 << 20;
/// The most bytes that the paths of a manifest may have together: a bound on memory.
const MAX_PATHS_BYTES: usize = 16 << 20;
/// The most pieces that a manifest may list: 256 GiB at least, and a bound on memory.
const MAX_PIECES: usize = 1 << 20;

/// Receives a package or a result into `destination`, which is created where it is missing.
///
/// Files appear under their names only whole and verified. What is there already, under its name, in
/// pieces of an earlier try or in the cache, and verified, is not asked for. On failure the other side learns the
/// reason; what was verified stays, for another try. Returns what is there now.
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
    let manifest = hear_manifest(link, limits).await?;
    let total_bytes = manifest.total_bytes();
    let mut telling = Telling {
        now: Progress { total_bytes, ..Progress::default() },
        told_bytes: 0,
        told_at: Instant::now(),
        idle: limits.idle,
        progress,
    };
    let (destination, cache) = (destination.to_owned(), limits.cache.clone());
    let preparing = tokio::task::spawn_blocking(move || Writer::new(&destination, manifest, cache));
    let writer = telling.meanwhile(link, preparing).await??;
    telling.now.done_bytes = writer.done_bytes();
    telling.now.already_there_bytes = writer.done_bytes();
    let wants = writer.wants();
    let writer = match wants.is_empty() {
        true => writer,
        false => {
            for frame in want_frames(&wants) {
                say(link, frame, limits.idle).await?;
            }
            telling.tell(link).await?;
            receive_chunks(link, writer, &mut telling).await?
        }
    };
    let finishing = tokio::task::spawn_blocking(move || writer.finish());
    let manifest = telling.meanwhile(link, finishing).await?;
    telling.now.done_bytes = total_bytes;
    (telling.progress)(telling.now);
    say(link, TransferFrame::Complete, limits.idle).await?;
    Ok(manifest)
}

async fn hear<L: Link>(link: &mut L, idle: Duration) -> Result<Incoming, TransferError> {
    let heard = tokio::time::timeout(idle, link.next()).await;
    match heard.map_err(|_| TransferError::Silent(idle))?? {
        Incoming::Control(TransferFrame::Abort { reason }) => Err(aborted(&reason)),
        other => Ok(other),
    }
}

async fn hear_manifest<L: Link>(link: &mut L, limits: &Limits) -> Result<Manifest, TransferError> {
    let mut files: Vec<FileEntry> = Vec::new();
    let mut paths_bytes = 0;
    loop {
        match hear(link, limits.idle).await? {
            Incoming::Control(TransferFrame::Manifest { files: some, more }) => {
                paths_bytes += some.iter().map(|file| file.path.as_str().len()).sum::<usize>();
                if files.len() + some.len() > MAX_FILES || paths_bytes > MAX_PATHS_BYTES {
                    return Err(ManifestError::TooMany.into());
                }
                if more && some.is_empty() {
                    return Err(TransferError::Protocol("the list of files goes on with nothing"));
                }
                files.extend(some);
                if !more {
                    break;
                }
            }
            Incoming::Control(TransferFrame::Unknown) => {}
            Incoming::Control(_) | Incoming::Chunk(_) => {
                return Err(TransferError::Protocol("it did not begin with the list of files"));
            }
        }
    }
    Manifest::check_files(&files, limits.max_bytes)?;
    let cuts = hear_cuts(link, limits, &files).await?;
    Ok(Manifest::new(files, cuts, limits.max_bytes)?)
}

/// Hears the pieces of every long file.
async fn hear_cuts<L: Link>(
    link: &mut L,
    limits: &Limits,
    files: &[FileEntry],
) -> Result<Cuts, TransferError> {
    let cut = files.iter().filter(|file| file.is_cut());
    let mut awaited: HashMap<BlobHash, u64> = cut.map(|file| (file.blake3, file.size)).collect();
    let (mut cuts, mut now) = (Cuts::new(), Vec::<Piece>::new());
    let mut left = MAX_PIECES;
    while !awaited.is_empty() {
        match hear(link, limits.idle).await? {
            Incoming::Control(TransferFrame::Pieces { of, pieces, more }) => {
                let size = *awaited
                    .get(&of)
                    .ok_or(TransferError::Protocol("pieces of no file were listed"))?;
                left = left
                    .checked_sub(pieces.len())
                    .ok_or(TransferError::Protocol("there are too many pieces"))?;
                now.extend(pieces);
                if now.is_empty() || now.len() as u64 > size / u64::from(MIN_PIECE_BYTES) + 1 {
                    return Err(TransferError::Protocol("there are too many pieces, or none"));
                }
                if !more {
                    awaited.remove(&of);
                    cuts.insert(of, std::mem::take(&mut now));
                }
            }
            Incoming::Control(TransferFrame::Unknown) => {}
            Incoming::Control(_) | Incoming::Chunk(_) => {
                return Err(TransferError::Protocol("it did not list the pieces of long files"));
            }
        }
    }
    Ok(cuts)
}

fn want_frames(wants: &[BlobHash]) -> impl Iterator<Item = TransferFrame> {
    let frames = wants.len().div_ceil(PIECES_PER_FRAME);
    wants.chunks(PIECES_PER_FRAME).enumerate().map(move |(index, some)| TransferFrame::Want {
        pieces: some.to_vec(),
        more: index + 1 < frames,
    })
}

/// Hands chunks to the thread that writes, and its requests to the sender.
///
/// Every chunk earns exactly one report, so that counting them bounds both queues.
async fn receive_chunks<L: Link, P: FnMut(Progress)>(
    link: &mut L,
    writer: Writer,
    telling: &mut Telling<P>,
) -> Result<Writer, TransferError> {
    let idle = telling.idle;
    let (chunks, to_write) = mpsc::channel(QUEUE_CHUNKS);
    let (report, mut reports) = mpsc::channel(QUEUE_CHUNKS);
    let writing = tokio::task::spawn_blocking(move || write(writer, to_write, &report));
    let mut waiting = 0;
    let outcome = loop {
        tokio::select! {
            biased;
            report = reports.recv() => {
                waiting -= 1;
                match telling.note(link, report).await {
                    Ok(false) => {}
                    Ok(true) if waiting == 0 => break Ok(()),
                    Ok(true) => break Err(TransferError::Protocol("more came than was asked for")),
                    Err(error) => break Err(error),
                }
            }
            heard = hear(link, idle), if waiting < QUEUE_CHUNKS => match heard {
                Ok(Incoming::Chunk(chunk)) => {
                    waiting += 1;
                    // A writer that takes no more has said why: the next report is its last.
                    let _ = chunks.try_send(chunk);
                }
                Ok(Incoming::Control(TransferFrame::Unknown)) => {}
                Ok(Incoming::Control(_)) => {
                    break Err(TransferError::Protocol("a frame came that is not for a receiver"));
                }
                Err(error) => break Err(error),
            },
            () = tokio::time::sleep(idle / 4), if waiting > 0 => {
                if let Err(error) = telling.tell(link).await {
                    break Err(error);
                }
            }
        }
    };
    drop(chunks);
    reports.close();
    // What was being written is cleaned up before anyone hears of the end.
    let writer = telling.meanwhile(link, writing).await;
    outcome?;
    writer
}

/// Runs on a thread of its own until the chunks end or one of them is not acceptable.
fn write(
    mut writer: Writer,
    mut chunks: mpsc::Receiver<Bytes>,
    reports: &mpsc::Sender<Result<Report, TransferError>>,
) -> Writer {
    while let Some(chunk) = chunks.blocking_recv() {
        let report = writer.push(&chunk);
        let over = report.is_err();
        if reports.blocking_send(report).is_err() || over {
            break;
        }
    }
    writer
}

/// What the sender and our own side are told.
struct Telling<P> {
    now: Progress,
    told_bytes: u64,
    told_at: Instant,
    idle: Duration,
    progress: P,
}

impl<P: FnMut(Progress)> Telling<P> {
    /// Takes a report and tells what is due; says whether everything is in its place.
    async fn note<L: Link>(
        &mut self,
        link: &mut L,
        report: Option<Result<Report, TransferError>>,
    ) -> Result<bool, TransferError> {
        let report = report.ok_or(TransferError::Thread)??;
        self.now.done_bytes = report.done_bytes;
        if !report.again.is_empty() {
            tracing::debug!(pieces = ?report.again, "content was wrong; asking again");
            let frame = TransferFrame::Want { pieces: report.again, more: false };
            say(link, frame, self.idle).await?;
        }
        let due = self.told_at.elapsed() >= TELL_EVERY
            || self.now.done_bytes.abs_diff(self.told_bytes) >= TELL_BYTES;
        if due {
            self.tell(link).await?;
        }
        Ok(report.finished)
    }

    async fn tell<L: Link>(&mut self, link: &mut L) -> Result<(), TransferError> {
        self.told_bytes = self.now.done_bytes;
        self.told_at = Instant::now();
        (self.progress)(self.now);
        say(link, TransferFrame::Verified { bytes: self.told_bytes }, self.idle).await
    }

    /// Waits for work on the disk, and keeps telling so that the sender does not lose patience.
    async fn meanwhile<L: Link, T>(
        &mut self,
        link: &mut L,
        mut work: JoinHandle<T>,
    ) -> Result<T, TransferError> {
        loop {
            tokio::select! {
                done = &mut work => return done.map_err(|_| TransferError::Thread),
                () = tokio::time::sleep(self.idle / 4) => self.tell(link).await?,
            }
        }
    }
}
