//! Ends a trainer whose job's process is gone.
//!
//! A job's process that is killed cannot take its trainer with it. So it writes down which one it
//! started, and whoever settles the job afterwards ends that.

use super::folder::JobFolder;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use std::fs;

const FILE: &str = "trainer.json";

/// A process: ids are used again, but not with the same start.
#[derive(Debug, Serialize, Deserialize)]
struct Trainer {
    pid: i32,
    /// In clock ticks since the system started.
    started: Option<u64>,
}

/// Writes down the trainer that runs.
pub fn remember(folder: &JobFolder, id: Option<u32>) {
    let Some(pid) = id.and_then(|id| i32::try_from(id).ok()) else { return };
    let trainer = Trainer { pid, started: start_of(pid) };
    let written = serde_json::to_vec(&trainer)
        .map_err(std::io::Error::from)
        .and_then(|json| fs::write(folder.path().join(FILE), json));
    if let Err(error) = written {
        tracing::warn!(%error, "the trainer's process id is not written down");
    }
}

/// No trainer runs.
pub fn forget(folder: &JobFolder) {
    // If it stays, the start of the process tells that it is an old one.
    let _ = fs::remove_file(folder.path().join(FILE));
}

/// Kills the trainer that was written down last, with its group. The caller has the job's lock.
pub fn end(folder: &JobFolder) {
    let Ok(json) = fs::read(folder.path().join(FILE)) else { return };
    forget(folder);
    let Ok(trainer) = serde_json::from_slice::<Trainer>(&json) else { return };
    // Without its leader a group can only be the old one: its id is not used again before it ends.
    let is_other = start_of(trainer.pid).is_some_and(|start| Some(start) != trainer.started);
    if let Some(group) = Pid::from_raw(trainer.pid)
        && !is_other
        && kill_process_group(group, Signal::KILL).is_ok()
    {
        tracing::info!(pid = trainer.pid, "a trainer without its job's process was ended");
    }
}

fn start_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the start is number 19 after it.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::job_folder;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    #[test]
    fn only_the_process_that_was_written_down_is_ended() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        let mut child = Command::new("sleep").arg("3600").process_group(0).spawn().unwrap();
        remember(&folder, Some(child.id()));
        let other = Trainer { pid: child.id().cast_signed(), started: Some(1) };
        let path = folder.path().join(FILE);
        let right = fs::read(&path).unwrap();
        fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        end(&folder);
        assert!(!path.exists());
        assert!(child.try_wait().unwrap().is_none());
        fs::write(&path, right).unwrap();
        end(&folder);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
