//! Measurements of the real programs, beside a peer in the same run. `cargo xtask bench NAME` builds
//! this with our own code optimised and runs it.

use clap::Parser;

/// One measurement each; `--help` says what it needs.
#[derive(Parser)]
enum Bench {}

fn main() -> anyhow::Result<()> {
    match Bench::parse() {}
}
