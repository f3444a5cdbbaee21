//! cargo with zig, which compiles C and C++ and links: for an old glibc, and for other processors.

use crate::programs::root;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// The glibc of RHEL 8 and its kin, which clusters run.
pub const GLIBC: (u32, u32) = (2, 28);

/// Linux on a processor, as rustc has it.
pub fn triple(arch: &str) -> String {
    format!("{arch}-unknown-linux-gnu")
}

/// A command of cargo, such as `build`, for Linux on `arch`. `tools` is the folder with zig.
pub fn cargo(tools: &Path, arch: &str, arguments: &[&str]) -> Result<Command> {
    let (major, minor) = GLIBC;
    let mut command = Command::new(tools.join("cargo-zigbuild"));
    command.current_dir(root()).args(arguments);
    command.args(["--target", &format!("{}.{major}.{minor}", triple(arch))]);
    let before = std::env::var_os("PATH").unwrap_or_default();
    let path = [tools.to_owned()].into_iter().chain(std::env::split_paths(&before));
    command.env("PATH", std::env::join_paths(path)?);
    Ok(command)
}
