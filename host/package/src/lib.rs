//! Job packages of SLEAP: their files, what they ask for, and whether that can be done. The client reads
//! a package before it sends one, the worker before it runs one, with this same code. It needs no disk:
//! a page in a browser reads a dropped zip with it.
//!
//! | module | what it reads |
//! |---|---|
//! | [`source`] | bytes that can be read at any position, wherever they are |
//! | `member`, `listing` | the files of a package, before their content is read |
//! | `zipped`, `zip_content` | zip files, whose content is not trusted |
//! | [`names`] | names of files |
//! | [`pieces`] | how long files are cut, and how they are hashed |
//! | `piece_reader` | the pieces of listed files, in any order |
//! | [`files`], `view` | what checking and describing need of a package |
//! | [`script`] | `train-script.sh`, `track-script.sh` and `inference-script.sh`, as text |
//! | `config` | the configurations of trainings, which are YAML or JSON |
//! | [`labels`] | `.slp` files, which are HDF5 |
//! | [`videos`] | where the videos are that labels name |
//! | [`mod@check`] | all of it: what can be known to fail |
//! | [`mod@describe`] | all of it: what policies are told |
//!
//! A package is hostile: everything that is read of it is bounded.
//!
//! ```
//! use sleap_rtc_package::script::{Run, ScriptFile, parse};
//!
//! let script = parse(ScriptFile::Train, "#!/bin/bash\nsleap-nn train --config-name centroid.yaml\n")?;
//! assert!(matches!(&script.runs[..], [Run::Train(train)] if train.config.as_str() == "centroid.yaml"));
//! let refused = parse(ScriptFile::Train, "sleap-nn train --config-name ../../etc/passwd.yaml\n");
//! assert!(refused.unwrap_err().to_string().contains("line 1"));
//! # Ok::<(), sleap_rtc_package::script::ScriptError>(())
//! ```

pub mod check;
mod config;
pub mod describe;
mod error;
pub mod files;
pub mod labels;
mod listing;
mod member;
pub mod names;
mod piece_reader;
pub mod pieces;
pub mod script;
pub mod source;
#[cfg(test)]
mod tests;
pub mod videos;
mod view;
mod zip_content;
mod zipped;

pub use check::{CheckError, Checked, Site, check, check_model, is_newer};
pub use describe::describe;
pub use error::ArchiveError;
pub use files::{Found, PackageFiles};
pub use labels::{Labels, Video, is_hdf5};
pub use listing::Listing;
pub use member::Member;
pub use piece_reader::PieceReader;
pub use source::{InMemory, ReadSeek, Source};
pub use videos::{VIDEO_PATHS, VideoPath, VideoPaths, VideoPlace};
pub use view::{PackageView, unpack_in_memory};
