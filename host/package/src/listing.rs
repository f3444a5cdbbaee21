//! Lists the files of a package and the places of their bytes, before any content is read.

use super::ArchiveError;
use super::member::Member;
use super::pieces::Hashed;
use super::source::Source;
use super::zipped;
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::transfer::{BlobHash, Cuts, Manifest};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// How many folders may be around a package.
const MAX_TOPS: usize = 16;

/// The files of a package and the places of their bytes. The list is checked; the content has been
/// neither read nor hashed.
#[derive(Debug, Default)]
pub struct Listing {
    members: Vec<Member>,
    left_out: Vec<ArchiveError>,
}

impl Listing {
    /// A list of `members`. `left_out` are errors for the files that are not among them.
    ///
    /// # Errors
    ///
    /// Fails if the files contradict each other.
    pub fn new(members: Vec<Member>, left_out: Vec<ArchiveError>) -> Result<Self, ArchiveError> {
        let listing = Self { members, left_out };
        listing.check()?;
        Ok(listing)
    }

    /// The files of a package that a user or SLEAP made. Errors call it `name`. Files outside the
    /// folder with the job's script are left out.
    ///
    /// # Errors
    ///
    /// Fails if there are no files, or if they contradict each other.
    pub fn package(
        members: Vec<Member>,
        left_out: Vec<ArchiveError>,
        name: &Path,
    ) -> Result<Self, ArchiveError> {
        if members.is_empty() {
            return Err(ArchiveError::Empty { path: name.to_owned() });
        }
        let mut listing = Self { members, left_out };
        if let Some(folder) = listing.package_folder().filter(|folder| !folder.is_empty()) {
            listing.reduce_to(&folder);
        }
        listing.check()?;
        Ok(listing)
    }

    /// The files of a zipped package. Errors call it `name`.
    ///
    /// # Errors
    ///
    /// Fails if the zip cannot be read, or has an entry that is refused.
    pub fn zip(zip: &Arc<dyn Source>, name: &Path) -> Result<Self, ArchiveError> {
        let (members, left_out) = zipped::list(zip, name)?;
        Self::package(members, left_out, name)
    }

    fn check(&self) -> Result<(), ArchiveError> {
        let unknown: Vec<_> =
            self.members.iter().map(|member| member.entry(BlobHash([0; 32]))).collect();
        Manifest::check_files(&unknown, u64::MAX)?;
        Ok(())
    }

    /// The folder with the job's script, with a `/` at its end: empty if that is at the top, otherwise the
    /// only one. Old tools put the files into a folder, or into those of the exporting machine, and
    /// people put notes next to it.
    fn package_folder(&self) -> Option<String> {
        let scripts = [JobType::Training.script_name(), JobType::Inference.script_name()];
        let is_script = |path: &str| scripts.contains(&path);
        let mut folder = String::new();
        for _ in 0..MAX_TOPS {
            let paths = || {
                let paths = self.members.iter().map(|member| member.path.as_str());
                paths.filter_map(|path| path.strip_prefix(folder.as_str()))
            };
            if paths().any(is_script) {
                return Some(folder);
            }
            let split = || paths().filter_map(|path| path.split_once('/'));
            let with_script: BTreeSet<&str> =
                split().filter(|(_, rest)| is_script(rest)).map(|(top, _)| top).collect();
            let all: BTreeSet<&str> = split().map(|(top, _)| top).collect();
            let has_all = all.len() == 1 && paths().all(|path| path.contains('/'));
            let top = match with_script.len() {
                0 if has_all => all.first(),
                1 => with_script.first(),
                _ => None,
            };
            folder = format!("{folder}{}/", top?);
        }
        None
    }

    fn reduce_to(&mut self, top: &str) {
        self.members.retain_mut(|member| {
            let inner = member.path.as_str().strip_prefix(top).map(str::to_owned);
            // The rest of a checked path is a checked path.
            match inner.and_then(|path| RelPath::new(path).ok()) {
                Some(path) => {
                    member.path = path;
                    true
                }
                None => false,
            }
        });
    }

    /// The files, in the order of the list.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.members.iter().map(|member| &member.path)
    }

    /// Adds files.
    ///
    /// # Errors
    ///
    /// Fails if they contradict those in the list.
    pub fn add(&mut self, members: Vec<Member>) -> Result<(), ArchiveError> {
        self.members.extend(members);
        self.check()
    }

    /// Removes the files that `wanted` rejects.
    pub fn keep(&mut self, wanted: impl Fn(&RelPath) -> bool) {
        self.members.retain(|member| wanted(&member.path));
    }

    /// The reason for each file of the folder that cannot be sent.
    pub fn left_out(&self) -> &[ArchiveError] {
        &self.left_out
    }

    /// The file at `path`, if there is one.
    pub fn find(&self, path: &RelPath) -> Option<&Member> {
        self.members.iter().find(|member| member.path == *path)
    }

    /// The file at `path`.
    ///
    /// # Errors
    ///
    /// Fails if the package does not have it.
    pub fn member(&self, path: &RelPath) -> Result<&Member, ArchiveError> {
        self.find(path).ok_or_else(|| ArchiveError::Missing { path: path.to_string() })
    }

    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// Fails if the package does not have it, or if it cannot be opened.
    pub fn read(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, ArchiveError> {
        self.member(path)?.open()
    }

    /// The list of the files with their hashes, which `hash` computes.
    ///
    /// # Errors
    ///
    /// Fails with the errors of `hash`, or if the files contradict each other.
    pub fn manifest(
        &self,
        mut hash: impl FnMut(&Member) -> Result<Hashed, ArchiveError>,
    ) -> Result<Manifest, ArchiveError> {
        let (mut files, mut cuts) = (Vec::with_capacity(self.members.len()), Cuts::new());
        for member in &self.members {
            let (blake3, pieces) = hash(member)?;
            if !pieces.is_empty() {
                cuts.insert(blake3, pieces);
            }
            files.push(member.entry(blake3));
        }
        Ok(Manifest::new(files, cuts, u64::MAX)?)
    }

    /// The sum of the announced sizes, in bytes.
    pub fn announced_bytes(&self) -> u64 {
        self.members.iter().map(|member| member.size).sum()
    }
}
