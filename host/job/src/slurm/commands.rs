//! Calls Slurm's programs.
//!
//! Each call has a time limit: without its controller, Slurm answers after many seconds, or not at all. The
//! programs see only the variables that a trainer would see, because Slurm hands all of them on to the job.

use crate::command::trainer_environment;
use sleap_rtc_base::program::{ProgramOutput, output};
use std::ffi::OsString;
use std::io;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Twice Slurm's own limit for an answer of its controller, and some time to spare.
const ANSWER_LIMIT: Duration = Duration::from_secs(45);
/// The most characters of Slurm's own words in an error.
const WORDS: usize = 500;
/// Variables that Slurm's programs need besides those of trainers. The other `SLURM_*` and `SBATCH_*` of a
/// worker that runs inside a Slurm job must not reach its own jobs.
const PASSED: [&str; 2] = ["SLURM_CONF", "MUNGE_SOCKET"];
/// Folders for temporary files differ from node to node.
const LOCAL: [&str; 2] = ["TMPDIR", "SLURM_TMPDIR"];

/// Why Slurm does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// The program does not start.
    #[error("cannot start {program}: install Slurm's client programs on the worker's machine")]
    NoProgram {
        /// The program.
        program: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The program cannot be run.
    #[error("cannot run {program}")]
    Failed {
        /// The program.
        program: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// Slurm refuses, in its own words.
    #[error("Slurm refuses ({program}): {words}")]
    Refused {
        /// The program.
        program: &'static str,
        /// What it printed.
        words: String,
    },
    /// No answer in time.
    #[error("Slurm does not answer: {program} took longer than {} s", ANSWER_LIMIT.as_secs())]
    Silent {
        /// The program.
        program: &'static str,
    },
}

/// Runs a program of Slurm to its end, and returns what it printed.
pub async fn call(
    program: &'static str,
    arguments: &[String],
    input: Option<&str>,
    pass_env: &[String],
) -> Result<ProgramOutput, SlurmError> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment(pass_env));
    let output = match timeout(ANSWER_LIMIT, output(command, input)).await {
        Err(_) => return Err(SlurmError::Silent { program }),
        Ok(output) => output.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => SlurmError::NoProgram { program, source },
            _ => SlurmError::Failed { program, source },
        })?,
    };
    if !output.status.success() {
        let words = output.stderr.trim().chars().take(WORDS).collect();
        return Err(SlurmError::Refused { program, words });
    }
    Ok(output)
}

fn environment(pass_env: &[String]) -> Vec<(OsString, OsString)> {
    let mut pass = pass_env.to_vec();
    pass.extend(PASSED.map(str::to_owned));
    pass.push("SLEAP_RTC_LOG".to_owned());
    let mut variables = trainer_environment(std::env::vars_os(), &pass);
    variables.retain(|(name, _)| !LOCAL.iter().any(|local| name == local));
    // Times in seconds since 1970.
    variables.push(("SLURM_TIME_FORMAT".into(), "%s".into()));
    variables
}
