//! Builds the client for browsers, for the server to serve.

#[cfg(feature = "page")]
#[path = "build/page.rs"]
mod page;

#[cfg(feature = "page")]
fn main() -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    page::embed(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")))
}

#[cfg(not(feature = "page"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
