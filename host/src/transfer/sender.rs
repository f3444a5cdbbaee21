//! The end that has the files.

use super::archive::{ArchiveError, Member, Package, Source};
use super::{
    Incoming, Limits, Link, Progress, QUEUE_CHUNKS, TransferError, aborted, conclude, say,
};
use sleap_rtc_protocol::frame::{ENTRIES_PER_FRAME, TransferFrame, Want};
use sleap_rtc_protocol::transfer::{BlobHash, CHUNK_BYTES, Chunk, Manifest};
use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often one blob may be asked for.
const MAX_ASKED: u8 = 2;
/// How many lists of wanted blobs may wait for the reader.
const MAX_LISTS: usize = 64;

/// Sends the files of `package` that the other side lacks, until it has confirmed them all.
///
/// `progress` is told whenever the other side confirms something. On failure the other side learns
/// the reason.
pub async fn send<L: Link>(
    link: &mut L,
    package: &Package,
    progress: impl FnMut(Progress),
) -> Result<(), TransferError> {
    send_within(link, package, Limits::default().idle, progress).await
}

/// As [`send`], with another limit on silence.
pub(super) async fn send_within<L: Link>(
    link: &mut L,
    package: &Package,
    idle: Duration,
    progress: impl FnMut(Progress),
) -> Result<(), TransferError> {
    let (lists, wanted) = mpsc::channel(MAX_LISTS);
    let (read, chunks) = mpsc::channel(QUEUE_CHUNKS);
    let reading = package.clone();
    // Ends by itself once `lists` or `chunks` is gone.
    tokio::task::spawn_blocking(move || read_blobs(&reading, wanted, &read));
    let total_bytes = package.manifest().total_bytes();
    let progress = Reporting { now: Progress { total_bytes, ..Progress::default() }, progress };
    let mut sending = Sending {
        idle,
        blobs: blobs(package.manifest()),
        asking: Vec::new(),
        asked_before: false,
        lists,
        pending_bytes: 0,
        progress,
    };
    match sending.run(link, package.manifest(), chunks).await {
        Ok(()) => Ok(()),
        Err(error) => Err(conclude(link, error).await),
    }
}

/// A blob as the receiver may ask for it.
struct Blob {
    size: u64,
    places: u64,
    asked: u8,
}

fn blobs(manifest: &Manifest) -> HashMap<BlobHash, Blob> {
    let mut blobs = HashMap::new();
    for file in manifest.files() {
        let first = Blob { size: file.size, places: 0, asked: 0 };
        blobs.entry(file.blake3).or_insert(first).places += 1;
    }
    blobs
}

struct Reporting<P> {
    now: Progress,
    progress: P,
}

struct Sending<P> {
    idle: Duration,
    blobs: HashMap<BlobHash, Blob>,
    /// A list of wanted blobs that is not complete yet.
    asking: Vec<Want>,
    asked_before: bool,
    lists: mpsc::Sender<Vec<Want>>,
    /// What the reader still has to deliver.
    pending_bytes: u64,
    progress: Reporting<P>,
}

impl<P: FnMut(Progress)> Sending<P> {
    async fn run<L: Link>(
        &mut self,
        link: &mut L,
        manifest: &Manifest,
        mut chunks: mpsc::Receiver<Result<Vec<u8>, ArchiveError>>,
    ) -> Result<(), TransferError> {
        for frame in manifest_frames(manifest) {
            say(link, frame, self.idle).await?;
        }
        loop {
            tokio::select! {
                biased;
                incoming = link.next() => {
                    if self.hear(incoming?)? {
                        return Ok(());
                    }
                }
                chunk = chunks.recv(), if self.pending_bytes > 0 => {
                    let chunk = chunk.ok_or(TransferError::Thread)??;
                    self.pass_on(link, chunk).await?;
                }
                // While the disk is what we wait for, the other side has nothing to say.
                () = tokio::time::sleep(self.idle), if self.pending_bytes == 0 => {
                    return Err(TransferError::Silent(self.idle));
                }
            }
        }
    }

    /// Takes a message; says whether it was the last.
    fn hear(&mut self, incoming: Incoming) -> Result<bool, TransferError> {
        match incoming {
            Incoming::Control(TransferFrame::Want { blobs, more }) => self.asked(blobs, more)?,
            Incoming::Control(TransferFrame::Verified { bytes }) => self.verified(bytes),
            Incoming::Control(TransferFrame::Complete) => {
                self.verified(u64::MAX);
                return Ok(true);
            }
            Incoming::Control(TransferFrame::Abort { reason }) => return Err(aborted(&reason)),
            Incoming::Control(TransferFrame::Unknown) => {}
            Incoming::Control(TransferFrame::Manifest { .. }) => {
                return Err(TransferError::Protocol("the receiver sent a list of files"));
            }
            Incoming::Chunk(_) => {
                return Err(TransferError::Protocol("the receiver sent file content"));
            }
        }
        Ok(false)
    }

