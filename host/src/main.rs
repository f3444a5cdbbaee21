//! The `sleap-rtc` binary: parse, log, run, exit code.

use sleap_rtc::cli::exit::{Exit, Failure};
use sleap_rtc::cli::{self, Invocation, logging};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let exit = match cli::parse(std::env::args_os()) {
        Ok(invocation) => run(invocation).unwrap_or_else(|failure| cli::fail(&failure)),
        Err(exit) => exit,
    };
    exit.into()
}

fn run(invocation: Invocation) -> Result<Exit, Failure> {
    logging::init(invocation.log, invocation.log_filter.as_deref())?;
    for warning in &invocation.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Unexpected, error))?;
    let result = runtime.block_on(cli::run(invocation.command));
    // A thread that waits for the user's next line must not keep the program alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}
