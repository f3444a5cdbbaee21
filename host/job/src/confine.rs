//! Confines this process as its order says, and becomes the trainer: what `sleap-rtc confine` does.
//!
//! A process of its own does it because what confines a program must be done by that program before
//! it is another one, and a program with threads cannot do that safely after it has forked.

use super::limits::JobLimits;
use super::reach::Grant;
use super::sandbox::restrict;
use rustix::fs::Mode;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// How likely the kernel takes this process when memory runs out: rather than the worker, or a
/// user's own programs.
const OUT_OF_MEMORY_SCORE: &str = "500";
const MAX_ORDER_BYTES: usize = 4 << 20;

/// How to confine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What the job may take.
    pub limits: JobLimits,
    /// What it can reach; everything, where nothing is said.
    pub grants: Option<Vec<Grant>>,
}

/// A worker that runs as root has rights that reach around a sandbox, such as to look into any process.
/// Landlock has seen to it that no program brings them back.
fn drop_privileges() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(set_capabilities(None, sets)?)
}

/// Confines this process by the order in a file, and starts `command` in its place. Returns only
/// when that cannot be done.
pub fn confine(order: &Path, command: &[OsString]) -> io::Error {
    let become_it = || -> io::Result<io::Error> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let json = std::fs::read(order)?;
        if json.len() > MAX_ORDER_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let order: Order = serde_json::from_slice(&json)?;
        rustix::process::umask(Mode::from_raw_mode(0o077));
        // In a container this file may be closed, and the rest matters more.
        let _ = std::fs::write("/proc/self/oom_score_adj", OUT_OF_MEMORY_SCORE);
        order.limits.apply()?;
        if let Some(grants) = &order.grants {
            restrict(grants).map_err(io::Error::other)?;
            drop_privileges()?;
        }
        Ok(Command::new(program).args(arguments).exec())
    };
    become_it().unwrap_or_else(|error| error)
}
