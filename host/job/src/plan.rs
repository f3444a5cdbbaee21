//! From a package on disk to the runs that it asks for.

use super::command::{CommandError, Toolbox};
use super::package_folder::{PackageFolder, find_package};
use sleap_rtc_base::mounts::Mounts;
use sleap_rtc_package::script::Run;
use sleap_rtc_package::{CheckError, Checked, Site, VideoPaths, check};
use sleap_rtc_protocol::job::JobType;
use std::path::{Path, PathBuf};

/// Why a package cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The package itself.
    #[error(transparent)]
    Package(#[from] CheckError),
    /// No trainer for it.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// What is to be run, and where.
#[derive(Debug)]
pub struct Plan {
    /// The package's top: the trainers' working folder.
    pub root: PathBuf,
    /// The runs, in order.
    pub runs: Vec<Run>,
    /// Where the videos are that its labels name.
    pub videos: VideoPaths,
    /// What of the package has no effect or is replaced, in words.
    pub remarks: Vec<String>,
}

/// Reads the script of the package in `files`, and checks that what it needs is there.
///
/// A package without a script of the kind that its client claimed, but with one of the other kind,
/// is of that other kind: clients of other programs do not always say.
pub fn plan(
    files: &Path,
    claimed: JobType,
    shared_root: Option<&Path>,
    mounts: &Mounts,
    site: Site<'_>,
) -> Result<Plan, PlanError> {
    let (job_type, root) =
        find_package(files, claimed).ok_or(CheckError::NoScript(claimed.script_name()))?;
    let package = PackageFolder::new(&root).sharing(shared_root).mounting(mounts);
    let Checked { runs, videos, remarks } = check(&package, job_type, site)?;
    Ok(Plan { root, runs, videos, remarks })
}

impl Plan {
    /// Whether a trainer is installed for each run.
    pub fn check_trainers(&self, toolbox: &Toolbox) -> Result<(), PlanError> {
        self.runs.iter().try_for_each(|run| toolbox.program(run).map(drop))?;
        Ok(())
    }
}
