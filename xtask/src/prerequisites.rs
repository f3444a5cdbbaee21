//! Installs what a task needs. If that requires rights that the user does not have, the error contains the
//! command to run.

use crate::programs::{call, find, root, works};
use anyhow::{Result, bail, ensure};
use std::{env, path::Path, process::Command};

/// Something that a task needs.
#[derive(Clone, Copy)]
struct Need {
    /// Its name, for people.
    what: &'static str,
    there: fn() -> bool,
    /// Debian's packages that contain it.
    packages: &'static [&'static str],
    /// How to install it on other systems.
    otherwise: &'static str,
}

const COMPILERS: &[Need] = &[
    Need {
        what: "a C compiler (`cc`)",
        there: || find("cc").is_some(),
        packages: &["gcc", "libc6-dev"],
        otherwise: "install gcc or clang",
    },
    Need {
        what: "a C++ compiler (`c++`)",
        there: || find("c++").is_some(),
        packages: &["g++"],
        otherwise: "install g++ or clang",
    },
    Need {
        what: "`make`, with which the allocator is built",
        there: || find("make").is_some(),
        packages: &["make"],
        otherwise: "install GNU make",
    },
];

const PYTHON: &[Need] = &[Need {
    what: "Python 3.11 or newer with the module `venv` (`python3`)",
    there: || {
        let check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
        works("python3", &["-c", check])
    },
    packages: &["python3", "python3-venv"],
    otherwise: "install Python 3.11 so that `python3` is it",
}];

/// For real sleap-nn on a CPU. Its video library needs two graphics libraries, and the stubs that
/// replace CUDA are made from the output of `nm` and `objdump`.
const SLEAP_NN: &[Need] = &[
    Need {
        what: "Python 3.11 (`python3.11`), which the pinned packages of sleap-nn are for",
        there: || works("python3.11", &["-c", "import venv, ensurepip"]),
        packages: &["python3.11", "python3.11-venv"],
        otherwise: "install Python 3.11, or sleap-nn itself so that it is on PATH",
    },
    Need {
        what: "binutils (`nm` and `objdump`)",
        there: || find("nm").is_some() && find("objdump").is_some(),
        packages: &["binutils"],
        otherwise: "install binutils",
    },
    Need {
        what: "the libraries libEGL.so.1 and libGL.so.1",
        there: || {
            let load = "import ctypes; ctypes.CDLL('libEGL.so.1'); ctypes.CDLL('libGL.so.1')";
            works("python3", &["-c", load])
        },
        packages: &["libegl1", "libgl1"],
        otherwise: "install the graphics libraries of your system (no GPU is needed)",
    },
];

/// For tests and measurements that cut networks.
const IPROUTE: Need = Need {
    what: "iproute2 (`ip`)",
    there: || find("ip").is_some(),
    packages: &["iproute2"],
    otherwise: "install iproute2",
};

/// For the tests of networks and of the relay.
const NETWORKS: &[Need] = &[
    IPROUTE,
    Need {
        what: "nftables (`nft`)",
        there: || find("nft").is_some(),
        packages: &["nftables"],
        otherwise: "install nftables",
    },
    Need {
        what: "coturn (`turnserver`), the TURN server of the tests",
        there: || find("turnserver").is_some(),
        packages: &["coturn"],
        otherwise: "install coturn",
    },
];

/// For the tests that change what a program finds on its machine. Without them these tests say that they
/// did not run.
const CONDITIONS: &[Need] = &[
    Need {
        what: "strace",
        there: || find("strace").is_some(),
        packages: &["strace"],
        otherwise: "install strace",
    },
    Need {
        what: "bubblewrap (`bwrap`)",
        there: || find("bwrap").is_some(),
        packages: &["bubblewrap"],
        otherwise: "install bubblewrap",
    },
    Need {
        what: "btrfs-progs (`mkfs.btrfs`), whose quotas tests use",
        there: || find("mkfs.btrfs").is_some(),
        packages: &["btrfs-progs"],
        otherwise: "install btrfs-progs",
    },
    Need {
        what: "D-Bus (`dbus-daemon`, `dbus-monitor`)",
        there: || find("dbus-daemon").is_some() && find("dbus-monitor").is_some(),
        packages: &["dbus"],
        otherwise: "install dbus",
    },
];

