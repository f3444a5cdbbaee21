//! `sleap-rtc confine ORDER -- PROGRAM …`: confines itself and becomes a trainer. Hidden; a job's
//! process starts it.

use super::exit::{Exit, Failure};
use anyhow::Context;
use std::ffi::OsString;
use std::path::PathBuf;

/// Confines itself and becomes another program.
#[derive(Debug, clap::Args)]
pub struct ConfineArgs {
    /// How to confine, as JSON
    order: PathBuf,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Returns only when it failed. Called before there is any other thread: what confines a thread does
/// not confine the others.
pub fn run(args: &ConfineArgs) -> Result<Exit, Failure> {
    let error = sleap_rtc_job::confine(&args.order, &args.command);
    let program = args.command.first().map(PathBuf::from).unwrap_or_default();
    let failed = Err(error).with_context(|| format!("cannot start {}", program.display()));
    failed.map_err(|error: anyhow::Error| Failure::new(Exit::Unexpected, error))
}
