//! A package, as far as checking and describing it need one.

use super::mounts::{Mounts, is_inside};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::RelPath;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most files that are looked at in a folder.
const MAX_FILES: usize = 100_000;
const MAX_DEPTH: usize = 32;

/// What is at a path of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A link that leads out of the package.
    Outside,
    /// Nothing.
    Nothing,
}

/// The files of a package.
pub trait PackageFiles {
    /// What is at `path`.
    fn look(&self, path: &RelPath) -> Found;

    /// Opens the file at `path`.
    fn open(&self, path: &RelPath) -> Option<Box<dyn Read + Send>>;

    /// The names of the files in the folder at `path`.
    fn names_in(&self, path: &RelPath) -> Vec<String>;

    /// A file on disk with the content of `path`, where there is one to read from.
    fn on_disk(&self, path: &RelPath) -> Option<PathBuf>;

    /// Bytes of all files, unpacked.
    fn total_bytes(&self) -> Option<u64>;

    /// Whether the trainer can read this file outside of the package, by its whole path.
    fn sees(&self, file: &str) -> bool;
}

/// The file at `path`, if it is at most `limit_bytes` long.
pub fn bytes(package: &dyn PackageFiles, path: &RelPath, limit_bytes: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    package.open(path)?.take(limit_bytes + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit_bytes).then_some(bytes)
}

/// The same as text.
pub fn text(package: &dyn PackageFiles, path: &RelPath, limit_bytes: u64) -> Option<String> {
    Some(String::from_utf8_lossy(&bytes(package, path, limit_bytes)?).into_owned())
}

/// A package that is a folder, its script at the top.
#[derive(Debug, Clone)]
pub struct PackageFolder {
    root: PathBuf,
    shared: Option<PathBuf>,
    mounts: Mounts,
}

impl PackageFolder {
    /// The package in `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), shared: None, mounts: Mounts::default() }
    }

    /// The same where files may be links into the storage at `root`.
    #[must_use]
    pub fn sharing(mut self, root: Option<&Path>) -> Self {
        self.shared = root.map(Path::to_owned);
        self
    }

    /// The same where videos may be on these mounts.
    #[must_use]
    pub fn mounting(self, mounts: &Mounts) -> Self {
        Self { mounts: mounts.clone(), ..self }
    }

    /// The file or folder at `path`, links followed; not found where they lead out of it.
    fn inside(&self, path: &RelPath) -> io::Result<PathBuf> {
        let place = path.below(&self.root);
        let shared =
            || self.shared.as_ref().is_some_and(|root| is_inside(root, &place).is_ok_and(|is| is));
        match is_inside(&self.root, &place)? || shared() {
            true => Ok(place),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

impl PackageFiles for PackageFolder {
    fn look(&self, path: &RelPath) -> Found {
        match self.inside(path) {
            Ok(place) if place.is_dir() => Found::Folder,
            Ok(place) if place.is_file() => Found::File,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Found::Outside,
            _ => Found::Nothing,
        }
    }

    fn open(&self, path: &RelPath) -> Option<Box<dyn Read + Send>> {
        let place = self.inside(path).ok().filter(|place| place.is_file())?;
        Some(Box::new(File::open(place).ok()?))
    }

    fn names_in(&self, path: &RelPath) -> Vec<String> {
        let entries = self.inside(path).and_then(fs::read_dir).into_iter().flatten().flatten();
        let names =
            entries.take(MAX_FILES).filter_map(|entry| entry.file_name().into_string().ok());
        names.collect()
    }

    fn on_disk(&self, path: &RelPath) -> Option<PathBuf> {
        self.inside(path).ok()
    }

    fn total_bytes(&self) -> Option<u64> {
        let mut left = MAX_FILES;
        sum_of_files(&self.root, MAX_DEPTH, &mut left)
    }

    fn sees(&self, file: &str) -> bool {
        let path = Path::new(file);
        let below = |root: &PathBuf| is_inside(root, path).is_ok_and(|is| is) && path.is_file();
        self.mounts.holds(path) || path.is_absolute() && self.shared.as_ref().is_some_and(below)
    }
}

fn sum_of_files(folder: &Path, depth: usize, left: &mut usize) -> Option<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        *left = left.checked_sub(1)?;
        let meta = entry.metadata().ok()?;
        if meta.is_dir() {
            sum += sum_of_files(&entry.path(), depth.checked_sub(1)?, left)?;
        } else if meta.is_file() {
            sum += meta.len();
        }
    }
    Some(sum)
}

/// The kind of the package in `files` and its top folder, which holds the script.
pub fn find_package(files: &Path, claimed: JobType) -> Option<(JobType, PathBuf)> {
    let other = match claimed {
        JobType::Training => JobType::Inference,
        JobType::Inference => JobType::Training,
    };
    [claimed, other]
        .into_iter()
        .find_map(|job_type| Some((job_type, package_root(files, job_type.script_name())?)))
}

/// The folder that holds the script: this one, or the only one in it that does.
fn package_root(files: &Path, script: &str) -> Option<PathBuf> {
    let holds = |folder: &Path| folder.join(script).symlink_metadata().is_ok_and(|m| m.is_file());
    if holds(files) {
        return Some(files.to_owned());
    }
    let entries = fs::read_dir(files).ok()?.flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut holding = folders.map(|entry| entry.path()).filter(|folder| holds(folder));
    let only = holding.next()?;
    holding.next().is_none().then_some(only)
}
