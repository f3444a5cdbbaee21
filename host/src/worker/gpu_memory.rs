//! Which GPUs there were when the worker last ran, so that a driver that is late or broken at the
//! next start is not taken for a machine without GPUs.

use super::gpu_pool::Identity;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const FILE: &str = "gpus.json";

/// The file in the state folder, and what it holds.
pub(super) struct GpuMemory {
    path: PathBuf,
    gpus: Mutex<Vec<Identity>>,
}

#[derive(Serialize, Deserialize)]
struct SavedMemory {
    /// A state folder may be taken to another machine, or seen from several.
    hostname: String,
    gpus: Vec<Identity>,
}

impl GpuMemory {
    /// What is remembered of this machine. A damaged file counts as none.
    pub(super) fn load(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let saved = std::fs::read(&path).ok();
        let saved = saved.and_then(|json| serde_json::from_slice::<SavedMemory>(&json).ok());
        let saved = saved.filter(|saved| saved.hostname == hostname());
        Self { path, gpus: Mutex::new(saved.map(|saved| saved.gpus).unwrap_or_default()) }
    }

    /// Those of the last time.
    pub(super) fn gpus(&self) -> Vec<Identity> {
        self.gpus.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes down which there are now, where that has changed.
    pub(super) fn remember(&self, gpus: Vec<Identity>) {
        let mut known = self.gpus.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == gpus || gpus.is_empty() {
            return;
        }
        let saved = SavedMemory { hostname: hostname(), gpus: gpus.clone() };
        match self.write(&saved) {
            Ok(()) => *known = gpus,
            // It is only a convenience for the next start.
            Err(error) => tracing::debug!(%error, "which GPUs there are was not written down"),
        }
    }

    fn write(&self, saved: &SavedMemory) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(saved)?)?;
        file.persist(&self.path)?;
        Ok(())
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
