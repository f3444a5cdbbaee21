//! What a job's processes can reach of the file system: the list.
//!
//! Rights add up, and a right to a folder is one to all that is below it. So a folder that holds
//! something hidden, such as the worker's state, is never on the list itself: what lies beside the
//! hidden part is.

use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The system: programs, libraries, and what they look at while they start.
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
    // Processors, memory, PCI devices, this process. Other processes' memory and environment stay
    // closed: the kernel lets a confined process look only into its own kind.
    "/proc",
    "/sys",
    // Names of hosts, where systemd resolves them.
    "/run/systemd/resolve",
    "/run/nvidia-persistenced",
    "/var/cache/fontconfig",
    "/var/lib/ca-certificates",
];

/// Of `/etc` only what programs look at: neither passwords nor keys of the machine.
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
/// Where processes share memory: PyTorch's loaders hand each other pictures there.
const SHARED_MEMORY: &str = "/dev/shm";
/// The GPU driver's devices. CUDA looks at all of them before it chooses by `CUDA_VISIBLE_DEVICES`.
const GPU_DEVICES: &[&str] = &["nvidia", "dri", "kfd"];
/// A folder with more entries than this is not taken apart.
const MAX_ENTRIES: usize = 4096;

/// Folders at the top of the disk that [`ReadScope::Disk`] leaves out. The list of the system has what
/// programs need of `/etc`, `/run` and `/var`; the kernel's file systems are no disks.
const NOT_DISK: &[&str] = &["dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "var"];
/// Of those, the ones that [`ReadScope::Home`] adds.
const HOMES: &[&str] = &["/home", "/root", "/tmp", "/var"];
/// Keys, tokens and records in a home. No job reads them, whatever its trainer needs of the home.
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

/// How much of the machine a trainer reads, besides the system and what it is seen to be made of.
///
/// A trainer may be a wrapper around programs that nothing names. Where it does not work with the list
/// alone, jobs get the narrowest scope in which it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadScope {
    /// Nothing more.
    #[default]
    Listed,
    /// All disks, without homes, temporary files and the system's own data.
    Disk,
    /// All disks, without the worker's state and the keys in the user's home.
    Home,
}

/// What may be done with a file, or with all that is in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read, listed, executed.
    Read,
    /// Also written, made and removed, devices aside.
    Write,
    /// Read, written and controlled, as devices are.
    Device,
}

impl ReadScope {
    /// What jobs can read besides the list, as a sentence; nothing in the narrowest scope.
    pub fn explain(self) -> Option<&'static str> {
        match self {
            Self::Listed => None,
            Self::Disk => Some(
                "the trainer needs files that the worker does not know of, so jobs can read all disks but \
                 for homes, temporary files and the system's own data",
            ),
            Self::Home => Some(
                "the trainer needs files that the worker does not know of, so jobs can read everything but \
                 for the worker's state and the keys in its user's home",
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
pub struct Reach {
    grants: Vec<Grant>,
    /// Never within a folder on the list, unless it is on the list itself.
    hidden: Vec<PathBuf>,
}

impl Reach {
    /// What every job can reach. It reads nothing in the places in `hidden`.
    pub fn system(hidden: impl IntoIterator<Item = PathBuf>, has_gpus: bool) -> Self {
        let hidden = hidden.into_iter().filter_map(|path| path.canonicalize().ok());
        // Users of services often have one of these as their home.
        let is_own = |path: &PathBuf| path.components().count() > 2 || !is_system(path);
        let mut reach = Self { grants: Vec::new(), hidden: hidden.filter(is_own).collect() };
        for path in SYSTEM {
            reach.read(Path::new(path));
        }
        for name in ETC {
            reach.read(&Path::new("/etc").join(name));
        }
        for path in DEVICES {
            reach.grant(Path::new(path), Access::Device);
        }
        reach.grant(Path::new(SHARED_MEMORY), Access::Write);
        if has_gpus {
            let devices = std::fs::read_dir("/dev").into_iter().flatten().flatten();
            let is_gpu = |name: &OsStr| {
                name.to_str().is_some_and(|name| GPU_DEVICES.iter().any(|d| name.starts_with(d)))
            };
            for device in devices.filter(|device| is_gpu(&device.file_name())) {
                reach.grant(&device.path(), Access::Device);
            }
        }
        reach
    }

    /// Lets jobs read a file, or all that is in a folder but for what is hidden. What is not there
    /// is passed over.
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
            // Where it leads is another place, with its own rights.
            if !entry.is_symlink() && !self.hidden.contains(&entry) {
                self.read(&entry);
            }
        }
    }

    /// Lets jobs read what a wider scope adds.
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

    /// Lets jobs write there, whatever lies around it.
    pub fn write(&mut self, path: &Path) {
        self.grant(path, Access::Write);
    }

    fn grant(&mut self, path: &Path, access: Access) {
        let covers = |grant: &Grant| grant.access == access && path.starts_with(&grant.path);
        if path.is_absolute() && path.exists() && !self.grants.iter().any(covers) {
            self.grants.push(Grant { path: path.to_owned(), access });
        }
    }

    /// The list.
    pub fn into_grants(self) -> Vec<Grant> {
        self.grants
    }
}

/// The places in a home that hold keys.
pub fn keys_in(home: &Path) -> impl Iterator<Item = PathBuf> {
    KEYS.iter().map(|name| home.join(name))
}

fn is_system(path: &Path) -> bool {
    path == Path::new("/") || SYSTEM.iter().any(|system| path == Path::new(system))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(reach: Reach) -> Vec<PathBuf> {
        reach.into_grants().into_iter().map(|grant| grant.path).collect()
    }

    #[test]
    fn what_lies_beside_the_hidden_part_can_be_read_and_the_hidden_part_cannot() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        for folder in ["env/lib", "share/state/jobs", "share/fonts"] {
            std::fs::create_dir_all(top.join(folder)).unwrap();
        }
        std::fs::write(top.join("note"), "").unwrap();
        std::os::unix::fs::symlink(top.join("share"), top.join("link")).unwrap();
        let state = top.join("share/state");
        let mut reach = Reach { grants: Vec::new(), hidden: vec![state.clone()] };
        reach.read(&top);
        let mut found = paths(reach.clone());
        found.sort();
        assert_eq!(found, ["env", "note", "share/fonts"].map(|name| top.join(name)));
        // A job's own folder lies in the hidden part and is named.
        reach.write(&state.join("jobs"));
        reach.read(&state);
        reach.read(&top.join("not/there"));
        reach.read(Path::new("/"));
        assert_eq!(paths(reach).len(), 4);
    }

    #[test]
    fn a_wider_scope_adds_disks_and_then_homes_and_never_the_hidden_part() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        for folder in ["state/jobs", "tools"] {
            std::fs::create_dir_all(top.join(folder)).unwrap();
        }
        let granted = |scope| {
            let mut reach = Reach::system([top.join("state")], false);
            reach.widen(scope);
            let grants = reach.into_grants();
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
        let reach = Reach::system([PathBuf::from("/")], false);
        assert!(reach.hidden.is_empty());
        let found = paths(reach);
        assert!(found.contains(&"/usr".into()) && found.contains(&"/dev/null".into()), "{found:?}");
        assert!(!found.iter().any(|path| path.starts_with("/etc/shadow")));
        assert!(!found.iter().any(|path| path.to_string_lossy().contains("nvidia0")));
    }
}
