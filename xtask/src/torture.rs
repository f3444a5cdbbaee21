//! `cargo xtask torture`: builds the program and the torture, then runs rounds of it.

use crate::prerequisites;
use crate::programs::cargo;
use anyhow::Result;
use std::process::{Command, ExitCode};

/// Runs the rounds that `arguments` ask for.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    prerequisites::build()?;
    let done = command(arguments).status()?;
    Ok(if done.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rounds that `arguments` ask for, built with the features of all other tests.
pub fn command(arguments: &[String]) -> Command {
    let mut command =
        cargo(&["test", "--quiet", "--workspace", "--test", "torture", "--", "torture"]);
    command.args(arguments);
    command
}
