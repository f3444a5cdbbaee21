//! The languages' build tools: finds them, and runs them with a time limit.

use super::super::exit::{Exit, Failure};
use sleap_rtc_base::os::ProcessGroup;
use sleap_rtc_base::program::output;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The file `name` in the folder `own`, or else on `PATH`.
pub(crate) fn find(own: &Path, name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(own.to_owned()).chain(env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What `program` prints, if it succeeds within ten seconds.
pub(crate) async fn asked(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments);
    let asking = tokio::time::timeout(Duration::from_secs(10), output(command, None));
    let answer = asking.await.ok()?.ok()?;
    answer.status.success().then(|| answer.stdout.trim().to_owned())
}

/// Runs `command` with its output on standard error. After `limit`, or when the user interrupts, it is
/// killed together with its child processes.
pub(crate) async fn run(what: &str, command: Command, limit: Duration) -> Result<(), Failure> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(io::stderr()).kill_on_drop(true);
    ProcessGroup::begin(&mut command);
    let mut child = command.spawn().map_err(|error| {
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(format!("cannot start {what}")))
    })?;
    let group = ProcessGroup::of(&child);
    tokio::select! {
        ended = child.wait() => match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::usage(format!(
                "{what} could not build the plugin ({status}); its output is above"
            ))),
            Err(error) => Err(Failure::new(Exit::Unexpected, error)),
        },
        () = tokio::time::sleep(limit) => {
            group.kill();
            let _ = child.wait().await;
            let limit_s = limit.as_secs();
            let text = format!("{what} did not finish within {limit_s} s and was stopped");
            Err(Failure::usage(text).hint("give it more time with --tool-timeout-s"))
        }
        _ = tokio::signal::ctrl_c() => {
            group.kill();
            let _ = child.wait().await;
            Err(Failure::message(Exit::Cancelled, format!("{what} was stopped")))
        }
    }
}
