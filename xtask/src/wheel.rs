//! `cargo xtask wheel`: a wheel and an archive that need little of the machine on which they are installed.
//!
//! zig compiles the C and C++ parts and links: against an old glibc, and with a C++ library inside.

use crate::loopback::{Loopback, RunningProgram, model_below};
use crate::old_system::{self, OldSystem};
use crate::programs::{call, cargo, root, target};
use crate::zig::{self, GLIBC};
use crate::{prerequisites, python};
use anyhow::{Context, Result, bail, ensure};
use std::env::consts::{ARCH, OS};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The longest that installing and a first session may take.
const FIRST_SESSION: Duration = Duration::from_secs(120);
/// For one client with the stand-in trainer.
const JOB_WITHIN: Duration = Duration::from_secs(90);

/// How the wheel is tried.
enum Trial {
    None,
    /// In an empty Python environment.
    Here,
    /// In the folder of another Linux.
    In(PathBuf),
}

/// Builds both, and with `--try` installs the wheel as a new user does.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let trial = match arguments {
        [] => Trial::None,
        [option] if option == "--try" => Trial::Here,
        [option, system] if option == "--in" => Trial::In(system.into()),
        _ => bail!("`cargo xtask wheel` takes --try, or --in SYSTEM"),
    };
    if matches!(trial, Trial::In(_))
        && let Some(ended) = old_system::apart()?
    {
        return Ok(ended);
    }
    ensure!(OS == "linux", "wheels are built on Linux, for Linux");
    prerequisites::build()?;
    prerequisites::python()?;
    let tools = python::wheel_tools()?;
    let program = build(&tools)?;
    let share = target().join("wheel/share");
    documents(&program, &share)?;
    let wheel = pack(&tools, &program, &share)?;
    match trial {
        Trial::None => {}
        Trial::Here => first_session(&wheel)?,
        Trial::In(system) => in_old_system(&program, &system)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `cargo xtask man [DIR]`: the manual pages, by default in `target/man`.
pub fn man(arguments: &[String]) -> Result<ExitCode> {
    let folder = match arguments {
        [] => target().join("man"),
        [folder] => PathBuf::from(folder),
        _ => bail!("`cargo xtask man` takes one folder"),
    };
    prerequisites::build()?;
    call(&mut cargo(&["build", "--workspace", "--bin", "sleap-rtc"]))?;
    fs::create_dir_all(&folder)?;
    call(Command::new(target().join("debug/sleap-rtc")).arg("man").arg(&folder))?;
    println!("manual pages: {}", folder.display());
    Ok(ExitCode::SUCCESS)
}

/// The program, built by zig.
fn build(tools: &Path) -> Result<PathBuf> {
    let start = Instant::now();
    let program = ["zigbuild", "--release", "--package", "sleap-rtc", "--bin", "sleap-rtc"];
    call(&mut zig::cargo(tools, ARCH, &program)?)?;
    println!("built in {:.0} s", start.elapsed().as_secs_f64());
    Ok(target().join(zig::triple(ARCH)).join("release/sleap-rtc"))
}

/// Manual pages and completions, where Linux looks for them below `share`.
fn documents(program: &Path, share: &Path) -> Result<()> {
    if share.exists() {
        fs::remove_dir_all(share)?;
    }
    let man = share.join("man/man1");
    fs::create_dir_all(&man)?;
    call(Command::new(program).arg("man").arg(&man))?;
    for (shell, file) in [
        ("bash", "bash-completion/completions/sleap-rtc"),
        ("zsh", "zsh/site-functions/_sleap-rtc"),
        ("fish", "fish/vendor_completions.d/sleap-rtc.fish"),
    ] {
        let file = share.join(file);
        fs::create_dir_all(file.parent().unwrap_or(share))?;
        let mut completions = Command::new(program);
        call(completions.args(["completions", shell]).stdout(File::create(file)?))?;
    }
    Ok(())
}

/// Packs the program. The wheel's tag is what auditwheel finds that it needs.
fn pack(tools: &Path, program: &Path, share: &Path) -> Result<PathBuf> {
    let output = target().join("dist");
    if output.exists() {
        fs::remove_dir_all(&output)?;
    }
    let guess = format!("linux_{ARCH}");
    pack_as(&guess, program, share, &output)?;
    let tag = needed(tools, &wheel_in(&output)?)?;
    fs::remove_dir_all(&output)?;
    pack_as(&tag, program, share, &output)?;
    let wheel = wheel_in(&output)?;
    call(Command::new(tools.join("auditwheel")).arg("show").arg(&wheel))?;
    Ok(wheel)
}

fn pack_as(tag: &str, program: &Path, share: &Path, output: &Path) -> Result<()> {
    let mut pack = Command::new("python3");
    pack.arg(root().join("xtask/wheel/pack.py"));
    pack.args(["--version", env!("CARGO_PKG_VERSION"), "--tag", tag]);
    pack.args(["--target", &format!("{ARCH}-linux")]);
    pack.arg("--program").arg(program).arg("--share").arg(share);
    call(pack.arg("--readme").arg(root().join("README.md")).arg("--output").arg(output))
}

fn wheel_in(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = entries.flatten().map(|entry| entry.path());
    let wheel = files.find(|path| path.extension().is_some_and(|ending| ending == "whl"));
    wheel.with_context(|| format!("no wheel in {}", folder.display()))
}

/// The oldest platform on which a wheel runs, by auditwheel. Fails where that is newer than promised.
fn needed(tools: &Path, wheel: &Path) -> Result<String> {
    let output = Command::new(tools.join("auditwheel")).arg("show").arg(wheel).output()?;
    let text = String::from_utf8_lossy(&output.stdout).replace('\n', " ");
    let tag = platform_tag(&text);
    let tag = tag.with_context(|| format!("auditwheel names no manylinux platform: {text}"))?;
    let glibc = glibc_of(&tag).with_context(|| format!("an odd platform: {tag}"))?;
    ensure!(glibc <= GLIBC, "the program needs {tag}, and glibc {GLIBC:?} is promised");
    Ok(tag)
}

fn platform_tag(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("platform tag:")?;
    let tag = rest.split('"').nth(1)?;
    tag.starts_with("manylinux_").then(|| tag.to_owned())
}

fn glibc_of(tag: &str) -> Option<(u32, u32)> {
    let mut parts = tag.strip_prefix("manylinux_")?.split('_');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Installs the wheel into an empty environment and trains once, as the README's first session has it,
/// with the stand-in trainer. Prints how long that takes.
fn first_session(wheel: &Path) -> Result<()> {
    let venv = target().join("wheel/venv");
    if venv.exists() {
        fs::remove_dir_all(&venv)?;
    }
    let start = Instant::now();
    call(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let pip = ["-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check"];
    call(Command::new(venv.join("bin/python")).args(pip).arg(wheel))?;
    println!("installed after {:.1} s", start.elapsed().as_secs_f64());
    let program = venv.join("bin/sleap-rtc");
    call(Command::new(&program).arg("--version"))?;
    train(&Loopback::with("wheel/session", &root().join("tests/stand-in"), &program)?)?;
    let took = start.elapsed();
    println!("installed, trained and fetched in {:.1} s", took.as_secs_f64());
    ensure!(took < FIRST_SESSION, "a first session may take {} s", FIRST_SESSION.as_secs());
    Ok(())
}

/// Checks that the program runs in another system: alone, and for a training where Python is there for the
/// stand-in trainer.
fn in_old_system(program: &Path, folder: &Path) -> Result<()> {
    let system = OldSystem::enter(folder)?;
    let libc = system.first_line("ldd", &["--version"]).context("no ldd there")?;
    let path = program.to_str().context("an odd path")?;
    let version = system.first_line(path, &["--version"]).context("the program does not start")?;
    println!("{version} with {libc}");
    let python = system.first_line("python3", &["--version"]);
    let demo = Loopback::with("wheel/in-system", &root().join("tests/stand-in"), program)?;
    let demo = demo.within(system);
    let checks = demo.command("worker", &["doctor", "--json"])?.output()?;
    ensure!(checks.stdout.starts_with(b"["), "doctor says nothing: {checks:?}");
    let Some(python) = python else {
        println!("no python3 there, so no training");
        return Ok(());
    };
    train(&demo)?;
    println!("trained there, with {python} for the stand-in trainer");
    Ok(())
}

/// Trains once, as the README's first session has it.
fn train(demo: &Loopback) -> Result<()> {
    let mut worker = start_worker(demo)?;
    let address = worker.wait_line("--signaling ")?;
    let (room, token) = (worker.wait_line("Room ID:")?, worker.wait_line("Token:")?);
    let models = demo.folder.join("models");
    let words = ["train", "--auto-select", "--ice-server", "none", "--signaling", &address];
    let mut train = demo.command("client", &words)?;
    train.args(["--room-id", &room, "--pkg-path"]).arg(demo.folder.join("package"));
    train.arg("--output").arg(&models).env("SLEAP_RTC_TOKEN", token);
    let mut client = RunningProgram::start("client", train, &[])?;
    let status = client.wait(JOB_WITHIN)?;
    ensure!(status.success(), "the client ended with {status}; {}", client.hint());
    let model = model_below(&models)?;
    worker.stop()?;
    println!("fetched {}", model.display());
    Ok(())
}

fn start_worker(demo: &Loopback) -> Result<RunningProgram> {
    let command = demo.command("worker", &["worker", "--serve", "--ice-server", "none"])?;
    let home = demo.folder.join("worker");
    fs::write(home.join("sleap-rtc.toml"), "[signaling]\nlisten = [\"127.0.0.1:0\"]\n")?;
    RunningProgram::start("worker", command, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_is_read_from_auditwheels_report() {
        let text =
            "x.whl is consistent with the following platform tag: \"manylinux_2_17_x86_64\". The";
        let tag = platform_tag(text).unwrap();
        assert_eq!((tag.as_str(), glibc_of(&tag)), ("manylinux_2_17_x86_64", Some((2, 17))));
        let local = "x.whl is consistent with the following platform tag: \"linux_x86_64\".";
        assert_eq!(platform_tag(local), None);
    }
}
