//! Exit codes, and the errors that carry them to the user.

use sleap_rtc_protocol::text::is_printable;
use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

/// How the program ends. [`EXIT_CODES`] is the table that users read; `cli::client::exit_codes` maps a
/// client's errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The job succeeded.
    Success = 0,
    /// An error without an exit code of its own.
    Unexpected = 1,
    /// Invalid options, configuration or files.
    Usage = 2,
    /// The signaling server or the worker cannot be reached, or the credentials are wrong.
    Connect = 3,
    /// No worker in the room can take the job.
    NoWorker = 4,
    /// The worker refused: busy, or the job does not fit it.
    Refused = 5,
    /// The job ran and failed.
    JobFailed = 6,
    /// The package or the result could not be transferred.
    Transfer = 7,
    /// The client detached; the job keeps running.
    Detached = 8,
    /// The worker has not proven who it is, or this device is no member of the room.
    Untrusted = 9,
    /// The user cancelled.
    Cancelled = 130,
}

/// The codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  the job succeeded
    1  unexpected error
    2  invalid options, configuration or files
    3  cannot connect, or wrong credentials
    4  no worker can take the job
    5  refused: the worker is busy, or the job does not fit it
    6  the job failed
    7  the package or the result could not be transferred
    8  the client detached and the job keeps running: reattach with `sleap-rtc attach`
    9  the worker has not proven who it is, or this device is not a member of the room (any more)
  130  cancelled";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error for the user: what happened, the exit code, and what to do.
#[derive(Debug)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// What happened, with its causes.
    pub error: anyhow::Error,
    /// What to do next, in one or more lines.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with the error's text.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hint: None }
    }

    /// A failure without an underlying error.
    pub fn message(exit: Exit, text: impl Into<String>) -> Self {
        Self::new(exit, anyhow::Error::msg(text.into()))
    }

    /// Invalid options or files.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::message(Exit::Usage, text)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(self, text: impl Into<String>) -> Self {
        Self { hint: Some(text.into()), ..self }
    }

    /// What is printed: `error: …`, one `  caused by: …` for each cause, `hint: …`. What somebody wanted is no
    /// error.
    pub fn report(&self) -> String {
        let mut text = match self.exit {
            Exit::Detached | Exit::Cancelled => sentence(&self.error.to_string()),
            _ => format!("error: {}\n", self.error),
        };
        let mut cause: Option<&(dyn Error + 'static)> = self.error.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  caused by: {error}");
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {}", hint.replace('\n', "\n      "));
        }
        // Some of this text comes from other machines and must not control the terminal.
        text.retain(|c| is_printable(c) || c == '\n');
        text
    }
}

/// `text` with a capital letter and a full stop, as a line.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.\n", letters.as_str())
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Unexpected, error)
    }
}

#[cfg(any(feature = "client", feature = "worker"))]
impl From<sleap_rtc_trust::pairing::CodeError> for Failure {
    fn from(error: sleap_rtc_trust::pairing::CodeError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

/// Adds an exit code to an error: `server.connect().await.exit(Exit::Connect)?`.
pub trait ExitWith<T> {
    /// Turns the error into a [`Failure`] that ends the program with `exit`.
    fn exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> ExitWith<T> for Result<T, E> {
    fn exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(exit, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_report_has_causes_and_a_hint() {
        let lost: Result<(), _> = Err(std::io::Error::other("the wire was cut"));
        let failure = lost.context("cannot reach gpu1").exit(Exit::Connect).unwrap_err();
        let failure = failure.hint("plug it in\nor walk");
        assert_eq!(
            failure.report(),
            "error: cannot reach gpu1\n  caused by: the wire was cut\nhint: plug it in\n      or walk\n"
        );
        assert_eq!(failure.exit as u8, 3);
    }

    #[test]
    fn what_somebody_wanted_is_no_error() {
        let detached = Failure::message(Exit::Detached, "detached; the job keeps running");
        assert_eq!(detached.report(), "Detached; the job keeps running.\n");
    }

    #[test]
    fn the_table_has_every_code() {
        for exit in [
            Exit::Success,
            Exit::Unexpected,
            Exit::Usage,
            Exit::Connect,
            Exit::NoWorker,
            Exit::Refused,
            Exit::JobFailed,
            Exit::Transfer,
            Exit::Detached,
            Exit::Untrusted,
            Exit::Cancelled,
        ] {
            let row = format!("\n{:>5}  ", exit as u8);
            assert!(EXIT_CODES.contains(&row), "{exit:?}");
        }
    }
}
