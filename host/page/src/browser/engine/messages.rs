//! What page and engine say to each other: one JSON text each, and what only the browser can pass on.

use crate::browser::parcel::last_part;
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::frame::TransferFrame;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::JobDescription;
use sleap_rtc_protocol::transfer::{BlobHash, CHUNK_BYTES, CHUNK_HEADER_BYTES};

/// The size of a message with a part of a piece. The last one of a piece may be smaller.
pub const MESSAGE_BYTES: usize = CHUNK_HEADER_BYTES + CHUNK_BYTES;

/// To the engine.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// List, check and describe the package in the parcel that comes along.
    Open,
    /// Hash the opened package.
    Hash,
    /// Read a piece of it, and put it into messages for a worker.
    Read(BlobHash),
    /// Begin with the result of this job.
    Receive(JobId),
    /// A frame of the lists of a result.
    List(TransferFrame),
    /// The chunk of a result that comes along.
    Chunk,
    /// Pack the result into one zip.
    Zip,
    /// Forget the package or the result.
    Close,
}

/// To the page.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The package can be sent.
    Opened(Box<Opened>),
    /// The number of bytes of the package that have been hashed.
    HashedBytes(u64),
    /// The lists of the package.
    Lists(Vec<TransferFrame>),
    /// The messages for the piece come along, one after the other.
    Piece,
    /// What the browser has of the result is known.
    Receiving,
    /// The lists of the result are complete, and this is the sum of all file sizes.
    Listed {
        /// In bytes.
        total_bytes: u64,
    },
    /// These frames request the next pieces.
    Want(Vec<TransferFrame>),
    /// The number of bytes of the result that have been verified.
    Verified(u64),
    /// All files of the result are complete. Their contents come along, in this order.
    Complete(Vec<ResultFile>),
    /// The zip comes along.
    Zipped,
    /// It did not work. The text is for people.
    Failed(String),
}

/// A package that can be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Opened {
    /// Its name: the file's, without its ending.
    pub name: String,
    /// What policies are told.
    pub description: JobDescription,
    /// What has no effect, or is replaced, in words.
    pub remarks: Vec<String>,
    /// How many files it has.
    pub files: usize,
}

/// A file of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultFile {
    /// Its path below the result's folder.
    pub path: String,
    /// Its size, in bytes.
    pub bytes: u64,
}

impl ResultFile {
    /// The folder that it is in. Empty for the result's own.
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Its name, without the folder.
    pub fn name(&self) -> &str {
        last_part(&self.path)
    }
}
