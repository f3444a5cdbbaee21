//! What starts jobs: this machine, or a cluster.

use super::error::JobError;
use super::folder::JobFolder;
use super::handle::{self, JobHandle, RunnerOptions};
use super::slurm::{self, SlurmOptions};

/// What starts new jobs. A job that was started otherwise remains where it is ([`JobFolder::place`]).
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Executor {
    /// Processes on this machine.
    #[default]
    Local,
    /// Slurm, which decides when and where a job runs.
    Slurm(SlurmOptions),
}

impl Executor {
    /// Starts the process of a job whose package is complete, or hands the job over to the cluster.
    pub async fn start(
        &self,
        folder: &JobFolder,
        options: &RunnerOptions,
    ) -> Result<JobHandle, JobError> {
        match self {
            Self::Local => handle::start(folder, options).await,
            Self::Slurm(slurm) => {
                slurm::submit(folder, slurm, &options.binary, &options.settings).await?;
                JobHandle::attach(folder).await
            }
        }
    }

    /// Whether jobs run on this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local)
    }
}
