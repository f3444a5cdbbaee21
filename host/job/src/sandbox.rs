//! Decides how a job's processes are confined: the operator's choice, and what this machine supports.

use super::grants::{Access, Grant};
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use serde::{Deserialize, Serialize};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::program;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The newest version of Landlock's interface whose rights are used. An older kernel enforces those
/// that it knows.
const NEWEST: ABI = ABI::V6;
/// The first version that prevents jobs from sending signals to other jobs or to the worker.
const SIGNALS: u32 = 6;
/// The program that creates namespaces.
const BUBBLEWRAP: &str = "bwrap";
/// How long the trial of Bubblewrap may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(20);

/// The operator's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SandboxMode {
    /// Landlock, if the kernel supports it.
    #[default]
    Auto,
    /// Landlock and namespaces. Without them the worker does not start.
    Strict,
    /// Limits only.
    Off,
}

/// What confines jobs on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Sandbox {
    /// Nothing, by the operator's choice.
    Off,
    /// Nothing, because the kernel has no Landlock.
    Missing,
    /// Landlock.
    Landlock {
        /// The kernel's version of the interface.
        abi: u32,
    },
    /// Landlock, and namespaces that bubblewrap creates.
    Strict {
        /// The kernel's version of the interface.
        abi: u32,
        /// The path of bubblewrap.
        program: PathBuf,
    },
}

/// Why jobs cannot be confined as the operator requires.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel has no Landlock.
    #[error(
        "`[worker] sandbox = \"strict\"` needs Landlock, which this kernel does not have or does not \
         enable (Linux 5.13 or newer, `lsm=landlock,…`); use a newer kernel, or \"auto\""
    )]
    NoLandlock,
    /// bubblewrap is not installed.
    #[error(
        "`[worker] sandbox = \"strict\"` needs bubblewrap: install the package `bubblewrap`, or use \
         \"auto\""
    )]
    NoBubblewrap,
    /// bubblewrap cannot create namespaces.
    #[error(
        "`[worker] sandbox = \"strict\"` needs namespaces, and bubblewrap cannot make them here: {0}; \
         allow user namespaces (kernel.unprivileged_userns_clone, AppArmor), or use \"auto\""
    )]
    NoNamespaces(String),
}

impl Sandbox {
    /// Finds out how much of `mode` this machine supports. Starts a program, so async tasks must
    /// not call it.
    pub fn find(mode: SandboxMode) -> Result<Self, SandboxError> {
        let abi = match mode {
            SandboxMode::Off => return Ok(Self::Off),
            SandboxMode::Auto | SandboxMode::Strict => landlock_version(),
        };
        match (mode, abi) {
            (SandboxMode::Strict, None) => Err(SandboxError::NoLandlock),
            (SandboxMode::Strict, Some(abi)) => Ok(Self::Strict { abi, program: bubblewrap()? }),
            (_, None) => Ok(Self::Missing),
            (_, Some(abi)) => Ok(Self::Landlock { abi }),
        }
    }

    /// Whether jobs can reach only granted files.
    pub fn confines(&self) -> bool {
        matches!(self, Self::Landlock { .. } | Self::Strict { .. })
    }

    /// One word for the worker's entry in the room.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Missing => "none",
            Self::Landlock { .. } => "landlock",
            Self::Strict { .. } => "strict",
        }
    }

    /// The missing protection, in words, if any is missing.
    pub fn lack(&self) -> Option<String> {
        match self {
            Self::Off => Some("jobs can read and change everything that the worker's user can".to_owned()),
            Self::Missing => Some(
                "this kernel has no Landlock (Linux 5.13 or newer): jobs can read and change all that \
                 the worker's user can"
                    .to_owned(),
            ),
            Self::Landlock { abi } | Self::Strict { abi, .. } if *abi < SIGNALS => Some(format!(
                "Landlock of version {abi} leaves jobs free to send signals to the worker's other \
                 processes (version {SIGNALS} of Linux 6.12 does not)"
            )),
            Self::Landlock { .. } | Self::Strict { .. } => None,
        }
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Missing => f.write_str("none"),
            Self::Landlock { abi } => write!(f, "Landlock, version {abi}"),
            Self::Strict { abi, .. } => write!(f, "Landlock, version {abi}, and namespaces"),
        }
    }
}

