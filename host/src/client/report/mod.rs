//! A report about a finished job: one HTML file beside its results, made from what lies there, without
//! a connection.
//!
//! | module | what it does |
//! |---|---|
//! | `model_folder` | reads what a trainer has left in a model's folder |
//! | `numbers` | the scalars of a file of metrics |
//! | `page` | writes the report |
//! | `html` | text as HTML, and losses as a picture |

mod html;
mod model_folder;
mod numbers;
mod page;
#[cfg(test)]
mod tests;

use super::ClientError;
use super::error::UnknownJob;
use super::record::{Record, SeenState};
use model_folder::ModelFolder;
use sleap_rtc_protocol::job::{JobOutcome, JobType};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name of the report, after which the job's id follows.
const NAME: &str = "sleap-rtc-report";
/// The most models of one job.
const MAX_MODELS: usize = 64;

/// Writes the report about the job of `record`, to `to` or beside its results. Returns where it is. Blocks.
///
/// # Errors
/// The job has no results here, or the file cannot be written.
pub fn write(record: &Record, to: Option<PathBuf>) -> Result<PathBuf, ClientError> {
    let job = record.job_string()?.job;
    let output = record.output();
    let result = output.path();
    if !result.exists() {
        return Err(without_result(record, job.to_string(), result.to_owned()).into());
    }
    let folder = match record.job_type {
        JobType::Training => result,
        JobType::Inference => result.parent().unwrap_or(Path::new(".")),
    };
    let path = to.unwrap_or_else(|| folder.join(format!("{NAME}-{job}.html")));
    let models = match record.job_type {
        JobType::Training => models(folder).map_err(|source| failed(folder, source))?,
        JobType::Inference => Vec::new(),
    };
    let html = page::page(record, &job, &models);
    fs::write(&path, html).map_err(|source| failed(&path, source))?;
    Ok(path)
}

/// Why a job has no result here.
fn without_result(record: &Record, job: String, place: PathBuf) -> UnknownJob {
    match &record.last_seen.state {
        SeenState::Over { outcome: JobOutcome::Cancelled, .. } => UnknownJob::WasCancelled { job },
        SeenState::Over { .. } | SeenState::Unknown => UnknownJob::NoResult { job, place },
        SeenState::Refused { why } => UnknownJob::WasRefused { job, why: why.clone() },
        SeenState::Submitted | SeenState::Waiting { .. } | SeenState::Running { .. } => {
            UnknownJob::NotOver { job }
        }
    }
}

fn failed(path: &Path, source: io::Error) -> ClientError {
    ClientError::Output { path: path.to_owned(), source }
}

/// The models in a result, by name.
fn models(result: &Path) -> io::Result<Vec<ModelFolder>> {
    let entries = fs::read_dir(result)?.flatten();
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| ModelFolder::is_one(path)).collect();
    folders.sort();
    Ok(folders.iter().take(MAX_MODELS).map(|folder| ModelFolder::read(folder)).collect())
}
