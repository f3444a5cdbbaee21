//! The end that has the files.

use super::archive::Package;
use super::lane::LaneLost;
use super::reader::{Batch, read_pieces};
use super::steering::LaneCount;
use super::striping::Striping;
use super::{Incoming, Limits, Link, LinkError, Progress, TransferError, aborted, conclude, say};
use sleap_rtc_protocol::frame::{ENTRIES_PER_FRAME, PIECES_PER_FRAME, TransferFrame};
use sleap_rtc_protocol::transfer::{BlobHash, Manifest};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

/// How often one piece may be asked for: it may have been displaced by others, and been wrong.
const MAX_ASKED: u8 = 4;
/// How many lists of wanted pieces may wait for the reader.
const MAX_LISTS: usize = 64;
/// How many batches of read pieces wait for the lanes.
const QUEUE_BATCHES: usize = 1;

/// Sends the files of `package` that the other side lacks, until it has confirmed them all.
///
/// Of `limits` those on silence and on speed count. `progress` is told whenever the other side
/// confirms something. On failure the other side learns the reason.
pub async fn send<L: Link>(
    link: &mut L,
    package: &Package,
    limits: &Limits,
    progress: impl FnMut(Progress),
) -> Result<(), TransferError> {
    let idle = limits.idle;
    let (lists, wanted) = mpsc::channel(MAX_LISTS);
    let (read, batches) = mpsc::channel(QUEUE_BATCHES);
    let reading = package.clone();
    // Ends by itself once `lists` or `batches` is gone.
    tokio::task::spawn_blocking(move || read_pieces(&reading, wanted, &read));
    let total_bytes = package.manifest().total_bytes();
    let progress = Reporting { now: Progress { total_bytes, ..Progress::default() }, progress };
    let mut sending = Sending {
        idle,
        pieces: pieces(package.manifest()),
        asking: Vec::new(),
        asked_before: false,
        lists,
        pending_pieces: 0,
        asked: Vec::new(),
        heard: Instant::now(),
        striping: Striping::new(link.first_lane(), LaneCount::Adaptive, limits),
        progress,
    };
    match sending.run(link, package.manifest(), batches).await {
        Ok(()) => {
            tracing::debug!(
                bytes = total_bytes,
                lanes = sending.striping.used_lanes(),
                "files sent"
            );
            link.close_lanes();
            Ok(())
        }
        Err(error) => Err(conclude(link, error).await),
    }
}

/// A piece as the receiver may ask for it.
struct Wanted {
    /// In all its places together.
    bytes: u64,
    asked: u8,
}

fn pieces(manifest: &Manifest) -> HashMap<BlobHash, Wanted> {
    let mut wanted = HashMap::new();
    for file in manifest.files() {
        for piece in manifest.pieces(file) {
            let entry = wanted.entry(piece.blake3).or_insert(Wanted { bytes: 0, asked: 0 });
            entry.bytes += u64::from(piece.bytes);
        }
    }
    wanted
}

struct Reporting<P> {
    now: Progress,
    progress: P,
}

struct Sending<P> {
    idle: Duration,
    pieces: HashMap<BlobHash, Wanted>,
    /// A list of wanted pieces that is not complete yet.
    asking: Vec<BlobHash>,
    asked_before: bool,
    lists: mpsc::Sender<Vec<BlobHash>>,
    /// What the reader still has to deliver.
    pending_pieces: usize,
    /// All that was asked for, in that order: the other side says by places in it what it has.
    asked: Vec<BlobHash>,
    heard: Instant,
    striping: Striping,
    progress: Reporting<P>,
}

impl<P: FnMut(Progress)> Sending<P> {
    async fn run<L: Link>(
        &mut self,
        link: &mut L,
        manifest: &Manifest,
        mut batches: mpsc::Receiver<Batch>,
    ) -> Result<(), TransferError> {
        for frame in manifest_frames(manifest).chain(pieces_frames(manifest)) {
            say(link, frame, self.idle).await?;
        }
        loop {
            let patience = self.heard.max(self.striping.moved()) + self.idle;
            // While the disk is what we wait for, the other side has nothing to say.
            let is_its_turn = self.pending_pieces == 0 && self.striping.is_quiet();
            tokio::select! {
                biased;
                incoming = link.next(true) => {
                    self.heard = Instant::now();
                    if self.hear(incoming?)? {
                        return Ok(());
                    }
                }
                batch = batches.recv(), if self.pending_pieces > 0 && self.striping.has_room() => {
                    let pieces = batch.ok_or(TransferError::Thread)??;
                    self.pending_pieces -= pieces.len();
                    self.striping.add(pieces);
                }
                turned = self.striping.turn() => {
                    turned.map_err(|lost| self.lost(lost))?;
                    self.adapt(link).await?;
                }
                () = sleep_until(patience.into()), if is_its_turn => {
                    return Err(TransferError::Silent(self.idle));
                }
            }
        }
    }

