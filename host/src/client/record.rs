//! The client's own record of its jobs: one file for each, readable by its owner only, since it
//! holds the secret that opens the job.

use super::display::Display;
use super::output::Output;
use super::{ClientError, Job, Join};
use crate::config::{Config, Endpoints};
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{JobSpec, JobType};
use sleap_rtc_protocol::session::JobString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use url::Url;

/// A job that this user has submitted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The job string, which holds room, worker, job and secret.
    string: String,
    /// The signaling server.
    websocket: String,
    /// The same over HTTP.
    http: String,
    /// Name for people.
    pub name: String,
    /// Training or inference.
    pub job_type: JobType,
    /// When, in seconds since 1970.
    pub submitted_s: u64,
    /// Where its result was to go.
    output: PathBuf,
}

impl Record {
    pub(super) fn new(
        config: &Config,
        join: &Join,
        worker: &PeerId,
        spec: &JobSpec,
        job: &Job,
    ) -> Self {
        let string = JobString {
            room: join.credentials().clone(),
            worker: worker.clone(),
            job: spec.id.clone(),
            secret: spec.secret.clone(),
        };
        let output = job.output.path();
        Self {
            string: string.to_string(),
            websocket: config.signaling.websocket.to_string(),
            http: config.signaling.http.to_string(),
            name: job.name.clone(),
            job_type: job.description.job_type,
            submitted_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
            output: std::path::absolute(output).unwrap_or_else(|_| output.to_owned()),
        }
    }

    /// Keeps the record and tells the user the job's name. A job is not refused because its record
    /// cannot be kept.
    pub(super) fn announce(&self, jobs_dir: &Path, display: &mut Display) {
        let Ok(known) = self.known() else { return };
        match self.save(jobs_dir, &known.job) {
            Ok(()) => display.note(&format!(
                "Job {job}: `sleap-rtc attach {job}` comes back to it",
                job = known.job
            )),
            Err(error) => tracing::warn!(%error, "the job's record could not be kept"),
        }
    }

    fn save(&self, jobs_dir: &Path, job: &JobId) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(jobs_dir)?;
        let mut file = tempfile::NamedTempFile::new_in(jobs_dir)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.persist(jobs_dir.join(format!("{job}.json")))?;
        Ok(())
    }

    /// The records of `jobs_dir`, newest first; damaged ones are passed over.
    pub fn all(jobs_dir: &Path) -> Vec<Self> {
        let entries = fs::read_dir(jobs_dir).into_iter().flatten().flatten();
        let mut records: Vec<Self> = entries.filter_map(|entry| read(&entry.path())).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.submitted_s));
        records
    }

    /// The job's own text: what another machine needs to come back to it.
    pub fn string(&self) -> &str {
        &self.string
    }

    /// Which job this is of.
    pub fn known(&self) -> Result<JobString, ClientError> {
        self.string.parse().map_err(|_| damaged())
    }

    /// The server on which the job was submitted.
    pub fn endpoints(&self) -> Result<Endpoints, ClientError> {
        let address = |text: &str| Url::parse(text).map_err(|_| damaged());
        Ok(Endpoints { websocket: address(&self.websocket)?, http: address(&self.http)? })
    }

    /// Where the result was to go.
    pub fn output(&self) -> Output {
        match self.job_type {
            JobType::Training => Output::Models(self.output.clone()),
            JobType::Inference => Output::Predictions(self.output.clone()),
        }
    }
}

fn damaged() -> ClientError {
    ClientError::UnknownJob("the job's record is damaged; its job string still works".into())
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The record of `job`.
pub fn find(jobs_dir: &Path, job: &str) -> Result<Record, ClientError> {
    let unknown = || {
        ClientError::UnknownJob(format!(
            "no job {job} was submitted from here; `sleap-rtc jobs` lists those that were, and a \
             job string works anywhere"
        ))
    };
    let id = JobId::new(job).map_err(|_| unknown())?;
    read(&jobs_dir.join(format!("{id}.json"))).ok_or_else(unknown)
}
