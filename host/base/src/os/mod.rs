//! What differs between operating systems: files, interfaces, terminals, and how a process is asked to end.
//!
//! No other module of a client knows on which system it runs. `unix` and `windows` have the same items, and
//! the program uses them by the names here. A worker runs on Unix only, and uses that directly.
//!
//! On Windows, a file is as private as the folder that it is in: the folder of a user's profile is closed
//! to other users, and what the program keeps is there by default.

mod interfaces;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub use interfaces::{Interface, interfaces};
#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;

/// The space on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// What this user may still use, in bytes.
    pub free_bytes: u64,
    /// The size of the disk, in bytes.
    pub total_bytes: u64,
    /// Whether another file can be created. File systems without a fixed number of files always say so.
    pub has_inodes: bool,
}

/// A process of this user that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// The process.
    pub pid: u32,
    /// Its program and its first argument. Further arguments may be secret.
    pub command: String,
}

/// A request to a process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndRequest {
    /// The user has pressed Ctrl-C.
    Interrupt,
    /// The system or another program asks, or the terminal closes.
    Terminate,
}