    fn lost(&self, LaneLost(cause): LaneLost) -> TransferError {
        match cause.is::<tokio::time::error::Elapsed>() {
            true => TransferError::Stalled(self.idle),
            false => LinkError::Lost(cause).into(),
        }
    }

    /// Asks for lanes as they are wanted, and gives up those that are not.
    async fn adapt<L: Link>(&mut self, link: &mut L) -> Result<(), TransferError> {
        if !self.striping.keep {
            return Ok(());
        }
        let now = self.progress.now;
        if let Some(lanes) = self.striping.wanted_lanes(now.total_bytes - now.done_bytes) {
            let asked = tokio::time::timeout(self.idle, link.want_lanes(lanes)).await;
            asked.map_err(|_| TransferError::Stalled(self.idle))??;
        }
        Ok(())
    }

    /// Takes a message; says whether it was the last.
    fn hear(&mut self, incoming: Incoming) -> Result<bool, TransferError> {
        match incoming {
            Incoming::Control(TransferFrame::Want { pieces, more, acks }) => {
                self.striping.keep |= acks;
                self.asked(pieces, more)?;
            }
            Incoming::Control(TransferFrame::Verified { bytes, pieces, chunks }) => {
                self.there(&pieces, &chunks)?;
                self.verified(bytes);
            }
            Incoming::Lane(lane) => self.striping.add_lane(lane),
            Incoming::Control(TransferFrame::Complete) => {
                self.verified(u64::MAX);
                return Ok(true);
            }
            Incoming::Control(TransferFrame::Abort { reason }) => return Err(aborted(&reason)),
            Incoming::Control(TransferFrame::Unknown | TransferFrame::Lanes { .. }) => {}
            Incoming::Control(TransferFrame::Manifest { .. } | TransferFrame::Pieces { .. }) => {
                return Err(TransferError::Protocol("the receiver sent a list of files"));
            }
            Incoming::Chunk(_) => {
                return Err(TransferError::Protocol("the receiver sent file content"));
            }
        }
        Ok(false)
    }

    fn asked(&mut self, wants: Vec<BlobHash>, more: bool) -> Result<(), TransferError> {
        for want in &wants {
            let piece = self.pieces.get_mut(want).filter(|piece| piece.asked < MAX_ASKED);
            let Some(piece) = piece else {
                return Err(TransferError::Protocol("it asked for what it cannot have"));
            };
            piece.asked += 1;
        }
        self.pending_pieces += wants.len();
        self.asked.extend(&wants);
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

    fn already_there(&self, wants: &[BlobHash]) -> u64 {
        let lacking = wants.iter().filter_map(|want| Some(self.pieces.get(want)?.bytes));
        self.progress.now.total_bytes.saturating_sub(lacking.sum())
    }

    fn verified(&mut self, bytes: u64) {
        let Reporting { now, progress } = &mut self.progress;
        now.done_bytes = bytes.min(now.total_bytes);
        if !self.asked_before {
            // All that is right there without being asked for.
            now.already_there_bytes = now.done_bytes;
        }
        progress(*now);
    }

    /// Takes what the other side has.
    fn there(&mut self, pieces: &[u32], chunks: &[(u32, u64)]) -> Result<(), TransferError> {
        let piece = |place: u32| {
            let piece = self.asked.get(place as usize).copied();
            piece.ok_or(TransferError::Protocol("it has what it never asked for"))
        };
        for (place, chunks) in chunks {
            self.striping.there(piece(*place)?, *chunks);
        }
        for place in pieces {
            self.striping.has(piece(*place)?);
        }
        Ok(())
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

/// The pieces of each long content.
fn pieces_frames(manifest: &Manifest) -> impl Iterator<Item = TransferFrame> {
    manifest.cuts().iter().flat_map(|(of, pieces)| {
        let frames = pieces.len().div_ceil(PIECES_PER_FRAME);
        pieces.chunks(PIECES_PER_FRAME).enumerate().map(move |(index, some)| {
            TransferFrame::Pieces { of: *of, pieces: some.to_vec(), more: index + 1 < frames }
        })
    })
}
