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
mod error;
mod flight;
mod goodbye;
pub mod hashes;
mod journal;
pub mod lane;
mod link;
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
pub use error::{LinkError, TransferError};
pub use hashes::Hashes;
pub use lane::{Gauge, Lane, LaneLost};
pub use link::{Incoming, Limits, Link, Progress};
pub use listing::Listing;
pub use pace::Pace;
pub use packing::{link, pack, pack_package, unpack};
pub use receiver::receive;
pub use sender::send;
pub use steering::{LaneCount, MAX_LANES};
pub use storage::StorageError;

/// How many chunks may wait between a thread that accesses files and the link: 2 MiB.
const QUEUE_CHUNKS: usize = 16;
