//! The end that wants the files.

use super::writer::{Report, Writer};
use super::{
    Incoming, Limits, Link, LinkError, Pace, Progress, QUEUE_CHUNKS, TransferError, aborted,
    conclude, say,
};
use bytes::Bytes;
use sleap_rtc_protocol::frame::{ACKS_PER_FRAME, PIECES_PER_FRAME, TransferFrame};
use sleap_rtc_protocol::transfer::{
    BlobHash, Cuts, FileEntry, MAX_FILES, MIN_PIECE_BYTES, Manifest, ManifestError, Piece,
};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often the sender is told how far we are, unless [`TELL_BYTES`] come sooner.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// How many bytes go by without telling.
const TELL_BYTES: u64 = 2 << 20;
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
        Ok(manifest) => {
            link.close_lanes();
            Ok(manifest)
        }
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
        here: Here::default(),
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
            telling.here.asked(&wants);
            telling.tell(link).await?;
            receive_chunks(link, writer, limits.pace.as_ref(), &mut telling).await?
        }
    };
    let finishing = tokio::task::spawn_blocking(move || writer.finish());
    let manifest = telling.meanwhile(link, finishing).await?;
    telling.now.done_bytes = total_bytes;
    (telling.progress)(telling.now);
    say(link, TransferFrame::Complete, limits.idle).await?;
    Ok(manifest)
}

/// What one end says to the other within `idle`. Chunks count only where they are wanted.
async fn hear<L: Link>(link: &mut L, idle: Duration) -> Result<Incoming, TransferError> {
    let heard = tokio::time::timeout(idle, link.next(true)).await;
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
            Incoming::Control(TransferFrame::Unknown) | Incoming::Lane(_) => {}
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
            Incoming::Control(TransferFrame::Unknown) | Incoming::Lane(_) => {}
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
        acks: true,
    })
}

