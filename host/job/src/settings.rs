//! Settings for a job's process. The worker writes them into the job's folder, and the process reads them.

use super::command::{CommandLine, TrainerSearch};
use super::confinement::{Confinement, TrainerDirs};
use super::error::{JobError, damaged};
use super::folder::{JobFolder, write_private};
use super::grants::ReadScope;
use super::sandbox::Sandbox;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::bounded_wait::BoundedWait;
use sleap_rtc_base::mounts::Mounts;
use sleap_rtc_base::os::ProcessGroup;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const FILE: &str = "runner.json";
/// The place for temporary files if the usual folder is full, missing or read-only.
const OTHER_TEMPORARY: &str = "/var/tmp";
/// More than the files of one question need, in bytes.
const PROBE_BYTES: usize = 64 * 1024;
/// More than a trainer prints to answer a question, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// What every program's help has in it.
const HELP: &[u8] = b"usage:";
/// How long a program that has printed its help may go on, before that counts as its answer.
const LINGERS: Duration = Duration::from_millis(500);

/// Why a trainer gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// It took too long.
    #[error("{command} does not answer within {} s", .limit.as_secs())]
    Silent { command: String, limit: Duration },
    /// It did not start, or its output could not be read.
    #[error("cannot start it: {0}")]
    Failed(io::Error),
}

/// Settings for a job's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerSettings {
    /// The search path for trainers, in the form of `PATH`. By default the process's own `PATH`.
    pub search_path: Option<String>,
    /// The operator's command for the trainer: a program and its first arguments.
    pub trainer: Option<Vec<String>>,
    /// The worker's slot in which the job runs.
    pub slot: Option<usize>,
    /// The GPUs that the job may use, by their position on the PCI bus as `nvidia-smi` counts them.
    /// By default all of them.
    pub gpus: Option<Vec<u32>>,
    /// Shared storage, into which files of the package may be links. The worker created those
    /// links.
    pub shared_root: Option<PathBuf>,
    /// Folders outside of the job in which trainers may read videos.
    pub mounts: Mounts,
    /// Further variables that a trainer may see. `*` at the end of a name matches anything.
    pub pass_env: Vec<String>,
    /// Variables to set for the trainer.
    pub set_env: BTreeMap<String, String>,
    /// How long a training that has finished may be idle before it is killed.
    pub exit_grace_ms: u64,
    /// How long a training may work on further batches after the command to stop, before SIGTERM.
    pub stop_grace_ms: u64,
    /// The time between SIGTERM and SIGKILL for a cancelled trainer.
    pub kill_grace_ms: u64,
    /// The most log text to keep.
    pub log_limit_bytes: u64,
    /// Variables that no trainer of this job receives, because its package asks for them by name.
    #[serde(skip)]
    pub withheld: Vec<String>,
    /// How trainers are confined. `None` if this program cannot start itself as a subcommand.
    pub confinement: Option<Confinement>,
}

impl Default for RunnerSettings {
    fn default() -> Self {
        Self {
            search_path: None,
            trainer: None,
            slot: None,
            gpus: None,
            shared_root: None,
            mounts: Mounts::default(),
            pass_env: Vec::new(),
            set_env: BTreeMap::new(),
            exit_grace_ms: 60_000,
            stop_grace_ms: 30_000,
            kill_grace_ms: 5_000,
            log_limit_bytes: 256 * 1024 * 1024,
            withheld: Vec::new(),
            confinement: None,
        }
    }
}

