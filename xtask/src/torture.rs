//! `cargo xtask torture`: builds the program and the torture, then runs rounds of it.

use crate::prerequisites;
use crate::programs::{cargo, root};
use anyhow::Result;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Runs the rounds that `arguments` ask for.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    prerequisites::build()?;
    let done = build_and_run(arguments).status()?;
    Ok(if done.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rounds that `arguments` ask for, built with the features of all other tests.
fn build_and_run(arguments: &[String]) -> Command {
    let mut command =
        cargo(&["test", "--quiet", "--workspace", "--test", "torture", "--", "torture"]);
    command.args(arguments);
    command
}

/// The rounds that CI runs. `built` is the torture, if its place is known: cargo would wait for the lints,
/// which lock the target folder.
pub fn rounds(built: Option<&Path>) -> Command {
    let Some(built) = built else { return build_and_run(&[]) };
    let mut command = Command::new(built);
    // Where cargo starts tests.
    command.arg("torture").current_dir(root().join("host"));
    command
}
