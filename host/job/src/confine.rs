//! Implements `sleap-rtc confine`: confines this process, and then executes the trainer in it.
//!
//! This needs a process of its own. A process can confine only itself, and a program with threads
//! cannot do so safely between fork and exec.

use super::grants::Grant;
use super::limits::JobLimits;
use super::sandbox::restrict;
use rustix::fs::Mode;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Makes the kernel end this process before the worker or a user's own programs when memory runs
/// out.
const OUT_OF_MEMORY_SCORE: &str = "500";
const MAX_SPEC_BYTES: usize = 4 << 20;

/// How to confine a trainer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConfinementSpec {
    pub limits: JobLimits,
    /// What the job can reach, or `None` for everything.
    pub grants: Option<Vec<Grant>>,
}

/// Drops the capabilities of a worker that runs as root, some of which reach around a sandbox, for
/// example into other processes. Landlock prevents programs from regaining them.
fn drop_privileges() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(set_capabilities(None, sets)?)
}

/// Confines this process by the specification in `file`, and executes `command` in its place. Returns only
/// if that fails.
pub fn confine(file: &Path, command: &[OsString]) -> io::Error {
    let become_it = || -> io::Result<io::Error> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let json = std::fs::read(file)?;
        if json.len() > MAX_SPEC_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let spec: ConfinementSpec = serde_json::from_slice(&json)?;
        rustix::process::umask(Mode::from_raw_mode(0o077));
        // Containers may deny access to this file. The remaining steps matter more.
        let _ = std::fs::write("/proc/self/oom_score_adj", OUT_OF_MEMORY_SCORE);
        spec.limits.apply()?;
        if let Some(grants) = &spec.grants {
            restrict(grants).map_err(io::Error::other)?;
            drop_privileges()?;
        }
        Ok(Command::new(program).args(arguments).exec())
    };
    become_it().unwrap_or_else(|error| error)
}
