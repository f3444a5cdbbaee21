//! Limits on what one job may take of the machine.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::io;

/// Limits on all processes of one job together. None of them may write a core dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobLimits {
    /// Processes and threads at once. CUDA and OpenMP start hundreds on machines with many cores.
    pub processes: u64,
    /// Memory of all its processes together, in bytes. `None` stands for nine tenths of the
    /// machine's.
    pub memory_bytes: Option<u64>,
    /// The size of any file that it writes, in bytes, holes included.
    pub file_bytes: u64,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self { processes: 16 * 1024, memory_bytes: None, file_bytes: 64 << 30 }
    }
}

impl JobLimits {
    /// The limit on memory in bytes, by default nine tenths of the machine's.
    pub fn memory_bytes(&self) -> u64 {
        let whole = || {
            let total = rustix::system::sysinfo();
            (total.totalram as u64).saturating_mul(u64::from(total.mem_unit))
        };
        self.memory_bytes.unwrap_or_else(|| whole() / 10 * 9)
    }

    /// Applies the limits to this process and its descendants. Never raises a limit that is already
    /// lower.
    pub(crate) fn apply(&self) -> io::Result<()> {
        lower(Resource::Core, 0)?;
        lower(Resource::Fsize, self.file_bytes)?;
        // The kernel counts all processes of the user, and none of root's; `limit_guard` counts the
        // job's.
        lower(Resource::Nproc, self.processes)
    }
}

fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum;
    let limit = Some(hard.map_or(limit, |hard| hard.min(limit)));
    Ok(setrlimit(resource, Rlimit { current: limit, maximum: limit })?)
}
