//! The GPUs of the worker's last run, so that a machine with a late or broken driver is not
//! mistaken for one without GPUs.

use super::gpu_pool::GpuIdentity;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::json_file;
use std::path::{Path, PathBuf};

const FILE: &str = "gpus.json";

/// The GPUs of the worker's last run, and the file that stores them.
pub(crate) struct RememberedGpus {
    path: PathBuf,
    gpus: Mutex<Vec<GpuIdentity>>,
}

#[derive(Serialize, Deserialize)]
struct SavedGpus {
    /// Another machine may use the same state folder.
    hostname: String,
    gpus: Vec<GpuIdentity>,
}

impl RememberedGpus {
    /// Reads the file. A damaged file, or one of another machine, counts as empty.
    pub(crate) fn load(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let saved = json_file::load::<SavedGpus>(&path).ok().flatten();
        let saved = saved.filter(|saved| saved.hostname == hostname());
        Self { path, gpus: Mutex::new(saved.map(|saved| saved.gpus).unwrap_or_default()) }
    }

    /// The GPUs of the last run.
    pub(crate) fn gpus(&self) -> Vec<GpuIdentity> {
        self.gpus.lock().clone()
    }

    /// Saves the current GPUs if they have changed.
    pub(crate) fn remember(&self, gpus: Vec<GpuIdentity>) {
        let mut known = self.gpus.lock();
        if *known == gpus || gpus.is_empty() {
            return;
        }
        let saved = SavedGpus { hostname: hostname(), gpus: gpus.clone() };
        match json_file::save(&self.path, &saved) {
            Ok(()) => *known = gpus,
            // The next start works without the file, too.
            Err(error) => tracing::debug!(%error, "cannot save the list of GPUs"),
        }
    }
}

fn hostname() -> String {
    sleap_rtc_base::os::host_name()
}
