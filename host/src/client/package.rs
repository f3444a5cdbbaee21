//! Checks the user's package before anything is sent: its files, whether a worker can run it, and
//! its description for policies.

use super::ClientError;
use super::error::PackageFault;
use super::read_progress::ReadProgress;
use super::videos::VideoSearch;
use crate::config::ClientConfig;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_package::script::ScriptFile;
use sleap_rtc_package::{
    CheckError, Checked, Listing, MachineFacts, NotAPackage, PackageView, ReadSeek, START_BYTES,
    check, describe, leave_out_results, recognize_files, recognize_start,
};
use sleap_rtc_protocol::job::{JobDescription, JobType, Requirements};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_transfer::{Hashes, Package, list_package};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most labels files whose videos are searched for on this machine.
const MAX_LABELS: usize = 64;

/// A file that was written this shortly before it was hashed may have changed since without a new
/// timestamp: some file systems count in steps of two seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// The cached hashes of this user's packages.
pub fn hashes(config: &ClientConfig) -> Hashes {
    config.hashes.as_deref().map_or_else(Hashes::none, |path| Hashes::open(path, SETTLED))
}

/// A training package to open.
#[derive(Debug, Clone)]
pub struct TrainingPackage {
    /// The archive or the folder.
    pub path: PathBuf,
    /// Whether to run its `inference-script.sh` after the training.
    pub inference: bool,
}

impl TrainingPackage {
    /// Lists and checks the package, with the videos that `videos` finds, then reads and hashes the
    /// files that are not in `hashes`. Blocks.
    ///
    /// # Errors
    /// The file is not a package, or no worker could train it.
    pub fn open(
        &self,
        videos: VideoSearch,
        hashes: &Hashes,
        progress: &ReadProgress,
    ) -> Result<Package, ClientError> {
        self.open_checked(videos, hashes, progress).map_err(|fault| fault.at(&self.path))
    }

    fn open_checked(
        &self,
        mut videos: VideoSearch,
        hashes: &Hashes,
        progress: &ReadProgress,
    ) -> Result<Package, PackageFault> {
        if let Some(what) = recognize_file(&self.path) {
            return Err(what.into());
        }
        let mut listing = list_package(&self.path)?;
        if !self.inference {
            let script = ScriptFile::Inference.name();
            listing.keep(|path| path.as_str() != script);
        }
        for error in listing.left_out() {
            tracing::warn!("leaving out: {}", WithCauses(error));
        }
        let checked = checked(&mut listing, JobType::Training, &self.path, &mut videos)?;
        let results = leave_out_results(&mut listing, &checked);
        if !results.is_empty() {
            let what = results.join(", ");
            tracing::info!(%what, "leaving out models of earlier trainings");
        }
        hash(listing, hashes, progress)
    }
}

/// Reads and hashes the listed files. Blocks.
pub(crate) fn hash(
    listing: Listing,
    hashes: &Hashes,
    progress: &ReadProgress,
) -> Result<Package, PackageFault> {
    let odd: Vec<&RelPath> = listing.paths().filter(|path| !path.is_portable()).collect();
    if let Some(first) = odd.first() {
        let count = odd.len();
        tracing::warn!(name = %first, count, "Windows does not allow this name: workers there refuse it");
    }
    progress.expect(listing.announced_bytes());
    Ok(Package::hash(listing, hashes, progress.counter())?)
}

/// What the file at `path` is, if it cannot be a package.
fn recognize_file(path: &Path) -> Option<NotAPackage> {
    // Opening a pipe would wait for its writer.
    if !path.metadata().is_ok_and(|there| there.is_file()) {
        return None;
    }
    let mut start = Vec::new();
    let file = File::open(path).ok()?;
    file.take(START_BYTES).read_to_end(&mut start).ok()?;
    recognize_start(&start, path)
}

/// Finds the errors that the worker would otherwise find after the upload. Adds videos that the
/// labels name and the package lacks, if they are found. Their relative names start at `path`.
pub(crate) fn checked(
    listing: &mut Listing,
    job_type: JobType,
    path: &Path,
    videos: &mut VideoSearch,
) -> Result<Checked, PackageFault> {
    let home = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    videos.write_into(listing)?;
    for _ in 0..MAX_LABELS {
        let found = check(
            &view(listing).seeing(|file| videos.sees(file)),
            job_type,
            MachineFacts::default(),
        );
        match found {
            Ok(checked) => {
                checked.remarks.iter().for_each(|remark| tracing::info!("{remark}"));
                return Ok(checked);
            }
            Err(CheckError::NoScript(_)) => return Err(recognize_files(listing).into()),
            Err(CheckError::Videos { labels, missing }) => {
                if !videos.find(listing, &labels, &missing, home)? {
                    return Err(CheckError::Videos { labels, missing }.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(PackageFault::TooManyLabels)
}

/// The files of `listing`. Compressed labels are unpacked into a temporary file without a name.
fn view(listing: &Listing) -> PackageView<'_> {
    fn unpack(mut reader: Box<dyn Read + Send>) -> io::Result<Box<dyn ReadSeek>> {
        let mut file = tempfile::tempfile()?;
        io::copy(&mut reader, &mut file)?;
        Ok(Box::new(file))
    }
    PackageView::new(listing, unpack)
}

/// The description of `package` for policies. Blocks.
pub fn describe_package(
    package: &Package,
    job_type: JobType,
    requirements: Requirements,
    user: Option<String>,
) -> JobDescription {
    let files = view(package.listing());
    JobDescription { requirements, user, ..describe(&files, job_type) }
}
