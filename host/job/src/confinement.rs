//! Starts trainers confined to their job's folders, with limits.

use super::command::CommandLine;
use super::confine::ConfinementSpec;
use super::grants::{Access, Grant, GrantSet, ReadScope, keys_in};
use super::interpreter::places_of;
use super::limits::JobLimits;
use super::sandbox::Sandbox;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// This program. The link stays valid even if the program's file has been replaced since the start.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// The subcommand that confines itself and executes the trainer.
pub const SUBCOMMAND: &str = "confine";

/// Variables that name folders for the files of libraries, and the replacement in the job's private
/// folder. The user's home is out of reach.
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
    /// The limits of each job.
    pub limits: JobLimits,
    /// Files and folders that every job may read.
    pub read: Vec<PathBuf>,
    /// Files and folders that every job may read and change.
    pub write: Vec<PathBuf>,
    /// What no job can reach, even within a folder that it can: the worker's state.
    pub hidden: Vec<PathBuf>,
    /// The user's home, which jobs can reach only if their trainer needs the widest scope.
    #[serde(default)]
    pub home: Option<PathBuf>,
    /// The scope of files that a trainer can read in addition to its grants.
    #[serde(default)]
    pub scope: ReadScope,
}

/// The folders of one trainer.
#[derive(Debug)]
pub struct TrainerDirs {
    /// The working folder, which the trainer may change.
    pub folder: PathBuf,
    /// A folder for the trainer's temporary files, caches and home, which no other job can enter.
    pub private: PathBuf,
    /// Further files that it may read: models of earlier runs, shared storage.
    pub read: Vec<PathBuf>,
    /// Further files that it may change: results whose video paths are renamed.
    pub write: Vec<PathBuf>,
    /// Where the confinement is recorded, out of the job's reach.
    pub confinement_file: PathBuf,
    /// Whether the trainer may use the devices of the GPU driver.
    pub has_gpus: bool,
}

impl Confinement {
    /// One word for the worker's entry in the room.
    pub fn word(&self) -> &'static str {
        match (&self.sandbox, self.scope) {
            (Sandbox::Landlock { .. }, ReadScope::Disk) => "landlock-disk",
            (Sandbox::Landlock { .. }, ReadScope::Home) => "landlock-home",
            (sandbox, _) => sandbox.word(),
        }
    }

    /// The command that starts a confined trainer with these variables.
    pub async fn command(
        &self,
        line: &CommandLine,
        place: &TrainerDirs,
        variables: &[(OsString, OsString)],
        files: &[PathBuf],
    ) -> io::Result<Command> {
        let grants = match self.sandbox.confines() {
            true => Some(self.grants(line, place, variables, files).await),
            false => None,
        };
        let spec = ConfinementSpec { limits: self.limits, grants };
        std::fs::write(&place.confinement_file, serde_json::to_vec(&spec)?)?;
        let mut command = match &self.sandbox {
            Sandbox::Strict { program, .. } => {
                let this = std::env::current_exe()?;
                let mut command = Command::new(program);
                command.args(namespaces(spec.grants.as_deref().unwrap_or_default(), place, &this));
                command.arg(this);
                command
            }
            Sandbox::Off | Sandbox::Missing | Sandbox::Landlock { .. } => {
                Command::new(THIS_PROGRAM)
            }
        };
        command
            .arg(SUBCOMMAND)
            .arg(&place.confinement_file)
            .arg("--")
            .arg(&line.program)
            .args(&line.arguments);
        command.current_dir(&place.folder).env_clear().envs(self.variables(place, variables)?);
        Ok(command)
    }

    async fn grants(
        &self,
        line: &CommandLine,
        place: &TrainerDirs,
        variables: &[(OsString, OsString)],
        files: &[PathBuf],
    ) -> Vec<Grant> {
        let mut grants = GrantSet::system(self.hidden_paths(), place.has_gpus);
        for path in places_of(&line.program, &line.arguments, variables).await {
            grants.read(&path);
        }
        for path in self.read.iter().chain(&place.read) {
            grants.read(path);
        }
        for path in files {
            grants.use_file(path);
        }
        grants.widen(self.scope);
        for path in self.write.iter().chain(&place.write).chain([&place.folder, &place.private]) {
            grants.write(path);
        }
        grants.into_grants()
    }

    /// The hidden paths: the worker's state, and the user's home or the keys in it.
    fn hidden_paths(&self) -> Vec<PathBuf> {
        let mut hidden = self.hidden.clone();
        match (&self.home, self.scope) {
            (Some(home), ReadScope::Home) => hidden.extend(keys_in(home)),
            (Some(home), _) => hidden.push(home.clone()),
            (None, _) => {}
        }
        hidden
    }

    /// `variables`, with those that lead into the home replaced by folders in the private one.
    fn variables(
        &self,
        place: &TrainerDirs,
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
        // Python looks for the user's own packages in the home, which has been replaced.
        if let Some(packages) = packages
            && self.sandbox.confines()
            && value("PYTHONUSERBASE").is_none()
        {
            set("PYTHONUSERBASE", packages.as_os_str());
        }
        Ok(changed)
    }
}

