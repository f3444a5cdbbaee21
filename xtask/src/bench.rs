//! `cargo xtask bench NAME`: builds the program and the measurements with our own code optimised,
//! then runs them.
//!
//! Dependencies are built as they ship in every profile, so what a development build has of them
//! serves here as well. What ships adds link-time optimisation on top (`[profile.release]`).

use crate::programs::{call, cargo, target};
use crate::{prerequisites, python};
use anyhow::Result;
use std::process::{Command, ExitCode};

/// Runs the measurement that `arguments` name.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    prerequisites::build()?;
    if arguments.first().is_some_and(|name| name == "transfer") {
        compared_with();
    }
    // All crates together, as everything else builds them: two alone would need some dependencies
    // with fewer features, which would be built only for this.
    call(optimise(&mut cargo(&["build", "--quiet", "--workspace", "--bins"])))?;
    let done = Command::new(target().join("debug/bench")).args(arguments).status()?;
    Ok(if done.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Installs the programs that transfers are compared with. The measurement leaves out what is
/// missing.
fn compared_with() {
    if let Err(error) = prerequisites::copiers() {
        eprintln!("not compared with all others: {error:#}");
    }
    if let Err(error) = prerequisites::python().and_then(|()| python::peers()) {
        eprintln!("not compared with aiortc: {error:#}");
    }
}

fn optimise(command: &mut Command) -> &mut Command {
    // Dependencies have settings of their own, which these do not change.
    for setting in ["opt-level=3", "debug-assertions=false", "overflow-checks=false"] {
        command.arg("--config").arg(format!("profile.dev.{setting}"));
    }
    command
}
