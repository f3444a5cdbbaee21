//! `sleap-rtc doctor`: checks a machine before anybody waits for it.
//!
//! | module | what it checks |
//! |---|---|
//! | `machine` | limits of the system, folders and their locks, sockets, plugins |
//! | `network` | the signaling server, the proxy on the way to it, the clock |
//! | `trainer` | GPUs, their driver, the trainer and its PyTorch |

mod machine;
mod network;
mod trainer;

use super::common::CommonArgs;
use super::exit::{Exit, ExitWith, Failure};
use super::print;
use crate::config::{Config, Overrides};
use serde::Serialize;
use std::path::PathBuf;

/// The examples under `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  Everything:
    sleap-rtc doctor
  What a worker needs, as the user that runs it:
    sleap-rtc doctor --worker
  What a client needs, for another program to read:
    sleap-rtc doctor --client --json
Ends with exit code 0 when nothing has failed, else with 1.";

/// The options of `doctor`.
#[derive(clap::Args)]
pub struct DoctorArgs {
    /// Check only what a worker needs
    #[arg(long, conflicts_with = "client")]
    worker: bool,
    /// Check only what a client needs
    #[arg(long)]
    client: bool,
    /// Print a JSON list of {check, verdict, says, advice}
    #[arg(long)]
    json: bool,
    /// Folder for identity, room and jobs of the worker
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

/// What is checked, and how it is shown.
#[derive(Debug)]
pub struct DoctorOptions {
    for_worker: bool,
    for_client: bool,
    as_json: bool,
}

impl DoctorArgs {
    pub(super) fn check(self) -> Result<(DoctorOptions, Overrides), Failure> {
        let (for_worker, for_client) = (!self.client, !self.worker);
        let options = DoctorOptions { for_worker, for_client, as_json: self.json };
        let state_dir = self.state_dir;
        Ok((options, Overrides { state_dir, ..self.common.check()? }))
    }
}

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    /// What was found.
    says: String,
    /// What to do, where something is wrong.
    advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Finding {
    fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, says: says.into(), advice: None }
    }

    fn warn(check: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { check, verdict: Verdict::Warn, says: says.into(), advice }
    }

    fn fail(check: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(check, says, advice) }
    }

    /// One line, and one more for what to do.
    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        // Other programs' words must not steer the terminal.
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
        let line = format!("{verdict}  {:<11} {}\n", self.check, plain(&self.says));
        match &self.advice {
            None => line,
            Some(advice) => format!("{line}      {:<11} → {}\n", "", plain(advice)),
        }
    }
}

/// Checks everything that the options ask for, and prints it.
pub(super) async fn run(options: DoctorOptions, config: &Config) -> Result<Exit, Failure> {
    let mut findings = machine::check(config, options.for_worker, options.for_client);
    if options.for_worker {
        findings.extend(trainer::check(&config.worker).await);
    }
    findings.extend(network::check(config).await);
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    if options.as_json {
        let text = serde_json::to_string_pretty(&findings).exit(Exit::Unexpected)?;
        print::line(&text).exit(Exit::Unexpected)?;
    } else {
        let lines: String = findings.iter().map(Finding::line).collect();
        print::raw(&lines).exit(Exit::Unexpected)?;
    }
    Ok(if failed { Exit::Unexpected } else { Exit::Success })
}

/// An error with its causes, in one line.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_to_do() {
        let fine = Finding::ok("gpu", "NVIDIA A40,\u{1b}[2J 46068 MB");
        assert_eq!(fine.line(), "ok    gpu         NVIDIA A40,[2J 46068 MB\n");
        let failed = Finding::fail("trainer", "no sleap-nn found", "install it");
        insta::assert_snapshot!(failed.line(), @"
        fail  trainer     no sleap-nn found
                          → install it
        ");
    }
}
