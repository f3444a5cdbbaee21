//! `sleap-rtc confine SPEC -- PROGRAM …`: confines this process, and then executes the trainer in it.
//! Hidden, because only a job's process starts it.

use super::exit::{Exit, Failure};
use anyhow::Context;
use std::ffi::OsString;
use std::path::PathBuf;

/// Confines this process, and then executes another program in it.
#[derive(Debug, clap::Args)]
pub struct ConfineArgs {
    /// File with the confinement, as JSON
    spec: PathBuf,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Returns only if it fails. Must run before the process has other threads, because the confinement
/// of one thread does not apply to the others.
pub fn run(args: &ConfineArgs) -> Result<Exit, Failure> {
    let error = sleap_rtc_job::confine(&args.spec, &args.command);
    let program = args.command.first().map(PathBuf::from).unwrap_or_default();
    let failed = Err(error).with_context(|| format!("cannot start {}", program.display()));
    failed.map_err(|error: anyhow::Error| Failure::new(Exit::Unexpected, error))
}