/// For `bench transfer`: networks, and what it compares with.
const COPIERS: &[Need] = &[
    IPROUTE,
    Need {
        what: "OpenSSH's server and client (`sshd`, `scp`)",
        there: || find("scp").is_some() && Path::new("/usr/sbin/sshd").is_file(),
        packages: &["openssh-server", "openssh-client"],
        otherwise: "install OpenSSH; its server need not run",
    },
    Need {
        what: "rsync",
        there: || find("rsync").is_some(),
        packages: &["rsync"],
        otherwise: "install rsync",
    },
];

/// For the tests of Slurm.
const SLURM: &[Need] = &[Need {
    what: "Slurm (`slurmctld`, `slurmd`, `sbatch`) and `munged`",
    there: || {
        let daemons = ["slurmctld", "slurmd", "munged"];
        find("sbatch").is_some()
            && daemons.iter().all(|name| Path::new("/usr/sbin").join(name).is_file())
    },
    packages: &["munge", "slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins"],
    otherwise: "install Slurm and MUNGE; their services need not run",
}];

/// For the tests of the page.
const BROWSER: &[Need] = &[Need {
    what: "Chromium and its driver (`chromium`, `chromedriver`)",
    there: || find("chromium").is_some() && find("chromedriver").is_some(),
    packages: &["chromium", "chromium-driver"],
    otherwise: "install Chromium and chromedriver of the same version",
}];

/// For the tests of shared plugins.
const REGISTRY: &[Need] = &[Need {
    what: "a registry (`docker-registry`)",
    there: || Path::new("/usr/bin/docker-registry").is_file(),
    packages: &["docker-registry"],
    otherwise: "install the CNCF's registry as /usr/bin/docker-registry; its service need not run",
}];

/// For the tests of several signaling servers.
const BROKER: &[Need] = &[Need {
    what: "a NATS broker (`nats-server`)",
    there: || Path::new("/usr/sbin/nats-server").is_file(),
    packages: &["nats-server"],
    otherwise: "install nats-server 2.9 or newer as /usr/sbin/nats-server; its service need not run",
}];

/// For the tests of the terminal.
const TERMINAL: &[Need] = &[Need {
    what: "tmux",
    there: || find("tmux").is_some(),
    packages: &["tmux"],
    otherwise: "install tmux",
}];

/// To build for Windows, and to run that.
const WINDOWS: &[Need] = &[
    Need {
        what: "a C compiler for Windows (`x86_64-w64-mingw32-gcc`)",
        there: || find("x86_64-w64-mingw32-gcc").is_some(),
        packages: &["gcc-mingw-w64-x86-64"],
        otherwise: "install mingw-w64",
    },
    Need {
        what: "Wine for 64 bits",
        there: || find("wine").is_some() || Path::new("/usr/lib/wine/wine64").is_file(),
        packages: &["wine64"],
        otherwise: "install Wine",
    },
];

/// To run programs for ARM.
const ARM: &[Need] = &[
    Need {
        what: "qemu's emulation of programs for ARM (`qemu-aarch64-static`)",
        there: || find("qemu-aarch64-static").is_some(),
        packages: &["qemu-user-static", "binfmt-support"],
        otherwise: "install qemu's user emulation and register it with binfmt_misc",
    },
    Need {
        what: "glibc for ARM",
        there: || Path::new("/usr/aarch64-linux-gnu/lib/libc.so.6").exists(),
        packages: &["libc6-arm64-cross"],
        otherwise: "install glibc for aarch64 below /usr/aarch64-linux-gnu",
    },
];

/// For building: compilers, and the target of the policy plugins.
pub fn build() -> Result<()> {
    rust_target("wasm32-unknown-unknown", "policy plugins and the page")?;
    provide(COMPILERS)
}

/// For the stand-in trainer and the Python peers.
pub fn python() -> Result<()> {
    provide(PYTHON)
}

/// To install real sleap-nn.
pub fn sleap_nn() -> Result<()> {
    provide(SLEAP_NN)
}

