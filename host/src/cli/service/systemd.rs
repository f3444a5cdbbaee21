//! What is asked of systemd's instance of this user.

use crate::cli::exit::{Exit, Failure};
use crate::cli::print;
use sleap_rtc_base::bounded_wait::BoundedWait;
use sleap_rtc_base::program::ProgramOutput;
use std::io;
use std::time::Duration;
use tokio::process::Command;

/// A worker that ends takes up to 30 s.
const LIMIT: Duration = Duration::from_secs(90);
/// How long systemd may take to answer a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// systemd's instance of this user, which has answered.
pub(crate) struct Systemd(());

/// How a unit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnitState {
    /// It runs, as this process.
    Running { pid: String },
    /// It has ended with an error; systemd's word for it.
    Failed { result: String },
    /// Anything else, in systemd's word.
    Other(String),
}

/// Whether a user's services run while the user is logged out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linger {
    On,
    Off,
    Unknown,
}

impl Systemd {
    /// Fails in plain words where systemd has no instance for this user.
    pub(crate) async fn reach() -> Result<Self, Failure> {
        match output("systemctl", &["--user", "show-environment"], ANSWER_LIMIT).await {
            Ok(output) if output.status.success() => Ok(Self(())),
            Ok(output) => Err(Failure::message(
                Exit::Unexpected,
                format!("systemd runs no services for this user here: {}", said(&output)),
            )
            .hint(
                "log in as this user, at the machine or by ssh: `su` and `sudo` start no instance of \
                 systemd\nin a container or a batch job, start `sleap-rtc worker` itself",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::message(
                Exit::Unexpected,
                "this machine has no `systemctl`, and `sleap-rtc service` needs systemd",
            )
            .hint("start `sleap-rtc worker` by what this machine has instead, or in `tmux`")),
            Err(error) => Err(Failure::new(
                Exit::Unexpected,
                anyhow::Error::new(error).context("cannot ask `systemctl --user`"),
            )),
        }
    }

    /// Calls `systemctl --user` with these words.
    pub(crate) async fn call(&self, words: &[&str]) -> Result<(), Failure> {
        let command = format!("systemctl --user {}", words.join(" "));
        let all: Vec<&str> = ["--user"].iter().chain(words).copied().collect();
        let output = output("systemctl", &all, LIMIT).await.map_err(|error| {
            let error = anyhow::Error::new(error).context(format!("cannot run `{command}`"));
            Failure::new(Exit::Unexpected, error)
        })?;
        if output.status.success() {
            return Ok(());
        }
        let text = format!("`{command}` failed: {}", said(&output));
        Err(Failure::message(Exit::Unexpected, text))
    }

    /// How a unit stands.
    pub(crate) async fn state(&self, unit: &str) -> UnitState {
        let words = ["--user", "show", unit, "--property=ActiveState,MainPID,Result"];
        let text = match output("systemctl", &words, ANSWER_LIMIT).await {
            Ok(output) => output.stdout,
            Err(error) => return UnitState::Other(format!("unknown: {error}")),
        };
        UnitState::read(&text)
    }
}

impl UnitState {
    fn read(properties: &str) -> Self {
        let property = |name: &str| {
            let mut lines = properties.lines().filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| *key == name).map_or("unknown", |(_, value)| value).to_owned()
        };
        match property("ActiveState").as_str() {
            "active" => Self::Running { pid: property("MainPID") },
            "failed" => Self::Failed { result: property("Result") },
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Whether services of this user outlive the login.
pub(crate) async fn linger() -> Linger {
    let uid = rustix::process::getuid().to_string();
    let words = ["show-user", &uid, "--property=Linger"];
    let answer = output("loginctl", &words, ANSWER_LIMIT).await;
    match answer.as_ref().map(|output| output.stdout.trim()) {
        Ok("Linger=yes") => Linger::On,
        Ok("Linger=no") => Linger::Off,
        _ => Linger::Unknown,
    }
}

async fn output(program: &str, words: &[&str], limit: Duration) -> io::Result<ProgramOutput> {
    let mut command = Command::new(program);
    command.args(words);
    let patience = BoundedWait { limit, announce: print::waiting };
    let command_line = format!("`{program} {}`", words.join(" "));
    let answering = sleap_rtc_base::program::output(command, None);
    patience.wait(&command_line, answering).await.map_err(|_| {
        let text = format!("{command_line} did not answer within {} s", limit.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, text)
    })?
}

fn said(output: &ProgramOutput) -> String {
    let text = output.stderr.trim().to_owned();
    if text.is_empty() { format!("it ended with {}", output.status) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_unit_is_read() {
        for (text, expected) in [
            (
                "Result=success\nActiveState=active\nMainPID=7\n",
                UnitState::Running { pid: "7".into() },
            ),
            (
                "Result=exit-code\nActiveState=failed\nMainPID=0\n",
                UnitState::Failed { result: "exit-code".into() },
            ),
            ("ActiveState=activating\n", UnitState::Other("activating".into())),
            ("", UnitState::Other("unknown".into())),
        ] {
            assert_eq!(UnitState::read(text), expected);
        }
    }
}