/// Hands chunks to the thread that writes, and its requests to the sender.
///
/// Every chunk earns exactly one report, so that counting them bounds both queues.
async fn receive_chunks<L: Link, P: FnMut(Progress)>(
    link: &mut L,
    writer: Writer,
    pace: Option<&Pace>,
    telling: &mut Telling<P>,
) -> Result<Writer, TransferError> {
    let idle = telling.idle;
    let (chunks, to_write) = mpsc::channel(QUEUE_CHUNKS);
    let (report, mut reports) = mpsc::channel(QUEUE_CHUNKS);
    let writing = tokio::task::spawn_blocking(move || write(writer, to_write, &report));
    let (mut waiting, mut heard_at) = (0, Instant::now());
    let mut ready_at = heard_at;
    let outcome = loop {
        let paused = ready_at > Instant::now();
        tokio::select! {
            biased;
            report = reports.recv() => {
                waiting -= 1;
                heard_at = Instant::now();
                match telling.note(link, report).await {
                    Ok(false) => {}
                    // What still waits came over two lanes.
                    Ok(true) => break Ok(()),
                    Err(error) => break Err(error),
                }
            }
            () = tokio::time::sleep_until(ready_at), if paused => {}
            heard = link.next(waiting < QUEUE_CHUNKS && !paused) => match chunk_in(heard) {
                Ok(Some(chunk)) => {
                    heard_at = Instant::now();
                    ready_at = heard_at + paused_for(pace, &chunk);
                    waiting += 1;
                    // A writer that takes no more has said why: the next report is its last.
                    let _ = chunks.try_send(chunk);
                }
                Ok(None) => {}
                Err(error) => break Err(error),
            },
            () = tokio::time::sleep_until(telling.due_at()), if waiting > 0 || telling.has_news() => {
                if let Err(error) = telling.tell(link).await {
                    break Err(error);
                }
            }
            () = tokio::time::sleep_until(heard_at + idle), if waiting == 0 => {
                break Err(TransferError::Silent(idle));
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

/// What comes after the lists: chunks, or why there are no more.
fn chunk_in(heard: Result<Incoming, LinkError>) -> Result<Option<Bytes>, TransferError> {
    match heard? {
        Incoming::Chunk(chunk) => Ok(Some(chunk)),
        Incoming::Control(TransferFrame::Unknown) | Incoming::Lane(_) => Ok(None),
        Incoming::Control(TransferFrame::Abort { reason }) => Err(aborted(&reason)),
        Incoming::Control(_) => {
            Err(TransferError::Protocol("a frame came that is not for a receiver"))
        }
    }
}

/// How long nothing more is to be taken after `chunk`.
fn paused_for(pace: Option<&Pace>, chunk: &Bytes) -> Duration {
    pace.map_or(Duration::ZERO, |pace| pace.take(chunk.len(), std::time::Instant::now()))
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
    here: Here,
    idle: Duration,
    progress: P,
}

impl<P: FnMut(Progress)> Telling<P> {
    /// Takes a report and says what is due; says whether everything is in its place.
    async fn note<L: Link>(
        &mut self,
        link: &mut L,
        report: Option<Result<Report, TransferError>>,
    ) -> Result<bool, TransferError> {
        let report = report.ok_or(TransferError::Thread)??;
        self.now.done_bytes = report.done_bytes;
        self.here.note(report.piece, report.chunks);
        if !report.again.is_empty() {
            tracing::debug!(pieces = ?report.again, "content was wrong; asking again");
            self.here.asked(&report.again);
            let frame = TransferFrame::Want { pieces: report.again, more: false, acks: true };
            say(link, frame, self.idle).await?;
        }
        let due = self.told_at.elapsed() >= TELL_EVERY
            || self.here.is_full()
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
        let (pieces, chunks) = self.here.take();
        say(link, TransferFrame::Verified { bytes: self.told_bytes, pieces, chunks }, self.idle)
            .await
    }

    /// News are told soon; without any it is only said that work goes on.
    fn due_at(&self) -> Instant {
        self.told_at + if self.has_news() { TELL_EVERY } else { self.idle / 4 }
    }

    fn has_news(&self) -> bool {
        !self.here.is_empty()
    }

    /// Waits for work on the disk, whatever happens; keeps telling so that the sender does not lose
    /// patience, and listens.
    async fn meanwhile<L: Link, T>(
        &mut self,
        link: &mut L,
        mut work: JoinHandle<T>,
    ) -> Result<T, TransferError> {
        let mut over = None;
        loop {
            let tell_at = self.told_at + self.idle / 4;
            tokio::select! {
                biased;
                done = &mut work => {
                    let done = done.map_err(|_| TransferError::Thread)?;
                    return over.map_or(Ok(done), Err);
                }
                () = tokio::time::sleep_until(tell_at), if over.is_none() => {
                    over = self.tell(link).await.err();
                }
                heard = link.next(false), if over.is_none() => over = chunk_in(heard).err(),
            }
        }
    }
}

/// What has come and was not told yet, by the places of the pieces in what was asked for.
#[derive(Default)]
struct Here {
    places: HashMap<BlobHash, u32>,
    asked: u32,
    /// All bits stand for the whole piece.
    news: BTreeMap<u32, u64>,
}

impl Here {
    fn asked(&mut self, wants: &[BlobHash]) {
        for want in wants {
            // Asked for once more, its chunks count for nothing.
            if let Some(before) = self.places.insert(*want, self.asked) {
                self.news.remove(&before);
            }
            self.asked += 1;
        }
    }

    fn note(&mut self, piece: BlobHash, chunks: u64) {
        if let Some(place) = self.places.get(&piece) {
            *self.news.entry(*place).or_default() |= chunks;
        }
    }

    fn is_empty(&self) -> bool {
        self.news.is_empty()
    }

    fn is_full(&self) -> bool {
        self.news.len() >= ACKS_PER_FRAME
    }

    fn take(&mut self) -> (Vec<u32>, Vec<(u32, u64)>) {
        let (whole, parts): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.news).into_iter().partition(|(_, chunks)| *chunks == u64::MAX);
        (whole.into_iter().map(|(place, _)| place).collect(), parts)
    }
}
