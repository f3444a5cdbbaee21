//! Builds Rust guests and makes components of them. Used by the build script, and by the tests
//! for guests that nobody should ship.

use anyhow::{Context, Result, bail, ensure};
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use wit_component::ComponentEncoder;

/// The only target from which a component imports nothing but what its world says.
const TARGET: &str = "wasm32-unknown-unknown";

/// Builds `packages` of the workspace at `root` in the folder `target`, which must not be the one
/// of a running cargo. Returns the core modules, in order.
pub fn build(root: &Path, target: &Path, packages: &[&str]) -> Result<Vec<PathBuf>> {
    check_target()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "--locked", "--quiet", "--lib", "--target", TARGET])
        .arg("--manifest-path")
        .arg(root.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    for (name, _) in env::vars_os().filter(|(name, _)| belongs_to_outer_cargo(name)) {
        command.env_remove(name);
    }
    let size_first = [("OPT_LEVEL", "s"), ("LTO", "fat"), ("CODEGEN_UNITS", "1")];
    for (key, value) in size_first {
        command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    let status = command.status().context("cannot start cargo to build the plugins")?;
    ensure!(
        status.success(),
        "cargo could not build the plugins {packages:?} (its messages above)"
    );
    let folder = target.join(TARGET).join("release");
    Ok(packages
        .iter()
        .map(|package| folder.join(package.replace('-', "_")).with_extension("wasm"))
        .collect())
}

/// Makes a component of a core module that wit-bindgen built.
pub fn componentize(module: &Path) -> Result<Vec<u8>> {
    let bytes =
        std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|mut encoder| encoder.encode())
        .with_context(|| format!("cannot make a component of {}", module.display()))
}

/// Says how to get the target before cargo fails with pages about `core`.
fn check_target() -> Result<()> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .context("cannot start rustc")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if !folder.is_dir() {
        bail!(
            "the policy plugins are built for {TARGET}, which this Rust toolchain lacks; run\n\
             \n    rustup target add {TARGET}\n"
        );
    }
    Ok(())
}

/// Variables that describe the build in progress. What says where packages come from stays, and
/// so does the job server.
fn belongs_to_outer_cargo(name: &OsString) -> bool {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_MAKEFLAGS",
    ];
    const DROPPED: [&str; 6] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
    ];
    let name = OsStr::to_string_lossy(name);
    let kept = KEPT.iter().any(|kept| name.starts_with(kept));
    DROPPED.contains(&name.as_ref()) || (name.starts_with("CARGO_") && !kept)
}
