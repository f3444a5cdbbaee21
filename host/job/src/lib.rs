//! Jobs: trainer processes, progress, and the folder that owns a job.
//!
//! A job runs in a process of its own, `sleap-rtc run-job DIR`, which outlives its worker and every
//! connection. The process writes everything into the job's folder, and others read it there. This crate
//! knows nothing about channels, peers or workers.
//!
//! | module | what it does |
//! |---|---|
//! | [`command`] | builds a trainer's command line and environment |
//! | [`folder`] | the files that a job leaves on disk |
//! | `expected` | what was expected of a job before it started, and what it took |
//! | `lease` | keeps and removes job folders |
//! | `unfinished` | finds the jobs that an earlier run of a worker has left |
//! | [`events`] | a job's numbered events: one writer, any number of readers |
//! | [`plan`] | derives the runs of a job from its package |
//! | [`settings`] | the settings of a job's process |
//! | [`sandbox`] | decides how jobs are confined on this machine |
//! | `grants` | decides which files a job can reach |
//! | `interpreter` | finds everything that a trainer needs to start |
//! | [`limits`] | limits on what a job may take of the machine |
//! | [`confinement`] | turns a command line into a confined one |
//! | [`mod@confine`] | the process that confines itself and executes the trainer |
//! | `processes` | finds and ends all processes of a job |
//! | `limit_guard` | enforces the limits that the kernel does not |
//! | `run_outcome` | the outcome of a run of the trainer |
//! | [`runner`] | the process that owns a job: one trainer after the other |
//! | `active` | one running trainer: follows it, and ends it when necessary |
//! | `trainer` | a trainer's pipes and process group |
//! | `executor` | what starts jobs: this machine, or a cluster |
//! | [`place`] | where a job's process is |
//! | [`slurm`] | Slurm as the place where jobs run |
//! | `shared_folder` | claim, heartbeat and commands of a job on another machine |
//! | `orphans` | ends a trainer whose job's process has died |
//! | `output` | what a trainer prints: chunks for the log, and known lines |
//! | `guarded_port` | the trainer's ports, which only the job's own processes reach |
//! | `progress` | a trainer's ZMQ messages, and the command to stop |
//! | `failure` | explains why a trainer failed |
//! | `legacy_config` | adapts the config of a training with SLEAP 1.4.1 |
//! | `results` | moves what a run made to the results |
//! | `videos` | replaces the paths of videos in labels |
//! | `recorder` | records what a running job does |
//! | `control` | the socket between a job's process and its worker |
//! | [`handle`] | the worker's side: starts, follows and commands a job |
//! | [`trainers`] | finds the installed trainers, and checks that they work |
//! | `version` | finds the version of a trainer |
//! | `package_folder` | reads a package from a folder on this machine |
//!
//! ```
//! use sleap_rtc_job::JobFolder;
//! use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
//! use sleap_rtc_protocol::job::{JobDescription, JobEvent, JobRight, JobSpec, JobType};
//!
//! let state = tempfile::tempdir()?;
//! let spec = JobSpec {
//!     id: JobId::new("job-1")?,
//!     right: JobRight::Secret { secret: JobSecret::new("secret")? },
//!     name: "labels".into(),
//!     description: JobDescription::unknown(JobType::Training),
//!     shared: None,
//!     skips_inference: false,
//!     cache_owner: None,
//! };
//! let folder = JobFolder::create(state.path(), &spec, &PeerId::new("ada")?, None)?;
//! let mut events = folder.lock()?;
//! assert_eq!(events.append(JobEvent::RunStarted { name: "centroid".into() })?, 1);
//! // One process at a time writes events.
//! assert!(folder.lock().is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod active;
mod cgroup;
pub mod command;
pub mod confine;
pub mod confinement;
mod control;
pub mod error;
pub mod events;
mod executor;
mod expected;
mod failure;
pub mod folder;
mod grants;
mod guarded_port;
pub mod handle;
mod interpreter;
mod lease;
mod legacy_config;
mod limit_guard;
pub mod limits;
mod orphans;
mod output;
mod package_folder;
pub mod place;
pub mod plan;
mod processes;
mod progress;
mod recorder;
mod results;
mod run_outcome;
pub mod runner;
pub mod sandbox;
pub mod settings;
mod shared_folder;
pub mod slurm;
mod trainer;
pub mod trainers;
mod unfinished;
mod version;
mod videos;

pub use confine::confine;
pub use confinement::Confinement;
pub use control::{JobCommand, is_of_a_job};
pub use error::JobError;
pub use executor::Executor;
pub use expected::Expected;
pub use folder::{JobFolder, JobRecord};
pub use grants::ReadScope;
pub use handle::{EventStream, JobHandle, RunnerOptions};
pub use lease::{Lease, bytes_on_disk, sweep};
pub use limits::JobLimits;
pub use package_folder::describe_folder;
pub use place::Place;
pub use processes::adopt_descendants;
pub use runner::{Signals, run_job};
pub use sandbox::{Sandbox, SandboxError, SandboxMode};
pub use settings::RunnerSettings;
pub use unfinished::Unfinished;

#[cfg(test)]
mod tests;
