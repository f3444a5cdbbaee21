//! How jobs are confined: `[worker] sandbox`, `sandbox_read`, `sandbox_write` and `[worker.limits]`.

use super::values::Size;
use serde::Deserialize;
use std::path::PathBuf;

/// How jobs are confined, and the limits of each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxConfig {
    /// How jobs are confined.
    pub choice: SandboxChoice,
    /// Further files and folders that jobs may read.
    pub read: Vec<PathBuf>,
    /// Further files and folders that jobs may read and change.
    pub write: Vec<PathBuf>,
    /// The user's home, which jobs cannot reach.
    pub home: Option<PathBuf>,
    /// `[worker.limits]`.
    pub limits: LimitsConfig,
}

/// How jobs are confined, in the terms of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum SandboxChoice {
    /// Landlock, if the kernel has it.
    #[default]
    Auto,
    /// Landlock and namespaces. Without them the worker does not start.
    Strict,
    /// Limits only.
    Off,
}

impl TryFrom<String> for SandboxChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "strict" => Ok(Self::Strict),
            "off" => Ok(Self::Off),
            _ => Err(format!("expects \"auto\", \"strict\" or \"off\", not {text:?}")),
        }
    }
}

/// The limits of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Processes and threads.
    pub processes: u64,
    /// Memory of all its processes together, in bytes. `None` for nine tenths of the machine's.
    pub memory_bytes: Option<u64>,
    /// The size of one file, in bytes.
    pub file_bytes: u64,
    /// The most log text to keep, in bytes.
    pub log_bytes: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        FileJobLimits::default().into()
    }
}

/// `[worker.limits]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileJobLimits {
    processes: u64,
    memory: Option<Size>,
    file: Size,
    log: Size,
}

impl Default for FileJobLimits {
    fn default() -> Self {
        Self { processes: 16 * 1024, memory: None, file: Size(64 << 30), log: Size(256 << 20) }
    }
}

impl From<FileJobLimits> for LimitsConfig {
    fn from(file: FileJobLimits) -> Self {
        Self {
            processes: file.processes,
            memory_bytes: file.memory.map(|Size(bytes)| bytes),
            file_bytes: file.file.0,
            log_bytes: file.log.0,
        }
    }
}
