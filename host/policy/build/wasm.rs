//! Runs cargo for WebAssembly inside of a build script.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// The only target from which a module imports nothing but what its source says.
const TARGET: &str = "wasm32-unknown-unknown";

/// The sources of this copy of the project, and where build scripts put what they make of them.
pub struct Workshop {
    root: PathBuf,
    out: PathBuf,
    target: PathBuf,
}

impl Workshop {
    /// For the workspace at `root`.
    pub fn new(root: &Path) -> Result<Self> {
        let root = root.canonicalize().context("the workspace's folder is gone")?;
        let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
        let target = target_dir(&out, &root);
        Ok(Self { root, out, target })
    }

    /// The folder of the running build script.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// The build script runs again when one of these changes.
    pub fn depends_on(&self, paths: impl IntoIterator<Item = impl AsRef<Path>>) {
        for path in paths {
            println!("cargo::rerun-if-changed={}", self.root.join(path).display());
        }
    }

    /// Makes modules of the libraries of these packages, optimised by rustc's level `opt`. The options of
    /// `configured` are as for `cargo --config`.
    pub fn build(&self, packages: &[&str], opt: &str, configured: &[&str]) -> Result<()> {
        check_target()?;
        packages.iter().try_for_each(|package| self.build_one(package, opt, configured))
    }

    fn build_one(&self, package: &str, opt: &str, configured: &[&str]) -> Result<()> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["rustc", "--release", "--locked", "--quiet", "--lib", "--target", TARGET])
            // Only here: natively a library of this type has one name for all settings of the compiler, so that builds
            // with other settings would break each other.
            .args(["--crate-type", "cdylib", "--package", package])
            .arg("--manifest-path")
            .arg(self.root.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&self.target)
            .args(configured.iter().flat_map(|option| ["--config", option]))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for (name, _) in env::vars_os().filter(|(name, _)| belongs_to_outer_cargo(name)) {
            command.env_remove(name);
        }
        for (key, value) in [("OPT_LEVEL", opt), ("LTO", "fat"), ("CODEGEN_UNITS", "1")] {
            command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
        }
        let status = command.status().context("cannot start cargo to build for WebAssembly")?;
        ensure!(status.success(), "cargo could not build {package} (its messages are above)");
        Ok(())
    }

    /// The module that `build` has made of a package.
    pub fn module(&self, package: &str) -> Result<Vec<u8>> {
        let built = self.target.join(TARGET).join("release").join(package.replace('-', "_"));
        fs::read(built.with_extension("wasm"))
            .with_context(|| format!("cargo left no module of {package}"))
    }
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
            "the policy plugins and the page are built for {TARGET}, which this Rust toolchain lacks; run\n\
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