/// For the tests of networks and of the relay, which need root. Installs what else is missing, or
/// returns why the tests cannot run.
pub fn networks() -> Result<()> {
    if !is_root() {
        bail!("network namespaces of the tests' own need root");
    }
    provide(NETWORKS)
}

/// For the tests of system calls that fail, of the strict sandbox, of quotas and of the desktop.
pub fn conditions() -> Result<()> {
    provide(CONDITIONS)
}

/// For the tests of the page.
pub fn browser() -> Result<()> {
    provide(BROWSER)
}

/// For the test of the page in Firefox. Installs nothing: Debian has no geckodriver.
pub fn firefox() -> Result<()> {
    let missing = ["firefox-esr", "geckodriver"].into_iter().find(|name| find(name).is_none());
    match missing {
        None => Ok(()),
        Some(name) => bail!("`{name}` is not installed (`cargo install geckodriver`)"),
    }
}

/// For the tests of Slurm.
pub fn slurm() -> Result<()> {
    provide(SLURM)
}

/// For the tests of shared plugins.
pub fn registry() -> Result<()> {
    provide(REGISTRY)
}

/// For the tests of several signaling servers.
pub fn broker() -> Result<()> {
    provide(BROKER)
}

/// For the tests of the terminal.
pub fn terminal() -> Result<()> {
    provide(TERMINAL)
}

/// For the tests of the Windows client.
pub fn windows() -> Result<()> {
    provide(WINDOWS)
}

/// For the tests of the program for ARM.
pub fn arm() -> Result<()> {
    provide(ARM)
}

/// For the programs that `bench transfer` compares with.
pub fn copiers() -> Result<()> {
    provide(COPIERS)
}

/// For building `what` for `target`. Adds it with rustup, which needs no special rights.
pub fn rust_target(target: &str, what: &str) -> Result<()> {
    let rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(root())
        .output()?;
    let folder = String::from_utf8_lossy(&rustc.stdout).trim().to_owned();
    if rustc.status.success() && Path::new(&folder).is_dir() {
        return Ok(());
    }
    ensure!(
        find("rustup").is_some(),
        "this Rust toolchain lacks the target {target}, for the {what}: install Rust with https://rustup.rs"
    );
    println!("installing the Rust target {target}, for the {what}");
    call(Command::new("rustup").args(["target", "add", target]).current_dir(root()))
}

/// The right to install Debian's packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    Root,
    /// sudo needs no password.
    Sudo,
}

/// Whether root runs this task.
pub fn is_root() -> bool {
    rights() == Some(Rights::Root)
}

fn rights() -> Option<Rights> {
    let id = Command::new("id").arg("-u").output();
    if id.is_ok_and(|id| id.stdout.trim_ascii() == b"0") {
        return Some(Rights::Root);
    }
    works("sudo", &["-n", "true"]).then_some(Rights::Sudo)
}

/// Installs what is missing of `needs`. Without the rights to do so, the error is one line with the
/// command.
fn provide(needs: &[Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let what = join(&missing, "; ", |need| need.what);
    if find("apt-get").is_none() {
        bail!("missing {what}: {}", join(&missing, "; ", |need| need.otherwise));
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let Some(rights) = rights() else {
        bail!("missing {what}: run `sudo apt-get install {}`", packages.join(" "));
    };
    println!("installing {}", packages.join(" "));
    call(&mut apt_get(rights, &["update"]))?;
    let install = ["install", "--yes", "--no-install-recommends"];
    call(apt_get(rights, &install).args(&packages))?;
    let still = self::missing(&missing);
    ensure!(
        still.is_empty(),
        "installed {}, and still missing {}",
        packages.join(" "),
        join(&still, "; ", |need| need.what)
    );
    Ok(())
}

fn missing(needs: &[Need]) -> Vec<Need> {
    needs.iter().filter(|need| !(need.there)()).copied().collect()
}

fn join(needs: &[Need], separator: &str, part: fn(&Need) -> &str) -> String {
    needs.iter().map(part).collect::<Vec<_>>().join(separator)
}

fn apt_get(rights: Rights, arguments: &[&str]) -> Command {
    let mut command = match rights {
        Rights::Root => Command::new("apt-get"),
        Rights::Sudo => {
            let mut command = Command::new("sudo");
            command.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            command
        }
    };
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments);
    command
}
