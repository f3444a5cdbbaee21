//! How trainers are started: confined to their job's folders, with limits.

use super::command::CommandLine;
use super::confine::Order;
use super::interpreter::places_of;
use super::limits::JobLimits;
use super::reach::{Access, Grant, Reach, ReadScope, keys_in};
use super::sandbox::Sandbox;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// This program, whichever file it was started from: that may have been replaced meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// The subcommand that confines itself and becomes the trainer.
pub const SUBCOMMAND: &str = "confine";

/// Variables that name a folder for a library's own files, and the folder in the job's private one.
/// Those in the user's home are out of reach.
const PRIVATE: &[(&str, &str)] = &[
    ("CUDA_CACHE_PATH", "cache/cuda"),
    ("HF_HOME", "cache/huggingface"),
    ("HOME", "home"),
    ("MPLCONFIGDIR", "cache/matplotlib"),
    ("NUMBA_CACHE_DIR", "cache/numba"),
    ("TMPDIR", ""),
    ("TORCHINDUCTOR_CACHE_DIR", "cache/inductor"),
    ("TRITON_CACHE_DIR", "cache/triton"),
    ("XDG_CACHE_HOME", "cache"),
    ("XDG_CONFIG_HOME", "home/.config"),
    ("XDG_DATA_HOME", "home/.local/share"),
    ("XDG_RUNTIME_DIR", "run"),
];

/// How the processes of a job are confined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// What confines them.
    pub sandbox: Sandbox,
    /// The most that they may take.
    pub limits: JobLimits,
    /// Further files and folders that they may read.
    pub read: Vec<PathBuf>,
    /// Further files and folders that they may also write.
    pub write: Vec<PathBuf>,
    /// What no job sees, wherever it lies: the worker's state.
    pub hidden: Vec<PathBuf>,
    /// The user's home, which a job sees only where its trainer works in no narrower scope.
    #[serde(default)]
    pub home: Option<PathBuf>,
    /// How much more than its list a trainer reads.
    #[serde(default)]
    pub scope: ReadScope,
}

/// Where a trainer works.
#[derive(Debug)]
pub struct Workplace {
    /// Its working folder, which it may change.
    pub folder: PathBuf,
    /// A folder for temporary files, caches and a home, which nobody else has.
    pub private: PathBuf,
    /// What else it may read: models made before, shared storage.
    pub read: Vec<PathBuf>,
    /// What else it may change: results, when the paths in them are.
    pub write: Vec<PathBuf>,
    /// Where the order is written, out of the job's reach.
    pub order: PathBuf,
    /// Whether it may use the GPU driver's devices.
    pub has_gpus: bool,
}

impl Confinement {
    /// One word for what confines jobs, for the room.
    pub fn word(&self) -> &'static str {
        match (&self.sandbox, self.scope) {
            (Sandbox::Landlock { .. }, ReadScope::Disk) => "landlock-disk",
            (Sandbox::Landlock { .. }, ReadScope::Home) => "landlock-home",
            (sandbox, _) => sandbox.word(),
        }
    }

    /// The command that starts a trainer with these variables, confined.
    pub async fn command(
        &self,
        line: &CommandLine,
        place: &Workplace,
        variables: &[(OsString, OsString)],
    ) -> io::Result<Command> {
        let grants = match self.sandbox.confines() {
            true => Some(self.grants(line, place, variables).await),
            false => None,
        };
        let order = Order { limits: self.limits, grants };
        std::fs::write(&place.order, serde_json::to_vec(&order)?)?;
        let mut command = match &self.sandbox {
            Sandbox::Strict { program, .. } => {
                let this = std::env::current_exe()?;
                let mut command = Command::new(program);
                command.args(namespaces(order.grants.as_deref().unwrap_or_default(), place, &this));
                command.arg(this);
                command
            }
            Sandbox::Off | Sandbox::Missing | Sandbox::Landlock { .. } => {
                Command::new(THIS_PROGRAM)
            }
        };
        command
            .arg(SUBCOMMAND)
            .arg(&place.order)
            .arg("--")
            .arg(&line.program)
            .args(&line.arguments);
        command.current_dir(&place.folder).env_clear().envs(self.variables(place, variables)?);
        Ok(command)
    }

    async fn grants(
        &self,
        line: &CommandLine,
        place: &Workplace,
        variables: &[(OsString, OsString)],
    ) -> Vec<Grant> {
        let mut reach = Reach::system(self.out_of_sight(), place.has_gpus);
        for path in places_of(&line.program, &line.arguments, variables).await {
            reach.read(&path);
        }
        for path in self.read.iter().chain(&place.read) {
            reach.read(path);
        }
        reach.widen(self.scope);
        for path in self.write.iter().chain(&place.write).chain([&place.folder, &place.private]) {
            reach.write(path);
        }
        reach.into_grants()
    }

    /// The worker's state, and the user's home or the keys in it.
    fn out_of_sight(&self) -> Vec<PathBuf> {
        let mut hidden = self.hidden.clone();
        match (&self.home, self.scope) {
            (Some(home), ReadScope::Home) => hidden.extend(keys_in(home)),
            (Some(home), _) => hidden.push(home.clone()),
            (None, _) => {}
        }
        hidden
    }

    /// The variables, with those that lead into the home changed to lead into the private folder.
    fn variables(
        &self,
        place: &Workplace,
        variables: &[(OsString, OsString)],
    ) -> io::Result<Vec<(OsString, OsString)>> {
        let mut changed = variables.to_vec();
        let value = |name: &str| {
            variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let mut set = |name: &str, value: &OsStr| {
            changed.retain(|(known, _)| known != name);
            changed.push((name.into(), value.to_owned()));
        };
        let packages = value("HOME").map(|home| Path::new(&home).join(".local"));
        for (name, folder) in PRIVATE {
            let folder = match folder.is_empty() {
                true => place.private.clone(),
                false => place.private.join(folder),
            };
            let is_kept = *name == "HF_HOME" && value(name).is_some();
            if *name == "TMPDIR" || (self.sandbox.confines() && !is_kept) {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
                set(name, folder.as_os_str());
            }
        }
        // Python looks for packages of the user's own below the home, which is another one now.
        if let Some(packages) = packages
            && self.sandbox.confines()
            && value("PYTHONUSERBASE").is_none()
        {
            set("PYTHONUSERBASE", packages.as_os_str());
        }
        Ok(changed)
    }
}

