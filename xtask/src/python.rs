//! Environments in `target/`: real sleap-nn, and the Python and JavaScript packages of the tests.

use crate::prerequisites;
use crate::programs::{call, find, root, target, works};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

/// The version of uv that installs sleap-nn. It is several times faster than pip for 115 packages.
const UV: &str = "uv==0.13.8";

/// The program that `python3` stands for.
pub fn executable() -> Option<PathBuf> {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// The folder with the program `sleap-nn`: from `PATH`, or installed from PyPI (CPU only) into
/// `target/sleap-nn`.
pub fn sleap_nn() -> Result<PathBuf> {
    if let Some(program) = find("sleap-nn") {
        println!("sleap-nn: {}", program.display());
        return Ok(program.parent().unwrap_or(&program).to_owned());
    }
    pinned()
}

/// The version in the pinned packages.
pub const PINNED: &str = "0.3.5";

/// Installs sleap-nn from the pinned packages into `target/sleap-nn`. Returns the folder with its
/// programs.
fn pinned() -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "sleap-nn is not on PATH, and the pinned packages are for Linux on x86-64.\n  \
             uv tool install \"sleap-nn[torch]\" --torch-backend auto\n\
             installs it; --stand-in (demo) and --no-real (test) do without"
        );
    }
    install(&target().join("sleap-nn"), |_| Ok(()))
}

/// Installs a release of sleap-nn, by its version or the `newest` on PyPI. Returns the folder with
/// its programs, and its version. Its dependencies are pinned, except for sleap-io, which changes
/// along with it.
pub fn release(wanted: &str) -> Result<(PathBuf, String)> {
    let venv = target().join(format!("sleap-nn-{wanted}"));
    if wanted == "newest" {
        // A newer release may have appeared.
        let _ = fs::remove_file(venv.join(STAMP));
    }
    let bin = match wanted {
        PINNED => pinned()?,
        _ => install(&venv, |bin| {
            let name = match wanted {
                "newest" => "sleap-nn".to_owned(),
                version => format!("sleap-nn=={version}"),
            };
            call(uv(bin).args(["--upgrade", &name]))?;
            let needs =
                Command::new(bin.join("python")).args(["-c", NEEDS_OF_SLEAP_IO]).output()?;
            call(uv(bin).arg(String::from_utf8_lossy(&needs.stdout).trim()))
        })?,
    };
    let said = Command::new(bin.join("python")).args(["-c", VERSION]).output()?;
    Ok((bin, String::from_utf8_lossy(&said.stdout).trim().to_owned()))
}

const VERSION: &str = "from importlib.metadata import version; print(version('sleap-nn'))";
const NEEDS_OF_SLEAP_IO: &str = "from importlib.metadata import requires; \
    print(next(n.split(';')[0] for n in requires('sleap-nn') if n.startswith('sleap-io')))";

/// The command to install packages with uv, without their dependencies.
fn uv(bin: &Path) -> Command {
    let mut uv = Command::new(bin.join("uv"));
    uv.args(["pip", "install", "--quiet", "--no-deps", "--python"]).arg(bin.join("python"));
    uv
}

/// Installs the pinned packages into `venv`, and then runs `more`.
fn install(venv: &Path, more: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    prerequisites::sleap_nn()?;
    let own = root().join("xtask/sleap-nn");
    let (lock, stubs) = (own.join("sleap-nn-cpu.lock"), own.join("cpu_torch_stubs.py"));
    let bin = venv.join("bin");
    environment(venv, "python3.11", &[&lock, &stubs], || {
        println!("installing sleap-nn (CPU only, about 2 GB) into {}", venv.display());
        call(pip(&bin).arg(UV))?;
        call(uv(&bin).arg("-r").arg(&lock))?;
        more(&bin)?;
        let packages = venv.join("lib/python3.11/site-packages");
        call(Command::new("python3.11").arg(&stubs).arg(packages))?;
        call(Command::new(bin.join("sleap-nn")).arg("--version"))
    })?;
    Ok(bin)
}

/// The Python that runs `program`, from the first line that pip or uv wrote.
pub fn interpreter(program: &Path) -> Result<PathBuf> {
    let text = fs::read(program).with_context(|| program.display().to_string())?;
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let python = String::from_utf8_lossy(first).strip_prefix("#!").map(|path| path.trim().into());
    python.with_context(|| format!("{} does not start with `#!`", program.display()))
}

