//! Environments under `target/`: real sleap-nn, and what the tests need of Python and JavaScript.

use crate::prerequisites;
use crate::programs::{call, find, root, target, works};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

/// The version of uv that installs sleap-nn: several times quicker than pip for 115 packages.
const UV: &str = "uv==0.13.8";

/// The folder that holds a `sleap-nn` program: from `PATH`, or installed from PyPI (CPU only)
/// into `target/sleap-nn`.
pub fn sleap_nn() -> Result<PathBuf> {
    if let Some(program) = find("sleap-nn") {
        println!("sleap-nn: {}", program.display());
        return Ok(program.parent().unwrap_or(&program).to_owned());
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "sleap-nn is not on PATH, and the pinned packages are for Linux on x86-64.\n  \
             uv tool install \"sleap-nn[torch]\" --torch-backend auto\n\
             installs it; --stand-in (demo) and --no-real (test) do without"
        );
    }
    prerequisites::sleap_nn()?;
    let own = root().join("xtask/sleap-nn");
    let (lock, stubs) = (own.join("sleap-nn-cpu.lock"), own.join("cpu_torch_stubs.py"));
    let venv = target().join("sleap-nn");
    let bin = venv.join("bin");
    environment(&venv, "python3.11", &[&lock, &stubs], || {
        println!("installing sleap-nn (CPU only, about 2 GB) into {}", venv.display());
        call(pip(&bin).arg(UV))?;
        let mut uv = Command::new(bin.join("uv"));
        uv.args(["pip", "install", "--quiet", "--no-deps", "--python"]).arg(bin.join("python"));
        call(uv.arg("-r").arg(&lock))?;
        let packages = venv.join("lib/python3.11/site-packages");
        call(Command::new("python3.11").arg(&stubs).arg(packages))?;
        call(Command::new(bin.join("sleap-nn")).arg("--version"))
    })?;
    Ok(bin)
}

/// The Python that runs `program`, which pip or uv installed: its first line names it.
pub fn interpreter(program: &Path) -> Result<PathBuf> {
    let text = fs::read(program).with_context(|| program.display().to_string())?;
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let python = String::from_utf8_lossy(first).strip_prefix("#!").map(|path| path.trim().into());
    python.with_context(|| format!("{} does not start with `#!`", program.display()))
}

/// The environments of the Python peers, each with another aiortc, in folders of
/// `target/python-peers`.
pub fn peers() -> Result<()> {
    ["oldest", "1.14", "1.15", "newest"].into_iter().try_for_each(peers_with)
}

fn peers_with(aiortc: &str) -> Result<()> {
    let own = root().join("tests/python");
    let (shared, versions) =
        (own.join("requirements.txt"), own.join(format!("aiortc-{aiortc}.txt")));
    let venv = target().join("python-peers").join(aiortc);
    environment(&venv, "python3", &[&shared, &versions], || {
        println!("installing aiortc ({aiortc}) and websockets into {}", venv.display());
        let mut pip = pip(&venv.join("bin"));
        // What is built from source instead would need FFmpeg's headers.
        call(pip.args(["--only-binary", ":all:", "-r"]).arg(&shared).arg("-r").arg(&versions))
    })
}

/// The folder with componentize-py, in `target/plugin-tools`.
pub fn componentize() -> Result<PathBuf> {
    let requirements = root().join("tests/plugin-tools/requirements.txt");
    let venv = target().join("plugin-tools/python");
    environment(&venv, "python3", &[&requirements], || {
        println!("installing componentize-py into {}", venv.display());
        call(pip(&venv.join("bin")).arg("-r").arg(&requirements))
    })?;
    Ok(venv.join("bin"))
}

/// The folder with jco, in `target/plugin-tools`. `None` without Node 20 and npm.
pub fn jco() -> Result<Option<PathBuf>> {
    const NEW_ENOUGH: &str = "process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)";
    if !works("node", &["-e", NEW_ENOUGH]) || !works("npm", &["--version"]) {
        return Ok(None);
    }
    let (wanted, folder) =
        (root().join("tests/plugin-tools/package.json"), target().join("plugin-tools/js"));
    let bin = folder.join("node_modules/.bin");
    let filled_from = fs::read(folder.join("package.json")).unwrap_or_default();
    if filled_from != fs::read(&wanted)? || !bin.join("jco").exists() {
        println!("installing jco into {}", folder.display());
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        fs::copy(&wanted, folder.join("package.json"))?;
        let mut npm = Command::new("npm");
        call(npm.args(["install", "--silent", "--no-audit", "--no-fund"]).current_dir(&folder))?;
    }
    Ok(Some(bin))
}

fn pip(bin: &Path) -> Command {
    let mut command = Command::new(bin.join("python"));
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    command
}

/// Makes a virtual environment and fills it, unless it was filled from the same `inputs` before.
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
    let (stamp, wanted) = (venv.join("filled-from"), format!("{:016x}", hasher.finish()));
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if venv.exists() {
        fs::remove_dir_all(venv).with_context(|| venv.display().to_string())?;
    }
    call(Command::new(python).args(["-m", "venv"]).arg(venv))?;
    fill()?;
    // Last, so that an interrupted installation is begun anew.
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())
}
