//! `cargo xtask bench NAME`: builds the program and the measurements with our own code optimised,
//! then runs them.
//!
//! Dependencies are built as they ship in every profile, so what a development build has of them
//! serves here as well. What ships adds link-time optimisation on top (`[profile.release]`).

use crate::programs::{call, cargo};
use crate::{prerequisites, python};
use anyhow::Result;
use std::process::{Command, ExitCode};

/// The packages that are our own code.
const OURS: [&str; 4] = ["sleap-rtc", "sleap-rtc-protocol", "bench", "largest-gpu"];

/// Installs what is missing, instead of doing without.
const INSTALL: &str = "--install";

/// Runs the measurement that `arguments` name.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let install = arguments.iter().any(|argument| argument == INSTALL);
    let arguments = arguments.iter().filter(|argument| *argument != INSTALL);
    prerequisites::build(install)?;
    if arguments.clone().next().is_some_and(|name| name == "transfer") {
        compared_with(install)?;
    }
    let mut build = cargo(&["build", "--quiet", "--package", "sleap-rtc", "--package", "bench"]);
    call(optimise(&mut build))?;
    let mut bench = cargo(&["run", "--quiet", "--package", "bench"]);
    let done = optimise(&mut bench).arg("--").args(arguments).status()?;
    Ok(if done.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What transfers are compared with. The measurement says of what is missing that it was not run.
fn compared_with(install: bool) -> Result<()> {
    if install {
        prerequisites::copiers()?;
    }
    if let Err(error) = prerequisites::python(install).and_then(|()| python::peers()) {
        eprintln!("no aiortc to compare with: {error:#}");
    }
    Ok(())
}

fn optimise(command: &mut Command) -> &mut Command {
    for package in OURS {
        for setting in ["opt-level=3", "debug-assertions=false", "overflow-checks=false"] {
            command.arg("--config").arg(format!("profile.dev.package.{package}.{setting}"));
        }
    }
    command
}
