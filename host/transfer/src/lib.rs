//! Packages and results as lists of verified files.
//!
//! A [`Package`] is a source: a folder, a zip, or parts of different origin. [`send`] and
//! [`receive`] move it over whatever implements [`Link`]; [`unpack`] and [`pack`] are for peers that
//! speak in zips. Nothing here knows of connections or jobs.
//!
//! | module | what it does |
//! |---|---|
//! | `listing` | what a package consists of, before it is read |
//! | [`archive`] | a package: its files, its manifest, its bytes |
//! | [`storage`] | paths that stay below their root; files that appear whole or not at all |
//! | `tree`, `zipped`, `tarred` | folders and archives, listed and read with care |
//! | `pieces` | where long files are cut, how a piece is packed, what proves it right |
//! | `sender`, `reader` | the end that has the files, and its thread that reads and packs |
//! | [`lane`] | what carries chunks |
//! | `striping`, `flight`, `steering` | chunks over several lanes: who takes which, how much, how many |
//! | `receiver`, `writer` | the end that wants them, and its thread that verifies and writes |
//! | `bare` | both ends without files, for measurements |
//! | [`cache`] | what a worker has received before |
//! | [`hashes`] | what was hashed before |
//! | `pace` | a limit on how fast bytes come and go |
//! | `journal` | what a receiver has verified, so that a later try goes on there |
//! | `salvage` | what was verified when a transfer was given up for good |
//!
//! File access happens on blocking threads, with a small bounded queue between them and the link:
//! memory stays flat, and whichever of disk and network is slower holds the other back.
//!
//! ```
//! use sleap_rtc_transfer::{Hashes, Package};
//!
//! let folder = tempfile::tempdir()?;
//! std::fs::write(folder.path().join("centroid.yaml"), "epochs: 10\n")?;
//! let package = Package::open_tree(folder.path(), &Hashes::none())?;
//! let file = &package.manifest().files()[0];
//! assert_eq!((file.path.as_str(), file.size), ("centroid.yaml", 11));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod archive;
#[cfg(feature = "bench")]
pub mod bare;
pub mod cache;
mod flight;
pub mod hashes;
mod journal;
pub mod lane;
mod listing;
mod pace;
mod packing;
mod pieces;
mod reader;
mod receiver;
mod salvage;
mod sender;
mod steering;
pub mod storage;
mod striping;
mod tarred;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod writer;
mod zipped;

pub use archive::{ArchiveError, Package, Part, PartSource};
pub use cache::Cache;
pub use hashes::Hashes;
pub use lane::{Gauge, Lane, LaneLost};
pub use listing::Listing;
pub use pace::Pace;
pub use packing::{link, pack, pack_package, unpack};
pub use receiver::receive;
pub use sender::send;
pub use steering::{LaneCount, MAX_LANES};
pub use storage::StorageError;

use bytes::Bytes;
use sleap_rtc_protocol::frame::TransferFrame;
use sleap_rtc_protocol::transfer::ManifestError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How many chunks wait between a thread that touches files and the link: 2 MiB.
const QUEUE_CHUNKS: usize = 16;
/// How long saying goodbye may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// A moment without messages: the other side has stopped.
const QUIET: Duration = Duration::from_millis(300);
/// The longest reason that is said or shown, in characters.
const MAX_REASON: usize = 500;

/// Where a transfer's frames go and come from, and the lanes that belong to it. Frames stay in
/// order.
///
/// Whoever implements it holds back `send_control` while the other side is slow, and queues at least
/// a handful of incoming messages.
pub trait Link: Send {
    /// Sends a control frame.
    fn send_control(
        &mut self,
        frame: TransferFrame,
    ) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// The next message; chunks only where they are wanted, else they wait. Must be cancel safe:
    /// dropping the future loses nothing.
    fn next(&mut self, chunks: bool) -> impl Future<Output = Result<Incoming, LinkError>> + Send;

    /// The connection that the frames go over, as a lane: it is there from the start, and with it
    /// all is lost.
    fn first_lane(&mut self) -> Arc<dyn Lane>;

    /// Asks for so many lanes besides, in all. They come, if at all, as [`Incoming::Lane`].
    fn want_lanes(&mut self, count: usize) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// The transfer is over, and its lanes with it.
    fn close_lanes(&mut self);
}

/// What a [`Link`] brings.
#[derive(Clone)]
pub enum Incoming {
    /// A control frame.
    Control(TransferFrame),
    /// An encoded chunk, unchecked.
    Chunk(Bytes),
    /// Another lane for what this end sends.
    Lane(Arc<dyn Lane>),
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(frame) => frame.fmt(f),
            Self::Chunk(bytes) => write!(f, "a chunk of {} bytes", bytes.len()),
            Self::Lane(_) => f.write_str("a lane"),
        }
    }
}

