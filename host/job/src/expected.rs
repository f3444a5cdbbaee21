//! What was expected of a job before it started, and what it took.

use super::error::{JobError, damaged};
use super::events::EventReader;
use super::folder::{JobFolder, write_private};
use super::package_folder::describe_folder;
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::job::JobDescription;
use sleap_rtc_protocol::timing::JobTimer;
use sleap_rtc_protocol::workload::{Estimate, FinishedJob, FinishedRun, Outlook, Workload};
use std::fs::File;
use std::io::{BufReader, Read};

const FILE: &str = "expected.json";
const MAX_BYTES: u64 = 1024 * 1024;

/// What was known of a job before it started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// What the worker found in the package.
    pub description: JobDescription,
    /// How long it would take.
    #[serde(default)]
    pub estimate: Option<Estimate>,
    /// What may go wrong, one sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The model of its GPU.
    #[serde(default)]
    pub gpu: Option<String>,
    /// The trainer's version.
    #[serde(default)]
    pub sleap_nn_version: Option<String>,
}

impl Expected {
    /// What the job's submission expected of it. What is missing or damaged is computed again from the package, as
    /// far as that is still there. Blocks.
    pub fn of(folder: &JobFolder) -> Self {
        Self::read(folder).unwrap_or_else(|| Self {
            description: describe_folder(&folder.files_dir(), folder.spec().description.job_type),
            estimate: None,
            warnings: Vec::new(),
            gpu: None,
            sleap_nn_version: None,
        })
    }

    /// Reads what was written for a job. `None` if that is missing or damaged. Blocks.
    pub fn read(folder: &JobFolder) -> Option<Self> {
        let file = File::open(folder.path().join(FILE)).ok()?;
        serde_json::from_reader(BufReader::new(file.take(MAX_BYTES))).ok()
    }

    /// How long the job is expected to run, in whole seconds.
    pub fn runs_s(&self) -> Option<u64> {
        self.estimate.map(|estimate| (estimate.minutes * 60.0).round().max(1.0) as u64)
    }

    /// Writes it into the job's folder. Blocks.
    pub fn write(&self, folder: &JobFolder) -> Result<(), JobError> {
        let path = folder.path().join(FILE);
        let json = serde_json::to_vec_pretty(self).map_err(|error| damaged(&path, error))?;
        write_private(&path, &json)
    }

    /// The runs that the job will have, in order.
    pub fn runs(&self, folder: &JobFolder) -> Vec<Workload> {
        let job_type = self.description.job_type;
        let runs = self.description.runs.iter();
        let is_wanted =
            |run: &&Workload| !folder.spec().skips_inference || run.job_type == job_type;
        runs.filter(is_wanted).cloned().collect()
    }

    /// What a client that returns to the job is told to expect.
    pub fn outlook(&self, folder: &JobFolder) -> Outlook {
        let (runs, warnings) = (self.runs(folder), self.warnings.clone());
        Outlook { runs, estimate: self.estimate, warnings }
    }

    /// What the job took, which `timer` has followed. `peaks_mib` is the most GPU memory that each run used, as
    /// far as it was seen. `None` if the job never ran, or has not ended.
    pub fn finished(
        &self,
        folder: &JobFolder,
        timer: &JobTimer,
        peaks_mib: &[Option<u64>],
    ) -> Option<FinishedJob> {
        let (took_s, succeeded) = timer.whole()?;
        let runs =
            timer.timings().zip(self.runs(folder)).enumerate().map(|(index, (timing, run))| {
                let (mut took, succeeded) = timing;
                took.peak_memory_mib = peaks_mib.get(index).copied().flatten();
                FinishedRun {
                    run,
                    gpu: self.gpu.clone(),
                    sleap_nn_version: self.sleap_nn_version.clone(),
                    took,
                    succeeded,
                }
            });
        Some(FinishedJob { took_s, succeeded, estimate: self.estimate, runs: runs.collect() })
    }
}

impl JobFolder {
    /// Follows the job's events to the last one that is there. Blocks.
    pub fn timer(&self, expected: Vec<Workload>) -> Result<JobTimer, JobError> {
        let (mut timer, mut events) = (JobTimer::new(expected), EventReader::open(self, 0)?);
        while let Some(event) = events.read()? {
            timer.see(&event);
        }
        Ok(timer)
    }
}
