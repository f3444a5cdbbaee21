//! Builds the guests that only tests load.

#[path = "../../host/build/guests.rs"]
mod guests;

use anyhow::Result;
use std::path::Path;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    guests::embed(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")),
        &["tests/hostile-guest", "examples/custom-policy"],
    )
}
