//! Another Linux in a folder, such as `debootstrap` makes it, in which the finished program runs.

use crate::programs::{call, root, target};
use anyhow::{Context, Result, bail, ensure};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Set in the process whose mounts nobody else sees.
const APART: &str = "SLEAP_RTC_XTASK_APART";

/// A Linux in a folder, with this repository at the same path as outside.
#[derive(Clone)]
pub struct OldSystem(PathBuf);

impl OldSystem {
    /// Mounts what programs need into `folder`, for this process and its children alone.
    ///
    /// # Errors
    /// Without root, or if `folder` has no system in it.
    pub fn enter(folder: &Path) -> Result<Self> {
        ensure!(env::var_os(APART).is_some(), "the mounts would be seen by others");
        let system = folder.canonicalize().with_context(|| folder.display().to_string())?;
        ensure!(system.join("bin/sh").exists(), "no system in {}", system.display());
        for from in [Path::new("/proc"), Path::new("/dev"), &root(), &target()] {
            let at = system.join(from.strip_prefix("/").unwrap_or(from));
            std::fs::create_dir_all(&at)?;
            call(Command::new("mount").arg("--rbind").arg(from).arg(at))?;
        }
        Ok(Self(system))
    }

    /// The same command in that system.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("chroot");
        inside.arg(&self.0).arg("env");
        if let Some(folder) = command.get_current_dir() {
            inside.arg("--chdir").arg(folder).current_dir(folder);
        }
        inside.arg(command.get_program()).args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    }

    /// The first line that a program there prints, or `None` where it does not run.
    pub fn first_line(&self, program: &str, arguments: &[&str]) -> Option<String> {
        let output = self.command(Command::new(program).args(arguments)).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
    }
}

/// Starts this task again where its mounts are its own. `None` if that has been done.
pub fn apart() -> Result<Option<ExitCode>> {
    if env::var_os(APART).is_some() {
        return Ok(None);
    }
    let mut again = Command::new("unshare");
    again.args(["--mount", "--propagation", "private"]).arg(env::current_exe()?);
    let status = again.args(env::args_os().skip(1)).env(APART, "1").status()?;
    match status.code() {
        Some(0) => Ok(Some(ExitCode::SUCCESS)),
        _ => bail!("{status}; mounts need root"),
    }
}
