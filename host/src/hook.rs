//! Runs the user's own command when a job has ended.
//!
//! What is known of the job reaches the command in variables of its environment and in no other way: texts that
//! others chose are never part of a command line, so no shell reads them unless the command itself does that.

use sleap_rtc_base::program::{ProgramOutput, output};
use sleap_rtc_protocol::job::{JobOutcome, JobType};
use sleap_rtc_protocol::text::{Printable, duration};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::Command;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The variables of the job, and of this program: a command inherits no other ones of ours, which may be
/// secrets.
const PREFIX: &str = "SLEAP_RTC_";
/// The most characters of a text that others chose.
const CHARS: usize = 300;

/// A job that has ended.
#[derive(Debug, Clone)]
pub(crate) struct JobEnd {
    pub(crate) id: String,
    /// What its client called it.
    pub(crate) name: String,
    /// `None` if this client does not know it.
    pub(crate) job_type: Option<JobType>,
    pub(crate) outcome: JobOutcome,
    /// The user that its client claims.
    pub(crate) user: Option<String>,
    /// The worker's peer id.
    pub(crate) worker: String,
    /// How long its runs took together, in seconds.
    pub(crate) took_s: Option<f64>,
    /// Where the result is.
    pub(crate) result: Option<PathBuf>,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It cannot be started.
    #[error("cannot start {program}")]
    Start { program: String, source: std::io::Error },
    /// It took too long.
    #[error("{program} was not done after {} s and was killed", LIMIT.as_secs())]
    Slow { program: String },
    /// It says that it failed.
    #[error("{program} failed ({status}){}{said}", if .said.as_str().is_empty() { "" } else { ": " })]
    Failed { program: String, status: ExitStatus, said: Printable },
}

impl JobEnd {
    /// One line for people.
    pub(crate) fn summary(&self) -> Printable {
        let how = match &self.outcome {
            JobOutcome::Failed { message, .. } => format!("failed: {message}"),
            JobOutcome::Succeeded => match self.took_s {
                Some(took_s) => format!("succeeded after {}", duration(took_s)),
                None => "succeeded".to_owned(),
            },
            other => format!("was {}", other.words()),
        };
        let kind = self.job_type.map_or("job", JobType::as_str);
        Printable::line(&format!("{kind} {} {how}", Printable::line(&self.name, 80)), CHARS)
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let line = |text: &str| Printable::line(text, CHARS).to_string();
        let message = match &self.outcome {
            JobOutcome::Failed { message, .. } => line(message),
            _ => String::new(),
        };
        let result = self.result.as_ref().map(|path| path.to_string_lossy().into_owned());
        vec![
            ("SLEAP_RTC_JOB_ID", line(&self.id)),
            ("SLEAP_RTC_JOB_NAME", line(&self.name)),
            ("SLEAP_RTC_JOB_TYPE", self.job_type.map_or("", JobType::as_str).to_owned()),
            ("SLEAP_RTC_JOB_OUTCOME", self.outcome.words().replace(' ', "-")),
            ("SLEAP_RTC_JOB_MESSAGE", message),
            ("SLEAP_RTC_JOB_USER", line(self.user.as_deref().unwrap_or_default())),
            ("SLEAP_RTC_JOB_WORKER", line(&self.worker)),
            ("SLEAP_RTC_JOB_SECONDS", self.took_s.map(|s| format!("{s:.0}")).unwrap_or_default()),
            ("SLEAP_RTC_JOB_RESULT", result.unwrap_or_default()),
            ("SLEAP_RTC_JOB_SUMMARY", self.summary().to_string()),
        ]
    }

    /// Runs `command`, a program and its first arguments, and waits for its end.
    ///
    /// # Errors
    /// It cannot be started, takes too long, or fails.
    pub(crate) async fn run(&self, command: &[String]) -> Result<(), HookError> {
        self.run_within(command, LIMIT).await
    }

    async fn run_within(&self, command: &[String], limit: Duration) -> Result<(), HookError> {
        let Some((program, arguments)) = command.split_first() else { return Ok(()) };
        let mut starting = Command::new(program);
        starting.args(arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(PREFIX) {
                starting.env_remove(name);
            }
        }
        starting.envs(self.variables());
        let program = program.clone();
        match tokio::time::timeout(limit, output(starting, None)).await {
            Err(_) => Err(HookError::Slow { program }),
            Ok(Err(source)) => Err(HookError::Start { program, source }),
            Ok(Ok(ended)) if ended.status.success() => Ok(()),
            Ok(Ok(ProgramOutput { status, stderr, .. })) => {
                let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
                let said = Printable::line(last.unwrap_or_default(), CHARS);
                Err(HookError::Failed { program, status, said })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(outcome: JobOutcome) -> JobEnd {
        JobEnd {
            id: "job-1".into(),
            name: "labels; $(touch x)\u{1b}[2J\n".into(),
            job_type: Some(JobType::Training),
            outcome,
            user: None,
            worker: "w".into(),
            took_s: Some(1834.2),
            result: None,
        }
    }

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(String::from).to_vec()
    }

    #[test]
    fn the_summary_is_one_line() {
        let failed = JobOutcome::Failed { exit_code: Some(1), message: "no\nmemory".into() };
        let said =
            [JobOutcome::Succeeded, failed].map(|outcome| end(outcome).summary().to_string());
        assert_eq!(said[0], "training labels; $(touch x)[2J succeeded after 31 min");
        assert_eq!(said[1], "training labels; $(touch x)[2J failed: no memory");
    }

    #[tokio::test]
    async fn facts_are_variables_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let seen = folder.path().join("seen");
        let script = format!("env | grep ^SLEAP_RTC_ | sort > '{}'; test $# = 0", seen.display());
        end(JobOutcome::Succeeded).run(&sh(&script)).await.unwrap();
        let seen = std::fs::read_to_string(seen).unwrap();
        let variable = |name: &str| {
            let all = seen
                .lines()
                .filter_map(|line| line.strip_prefix("SLEAP_RTC_JOB_")?.split_once('='));
            all.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next().unwrap()
        };
        assert_eq!(seen.lines().count(), 10, "{seen}");
        assert_eq!(variable("OUTCOME"), "succeeded");
        assert_eq!(variable("NAME"), "labels; $(touch x)[2J");
        assert_eq!(variable("SECONDS"), "1834");
    }

    #[tokio::test]
    async fn a_command_that_fails_or_hangs_is_reported_and_ends() {
        let end = end(JobOutcome::Cancelled);
        let failure = |ended: Result<(), HookError>| ended.unwrap_err().to_string();
        let said = failure(end.run(&sh("echo first >&2; echo no mail >&2; exit 3")).await);
        assert_eq!(said, "sh failed (exit status: 3): no mail");
        let absent = vec!["/no/such/program".to_owned()];
        assert_eq!(failure(end.run(&absent).await), "cannot start /no/such/program");
        let slow = end.run_within(&sh("sleep 600 & wait"), Duration::from_millis(200)).await;
        assert!(failure(slow).contains("was killed"));
        // Many messages do not block it.
        end.run(&sh("yes | head -c 1000000 >&2")).await.unwrap();
    }
}