/// Why a [`Link`] brings nothing more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The session around the transfer ends it, for this reason.
    #[error("{0}")]
    Interrupted(String),
    /// The connection failed.
    #[error("the connection was lost: {0}")]
    Lost(Box<dyn std::error::Error + Send + Sync>),
}

/// What a receiver accepts, and where it looks before it asks.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most that all files may add up to, in bytes.
    pub max_bytes: u64,
    /// How long the other side may be silent.
    pub idle: Duration,
    /// What has been received before.
    pub cache: Option<Cache>,
    /// How fast it takes what comes.
    pub pace: Option<Pace>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 64 << 30, idle: Duration::from_secs(60), cache: None, pace: None }
    }
}

impl Limits {
    /// For results: the disk decides how much is too much.
    pub fn results() -> Self {
        Self { max_bytes: u64::MAX, ..Self::default() }
    }
}

/// How far a transfer is, as the receiver sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Verified at the receiver, in bytes, what was there before included.
    pub done_bytes: u64,
    /// All files together.
    pub total_bytes: u64,
    /// What the receiver had before.
    pub already_there_bytes: u64,
}

/// Why a transfer did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The package cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file cannot be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The list of files is refused.
    #[error("the list of files is refused: {0}")]
    Manifest(#[from] ManifestError),
    /// The connection failed.
    #[error("{0}")]
    Lost(LinkError),
    /// The session ended the transfer.
    #[error("{0}")]
    Interrupted(String),
    /// The other side gave up.
    #[error("the other side gave up: {0}")]
    Aborted(String),
    /// The other side said nothing.
    #[error("the other side was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The other side took nothing.
    #[error("the other side has taken nothing for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The other side broke the rules.
    #[error("the other side broke the rules of a transfer: {0}")]
    Protocol(&'static str),
    /// The content is not what was announced, also the second time.
    #[error(
        "the content of {path:?} arrived wrong twice; it may have changed while it was sent: try again"
    )]
    WrongContent {
        /// Which file.
        path: String,
    },
    /// A thread that reads or writes files ended without a word.
    #[error("the thread that reads or writes files failed (this is a bug)")]
    Thread,
}

impl TransferError {
    /// Whether the files may not be what was announced.
    pub fn is_about_files(&self) -> bool {
        matches!(self, Self::Archive(_) | Self::Aborted(_))
    }
}

impl From<LinkError> for TransferError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Interrupted(reason) => Self::Interrupted(reason),
            lost @ LinkError::Lost(_) => Self::Lost(lost),
        }
    }
}

/// Sends one control frame, within `limit`.
async fn say<L: Link>(
    link: &mut L,
    frame: TransferFrame,
    limit: Duration,
) -> Result<(), TransferError> {
    let sent = tokio::time::timeout(limit, link.send_control(frame)).await;
    Ok(sent.map_err(|_| TransferError::Stalled(limit))??)
}

/// Ends a failed transfer so that both sides know why: tells the other side, or, when the
/// connection broke, looks whether the other side had told us.
async fn conclude<L: Link>(link: &mut L, error: TransferError) -> TransferError {
    let error = part(link, error).await;
    link.close_lanes();
    error
}

async fn part<L: Link>(link: &mut L, error: TransferError) -> TransferError {
    match error {
        TransferError::Aborted(_) | TransferError::Interrupted(_) => error,
        TransferError::Lost(_) | TransferError::Stalled(_) => {
            last_words(link).await.unwrap_or(error)
        }
        _ => {
            let abort = TransferFrame::Abort { reason: sanitised(&error.to_string()) };
            match say(link, abort, FAREWELL).await {
                Ok(()) => drain(link).await,
                Err(unsaid) => {
                    tracing::debug!(%unsaid, "the other side does not learn why the transfer ended");
                }
            }
            error
        }
    }
}

/// Takes what is still on its way, so that a sender in the middle of a chunk gets to read why this
/// was the end of it.
async fn drain<L: Link>(link: &mut L) {
    let listen =
        async { while let Ok(Ok(_)) = tokio::time::timeout(QUIET, link.next(true)).await {} };
    if tokio::time::timeout(FAREWELL, listen).await.is_err() {
        tracing::debug!("the other side goes on after the end of the transfer");
    }
}

async fn last_words<L: Link>(link: &mut L) -> Option<TransferError> {
    let listen = async {
        loop {
            match link.next(true).await {
                Ok(Incoming::Control(TransferFrame::Abort { reason })) => {
                    return Some(aborted(&reason));
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    };
    tokio::time::timeout(FAREWELL, listen).await.ok().flatten()
}

fn aborted(reason: &str) -> TransferError {
    TransferError::Aborted(sanitised(reason))
}

/// A reason that is fit for a frame and for a terminal.
fn sanitised(reason: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    reason.chars().take(MAX_REASON).map(printable).collect()
}
