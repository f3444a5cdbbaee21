//! Decides which files a job's processes can reach.
//!
//! Rights add up, and a right to a folder covers everything in it. So a folder that contains something
//! hidden, such as the worker's state, is never granted as a whole. Its other entries are granted one
//! by one.

use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The system: programs, libraries, and the files that they read while they start.
const SYSTEM: &[&str] = &[
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/sbin",
    "/usr",
    "/opt",
    // Systems that keep their programs elsewhere.
    "/gnu/store",
    "/nix/store",
    "/run/current-system",
    "/run/opengl-driver",
    "/snap",
    // Processors, memory, PCI devices and this process. The memory and environment of other
    // processes stay closed, because the kernel lets a confined process inspect only processes with
    // the same confinement.
    "/proc",
    "/sys",
    // Host names, if systemd resolves them.
    "/run/systemd/resolve",
    "/run/nvidia-persistenced",
    "/var/cache/fontconfig",
    "/var/lib/ca-certificates",
];

/// The parts of `/etc` that programs read. Passwords and the machine's keys are not among them.
const ETC: &[&str] = &[
    "OpenCL",
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "environment-modules",
    "fonts",
    "gai.conf",
    "glvnd",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld.so.preload",
    "localtime",
    "locale.alias",
    "matplotlibrc",
    "mime.types",
    "nsswitch.conf",
    "nvidia",
    "os-release",
    "passwd",
    "pki/ca-trust",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "pki/tls/openssl.cnf",
    "protocols",
    "python3",
    "resolv.conf",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
    "vulkan",
];

/// Devices that every program may use.
const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];
/// Where processes share memory. PyTorch's loaders pass pictures through it.
const SHARED_MEMORY: &str = "/dev/shm";
/// The devices of GPU drivers. CUDA opens all of them before it selects by `CUDA_VISIBLE_DEVICES`.
const GPU_DEVICES: &[&str] = &["nvidia", "dri", "kfd"];
/// A folder with more entries than this is not granted entry by entry.
const MAX_ENTRIES: usize = 4096;

/// Folders at the top of the disk that [`ReadScope::Disk`] leaves out. [`SYSTEM`] and [`ETC`] contain
/// what programs need of `/etc`, `/run` and `/var`. The others are private or belong to the kernel.
const NOT_DISK: &[&str] = &["dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "var"];
/// Folders that [`ReadScope::Home`] adds.
const HOMES: &[&str] = &["/home", "/root", "/tmp", "/var"];
/// Keys, tokens and histories in a home, which no job can read.
const KEYS: &[&str] = &[
    ".aws",
    ".azure",
    ".bash_history",
    ".config/gcloud",
    ".config/gh",
    ".config/google-chrome",
    ".config/rclone",
    ".config/sleap-rtc",
    ".docker",
    ".git-credentials",
    ".gnupg",
    ".kube",
    ".local/share/keyrings",
    ".local/share/sleap-rtc",
    ".mozilla",
    ".netrc",
    ".password-store",
    ".pgpass",
    ".python_history",
    ".sleap-rtc",
    ".ssh",
    ".zsh_history",
];

/// The files that a trainer can read in addition to the system and its own parts.
///
/// A trainer may be a wrapper around programs that the worker cannot find. If it does not work with its
/// grants alone, jobs get the narrowest scope in which it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadScope {
    /// Nothing else.
    #[default]
    Listed,
    /// All disks, without homes, temporary files and the system's own data.
    Disk,
    /// All disks, without the worker's state and the keys in the user's home.
    Home,
}

/// What a job may do with a file, or with everything in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read, list and execute.
    Read,
    /// Read, and also write, create and remove, except for devices.
    Write,
    /// Read, write and control, as devices need.
    Device,
}

impl ReadScope {
    /// A sentence about the additional files, or `None` in the narrowest scope.
    pub fn explain(self) -> Option<&'static str> {
        match self {
            Self::Listed => None,
            Self::Disk => Some(
                "the trainer needs files that the worker does not know, so jobs can read all disks except \
                 homes, temporary files and the system's own data",
            ),
            Self::Home => Some(
                "the trainer needs files that the worker does not know, so jobs can read everything except \
                 the worker's state and the keys in its user's home",
            ),
        }
    }
}

/// A right to one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// An absolute path that exists.
    pub path: PathBuf,
    /// What may be done there.
    pub access: Access,
}

/// The rights of one job.
#[derive(Debug, Clone)]
pub struct GrantSet {
    grants: Vec<Grant>,
    /// No grant includes these, unless the grant itself is within one of them.
    hidden: Vec<PathBuf>,
}

impl GrantSet {
    /// The rights of every job, which exclude the `hidden` paths.
    pub fn system(hidden: impl IntoIterator<Item = PathBuf>, has_gpus: bool) -> Self {
        let hidden = hidden.into_iter().filter_map(|path| path.canonicalize().ok());
        // Users of services often have one of these as their home.
        let is_own = |path: &PathBuf| path.components().count() > 2 || !is_system(path);
        let mut grants = Self { grants: Vec::new(), hidden: hidden.filter(is_own).collect() };
        for path in SYSTEM {
            grants.read(Path::new(path));
        }
        for name in ETC {
            grants.read(&Path::new("/etc").join(name));
        }
        for path in DEVICES {
            grants.grant(Path::new(path), Access::Device);
        }
        grants.grant(Path::new(SHARED_MEMORY), Access::Write);
        if has_gpus {
            let devices = std::fs::read_dir("/dev").into_iter().flatten().flatten();
            let is_gpu = |name: &OsStr| {
                name.to_str().is_some_and(|name| GPU_DEVICES.iter().any(|d| name.starts_with(d)))
            };
            for device in devices.filter(|device| is_gpu(&device.file_name())) {
                grants.grant(&device.path(), Access::Device);
            }
        }
        grants
    }

