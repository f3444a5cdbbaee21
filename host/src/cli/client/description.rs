//! Reads the descriptions of jobs and rooms from files.

use super::exit::{Exit, Failure};
use super::exit_codes::blocking;
use crate::client::ReadProgress;
use crate::client::package::{self, TrainingPackage};
use crate::client::videos::VideoSearch;
use serde::de::DeserializeOwned;
use sleap_rtc_protocol::job::{JobDescription, JobType, Requirements};
use sleap_rtc_transfer::Hashes;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The largest JSON file to read, in bytes. A room of thousands of workers fits.
const JSON_BYTES: u64 = 64 << 20;

/// Loads the description of the job in `path`: JSON if the name ends in `.json`, otherwise a training
/// package. `min_gpu_memory_mib` overrides the job's own requirement; `user` is used if the
/// description has none.
pub(crate) async fn load_job_description(
    option: &'static str,
    path: &Path,
    min_gpu_memory_mib: Option<u64>,
    user: Option<String>,
    hashes: Hashes,
) -> Result<JobDescription, Failure> {
    let mut job = if path.extension().is_some_and(|ending| ending == "json") {
        read_json(option, path, "the description of a job")?
    } else {
        super::train::found(option, path)?;
        let path = path.to_owned();
        blocking(move || {
            let package = TrainingPackage { path, inference: true };
            let package =
                package.open(VideoSearch::default(), &hashes, &ReadProgress::default())?;
            Ok(package::describe_package(
                &package,
                JobType::Training,
                Requirements::default(),
                None,
            ))
        })
        .await?
    };
    job.requirements.min_gpu_memory_mib =
        min_gpu_memory_mib.or(job.requirements.min_gpu_memory_mib);
    job.user = job.user.or(user);
    Ok(job)
}

/// Parses the file at `path`, which must contain `what`.
pub(crate) fn read_json<T: DeserializeOwned>(
    option: &str,
    path: &Path,
    what: &str,
) -> Result<T, Failure> {
    let shown = path.display();
    let usage =
        |error: &dyn std::fmt::Display| Failure::usage(format!("{option}: {shown}: {error}"));
    let mut text = String::new();
    let file = File::open(path).map_err(|error| usage(&error))?;
    file.take(JSON_BYTES).read_to_string(&mut text).map_err(|error| usage(&error))?;
    serde_json::from_str(&text).map_err(|error| {
        let why = anyhow::Error::new(error).context(format!("{option}: {shown} is not {what}"));
        Failure::new(Exit::Usage, why)
    })
}