/// Arguments for bubblewrap: a file system that contains only the grants, namespaces for the job's
/// processes, and a temporary `/dev/shm`.
fn namespaces(grants: &[Grant], place: &TrainerDirs, this: &Path) -> Vec<OsString> {
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
    let mut arguments: Vec<OsString> = WORDS.iter().map(Into::into).collect();
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut bind = |option: &str, path: &Path| {
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        // The path to which its links lead, and the path as it is written. A link in a folder that is
        // there already is there too, and nothing can be mounted on it.
        let is_there = folders.iter().any(|folder| path.starts_with(folder));
        let written = (place != path && !is_there).then_some(path);
        for at in std::iter::once(place.as_path()).chain(written) {
            arguments.extend([option.into(), place.clone().into(), at.into()]);
        }
        folders.push(place);
        folders.extend(written.map(Path::to_owned));
    };
    for grant in mounts(grants) {
        match grant.access {
            Access::Read => bind("--ro-bind-try", &grant.path),
            Access::Write => bind("--bind-try", &grant.path),
            Access::Device => bind("--dev-bind-try", &grant.path),
        }
    }
    bind("--ro-bind", this);
    bind("--ro-bind", &place.confinement_file);
    arguments.extend(["--chdir".into(), place.folder.clone().into(), "--".into()]);
    arguments
}

/// What is mounted for these grants, a folder before its content.
fn mounts(grants: &[Grant]) -> Vec<&Grant> {
    // Bubblewrap creates these for the new namespaces.
    const OWN: [&str; 5] = ["/proc", "/dev/shm", "/dev/pts", "/dev/ptmx", "/dev/tty"];
    // Rights add up, so what lies in a folder that may be changed is not mounted again: it could no longer be
    // replaced.
    let writable: Vec<PathBuf> = grants
        .iter()
        .filter(|grant| grant.access == Access::Write)
        .filter_map(|grant| grant.path.canonicalize().ok())
        .collect();
    let is_writable = |place: PathBuf| writable.iter().any(|folder| place.starts_with(folder));
    let is_covered = |grant: &Grant| {
        grant.access == Access::Read && grant.path.canonicalize().is_ok_and(is_writable)
    };
    let is_own = |path: &Path| OWN.iter().any(|own| path == Path::new(own));
    let is_mounted = |grant: &&Grant| !is_own(&grant.path) && !is_covered(grant);
    let mut mounts: Vec<&Grant> = grants.iter().filter(is_mounted).collect();
    mounts.sort_by_key(|grant| grant.path.components().count());
    mounts
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
    fn library_folders_move_to_the_private_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let place = TrainerDirs {
            folder: path("files"),
            private: path("private"),
            read: Vec::new(),
            write: Vec::new(),
            confinement_file: path("confinement"),
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

    #[test]
    fn a_link_in_a_folder_of_the_namespace_is_not_mounted_again() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        let (bin, tool) = (home.join("bin"), home.join("tools/uv/bin/sleap-nn"));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(tool.parent().unwrap()).unwrap();
        std::fs::write(&tool, "").unwrap();
        let link = bin.join("sleap-nn");
        std::os::unix::fs::symlink(&tool, &link).unwrap();
        let place = TrainerDirs {
            folder: home.clone(),
            private: home.clone(),
            read: Vec::new(),
            write: Vec::new(),
            confinement_file: home.join("confinement"),
            has_gpus: false,
        };
        let mounted = |paths: &[&PathBuf]| {
            let grant = |path: &&PathBuf| Grant { path: (*path).clone(), access: Access::Read };
            let grants: Vec<Grant> = paths.iter().map(grant).collect();
            namespaces(&grants, &place, Path::new("/usr/bin/env"))
        };
        // In a folder that is mounted, the link leads to what is mounted where it leads.
        let both = mounted(&[&bin, &link]);
        assert!(both.contains(&tool.clone().into()) && !both.contains(&link.clone().into()));
        let alone = mounted(&[&link]);
        assert!(alone.contains(&link.into()), "{alone:?}");
        // In a folder that may be changed, a file that is named as well could no longer be replaced.
        let may = |path: &Path, access| Grant { path: path.to_owned(), access };
        let grants = [may(&home.join("tools"), Access::Write), may(&tool, Access::Read)];
        let both = namespaces(&grants, &place, Path::new("/usr/bin/env"));
        assert!(!both.contains(&tool.clone().into()), "{both:?}");
    }
}
