//! The sending end of a transfer.

use super::goodbye::{aborted, conclude};
use super::link::send_frame;
use super::outbox::Outbox;
use super::reader::{Batch, read_pieces};
use super::{Accept, Incoming, Limits, Link, Package, Progress, TransferError};
use sleap_rtc_protocol::frame::TransferFrame;
use sleap_rtc_protocol::lists::manifest_frames;
use sleap_rtc_protocol::offered::Offered;
use sleap_rtc_protocol::transfer::{BlobHash, Manifest};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

/// How many lists of requested pieces may wait for the reader.
const MAX_LISTS: usize = 64;
/// How many batches of read pieces may wait to be sent.
const QUEUE_BATCHES: usize = 1;

/// Sends the files of `package` that the other side lacks, until it has confirmed them all.
///
/// Only the limits on silence and on speed apply. `progress` is called whenever the other side
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
    let mut sending = Sending {
        idle,
        offered: Offered::new(package.manifest()),
        lists,
        pending_pieces: 0,
        heard_at: Instant::now(),
        outbox: Outbox::new(limits),
        progress,
    };
    match sending.run(link, package.manifest(), batches).await {
        Ok(()) => {
            tracing::debug!(bytes = total_bytes, "files sent");
            Ok(())
        }
        Err(error) => Err(conclude(link, error).await),
    }
}

struct Sending<P> {
    idle: Duration,
    offered: Offered,
    lists: mpsc::Sender<Vec<BlobHash>>,
    /// Pieces that the reader has not delivered yet.
    pending_pieces: usize,
    heard_at: Instant,
    outbox: Outbox,
    /// Called with what the receiver has confirmed.
    progress: P,
}

impl<P: FnMut(Progress)> Sending<P> {
    async fn run<L: Link>(
        &mut self,
        link: &mut L,
        manifest: &Manifest,
        mut batches: mpsc::Receiver<Batch>,
    ) -> Result<(), TransferError> {
        for frame in manifest_frames(manifest) {
            send_frame(link, frame, self.idle).await?;
        }
        loop {
            let patience = self.heard_at.max(self.outbox.moved_at()) + self.idle;
            // While this side waits for its own disk, the other side has no reason to send anything.
            let is_its_turn = self.pending_pieces == 0 && !self.outbox.is_sending();
            tokio::select! {
                biased;
                incoming = link.next(Accept::ControlAndChunks) => {
                    self.heard_at = Instant::now();
                    if self.process(incoming?)? {
                        return Ok(());
                    }
                }
                batch = batches.recv(), if self.pending_pieces > 0 && self.outbox.has_room() => {
                    let pieces = batch.ok_or(TransferError::Thread)??;
                    self.pending_pieces -= pieces.len();
                    self.outbox.add(pieces, link);
                }
                sent = self.outbox.sent(), if self.outbox.is_sending() => {
                    sent?;
                    self.outbox.begin(link);
                }
                () = sleep_until(patience.into()), if is_its_turn => {
                    return Err(TransferError::Silent(self.idle));
                }
            }
        }
    }

    /// Processes a message. Returns whether the transfer is complete.
    fn process(&mut self, incoming: Incoming) -> Result<bool, TransferError> {
        match incoming {
            Incoming::Control(TransferFrame::Want { pieces, more }) => {
                self.add_request(pieces, more)?;
            }
            Incoming::Control(TransferFrame::Verified { bytes }) => {
                (self.progress)(self.offered.confirm(bytes));
            }
            Incoming::Control(TransferFrame::Complete) => {
                (self.progress)(self.offered.confirm_all());
                return Ok(true);
            }
            Incoming::Control(TransferFrame::Abort { reason }) => return Err(aborted(&reason)),
            Incoming::Control(TransferFrame::Unknown) => {}
            Incoming::Control(TransferFrame::Manifest { .. } | TransferFrame::Pieces { .. }) => {
                return Err(TransferError::Protocol("the receiver sent a list of files"));
            }
            Incoming::Chunk(_) => {
                return Err(TransferError::Protocol("the receiver sent file content"));
            }
        }
        Ok(false)
    }

    /// Adds a list of requested pieces, or a part of one.
    fn add_request(&mut self, wants: Vec<BlobHash>, more: bool) -> Result<(), TransferError> {
        let wrong = |_| {
            TransferError::Protocol(
                "the receiver requested a piece that does not exist, or one piece too often",
            )
        };
        let Some(list) = self.offered.want(wants, more).map_err(wrong)? else { return Ok(()) };
        self.pending_pieces += list.len();
        let full = |_| TransferError::Protocol("the receiver sent too many requests");
        self.lists.try_send(list).map_err(full)
    }
}
