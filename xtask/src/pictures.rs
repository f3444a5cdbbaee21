//! `cargo xtask pictures`: draws the pictures of the documentation, with a real page in a real browser and
//! real terminals.

use crate::prerequisites;
use crate::programs::{call, cargo};
use anyhow::Result;
use std::process::ExitCode;

/// Draws them all.
pub fn run() -> Result<ExitCode> {
    prerequisites::build()?;
    prerequisites::python()?;
    prerequisites::browser()?;
    prerequisites::terminal()?;
    call(&mut cargo(&["build", "--workspace", "--bin", "sleap-rtc"]))?;
    let test = ["test", "--workspace", "--test", "e2e", "--", "--ignored", "pictures::"];
    call(&mut cargo(&test))?;
    Ok(ExitCode::SUCCESS)
}
