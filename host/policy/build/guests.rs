//! Builds Rust guests as components, for build scripts.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};
use wit_component::ComponentEncoder;

/// The only target from which a component imports nothing but what its world says.
const TARGET: &str = "wasm32-unknown-unknown";

/// Builds packages of the workspace at `root`, named by their folders (which are named like the
/// packages), and leaves `NAME.core.wasm` and the component `NAME.wasm` in `OUT_DIR`.
pub fn embed(root: &Path, folders: &[&str]) -> Result<()> {
    let root = root.canonicalize().context("the workspace's folder is gone")?;
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let sources =
        ["wit", "Cargo.toml", "Cargo.lock", "host/policy/build/guests.rs"].map(String::from);
    let of_guest = |folder: &&str| [format!("{folder}/src"), format!("{folder}/Cargo.toml")];
    for path in sources.into_iter().chain(folders.iter().flat_map(of_guest)) {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    check_target()?;
    let target = target_dir(&out, &root);
    let names: Vec<&str> =
        folders.iter().map(|folder| folder.rsplit('/').next().unwrap_or(folder)).collect();
    build(&root, &target, &names)?;
    for name in names {
        let built = target.join(TARGET).join("release").join(name.replace('-', "_"));
        let module = fs::read(built.with_extension("wasm"))
            .with_context(|| format!("cargo left no module of {name}"))?;
        let component =
            componentize(&module).with_context(|| format!("cannot make a component of {name}"))?;
        fs::write(out.join(format!("{name}.core.wasm")), module)?;
        fs::write(out.join(format!("{name}.wasm")), component)?;
    }
    Ok(())
}

/// A target folder that all build scripts of this copy of the sources share, so that the
/// dependencies of guests are compiled once. OUT_DIR itself changes whenever a dependency does.
fn target_dir(out: &Path, root: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    // OUT_DIR is PROFILE/build/PACKAGE/out.
    let profile = out.ancestors().nth(3).unwrap_or(out);
    profile.join(format!("guests-{:016x}", hasher.finish()))
}

fn build(root: &Path, target: &Path, packages: &[&str]) -> Result<()> {
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
    for (key, value) in [("OPT_LEVEL", "3"), ("LTO", "fat"), ("CODEGEN_UNITS", "1")] {
        command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    let status = command.status().context("cannot start cargo to build the guests")?;
    ensure!(status.success(), "cargo could not build {packages:?} (its messages are above)");
    Ok(())
}

/// Wraps a core module that wit-bindgen built into a component.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(module)?.encode()
}

/// Explains how to install the target. Otherwise cargo would fail with pages about `core`.
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

/// Whether a variable describes the build in progress. Variables about registries and the job
/// server are kept.
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