    fn asked(&mut self, wants: Vec<Want>, more: bool) -> Result<(), TransferError> {
        for want in &wants {
            let blob = self.blobs.get_mut(&want.blake3);
            let blob = blob.filter(|blob| want.from < blob.size && blob.asked < MAX_ASKED);
            let Some(blob) = blob else {
                return Err(TransferError::Protocol("it asked for what it cannot have"));
            };
            blob.asked += 1;
            self.pending_bytes += blob.size - want.from;
        }
        self.asking.extend(wants);
        if more {
            return Ok(());
        }
        let list = std::mem::take(&mut self.asking);
        if !self.asked_before {
            self.asked_before = true;
            self.progress.now.already_there_bytes = self.already_there(&list);
        }
        let full = |_| TransferError::Protocol("it asks again and again");
        self.lists.try_send(list).map_err(full)
    }

    fn already_there(&self, wants: &[Want]) -> u64 {
        let lacking = wants.iter().filter_map(|want| {
            let blob = self.blobs.get(&want.blake3)?;
            Some(blob.size * blob.places - want.from)
        });
        self.progress.now.total_bytes.saturating_sub(lacking.sum())
    }

    fn verified(&mut self, bytes: u64) {
        let Reporting { now, progress } = &mut self.progress;
        now.done_bytes = bytes.min(now.total_bytes);
        progress(*now);
    }

    async fn pass_on<L: Link>(
        &mut self,
        link: &mut L,
        chunk: Vec<u8>,
    ) -> Result<(), TransferError> {
        let payload_bytes = Chunk::decode(&chunk).map_or(0, |chunk| chunk.payload.len() as u64);
        self.pending_bytes = self.pending_bytes.saturating_sub(payload_bytes);
        let sent = tokio::time::timeout(self.idle, link.send_chunk(chunk)).await;
        Ok(sent.map_err(|_| TransferError::Stalled(self.idle))??)
    }
}

fn manifest_frames(manifest: &Manifest) -> impl Iterator<Item = TransferFrame> {
    let files = manifest.files();
    let frames = files.len().div_ceil(ENTRIES_PER_FRAME).max(1);
    (1..=frames).map(move |number| {
        let from = (number - 1) * ENTRIES_PER_FRAME;
        let to = files.len().min(number * ENTRIES_PER_FRAME);
        TransferFrame::Manifest { files: files[from..to].to_vec(), more: number < frames }
    })
}

/// Reads what is wanted, in the order in which it is wanted. Runs on a thread of its own.
fn read_blobs(
    package: &Package,
    mut wanted: mpsc::Receiver<Vec<Want>>,
    chunks: &mpsc::Sender<Result<Vec<u8>, ArchiveError>>,
) {
    let source = package.source();
    let files = package.manifest().files().iter().zip(source.members());
    let members: HashMap<_, _> = files.map(|(file, member)| (file.blake3, member)).collect();
    while let Some(list) = wanted.blocking_recv() {
        // Only what the manifest lists gets here.
        for (want, member) in
            list.iter().filter_map(|want| Some((want, members.get(&want.blake3)?)))
        {
            match read_blob(source, member, want, chunks) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // Nobody listens: the transfer is over already.
                    let _ = chunks.blocking_send(Err(error));
                    return;
                }
            }
        }
    }
}

/// Reads one blob from where it is wanted; says whether anyone still listens.
fn read_blob(
    source: &Source,
    member: &Member,
    want: &Want,
    chunks: &mpsc::Sender<Result<Vec<u8>, ArchiveError>>,
) -> Result<bool, ArchiveError> {
    let mut reader = source.open(member)?;
    let unreadable = |error| source.unreadable(member, error);
    let mut skipped = (&mut reader).take(want.from);
    std::io::copy(&mut skipped, &mut std::io::sink()).map_err(unreadable)?;
    let mut offset = want.from;
    loop {
        let mut frame = Vec::with_capacity(CHUNK_BYTES + 64);
        Chunk { blob: want.blake3, offset, payload: &[] }.encode(&mut frame);
        let length = (&mut reader).take(CHUNK_BYTES as u64).read_to_end(&mut frame);
        match length.map_err(unreadable)? as u64 {
            0 => return Ok(true),
            length => offset += length,
        }
        if chunks.blocking_send(Ok(frame)).is_err() {
            return Ok(false);
        }
    }
}
