//! Reads and checks job packages of SLEAP. The client uses this crate before it sends a package, and the
//! worker before it runs one. The crate needs no disk, so a page in a browser can read a dropped zip.
//!
//! | module | what it reads |
//! |---|---|
//! | [`source`] | bytes that can be read at any position: on disk, in memory, or in a browser |
//! | `member`, `listing` | the files of a package, before their content is read |
//! | `zipped`, `zip_content` | zip files, whose content is not trusted |
//! | `not_a_package` | files that are given instead of a package |
//! | [`names`] | names of files |
//! | [`pieces`] | how files are divided into pieces and hashed |
//! | `piece_reader` | the pieces of listed files, in any order |
//! | [`files`], `view` | a package, through the interface of checks and descriptions |
//! | [`script`] | `train-script.sh`, `track-script.sh` and `inference-script.sh`, as text |
//! | `config` | the configurations of trainings, which are YAML or JSON |
//! | [`labels`] | `.slp` files, which are HDF5 |
//! | [`videos`] | the places of the videos that labels name |
//! | [`mod@check`] | the whole package, to find what is certain to fail |
//! | [`mod@describe`] | the whole package, to describe it to policies |
//! | `prediction` | the package of a prediction, before it is made |
//! | `surplus` | models of earlier trainings, which need not be sent |
//! | `workload` | one run, by what decides its duration and its memory |
//!
//! Packages are hostile, so every read is bounded.
//!
//! ```
//! use sleap_rtc_package::script::{Run, ScriptFile, parse};
//!
//! let script = parse(ScriptFile::Train, "#!/bin/bash\nsleap-nn train --config-name centroid.yaml\n")?;
//! assert!(matches!(&script.runs[..], [Run::Train(train)] if train.config.path.as_str() == "centroid.yaml"));
//! let refused = parse(ScriptFile::Train, "if true; then sleap-nn train --config-name a.yaml; fi\n");
//! assert!(refused.unwrap_err().to_string().contains("line 1"));
//! # Ok::<(), sleap_rtc_package::script::ScriptError>(())
//! ```

pub mod check;
pub mod config;
pub mod describe;
mod error;
pub mod files;
pub mod labels;
mod listing;
mod member;
pub mod names;
mod not_a_package;
mod piece_reader;
pub mod pieces;
pub mod prediction;
pub mod script;
pub mod source;
mod surplus;
#[cfg(test)]
mod tests;
pub mod videos;
mod view;
mod workload;
mod zip_content;
mod zipped;

pub use check::{CheckError, Checked, MachineFacts, check, check_model, is_newer};
pub use describe::describe;
pub use error::ArchiveError;
pub use files::{Found, PackageFiles};
pub use labels::{Labels, Video, is_hdf5};
pub use listing::Listing;
pub use member::Member;
pub use not_a_package::{
    NotAPackage, START_BYTES, hollow, is_tar, recognize_files, recognize_start,
};
pub use piece_reader::{PieceLocation, PieceReader, locations};
pub use source::{InMemory, ReadSeek, Source};
pub use surplus::leave_out_results;
pub use videos::{VIDEO_PATHS, VideoPath, VideoPaths, VideoPlace};
pub use view::{PackageView, unpack_in_memory};
