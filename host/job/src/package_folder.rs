//! Reads a package from a folder on this machine.

use sleap_rtc_base::mounts::Mounts;
use sleap_rtc_base::mounts::is_inside;
use sleap_rtc_package::{Found, PackageFiles, ReadSeek, describe};
use sleap_rtc_protocol::job::{JobDescription, JobType};
use sleap_rtc_protocol::path::RelPath;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most files to examine in a folder.
const MAX_FILES: usize = 100_000;
const MAX_DEPTH: usize = 32;
/// The longest configuration or script to search, in bytes.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// A package in a folder, with its script at the top.
#[derive(Debug, Clone)]
pub(crate) struct PackageFolder {
    root: PathBuf,
    shared: Option<PathBuf>,
    mounts: Mounts,
}

impl PackageFolder {
    /// The package in `root`.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), shared: None, mounts: Mounts::default() }
    }

    /// The same package, whose files may be links into the storage at `root`.
    #[must_use]
    pub(crate) fn sharing(mut self, root: Option<&Path>) -> Self {
        self.shared = root.map(Path::to_owned);
        self
    }

    /// The same package, whose videos may be on these mounts.
    #[must_use]
    pub(crate) fn mounting(self, mounts: &Mounts) -> Self {
        Self { mounts: mounts.clone(), ..self }
    }

    /// Resolves the links of `path`. Fails with "not found" if they lead out of the package.
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

    fn open_at_random(&self, path: &RelPath) -> Option<Box<dyn ReadSeek>> {
        let place = self.inside(path).ok()?;
        Some(Box::new(File::open(place).ok()?))
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

/// Those of `names` that occur in a configuration or script below `root`. Reads files, so async
/// tasks must not call it.
pub(crate) fn named_in(root: &Path, mut names: Vec<String>) -> Vec<String> {
    let (mut found, mut folders, mut left) = (Vec::new(), vec![(root.to_owned(), 0)], MAX_FILES);
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, is_folder) =
                (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
            left = left.saturating_sub(1);
            if names.is_empty() || left == 0 {
                return found;
            }
            if is_folder && depth < MAX_DEPTH {
                folders.push((path, depth + 1));
            } else if is_text(&path) {
                let text = fs::read(path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                found.extend(names.extract_if(.., |name| text.contains(name.as_str())));
            }
        }
    }
    found
}

/// Whether a file is searched, by its name and length.
fn is_text(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let is_named = matches!(extension, Some("yaml" | "yml" | "json" | "sh"));
    let is_short = |meta: fs::Metadata| meta.is_file() && meta.len() <= MAX_TEXT_BYTES;
    is_named && path.symlink_metadata().is_ok_and(is_short)
}

fn sum_of_files(folder: &Path, depth: usize, left: &mut usize) -> Option<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).ok()? {
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

/// Describes the package in the folder `files` for policies. The script is at the top, or in the
/// only folder that has one. Reads files, so async tasks must not call it.
pub fn describe_folder(files: &Path, claimed: JobType) -> JobDescription {
    match find_package(files, claimed) {
        Some((job_type, root)) => describe(&PackageFolder::new(root), job_type),
        None => describe(&PackageFolder::new(files), claimed),
    }
}

/// The kind of the package in `files`, and the folder that holds its script.
pub(crate) fn find_package(files: &Path, claimed: JobType) -> Option<(JobType, PathBuf)> {
    let other = match claimed {
        JobType::Training => JobType::Inference,
        JobType::Inference => JobType::Training,
    };
    [claimed, other]
        .into_iter()
        .find_map(|job_type| Some((job_type, package_root(files, job_type.script_name())?)))
}

/// The folder that holds the script: `files` itself, or the only folder in it that does.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_texts_of_a_package_are_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("models")).unwrap();
        let files = [("a.yaml", "x: ONE"), ("models/b.json", "TWO"), ("c.slp", "THREE")];
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let names = ["ONE", "TWO", "THREE", "FOUR"].map(str::to_owned).to_vec();
        let mut found = named_in(folder.path(), names);
        found.sort();
        assert_eq!(found, ["ONE", "TWO"]);
    }
}
