//! From a package on disk to the runs that it asks for.

use super::check::{CheckError, Checked, Site, check};
use super::command::{CommandError, Toolbox};
use super::files::PackageFolder;
use super::script::Run;
use sleap_rtc_protocol::job::JobType;
use std::fs;
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
    site: Site<'_>,
) -> Result<Plan, PlanError> {
    let (job_type, root) =
        find_package(files, claimed).ok_or(CheckError::NoScript(claimed.script_name()))?;
    let package = PackageFolder::new(&root).sharing(shared_root);
    let Checked { runs, remarks } = check(&package, job_type, site)?;
    Ok(Plan { root, runs, remarks })
}

impl Plan {
    /// Whether a trainer is installed for each run.
    pub fn check_trainers(&self, toolbox: &Toolbox) -> Result<(), PlanError> {
        self.runs.iter().try_for_each(|run| toolbox.program(run).map(drop))?;
        Ok(())
    }
}

/// The kind of the package in `files` and its top folder, which holds the script.
pub(super) fn find_package(files: &Path, claimed: JobType) -> Option<(JobType, PathBuf)> {
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
