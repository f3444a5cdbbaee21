//! Jobs: trainer processes, progress, and the folder that owns a job.
//!
//! A job runs in a process of its own, `sleap-rtc run-job DIR`, which outlives its worker and every
//! connection. The process writes everything into the job's folder, and others read it there. This crate
//! knows nothing about channels, peers or workers.
//!
//! | module | what it does |
//! |---|---|
//! | [`command`] | builds a trainer's command line and environment anew |
//! | [`folder`] | what a job leaves on disk |
//! | `lease` | how long it is kept |
//! | [`events`] | its numbered events: one writer, any number of readers |
//! | [`plan`] | from a package on disk to the runs that it asks for |
//! | [`settings`] | how a job's process is to run |
//! | [`sandbox`] | how much jobs are confined here, and Landlock itself |
//! | `reach` | the list of what a job's processes can reach |
//! | `interpreter` | what a trainer is made of: program, Python, packages |
//! | [`limits`] | how much of the machine a job may take |
//! | [`confinement`] | from a command line to a confined one |
//! | [`mod@confine`] | the process that confines itself and becomes the trainer |
//! | `processes` | all that descends from a job's process, and its end |
//! | `guard` | looks whether a job takes too much |
//! | [`runner`] | the child process: one trainer after the other |
//! | `active` | one trainer at work: what it says, and when it must end |
//! | `trainer` | one trainer process: its pipes and its group |
//! | `orphans` | ends a trainer whose job's process is gone |
//! | `output` | what a trainer prints: text in chunks, lines that mean something |
//! | `channel` | the trainer's ports, which only the job's own processes reach |
//! | `progress` | a trainer's ZMQ messages, and the command to stop |
//! | `failure` | why a trainer failed, in words |
//! | `legacy_config` | the config of a training with SLEAP 1.4.1, for this machine |
//! | `results` | from the package to the results |
//! | `journal` | how a running job writes down what happens |
//! | `control` | the socket between a job's process and its worker |
//! | [`handle`] | the worker's side: start, follow, command |
//! | [`trainers`] | which trainers are installed, and whether they work |
//! | `version` | which version of one is installed |
//!
//! ```
//! use sleap_rtc_job::JobFolder;
//! use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
//! use sleap_rtc_protocol::job::{JobDescription, JobEvent, JobSpec, JobType};
//!
//! let state = tempfile::tempdir()?;
//! let spec = JobSpec {
//!     id: JobId::new("job-1")?,
//!     secret: JobSecret::new("secret")?,
//!     name: "labels".into(),
//!     description: JobDescription::unknown(JobType::Training),
//!     shared: None,
//!     skips_inference: false,
//! };
//! let folder = JobFolder::create(state.path(), &spec, &PeerId::new("ada")?)?;
//! let mut events = folder.lock()?;
//! assert_eq!(events.append(JobEvent::RunStarted { name: "centroid".into() })?, 1);
//! // One process at a time writes events.
//! assert!(folder.lock().is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod active;
mod channel;
pub mod command;
pub mod confine;
pub mod confinement;
mod control;
pub mod error;
pub mod events;
mod failure;
pub mod folder;
mod guard;
pub mod handle;
mod interpreter;
mod journal;
mod lease;
mod legacy_config;
pub mod limits;
mod orphans;
mod output;
mod package_folder;
pub mod plan;
mod processes;
mod progress;
mod reach;
mod results;
pub mod runner;
pub mod sandbox;
pub mod settings;
mod trainer;
pub mod trainers;
mod version;
mod videos;

pub use confine::confine;
pub use confinement::Confinement;
pub use control::JobCommand;
pub use error::JobError;
pub use folder::{JobFolder, JobRecord};
pub use handle::{EventStream, JobHandle, RunnerOptions, start};
pub use lease::{Lease, bytes_on_disk, sweep};
pub use limits::JobLimits;
pub use package_folder::describe_folder;
pub use processes::adopt_descendants;
pub use reach::ReadScope;
pub use runner::run_job;
pub use sandbox::{Sandbox, SandboxError, SandboxMode};
pub use settings::RunnerSettings;

#[cfg(test)]
mod tests;
