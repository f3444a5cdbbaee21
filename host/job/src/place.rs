//! Where a job's process is: on this machine, or wherever a cluster has started it.
//!
//! The place is recorded with the job, so that a worker whose configuration has changed treats each job as it
//! was started.

use super::error::{JobError, damaged};
use super::folder::{JobFolder, write_private};
use serde::{Deserialize, Serialize};
use std::io;

const FILE: &str = "place.json";

/// Where a job's process is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "kebab-case")]
pub enum Place {
    /// On the worker's machine, under the locks and the socket of the job's folder.
    #[default]
    Local,
    /// On a node of a Slurm cluster, which shares only files with the worker.
    Slurm(SlurmJob),
}

/// A job, as Slurm knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlurmJob {
    /// The name that the worker gave it. A controller that crashes may give its number to another job.
    pub name: String,
    /// Its number, once Slurm has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
}

impl JobFolder {
    /// Where the job's process is, or will be.
    pub fn place(&self) -> Result<Place, JobError> {
        let path = self.path().join(FILE);
        match std::fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Place::Local),
            Err(source) => Err(JobError::Io { doing: "read", path, source }),
            Ok(json) => serde_json::from_slice(&json).map_err(|e| damaged(&path, e)),
        }
    }

    /// Whether the job's process may be on another machine.
    pub fn is_elsewhere(&self) -> bool {
        !matches!(self.place(), Ok(Place::Local))
    }

    /// Records where the job's process is.
    pub(crate) fn write_place(&self, place: &Place) -> Result<(), JobError> {
        let path = self.path().join(FILE);
        let json = serde_json::to_vec_pretty(place).map_err(|e| damaged(&path, e))?;
        write_private(&path, &json)
    }
}
