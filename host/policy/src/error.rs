//! Why a configured plugin cannot be used.

use super::lock;
use std::path::PathBuf;

/// Why a configured plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No such file.
    #[error("[policy.{key}] plugin = {plugin:?}: there is no file {}", .path.display())]
    NotFound {
        /// The section of the configuration.
        key: &'static str,
        /// As configured.
        plugin: String,
        /// The path that was tried.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("[policy.{key}]: cannot read {}", .path.display())]
    Read {
        /// The section of the configuration.
        key: &'static str,
        /// The plugin's file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Reading and compiling the file takes too long.
    #[error(
        "[policy.{key}]: {} was not read and compiled within {limit_s} s: see whether its disk answers, \
         and whether `sleap-rtc plugin validate` accepts it",
        .path.display()
    )]
    Slow {
        /// The section of the configuration.
        key: &'static str,
        /// The plugin's file.
        path: PathBuf,
        /// How long it had.
        limit_s: u64,
    },
    /// The file is not a plugin for this extension point.
    #[error("[policy.{key}]: {} cannot be used: {why}", .path.display())]
    Unusable {
        /// The section of the configuration.
        key: &'static str,
        /// The plugin's file.
        path: PathBuf,
        /// What its author should do.
        why: String,
    },
    /// `plugins.lock` does not accept the file.
    #[error("[policy.{key}]: {source}")]
    Locked {
        /// The section of the configuration.
        key: &'static str,
        /// The reason, and what to do.
        source: lock::LockError,
    },
}