/// The environments of the Python peers in `target/python-peers`, each with another aiortc; one with
/// h5py, which every trainer has; and one for pairing.
pub fn peers() -> Result<()> {
    ["oldest", "1.14", "1.15", "newest"].into_iter().try_for_each(peers_with)?;
    ["hdf5", "pairing"].into_iter().try_for_each(packages)
}

/// The environment of the packages that `tests/python/NAME.txt` lists.
fn packages(name: &str) -> Result<()> {
    let list = root().join(format!("tests/python/{name}.txt"));
    let venv = target().join("python-peers").join(name);
    environment(&venv, "python3", &[&list], || {
        println!("installing the packages of {} into {}", list.display(), venv.display());
        call(pip(&venv.join("bin")).args(["--only-binary", ":all:", "-r"]).arg(&list))
    })
}

fn peers_with(aiortc: &str) -> Result<()> {
    let own = root().join("tests/python");
    let (shared, versions) =
        (own.join("requirements.txt"), own.join(format!("aiortc-{aiortc}.txt")));
    let venv = target().join("python-peers").join(aiortc);
    environment(&venv, "python3", &[&shared, &versions], || {
        println!("installing aiortc ({aiortc}) and websockets into {}", venv.display());
        let mut pip = pip(&venv.join("bin"));
        // Building from source would need FFmpeg's headers.
        call(pip.args(["--only-binary", ":all:", "-r"]).arg(&shared).arg("-r").arg(&versions))
    })
}

/// Installs zig, cargo-zigbuild and auditwheel into `target/wheel`. Returns their folder.
pub fn wheel_tools() -> Result<PathBuf> {
    tools("zig and auditwheel", "xtask/wheel/tools.txt", "wheel/tools")
}

/// Installs componentize-py into `target/plugin-tools`. Returns its folder.
pub fn componentize() -> Result<PathBuf> {
    tools("componentize-py", "tests/plugin-tools/requirements.txt", "plugin-tools/python")
}

/// Installs the packages in the file `requirements` into the folder `venv` of `target/`. Returns the
/// folder with their programs.
fn tools(name: &str, requirements: &str, venv: &str) -> Result<PathBuf> {
    let (requirements, venv) = (root().join(requirements), target().join(venv));
    environment(&venv, "python3", &[&requirements], || {
        println!("installing {name} into {}", venv.display());
        call(pip(&venv.join("bin")).arg("-r").arg(&requirements))
    })?;
    Ok(venv.join("bin"))
}

/// Installs jco into `target/plugin-tools`. Returns its folder, or `None` without Node 20 and npm.
pub fn jco() -> Result<Option<PathBuf>> {
    let wanted = root().join("tests/plugin-tools/package.json");
    npm_tools(&wanted, &target().join("plugin-tools/js"), "jco")
}

/// Installs what the file `wanted` lists, of which `program` is part, into `folder`. Returns the folder
/// of its programs, or `None` without Node 20 and npm.
pub fn npm_tools(wanted: &Path, folder: &Path, program: &str) -> Result<Option<PathBuf>> {
    const NEW_ENOUGH: &str = "process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)";
    if !works("node", &["-e", NEW_ENOUGH]) || !works("npm", &["--version"]) {
        return Ok(None);
    }
    let bin = folder.join("node_modules/.bin");
    let filled_from = fs::read(folder.join("package.json")).unwrap_or_default();
    if filled_from != fs::read(wanted)? || !bin.join(program).exists() {
        println!("installing {program} into {}", folder.display());
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        fs::copy(wanted, folder.join("package.json"))?;
        let mut npm = Command::new("npm");
        call(npm.args(["install", "--silent", "--no-audit", "--no-fund"]).current_dir(folder))?;
    }
    Ok(Some(bin))
}

fn pip(bin: &Path) -> Command {
    let mut command = Command::new(bin.join("python"));
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    command
}

/// The file that records from which inputs an environment was filled.
const STAMP: &str = "filled-from";

/// Creates a virtual environment and fills it, unless it was filled from the same `inputs` before.
fn environment(
    venv: &Path,
    python: &str,
    inputs: &[&Path],
    fill: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut hasher = DefaultHasher::new();
    for input in inputs {
        let content = fs::read(input).with_context(|| input.display().to_string())?;
        content.hash(&mut hasher);
    }
    let (stamp, wanted) = (venv.join(STAMP), format!("{:016x}", hasher.finish()));
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if venv.exists() {
        fs::remove_dir_all(venv).with_context(|| venv.display().to_string())?;
    }
    call(Command::new(python).args(["-m", "venv"]).arg(venv))?;
    fill()?;
    // Written last, so that an interrupted installation starts again.
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())
}