impl RunnerSettings {
    /// Reads the settings of a job, or returns the defaults if it has none.
    pub fn read(folder: &JobFolder) -> Result<Self, JobError> {
        let path = folder.path().join(FILE);
        let json = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(JobError::Io { doing: "read", path, source }),
            Ok(json) => json,
        };
        serde_json::from_slice(&json).map_err(|e| damaged(&path, e))
    }

    /// Whether a job has settings: a worker has started a process for it.
    pub fn exist(folder: &JobFolder) -> bool {
        folder.path().join(FILE).exists()
    }

    /// When the settings of a job were written, in milliseconds since 1970: when a worker started its process.
    pub fn written_ms(folder: &JobFolder) -> Option<u64> {
        let written = std::fs::metadata(folder.path().join(FILE)).ok()?.modified().ok()?;
        u64::try_from(written.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    }

    /// Removes the settings of a job, if it has any.
    pub(crate) fn remove(folder: &JobFolder) -> Result<(), JobError> {
        let path = folder.path().join(FILE);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(JobError::Io { doing: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// Writes the settings for a job.
    pub fn write(&self, folder: &JobFolder) -> Result<(), JobError> {
        let path = folder.path().join(FILE);
        let json = serde_json::to_vec_pretty(self).map_err(|e| damaged(&path, e))?;
        write_private(&path, &json)
    }

    /// The search path for trainers.
    pub fn trainer_path(&self) -> OsString {
        match &self.search_path {
            Some(path) => path.into(),
            None => std::env::var_os("PATH").unwrap_or_default(),
        }
    }

    /// The trainers that these settings allow a job to find.
    pub fn trainer_search(&self) -> TrainerSearch {
        TrainerSearch::new(self.trainer_path()).with_trainer(self.trainer.clone())
    }

    /// The whole environment of a trainer.
    pub fn trainer_variables(&self) -> Vec<(OsString, OsString)> {
        let mut variables =
            super::command::trainer_environment(std::env::vars_os(), &self.pass_env);
        variables
            .retain(|(name, _)| !self.withheld.iter().any(|withheld| name == withheld.as_str()));
        let mut set = |name: &str, value: &str| {
            variables.retain(|(earlier, _)| earlier != name);
            variables.push((name.into(), value.into()));
        };
        // Without it, Python delays lines that it writes to a pipe.
        set("PYTHONUNBUFFERED", "1");
        if let Some(path) = &self.search_path {
            set("PATH", path);
        }
        if let Some(gpus) = &self.gpus {
            let indices: Vec<String> = gpus.iter().map(u32::to_string).collect();
            set("CUDA_VISIBLE_DEVICES", &indices.join(","));
            // By default CUDA sorts GPUs by speed.
            set("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        }
        for (name, value) in &self.set_env {
            set(name, value);
        }
        variables
    }

    /// Whether a trainer finds a key for W&B: in its environment, or in its user's login.
    pub(crate) fn has_wandb_key(&self) -> bool {
        let variables = self.trainer_variables();
        let value = |name: &str| {
            let of = |(own, value): &(OsString, OsString)| (own == name).then(|| value.clone());
            variables.iter().find_map(of).filter(|value| !value.is_empty())
        };
        let has_login = || {
            let beside_home = || Some(Path::new(&value("HOME")?).join(".netrc"));
            let file = value("NETRC").map(PathBuf::from).or_else(beside_home);
            let text = file.and_then(|file| std::fs::read_to_string(file).ok());
            text.is_some_and(|text| text.contains("wandb"))
        };
        // With a mode of the operator's, a trainer needs no key.
        ["WANDB_API_KEY", "WANDB_MODE"].iter().any(|name| value(name).is_some())
            || (!self.is_confined() && has_login())
    }

    /// The command that starts a trainer in `place`, with its whole environment.
    pub async fn command(&self, line: &CommandLine, place: &TrainerDirs) -> io::Result<Command> {
        let variables = self.trainer_variables();
        if let Some(confinement) = &self.confinement {
            let files = self.passed_files(&variables);
            return confinement.command(line, place, &variables, &files).await;
        }
        let mut command = Command::new(&line.program);
        command.args(&line.arguments).current_dir(&place.folder).env_clear().envs(variables);
        Ok(command)
    }

    /// The files that variables of `pass_env` name: the operator wants trainers to use them.
    fn passed_files(&self, variables: &[(OsString, OsString)]) -> Vec<PathBuf> {
        let added = super::command::added_by_operator(variables.iter().cloned(), &self.pass_env);
        let is_added = |name: &OsString| added.iter().any(|added| name == added.as_str());
        let values = variables.iter().filter(|(name, _)| is_added(name));
        values.map(|(_, value)| PathBuf::from(value)).filter(|path| path.is_absolute()).collect()
    }

    /// Runs a trainer to answer a question, confined as in a job, in folders that are removed
    /// afterwards.
    pub(crate) async fn answer(
        &self,
        question: &CommandLine,
        patience: BoundedWait,
    ) -> Result<Output, NoAnswer> {
        let command = question.quoted();
        match patience.wait(&command, self.ask(question)).await {
            Ok(answered) => answered.map_err(NoAnswer::Failed),
            Err(_) => Err(NoAnswer::Silent { command, limit: patience.limit }),
        }
    }

    async fn ask(&self, question: &CommandLine) -> io::Result<Output> {
        let folder = temporary("")?;
        let at = |name: &str| folder.path().join(name);
        let place = TrainerDirs {
            folder: at("files"),
            private: at("private"),
            read: Vec::new(),
            write: Vec::new(),
            confinement_file: at("confinement.json"),
            has_gpus: true,
        };
        for folder in [&place.folder, &place.private] {
            std::fs::create_dir(folder)?;
        }
        let mut command = self.command(question, &place).await?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ProcessGroup::begin(command.kill_on_drop(true));
        let mut child = command.spawn()?;
        let _group = ProcessGroup::of(&child);
        let (stdout, stderr) = read_answer(&mut child).await?;
        let status = match is_help(&stdout) {
            true => timeout(LINGERS, child.wait()).await.unwrap_or(Ok(ExitStatus::default()))?,
            false => child.wait().await?,
        };
        Ok(Output { stdout, stderr, status })
    }

    /// The same settings, with this scope for confined trainers.
    pub fn reading(mut self, scope: ReadScope) -> Self {
        if let Some(confinement) = &mut self.confinement {
            confinement.scope = scope;
        }
        self
    }

    /// Whether trainers may get a wider scope. The strict sandbox does not allow that, and without a
    /// sandbox nothing is needed.
    pub(crate) fn may_read_more(&self) -> bool {
        let sandbox = self.confinement.as_ref().map(|confinement| &confinement.sandbox);
        matches!(sandbox, Some(Sandbox::Landlock { .. }))
    }

    /// Whether trainers can reach only granted files.
    pub(crate) fn is_confined(&self) -> bool {
        self.confinement.as_ref().is_some_and(|confinement| confinement.sandbox.confines())
    }

    /// See [`Self::exit_grace_ms`].
    pub fn exit_grace(&self) -> Duration {
        Duration::from_millis(self.exit_grace_ms)
    }

    /// See [`Self::stop_grace_ms`].
    pub fn stop_grace(&self) -> Duration {
        Duration::from_millis(self.stop_grace_ms)
    }

    /// See [`Self::kill_grace_ms`].
    pub fn kill_grace(&self) -> Duration {
        Duration::from_millis(self.kill_grace_ms)
    }
}

/// A temporary folder, closed to other users, with a name that begins with `prefix`. It is elsewhere if the
/// usual folder for temporary files is full or missing.
pub(crate) fn temporary(prefix: &str) -> io::Result<TempDir> {
    temporary_in(&[&std::env::temp_dir(), Path::new(OTHER_TEMPORARY)], prefix)
}

/// The same in the first of `parents` that can hold a few files.
fn temporary_in(parents: &[&Path], prefix: &str) -> io::Result<TempDir> {
    let create = |parent: &Path| {
        let closed = Permissions::from_mode(0o700);
        let folder =
            tempfile::Builder::new().prefix(prefix).permissions(closed).tempdir_in(parent)?;
        let probe = folder.path().join("probe");
        std::fs::write(&probe, [0; PROBE_BYTES])?;
        std::fs::remove_file(&probe)?;
        Ok(folder)
    };
    let mut first_error = None;
    for parent in parents {
        match create(parent) {
            Ok(folder) => return Ok(folder),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// Reads what a program prints on both of its pipes, until it closes them. A wrapper that has printed its
/// help has answered, even if it goes on working.
async fn read_answer(child: &mut Child) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    while out.is_some() || err.is_some() {
        tokio::select! {
            read = read_some(&mut out, &mut stdout) => read?,
            read = read_some(&mut err, &mut stderr) => read?,
            () = sleep(LINGERS), if is_help(&stdout) => break,
        }
    }
    Ok((stdout, stderr))
}

/// Reads a part of what a program prints. The pipe is closed at its end, and where a program prints without
/// an end. Waits for ever once it is closed.
async fn read_some<P: AsyncRead + Unpin>(pipe: &mut Option<P>, to: &mut Vec<u8>) -> io::Result<()> {
    let Some(open) = pipe else { return std::future::pending().await };
    if open.read_buf(to).await? == 0 || to.len() >= MAX_ANSWER_BYTES {
        *pipe = None;
    }
    Ok(())
}

fn is_help(stdout: &[u8]) -> bool {
    stdout.windows(HELP.len()).any(|part| part.eq_ignore_ascii_case(HELP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_is_in_the_first_place_that_can_hold_it() {
        let above = tempfile::tempdir().unwrap();
        let missing = above.path().join("missing");
        let folder = temporary_in(&[&missing, above.path()], "x").unwrap();
        assert_eq!(folder.path().parent(), Some(above.path()));
        assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(temporary_in(&[&missing], "").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
