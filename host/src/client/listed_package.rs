//! A listed package of this machine, for the code that checks and describes packages.

use sleap_rtc_package::mounts::is_inside;
use sleap_rtc_package::{Found, PackageFiles};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_transfer::Listing;
use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Labels inside an archive are unpacked and read up to this size. The contents of larger ones stay
/// unknown.
const MAX_UNPACKED_BYTES: u64 = 512 << 20;

/// The files of a listed package.
pub(super) struct ListedPackage<'a> {
    listing: &'a Listing,
    /// Files that the worker reads by their whole paths.
    seen: HashSet<String>,
    shared_root: Option<PathBuf>,
    scratch: Option<tempfile::TempDir>,
}

impl<'a> ListedPackage<'a> {
    pub(super) fn new(listing: &'a Listing) -> Self {
        let scratch = tempfile::tempdir().ok();
        Self { listing, seen: HashSet::new(), shared_root: None, scratch }
    }

    /// The same with what the worker reads by whole paths: on its mounts, and below a folder that both
    /// sides share.
    pub(super) fn seeing(self, seen: HashSet<String>, shared_root: Option<&Path>) -> Self {
        Self { seen, shared_root: shared_root.map(Path::to_owned), ..self }
    }
}

impl PackageFiles for ListedPackage<'_> {
    fn look(&self, path: &RelPath) -> Found {
        let below = format!("{path}/");
        match self.listing.size(path) {
            Some(_) => Found::File,
            None if self.listing.paths().any(|file| file.as_str().starts_with(&below)) => {
                Found::Folder
            }
            None => Found::Nothing,
        }
    }

    fn open(&self, path: &RelPath) -> Option<Box<dyn Read + Send>> {
        self.listing.read(path).ok()
    }

    fn names_in(&self, path: &RelPath) -> Vec<String> {
        let below = format!("{path}/");
        let names = self.listing.paths().filter_map(|file| file.as_str().strip_prefix(&below));
        names.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }

    fn on_disk(&self, path: &RelPath) -> Option<PathBuf> {
        if let Some(file) = self.listing.file_path(path) {
            return Some(file.to_owned());
        }
        if self.listing.size(path)? > MAX_UNPACKED_BYTES {
            return None;
        }
        // Its own name may be taken.
        let to = tempfile::NamedTempFile::new_in(self.scratch.as_ref()?.path()).ok()?;
        let (mut file, to) = to.keep().ok()?;
        std::io::copy(&mut self.listing.read(path).ok()?, &mut file).ok()?;
        Some(to)
    }

    fn total_bytes(&self) -> Option<u64> {
        Some(self.listing.announced_bytes())
    }

    fn sees(&self, file: &str) -> bool {
        let path = Path::new(file);
        let is_shared = |root: &PathBuf| {
            path.is_absolute() && path.is_file() && is_inside(root, path).is_ok_and(|is| is)
        };
        self.seen.contains(file) || self.shared_root.as_ref().is_some_and(is_shared)
    }
}
