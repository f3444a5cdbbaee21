//! Builds the default policy plugins and makes components of them, for `policy` to embed.

#[path = "build/guests.rs"]
mod guests;

use anyhow::Result;
use std::path::Path;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    guests::embed(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")),
        &[
            "plugins/largest-gpu",
            "plugins/requirements",
            "plugins/linear-estimate",
            "plugins/fewest-running",
        ],
    )
}
