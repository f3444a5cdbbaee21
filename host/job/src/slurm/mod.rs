//! Slurm as the place where jobs run.
//!
//! | module | what it does |
//! |---|---|
//! | `options` | what an operator configures |
//! | `commands` | calls Slurm's programs, with a time limit |
//! | `submit` | hands a job over |
//! | `queue` | what `squeue` says about jobs |
//! | `watch` | follows all jobs with one call at a time, and records the end of those that Slurm has lost |

mod commands;
mod options;
mod queue;
mod submit;
mod watch;

pub use commands::SlurmError;
pub use options::{SlurmOptions, TimeLimit};
pub use queue::{PendingReason, SlurmState};
pub use submit::{expected_start_ms, submit};
pub use watch::{SlurmWatch, WatchTimes};
