//! Builds the default policy plugins and makes components of them, for `policy` to embed.

#[path = "build/guests.rs"]
mod guests;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The default plugins: packages under `plugins/`.
const PLUGINS: [&str; 3] = ["largest-gpu", "requirements", "linear-estimate"];

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the host crate has no workspace above it")?;
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    for path in ["build.rs", "build/guests.rs", "../wit", "../Cargo.lock", "../Cargo.toml"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for plugin in PLUGINS {
        println!("cargo::rerun-if-changed=../plugins/{plugin}/src");
        println!("cargo::rerun-if-changed=../plugins/{plugin}/Cargo.toml");
    }
    let target = out.join("guests");
    for (plugin, module) in PLUGINS.iter().zip(guests::build(root, &target, &PLUGINS)?) {
        let component = guests::componentize(&module)?;
        fs::write(out.join(plugin).with_extension("wasm"), component)
            .with_context(|| format!("cannot write the component of {plugin}"))?;
    }
    // Tests build more guests there, so that what guests depend on is compiled once.
    println!("cargo::rustc-env=SLEAP_RTC_GUEST_TARGET_DIR={}", target.display());
    Ok(())
}
