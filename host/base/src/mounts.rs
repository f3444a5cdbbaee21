//! Folders of a worker's machine in which its jobs may read videos, so that clients need not send them.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// A folder whose videos need not be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The name for clients, which may write `LABEL:rest` instead of the path.
    pub label: String,
    /// The folder on the worker's machine.
    pub path: PathBuf,
}

/// All of a worker's mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Mounts with these folders, in this order.
    pub fn new(mounts: Vec<Mount>) -> Self {
        Self(mounts)
    }

    /// The labels, in order.
    pub fn labels(&self) -> Vec<String> {
        self.0.iter().map(|mount| mount.label.clone()).collect()
    }

    /// The folders on this machine.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|mount| mount.path.as_path())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The file that `name` stands for on this machine: an absolute path below a mount, or
    /// `LABEL:rest`. Follows links, and finds no file outside of the mounts. Reads the disk, so
    /// async tasks must not call it.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let path = match name.split_once(':') {
            _ if name.starts_with('/') => PathBuf::from(name),
            Some((label, rest)) => {
                let mount = self.0.iter().find(|mount| mount.label == label)?;
                mount.path.join(rest.replace('\\', "/").trim_start_matches('/'))
            }
            None => return None,
        };
        self.holds(&path).then_some(path)
    }

    /// Whether the file at `path` is below a mount.
    pub fn holds(&self, path: &Path) -> bool {
        let below = |mount: &Mount| is_inside(&mount.path, path).is_ok_and(|is| is);
        path.is_absolute() && path.is_file() && self.0.iter().any(below)
    }
}

/// Whether `path`, with links resolved, is below `root`.
pub fn is_inside(root: &Path, path: &Path) -> io::Result<bool> {
    Ok(path.canonicalize()?.starts_with(root.canonicalize()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_below_a_mount_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("lab/day1")).unwrap();
        for name in ["lab/day1/a.mp4", "secret.mp4"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(root.join("secret.mp4"), root.join("lab/link.mp4")).unwrap();
        let mounts = Mounts::new(vec![Mount { label: "Z".to_owned(), path: root.join("lab") }]);
        let found = Some(root.join("lab/day1/a.mp4"));
        let whole = |name: &str| root.join(name).to_string_lossy().into_owned();
        for name in ["Z:day1/a.mp4", "Z:/day1/a.mp4", "Z:\\day1\\a.mp4", &whole("lab/day1/a.mp4")] {
            assert_eq!(mounts.find(name), found, "{name}");
        }
        for name in [
            "Z:../secret.mp4",
            "Z:day1",
            "Z:",
            "Y:day1/a.mp4",
            "day1/a.mp4",
            &whole("lab/link.mp4"),
            &whole("lab/../secret.mp4"),
            &whole("secret.mp4"),
            "",
        ] {
            assert_eq!(mounts.find(name), None, "{name}");
        }
    }
}