    /// Lets jobs read a file, or everything in a folder that is not hidden. Ignores paths that do
    /// not exist.
    pub fn read(&mut self, path: &Path) {
        let Ok(place) = path.canonicalize() else { return };
        if place == Path::new("/") || self.hidden.contains(&place) {
            return;
        }
        if !self.hidden.iter().any(|hidden| hidden.starts_with(&place)) {
            self.grant(path, Access::Read);
            return;
        }
        let beside = std::fs::read_dir(&place).into_iter().flatten().flatten().take(MAX_ENTRIES);
        for entry in beside.map(|entry| entry.path()) {
            // The target of a link is another place, with rights of its own.
            if !entry.is_symlink() && !self.hidden.contains(&entry) {
                self.read(&entry);
            }
        }
    }

    /// Lets jobs read the additional files of `scope`.
    pub fn widen(&mut self, scope: ReadScope) {
        if scope >= ReadScope::Disk {
            let top = std::fs::read_dir("/").into_iter().flatten().flatten();
            let is_disk = |name: &OsStr| !NOT_DISK.iter().any(|other| name == *other);
            for entry in top.filter(|entry| is_disk(&entry.file_name())) {
                self.read(&entry.path());
            }
        }
        if scope == ReadScope::Home {
            for folder in HOMES {
                self.read(Path::new(folder));
            }
        }
    }

    /// Lets jobs write to a path, even within a hidden folder.
    pub fn write(&mut self, path: &Path) {
        self.grant(path, Access::Write);
    }

    /// Lets jobs read and write a file, unless it is hidden. A folder or a missing file is ignored.
    pub fn use_file(&mut self, path: &Path) {
        let Ok(file) = path.canonicalize() else { return };
        if file.is_file() && !self.hidden.iter().any(|hidden| file.starts_with(hidden)) {
            self.grant(path, Access::Write);
        }
    }

    fn grant(&mut self, path: &Path, access: Access) {
        let covers = |grant: &Grant| grant.access == access && path.starts_with(&grant.path);
        if path.is_absolute() && path.exists() && !self.grants.iter().any(covers) {
            self.grants.push(Grant { path: path.to_owned(), access });
        }
    }

    pub fn into_grants(self) -> Vec<Grant> {
        self.grants
    }
}

/// The paths in a home that contain keys.
pub fn keys_in(home: &Path) -> impl Iterator<Item = PathBuf> {
    KEYS.iter().map(|name| home.join(name))
}

fn is_system(path: &Path) -> bool {
    path == Path::new("/") || SYSTEM.iter().any(|system| path == Path::new(system))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(grants: GrantSet) -> Vec<PathBuf> {
        grants.into_grants().into_iter().map(|grant| grant.path).collect()
    }

    #[test]
    fn siblings_of_hidden_folders_are_readable() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        for folder in ["env/lib", "share/state/jobs", "share/fonts"] {
            std::fs::create_dir_all(top.join(folder)).unwrap();
        }
        std::fs::write(top.join("note"), "").unwrap();
        std::os::unix::fs::symlink(top.join("share"), top.join("link")).unwrap();
        let state = top.join("share/state");
        let mut grants = GrantSet { grants: Vec::new(), hidden: vec![state.clone()] };
        grants.read(&top);
        let mut found = paths(grants.clone());
        found.sort();
        assert_eq!(found, ["env", "note", "share/fonts"].map(|name| top.join(name)));
        // A job's own folder is within the hidden part, and is granted by name.
        grants.write(&state.join("jobs"));
        grants.read(&state);
        grants.read(&top.join("not/there"));
        grants.read(Path::new("/"));
        assert_eq!(paths(grants).len(), 4);
    }

    #[test]
    fn wider_scopes_add_disks_and_homes_but_no_hidden_folder() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        for folder in ["state/jobs", "tools"] {
            std::fs::create_dir_all(top.join(folder)).unwrap();
        }
        let granted = |scope| {
            let mut grants = GrantSet::system([top.join("state")], false);
            grants.widen(scope);
            let grants = grants.into_grants();
            move |path: &Path| grants.iter().any(|grant| path.starts_with(&grant.path))
        };
        let (tools, jobs) = (top.join("tools"), top.join("state/jobs"));
        assert!(tools.starts_with("/tmp"), "this test expects its folder in /tmp, not in {top:?}");
        assert!(!granted(ReadScope::Listed)(&tools) && !granted(ReadScope::Disk)(&tools));
        assert!(granted(ReadScope::Home)(&tools));
        for scope in [ReadScope::Listed, ReadScope::Disk, ReadScope::Home] {
            let reads = granted(scope);
            assert!(!reads(&jobs) && !reads(Path::new("/etc/shadow")), "{scope:?}");
        }
    }

    #[test]
    fn a_job_without_gpus_has_no_device_of_the_driver() {
        let grants = GrantSet::system([PathBuf::from("/")], false);
        assert!(grants.hidden.is_empty());
        let found = paths(grants);
        assert!(found.contains(&"/usr".into()) && found.contains(&"/dev/null".into()), "{found:?}");
        assert!(!found.iter().any(|path| path.starts_with("/etc/shadow")));
        assert!(!found.iter().any(|path| path.to_string_lossy().contains("nvidia0")));
    }
}
