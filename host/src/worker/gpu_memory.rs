//! The GPUs of the worker's last run, so that a machine with a late or broken driver is not
//! mistaken for one without GPUs.

use super::gpu_pool::Identity;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::file::{self, Readers};
use std::path::{Path, PathBuf};

const FILE: &str = "gpus.json";

/// The file in the state folder, and its content.
pub(crate) struct GpuMemory {
    path: PathBuf,
    gpus: Mutex<Vec<Identity>>,
}

#[derive(Serialize, Deserialize)]
struct SavedMemory {
    /// Another machine may use the same state folder.
    hostname: String,
    gpus: Vec<Identity>,
}

impl GpuMemory {
    /// Reads the file. A damaged file, or one of another machine, counts as empty.
    pub(crate) fn load(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let saved = std::fs::read(&path).ok();
        let saved = saved.and_then(|json| serde_json::from_slice::<SavedMemory>(&json).ok());
        let saved = saved.filter(|saved| saved.hostname == hostname());
        Self { path, gpus: Mutex::new(saved.map(|saved| saved.gpus).unwrap_or_default()) }
    }

    /// The GPUs of the last run.
    pub(crate) fn gpus(&self) -> Vec<Identity> {
        self.gpus.lock().clone()
    }

    /// Saves the current GPUs if they have changed.
    pub(crate) fn remember(&self, gpus: Vec<Identity>) {
        let mut known = self.gpus.lock();
        if *known == gpus || gpus.is_empty() {
            return;
        }
        let saved = SavedMemory { hostname: hostname(), gpus: gpus.clone() };
        match self.write(&saved) {
            Ok(()) => *known = gpus,
            // The next start works without the file, too.
            Err(error) => tracing::debug!(%error, "cannot save the list of GPUs"),
        }
    }

    fn write(&self, saved: &SavedMemory) -> std::io::Result<()> {
        file::replace(&self.path, &serde_json::to_vec_pretty(saved)?, Readers::Owner)
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
