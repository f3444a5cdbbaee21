//! `cargo xtask windows`: builds the program for Windows here, and runs its tests with Wine.

use crate::builds::ON_LAPTOPS;
use crate::prerequisites::{self, rust_target};
use crate::programs::{call, cargo, root, target};
use anyhow::Result;
use std::env;
use std::process::{Command, ExitCode};

const TRIPLE: &str = "x86_64-pc-windows-gnu";
/// As in `.cargo/config.toml`.
const LINKING: &str = "-Clink-arg=-Wl,--exclude-all-symbols";
const COMPILER: &str = "x86_64-w64-mingw32-gcc";

/// Builds everything but the worker, and runs the tests of `tests/e2e/windows.rs`.
pub fn run() -> Result<ExitCode> {
    prerequisites::build()?;
    prerequisites::python()?;
    prerequisites::windows()?;
    rust_target(TRIPLE, "client on Windows")?;
    let mut build = cargo(&["build", "--package", "sleap-rtc", "--bin", "sleap-rtc"]);
    if let Ok(flags) = env::var("RUSTFLAGS") {
        // They replace those of `.cargo/config.toml`, without which the linker fails.
        build.env("RUSTFLAGS", format!("{flags} {LINKING}"));
    }
    call(build.args(["--no-default-features", "--features", ON_LAPTOPS, "--target", TRIPLE]))?;
    // Old versions of Wine lack it, and Windows looks beside the program first.
    let library = target().join(TRIPLE).join("debug/bcryptprimitives.dll");
    let mut compile = Command::new(COMPILER);
    compile.args(["-shared", "-O2", "-o"]).arg(library);
    call(compile.arg(root().join("tests/wine/bcryptprimitives.c")).arg("-lbcrypt"))?;
    call(&mut cargo(&["build", "--workspace", "--bin", "sleap-rtc"]))?;
    let tests = ["test", "--workspace", "--test", "e2e", "--", "--nocapture", "windows::"];
    call(&mut cargo(&tests))?;
    Ok(ExitCode::SUCCESS)
}
