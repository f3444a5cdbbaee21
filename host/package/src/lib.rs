//! Job packages of SLEAP: what they ask for, and whether that can be done. The client reads a package
//! before it sends one, the worker before it runs one, with this same code.
//!
//! | module | what it reads |
//! |---|---|
//! | [`files`] | the files of a package, wherever they are |
//! | [`script`] | `train-script.sh`, `track-script.sh` and `inference-script.sh`, as text |
//! | `config` | the configurations of trainings, which are YAML or JSON |
//! | [`labels`] | `.slp` files, which are HDF5 |
//! | [`videos`] | where the videos are that labels name |
//! | [`mounts`] | where a worker's jobs may read videos |
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
pub mod files;
pub mod labels;
pub mod mounts;
pub mod script;
#[cfg(test)]
mod tests;
pub mod videos;

pub use check::{CheckError, Checked, Site, check, check_model, is_newer};
pub use describe::{describe, describe_folder};
pub use files::{Found, PackageFiles, PackageFolder};
pub use labels::{Labels, Video, is_hdf5};
pub use mounts::{Mount, Mounts};
pub use videos::{VIDEO_PATHS, VideoPath, VideoPaths, VideoPlace};
