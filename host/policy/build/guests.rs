//! Builds Rust guests as components, for build scripts.

#[path = "wasm.rs"]
mod wasm;

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use wasm::Workshop;
use wit_component::ComponentEncoder;

/// Builds packages of the workspace at `root`, named by their folders (which are named like the
/// packages), and leaves `NAME.core.wasm` and the component `NAME.wasm` in `OUT_DIR`.
pub fn embed(root: &Path, folders: &[&str]) -> Result<()> {
    let workshop = Workshop::new(root)?;
    workshop.depends_on(["wit", "Cargo.toml", "Cargo.lock", "host/policy/build"]);
    for folder in folders {
        workshop.depends_on([format!("{folder}/src"), format!("{folder}/Cargo.toml")]);
    }
    let names: Vec<&str> =
        folders.iter().map(|folder| folder.rsplit('/').next().unwrap_or(folder)).collect();
    workshop.build(&names, "3", &[])?;
    for name in names {
        let module = workshop.module(name)?;
        let component =
            componentize(&module).with_context(|| format!("cannot make a component of {name}"))?;
        fs::write(workshop.out().join(format!("{name}.core.wasm")), module)?;
        fs::write(workshop.out().join(format!("{name}.wasm")), component)?;
    }
    Ok(())
}

/// Wraps a core module that wit-bindgen built into a component.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(module)?.encode()
}
