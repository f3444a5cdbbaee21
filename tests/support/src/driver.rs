//! A machine whose GPU driver the test controls.

use crate::{Site, stand_in};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder with two programs: the stand-in trainer and a stand-in `nvidia-smi`.
pub struct Driver(PathBuf);

impl Driver {
    /// A driver that has no answer yet. `None` on a machine with a driver of its own, because the
    /// worker would ask that first.
    pub fn new(site: &Site) -> Option<Self> {
        if Path::new("/proc/driver/nvidia/version").exists() {
            println!("not run: this machine has a driver of its own");
            return None;
        }
        let folder = site.folder("driver");
        for path in ["sleap-nn", "driver/nvidia-smi"] {
            let program = stand_in().join(path);
            let name = program.file_name().unwrap();
            std::os::unix::fs::symlink(&program, folder.join(name)).unwrap();
        }
        let driver = Self(folder);
        driver.lists("");
        Some(driver)
    }

    /// The folder with the programs.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Makes it answer with these rows.
    pub fn lists(&self, rows: &str) {
        self.says(rows, 0);
    }

    /// Makes it answer with this text and exit code.
    pub fn says(&self, text: &str, code: i32) {
        // Each file is replaced atomically, because the worker may ask at any moment.
        for (name, content) in [("code", code.to_string()), ("gpus", text.to_owned())] {
            let beside = self.0.join(format!("{name}.new"));
            fs::write(&beside, content).unwrap();
            fs::rename(beside, self.0.join(name)).unwrap();
        }
    }

    /// Makes it fail, as after an upgrade without a restart.
    pub fn breaks(&self) {
        let words = "Failed to initialize NVML: Driver/library version mismatch\n";
        self.says(words, 18);
    }

    /// Sets the output of `nvidia-smi -L`.
    pub fn divides(&self, list: &str) {
        fs::write(self.0.join("slices"), list).unwrap();
    }

    /// Makes it hang, or answer again.
    pub fn hangs(&self, hangs: bool) {
        let file = self.0.join("hang");
        if hangs { fs::write(file, "").unwrap() } else { fs::remove_file(file).unwrap() }
    }
}

/// The row of one GPU.
pub fn gpu_row(index: u32, memory_mib: u64) -> String {
    let uuid = format!("GPU-{index}{index}{index}{index}-0");
    format!("{index}, {uuid}, {memory_mib}, {memory_mib}, 0, 580.173.02, NVIDIA A{index}\n")
}
