//! Builds the guests that only tests load.

#[path = "altered.rs"]
mod altered;
#[path = "../../host/policy/build/guests.rs"]
mod guests;

use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<()> {
    for source in ["build.rs", "altered.rs", "wat"] {
        println!("cargo::rerun-if-changed={source}");
    }
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/wat"))? {
        let file = file?.path();
        let name = Path::new(file.file_name().unwrap_or(OsStr::new(""))).with_extension("wasm");
        let bytes = wat::parse_file(&file).with_context(|| file.display().to_string())?;
        fs::write(out.join(name), bytes)?;
    }
    altered::build(&root.join("wit"), &out)?;
    guests::embed(root, &["tests/hostile-guest", "tests/mirror-guest", "examples/custom-policy"])
}
