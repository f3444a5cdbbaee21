//! Derives the runs of a job from its package.

use super::command::{CommandError, TrainerSearch};
use super::package_folder::{PackageFolder, find_package};
use sleap_rtc_base::mounts::Mounts;
use sleap_rtc_package::script::Run;
use sleap_rtc_package::{CheckError, Checked, MachineFacts, VideoPaths, check};
use sleap_rtc_protocol::job::JobType;
use std::path::{Path, PathBuf};

/// Why a package cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The package is incomplete or invalid.
    #[error(transparent)]
    Package(#[from] CheckError),
    /// No trainer is installed for it.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// The runs of a job and their inputs.
#[derive(Debug)]
pub struct Plan {
    /// The package's top folder, in which trainers work.
    pub root: PathBuf,
    /// The runs, in order.
    pub runs: Vec<Run>,
    /// Where this machine has the videos that the labels name.
    pub videos: VideoPaths,
    /// Parts of the package that have no effect or are replaced, in words.
    pub remarks: Vec<String>,
}

/// Reads the script of the package in `files`, and checks that the files it needs exist.
///
/// The kind of script decides the kind of the job, even if the client claims the other kind,
/// because clients of other programs do not always claim one.
pub fn plan(
    files: &Path,
    claimed: JobType,
    shared_root: Option<&Path>,
    mounts: &Mounts,
    site: MachineFacts<'_>,
) -> Result<Plan, PlanError> {
    let (job_type, root) =
        find_package(files, claimed).ok_or(CheckError::NoScript(claimed.script_name()))?;
    let package = PackageFolder::new(&root).sharing(shared_root).mounting(mounts);
    let Checked { runs, videos, remarks } = check(&package, job_type, site)?;
    Ok(Plan { root, runs, videos, remarks })
}

impl Plan {
    /// Checks that a trainer is installed for each run.
    pub fn check_trainers(&self, trainer_search: &TrainerSearch) -> Result<(), PlanError> {
        self.runs.iter().try_for_each(|run| trainer_search.program(run).map(drop))?;
        Ok(())
    }
}
