//! Packages and results as lists of verified files.
//!
//! A [`Package`] reads files from a folder, from an archive or from several places. [`send`] and
//! [`receive`] transfer it over any [`Link`]. [`unpack`] and [`pack`] are for peers that exchange zip
//! files. This crate knows nothing about connections or jobs.
//!
//! | module | contents |
//! |---|---|
//! | `link` | what a transfer needs from a connection; limits and progress |
//! | `error`, `goodbye` | why a transfer fails, and how both sides learn the reason |
//! | `package` | a package: its files, its manifest, its content |
//! | `listing`, `files` | what is on disk, as the files of a package |
//! | [`free_space`] | whether a disk has room |
//! | [`storage`] | paths that stay inside their root; files that appear complete or not at all |
//! | `tree`, `tarred` | folders and tar files, whose content is not trusted |
//! | `copying`, `packing` | copies, zips and unpacked zips, for peers that only exchange zips |
//! | `packer` | how a piece is packed, unpacked and verified |
//! | `sender`, `outbox` | the sending end, and the chunks that it sends |
//! | `reader` | its thread, which reads and packs pieces |
//! | `receiver`, `writer` | the receiving end, and its thread, which verifies and writes |
//! | `contents`, `assembly` | what a receiver still lacks, and the pieces whose chunks arrive |
//! | [`cache`] | files that a worker has received earlier |
//! | [`hashes`] | the hashes of files that were read earlier |
//! | `pace` | a rate limit |
//! | `journal` | what a receiver has verified, so that an interrupted transfer resumes |
//! | `salvage` | verified content of abandoned transfers |
//!
//! Files are accessed on blocking threads, with a small bounded queue between them and the link.
//! Memory use is constant, and the slower of disk and network holds the other back.
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

mod assembly;
pub mod cache;
mod contents;
mod copying;
mod error;
mod files;
pub mod free_space;
mod goodbye;
pub mod hashes;
mod journal;
mod link;
mod listing;
mod outbox;
mod pace;
mod package;
mod packer;
mod packing;
mod reader;
mod receiver;
mod salvage;
mod sender;
pub mod storage;
mod storage_error;
mod tarred;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod writer;

pub use cache::Cache;
pub use copying::{add_tree, copy_tree};
pub use error::{LinkError, TransferError};
pub use hashes::Hashes;
pub use link::{Accept, Incoming, Limits, Link, SizeAnswer, SizeQuestion};
pub use listing::{Part, PartSource, list_package};
pub use pace::Pace;
pub use package::Package;
pub use packing::{link, pack, pack_package, unpack};
pub use receiver::receive;
pub use sender::send;
pub use sleap_rtc_protocol::meter::Progress;
pub use storage_error::StorageError;

/// How many chunks may wait between a thread that accesses files and the link: 2 MiB.
const QUEUE_CHUNKS: usize = 16;
