//! Asks the driver in a separate process, because a broken driver can hang or crash its caller.

use super::Survey;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::program::{ProgramError, run};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The hidden subcommand that prints a [`Survey`] as JSON.
pub const SUBCOMMAND: &str = "survey-gpus";

/// Starts `program`, which must be this program, and waits at most `limit` for its answer. Blocks.
pub fn survey_in_child(program: &Path, limit: Duration) -> Survey {
    let mut command = Command::new(program);
    command.arg(SUBCOMMAND);
    let unavailable = |why: &str| Survey::Unavailable(why.to_owned());
    match run(command, limit) {
        Ok(ended) if ended.status.success() => serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|_| unavailable("cannot read the answer of its survey")),
        Ok(ended) => {
            let said = ended.stderr.lines().rev().find(|line| !line.trim().is_empty());
            unavailable(&format!("its survey failed: {}", said.unwrap_or("it crashed").trim()))
        }
        Err(ProgramError::TimedOut(limit)) => {
            unavailable(&format!("it did not answer within {} s", limit.as_secs()))
        }
        Err(error) => unavailable(&format!("its survey failed: {}", WithCauses(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_driver_that_hangs_crashes_or_prints_garbage_is_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let words = |script: &str, limit_ms| {
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&program, mode).unwrap();
            survey_in_child(&program, Duration::from_millis(limit_ms))
        };
        let says = |survey, expected: &str| match survey {
            Survey::Unavailable(words) => assert!(words.contains(expected), "{words}"),
            other => panic!("{other:?}"),
        };
        says(words("sleep 600", 1_000), "within 1 s");
        says(words("kill -SEGV $$", 60_000), "crashed");
        says(words("echo hello", 60_000), "cannot read the answer");
        assert_eq!(words("echo '\"no_driver\"'", 60_000), Survey::NoDriver);
    }
}
