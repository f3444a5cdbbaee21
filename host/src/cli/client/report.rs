//! `sleap-rtc report`: one file about a finished job.

use super::exit::{Exit, ExitWith, Failure};
use super::exit_codes::blocking;
use super::print;
use crate::client::{record, report};
use crate::config::Config;
use clap::Args;
use std::path::PathBuf;

/// The examples under `report --help`.
pub(crate) const EXAMPLES: &str = "\
Example:
  One file with the curves, settings, numbers and pictures of a job that `sleap-rtc jobs` lists:
    sleap-rtc report job-6fd04f7b039479f8";

/// The options of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The job's id, as listed by `jobs`
    job: String,
    /// The file to write [default: beside the result]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the report, and prints where it is.
pub(crate) async fn run(args: ReportArgs, config: &Config) -> Result<Exit, Failure> {
    let record = record::find(&config.client.jobs_dir, &args.job)?;
    let path = blocking(move || report::write(&record, args.output)).await?;
    let path = std::path::absolute(&path).unwrap_or(path);
    print::line(&format!("The report is in {}", path.display())).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}
