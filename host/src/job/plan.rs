//! From a package on disk to the runs that it asks for.

use super::command::{CommandError, Toolbox};
use super::script::{self, MAX_SCRIPT_BYTES, Run, ScriptError};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::RelPath;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a package cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No script of this kind.
    #[error(
        "the package holds no {0}, neither at its top nor in its one folder; export it with \
         SLEAP's \"Export training job package\""
    )]
    NoScript(&'static str),
    /// A script that no honest SLEAP wrote.
    #[error("{0} is longer than {MAX_SCRIPT_BYTES} bytes")]
    LongScript(&'static str),
    /// A script that cannot be followed.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The script names something that is not there.
    #[error("the package lacks {path}, which {script} names")]
    Missing {
        /// What is not there.
        path: RelPath,
        /// The script.
        script: &'static str,
    },
    /// A link that leads out of the package.
    #[error("{0} leads out of the package")]
    Outside(RelPath),
    /// No trainer for it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The file system refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// What is to be run, and where.
#[derive(Debug)]
pub struct Plan {
    /// The package's top: the trainers' working folder.
    pub root: PathBuf,
    /// The runs, in order.
    pub runs: Vec<Run>,
    /// What of the script was left out, in words.
    pub warnings: Vec<String>,
}

/// Reads the script of the package in `files`, and checks that what it needs is there.
///
/// A package without a script of the kind that its client claimed, but with one of the other kind,
/// is of that other kind: clients of other programs do not always say.
pub fn plan(files: &Path, claimed: JobType, shared_root: Option<&Path>) -> Result<Plan, PlanError> {
    let script = claimed.script_name();
    let (job_type, root) = find_package(files, claimed).ok_or(PlanError::NoScript(script))?;
    let script = job_type.script_name();
    let text = read_script(&root, script)?;
    let parsed = script::parse(job_type, &text)?;
    for needed in parsed.runs.iter().flat_map(Run::needs) {
        check_inside(&root, shared_root, needed, script)?;
    }
    Ok(Plan { root, runs: parsed.runs, warnings: parsed.warnings })
}

impl Plan {
    /// Whether a trainer is installed for each run.
    pub fn check_trainers(&self, toolbox: &Toolbox) -> Result<(), PlanError> {
        self.runs.iter().try_for_each(|run| toolbox.command(run, None).map(drop))?;
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

/// The folder that holds the script: this one, or the only one in it.
fn package_root(files: &Path, script: &str) -> Option<PathBuf> {
    let holds = |folder: &Path| folder.join(script).symlink_metadata().is_ok_and(|m| m.is_file());
    if holds(files) {
        return Some(files.to_owned());
    }
    let mut folders = fs::read_dir(files).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_type().ok()?.is_dir().then(|| entry.path())
    });
    let only = folders.next().filter(|folder| holds(folder))?;
    folders.next().is_none().then_some(only)
}

fn read_script(root: &Path, script: &'static str) -> Result<String, PlanError> {
    let path = root.join(script);
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_SCRIPT_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|source| PlanError::Io { path, source })?;
    if bytes.len() as u64 > MAX_SCRIPT_BYTES {
        return Err(PlanError::LongScript(script));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn check_inside(
    root: &Path,
    shared_root: Option<&Path>,
    path: &RelPath,
    script: &'static str,
) -> Result<(), PlanError> {
    let place = path.below(root);
    let is_shared = || shared_root.is_some_and(|shared| is_inside(shared, &place).unwrap_or(false));
    match is_inside(root, &place).map(|inside| inside || is_shared()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(PlanError::Outside(path.clone())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(PlanError::Missing { path: path.clone(), script })
        }
        Err(source) => Err(PlanError::Io { path: place, source }),
    }
}

/// Whether `path`, links followed, is below `root`.
pub(super) fn is_inside(root: &Path, path: &Path) -> io::Result<bool> {
    Ok(path.canonicalize()?.starts_with(root.canonicalize()?))
}
