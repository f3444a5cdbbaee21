//! What the machine must have, and how it gets it.

use crate::programs::{call, find, root, works};
use anyhow::{Result, bail};
use std::{env, path::Path, process::Command};

/// Something that must be there.
struct Need {
    /// For people.
    what: &'static str,
    there: fn() -> bool,
    /// Debian's packages that bring it.
    packages: &'static [&'static str],
    /// How others get it.
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

/// For real sleap-nn on a CPU: its video library looks for two graphics libraries, and the stub
/// libraries that stand for CUDA are made from what `nm` and `objdump` say.
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

/// For tests that cut networks.
const NETWORKS: &[Need] = &[Need {
    what: "iproute2 (`ip`)",
    there: || find("ip").is_some(),
    packages: &["iproute2"],
    otherwise: "install iproute2",
}];

/// For the tests of the relay, beside networks: a TURN server.
const RELAY: &[Need] = &[Need {
    what: "coturn (`turnserver`)",
    there: || find("turnserver").is_some(),
    packages: &["coturn"],
    otherwise: "install coturn",
}];

/// What `bench transfer` compares with, beside networks.
const COPIERS: &[Need] = &[
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

/// To build: compilers and the target of the policy plugins.
pub fn build(install: bool) -> Result<()> {
    wasm_target(install)?;
    provide(COMPILERS, install)
}

/// For the stand-in trainer and the Python peers.
pub fn python(install: bool) -> Result<()> {
    provide(PYTHON, install)
}

/// For networks of the tests' own. Without them what needs them says that it was skipped, so they
/// are only ever installed.
pub fn networks() -> Result<()> {
    provide(NETWORKS, true)
}

/// For the tests of the relay, which need networks of their own as well. What is missing is no
/// failure, but the reason why they do not run.
pub fn relay(install: bool) -> Result<(), String> {
    if !is_root() {
        return Err("networks of the tests' own need root".into());
    }
    let needs = || NETWORKS.iter().chain(RELAY);
    if install {
        needs()
            .try_for_each(|need| provide(std::slice::from_ref(need), true))
            .map_err(|error| format!("{error:#}"))?;
    }
    let missing: Vec<&str> = needs().filter(|need| !(need.there)()).map(|need| need.what).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("missing: {}; run this again with --install", missing.join(", ")))
}

/// For what transfers are compared with. What is missing is not run there, so it is only ever
/// installed.
pub fn copiers() -> Result<()> {
    networks()?;
    provide(COPIERS, true)
}

/// To install real sleap-nn.
pub fn sleap_nn(install: bool) -> Result<()> {
    provide(SLEAP_NN, install)
}

fn wasm_target(install: bool) -> Result<()> {
    const TARGET: &str = "wasm32-unknown-unknown";
    let rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(root())
        .output()?;
    let folder = String::from_utf8_lossy(&rustc.stdout).trim().to_owned();
    if rustc.status.success() && Path::new(&folder).is_dir() {
        return Ok(());
    }
    if !install {
        bail!(
            "the Rust target {TARGET} is missing (the policy plugins are built for it)\n  \
             rustup target add {TARGET}\n  or run this again with --install"
        );
    }
    call(Command::new("rustup").args(["target", "add", TARGET]).current_dir(root()))
}

fn provide(needs: &[Need], install: bool) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    if install && find("apt-get").is_some() {
        apt_get(&packages)?;
        let still: Vec<&str> = missing.iter().filter(|n| !(n.there)()).map(|n| n.what).collect();
        if still.is_empty() {
            return Ok(());
        }
        bail!("installed {}, and still missing: {}", packages.join(" "), still.join("; "));
    }
    let mut message = String::from("missing:");
    for need in &missing {
        message += &format!("\n  {}: {}", need.what, need.otherwise);
    }
    if find("apt-get").is_some() {
        message +=
            &format!("\nOn this machine:\n  {}apt-get install {}", sudo(), packages.join(" "));
        message += "\nor run this again with --install";
    }
    bail!(message)
}

fn apt_get(packages: &[&str]) -> Result<()> {
    println!("installing {}", packages.join(" "));
    let command = |arguments: &[&str]| {
        let mut command = match sudo() {
            "" => Command::new("apt-get"),
            _ => {
                let mut command = Command::new("sudo");
                command.args(["-n", "apt-get"]);
                command
            }
        };
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq"]).args(arguments);
        command
    };
    call(&mut command(&["update"]))?;
    call(command(&["install", "--yes", "--no-install-recommends"]).args(packages))
}

/// `sudo ` for everybody but root.
fn sudo() -> &'static str {
    if is_root() { "" } else { "sudo " }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}