/// Arguments for bubblewrap: a file system of what is on the list, processes of the job's own, and a
/// temporary `/dev/shm`.
fn namespaces(grants: &[Grant], place: &Workplace, this: &Path) -> Vec<OsString> {
    const WORDS: &[&str] = &[
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--die-with-parent",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/dev/shm",
    ];
    // Made by bubblewrap for these processes alone.
    let own = |path: &Path| {
        ["/proc", "/dev/shm", "/dev/pts", "/dev/ptmx", "/dev/tty"]
            .iter()
            .any(|own| path == Path::new(own))
    };
    let mut arguments: Vec<OsString> = WORDS.iter().map(Into::into).collect();
    let mut bind = |option: &str, path: &Path| {
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        // As it is written, and where links in it lead.
        for at in [place.as_path(), path] {
            arguments.extend([option.into(), place.clone().into(), at.into()]);
        }
    };
    let mut sorted: Vec<&Grant> = grants.iter().filter(|grant| !own(&grant.path)).collect();
    // A folder before what lies in it.
    sorted.sort_by_key(|grant| grant.path.components().count());
    for grant in sorted {
        match grant.access {
            Access::Read => bind("--ro-bind-try", &grant.path),
            Access::Write => bind("--bind-try", &grant.path),
            Access::Device => bind("--dev-bind-try", &grant.path),
        }
    }
    bind("--ro-bind", this);
    bind("--ro-bind", &place.order);
    arguments.extend(["--chdir".into(), place.folder.clone().into(), "--".into()]);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confinement(sandbox: Sandbox) -> Confinement {
        Confinement {
            sandbox,
            limits: JobLimits::default(),
            read: Vec::new(),
            write: Vec::new(),
            hidden: Vec::new(),
            home: None,
            scope: ReadScope::Listed,
        }
    }

    #[test]
    fn what_libraries_keep_in_a_home_goes_to_the_private_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let place = Workplace {
            folder: path("files"),
            private: path("private"),
            read: Vec::new(),
            write: Vec::new(),
            order: path("order"),
            has_gpus: false,
        };
        let given = [("HOME", "/home/ada"), ("PATH", "/bin"), ("TMPDIR", "/scratch")];
        let given = given.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let value = |sandbox, name: &str| {
            let changed = confinement(sandbox).variables(&place, &given).unwrap();
            let found = changed.into_iter().find(|(known, _)| known == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        let confined = || Sandbox::Landlock { abi: 6 };
        assert_eq!(value(confined(), "HOME"), Some(path("private/home")));
        assert_eq!(value(confined(), "PYTHONUSERBASE"), Some("/home/ada/.local".into()));
        assert_eq!(value(confined(), "PATH"), Some("/bin".into()));
        assert!(path("private/cache/matplotlib").is_dir());
        assert_eq!(value(Sandbox::Off, "HOME"), Some("/home/ada".into()));
        assert_eq!(value(Sandbox::Off, "TMPDIR"), Some(path("private")));
    }
}