/// The version of Landlock that this kernel enforces. A new thread tries it, because Landlock
/// confines the thread that does.
fn landlock_version() -> Option<u32> {
    let trying = std::thread::spawn(|| restrict(&[])).join();
    match trying.ok()?.ok()? {
        RestrictionStatus {
            landlock: LandlockStatus::Available { effective_abi, kernel_abi },
            ruleset: RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            ..
        } => Some(kernel_abi.map_or(effective_abi as u32, i32::cast_unsigned)),
        _ => None,
    }
}

/// Restricts the calling thread, and everything that it will start, to these grants.
pub(crate) fn restrict(grants: &[Grant]) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for grant in grants {
        // A path that has disappeared since is out of reach in any case.
        let Ok(place) = PathFd::new(&grant.path) else { continue };
        let rights = rights(grant.access, grant.path.is_dir());
        ruleset = ruleset.add_rule(PathBeneath::new(place, rights))?;
    }
    ruleset.restrict_self()
}

fn rights(access: Access, is_folder: bool) -> BitFlags<AccessFs> {
    let rights = match access {
        Access::Read => AccessFs::from_read(NEWEST),
        Access::Write => {
            let devices = AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev;
            AccessFs::from_all(NEWEST) & !devices
        }
        Access::Device => {
            AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::IoctlDev
        }
    };
    match is_folder {
        true => rights,
        false => rights & AccessFs::from_file(NEWEST),
    }
}

/// Finds bubblewrap, and checks that it works on this machine.
fn bubblewrap() -> Result<PathBuf, SandboxError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(BUBBLEWRAP));
    let bubblewrap = candidates.find(|program| program.is_file());
    let bubblewrap = bubblewrap.ok_or(SandboxError::NoBubblewrap)?;
    let mut trial = Command::new(&bubblewrap);
    trial.args([
        "--unshare-pid",
        "--unshare-ipc",
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "true",
    ]);
    let tried = program::run(trial, TRIAL_LIMIT);
    let output =
        tried.map_err(|error| SandboxError::NoNamespaces(WithCauses(&error).to_string()))?;
    match output.status.success() {
        true => Ok(bubblewrap),
        false => {
            let plain =
                output.stderr.trim().chars().filter(|c| !c.is_control()).take(300).collect();
            Err(SandboxError::NoNamespaces(plain))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confined_thread_reaches_only_granted_files() {
        let Some(abi) = landlock_version() else {
            return println!("not tested: this kernel has no Landlock");
        };
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        for path in [&own, &other] {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("file"), "text").unwrap();
        }
        let grants = [
            Grant { path: own.clone(), access: Access::Write },
            Grant { path: "/dev/null".into(), access: Access::Device },
        ];
        let confined = std::thread::spawn(move || {
            restrict(&grants).unwrap();
            assert_eq!(std::fs::read_to_string(own.join("file")).unwrap(), "text");
            std::fs::write(own.join("new"), "text").unwrap();
            std::fs::write("/dev/null", "text").unwrap();
            assert!(std::fs::read(other.join("file")).is_err());
            assert!(std::fs::write(other.join("new"), "text").is_err());
            assert!(std::fs::read_dir("/").is_err());
        });
        confined.join().unwrap();
        println!("Landlock, version {abi}");
    }

    #[test]
    fn the_sandbox_mode_decides_what_is_required() {
        assert_eq!(Sandbox::find(SandboxMode::Off).unwrap(), Sandbox::Off);
        let found = Sandbox::find(SandboxMode::Auto).unwrap();
        assert_eq!(found.confines(), landlock_version().is_some());
        for sandbox in [Sandbox::Off, Sandbox::Missing, Sandbox::Landlock { abi: 3 }] {
            assert!(sandbox.lack().is_some());
            let json = serde_json::to_string(&sandbox).unwrap();
            assert_eq!(serde_json::from_str::<Sandbox>(&json).unwrap(), sandbox);
        }
    }
}
