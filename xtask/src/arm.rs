//! `cargo xtask arm`: builds the program for Linux on ARM here, and runs its tests in an emulator.

use crate::programs::{call, cargo, target};
use crate::{prerequisites, python, zig};
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

const ARCH: &str = "aarch64";
/// Debian's glibc for ARM, beside that of this machine.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// Crates that decide and compute. The emulator lacks some of what the others ask of the system.
const UNITS: [&str; 5] = [
    "sleap-rtc-base",
    "sleap-rtc-package",
    "sleap-rtc-protocol",
    "sleap-rtc-transfer",
    "sleap-rtc-trust",
];
/// Modules of `tests/e2e`, which have all three roles: with the emulator's speed, and without what it lacks.
const MODULES: [&str; 6] =
    ["first_run::", "train::", "track::", "serve::", "pairing::", "plugin::"];

/// Builds the program by zig, and runs the unit tests of some crates and some tests from outside. The tests
/// and the stand-in trainer are this machine's own programs.
pub fn run() -> Result<ExitCode> {
    prerequisites::build()?;
    prerequisites::python()?;
    prerequisites::arm()?;
    register_qemu()?;
    prerequisites::rust_target(&format!("{ARCH}-unknown-linux-gnu"), "program for ARM")?;
    let tools = python::wheel_tools()?;
    let start = Instant::now();
    let program = ["zigbuild", "--package", "sleap-rtc", "--bin", "sleap-rtc"];
    call(&mut zig::cargo(&tools, ARCH, &program)?)?;
    println!("built in {:.0} s", start.elapsed().as_secs_f64());
    let mut units = zig::cargo(&tools, ARCH, &["test", "--lib"])?;
    units.args(UNITS.iter().flat_map(|name| ["--package", name]));
    call(units.env("QEMU_LD_PREFIX", LIBRARIES))?;
    from_outside(&target().join(zig::triple(ARCH)).join("debug/sleap-rtc"))?;
    Ok(ExitCode::SUCCESS)
}

/// Has the kernel hand programs for ARM to qemu. Where no systemd runs, as in containers, installing qemu
/// does not do that.
fn register_qemu() -> Result<()> {
    let folder = Path::new("/proc/sys/fs/binfmt_misc");
    if folder.join("qemu-aarch64").exists() {
        return Ok(());
    }
    ensure!(
        prerequisites::is_root(),
        "the kernel does not hand programs for ARM to qemu: run `sudo mount -t binfmt_misc none {place} && \
         sudo update-binfmts --enable qemu-aarch64`",
        place = folder.display()
    );
    if !folder.join("register").exists() {
        call(Command::new("mount").args(["-t", "binfmt_misc", "none"]).arg(folder))?;
    }
    call(Command::new("update-binfmts").args(["--enable", "qemu-aarch64"]))
}

fn from_outside(program: &Path) -> Result<()> {
    let mut tests = cargo(&["test", "--workspace", "--test", "e2e", "--"]);
    tests.args(MODULES).env("SLEAP_RTC_PROGRAM", program);
    call(tests.env("QEMU_LD_PREFIX", LIBRARIES))
}
