//! Ends a trainer whose job's process has died, and keeps the models that it saved.
//!
//! A job's process that is killed cannot end its trainer or move its models to the results. So it records
//! which trainer it has started and where the models will be, and the process that settles the job later
//! does both.

use super::folder::JobFolder;
use super::processes::{self, Status};
use super::results::Results;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::os;
use std::fs;
use std::path::{Path, PathBuf};

const FILE: &str = "trainer.json";
/// The part of a job's private folder that trainers can reach and that their variables name. The
/// sockets for their progress are beside it, out of reach.
pub(crate) const TRAINER_PART: &str = "own";

/// A running trainer. Process ids are reused, but not with the same start time since the same boot.
#[derive(Debug, Serialize, Deserialize)]
struct TrainerProcess {
    pid: i32,
    /// When it started, in clock ticks since the system booted.
    started: Option<u64>,
    /// Identifies the boot of the system.
    boot: Option<String>,
    /// How to find the models that it makes, if it makes any.
    results: Option<Results>,
    /// The folder for its temporary files, which its variables name.
    #[serde(default)]
    private: Option<PathBuf>,
}

/// Records the running trainer, the folder for its temporary files, and how to find the models that it makes,
/// if it makes any.
pub fn remember(folder: &JobFolder, id: Option<u32>, private: &Path, results: Option<&Results>) {
    let Some(pid) = id.and_then(|id| i32::try_from(id).ok()) else { return };
    let (started, results, private) = (start_of(pid), results.cloned(), Some(private.to_owned()));
    let trainer = TrainerProcess { pid, started, boot: os::boot_id(), results, private };
    let written = serde_json::to_vec(&trainer)
        .map_err(std::io::Error::from)
        .and_then(|json| fs::write(folder.path().join(FILE), json));
    if let Err(error) = written {
        tracing::warn!(error = %WithCauses(&error), "cannot record the process id of the trainer");
    }
}

/// Records that no trainer runs.
pub fn forget(folder: &JobFolder) {
    // If the file remains, the start time of the process shows that it is outdated.
    let _ = fs::remove_file(folder.path().join(FILE));
}

/// Kills the trainer that was recorded last, with its process group, and moves the models that it saved to
/// the results. The caller holds the job's lock.
pub fn end(folder: &JobFolder) {
    let Ok(json) = fs::read(folder.path().join(FILE)) else { return };
    forget(folder);
    let Ok(trainer) = serde_json::from_slice::<TrainerProcess>(&json) else { return };
    // A group without its leader is the old one, since its id is not reused before the group ends.
    let is_other = trainer.boot != os::boot_id()
        || start_of(trainer.pid).is_some_and(|start| Some(start) != trainer.started);
    if let Some(group) = Pid::from_raw(trainer.pid)
        && !is_other
        && kill_process_group(group, Signal::KILL).is_ok()
    {
        tracing::info!(pid = trainer.pid, "ended a trainer whose job's process has died");
    }
    if let Some(private) = trainer.private.filter(|private| private.is_absolute()) {
        end_those_of(&private.join(TRAINER_PART));
        // The folder may be gone after a restart of the machine.
        let _ = fs::remove_dir_all(private);
    }
    if let Some(results) = trainer.results {
        match results.keep_models(None) {
            Ok(names) if names.is_empty() => {}
            Ok(names) => {
                tracing::info!(job = %folder.id(), ?names, "kept the models of a trainer whose job's process has died")
            }
            Err(error) => {
                tracing::warn!(error = %WithCauses(&error), "cannot keep the models that the trainer saved")
            }
        }
    }
}

/// Kills the processes that left the trainer's group but still have its variables. The private folder belongs
/// to one job.
fn end_those_of(private: &Path) {
    let variable = [b"TMPDIR=", private.as_os_str().as_encoded_bytes()].concat();
    let is_of = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|other| other == variable.as_slice())
    };
    for pid in processes::all().into_keys().filter(is_of).filter_map(Pid::from_raw) {
        if kill_process(pid, Signal::KILL).is_ok() {
            tracing::info!(?pid, "ended a process that a job left behind");
        }
    }
}

fn start_of(pid: i32) -> Option<u64> {
    Some(Status::of(pid)?.started)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::job_folder;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    #[test]
    fn only_the_recorded_process_is_killed() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        let mut child = Command::new("sleep").arg("3600").process_group(0).spawn().unwrap();
        let pid = child.id().cast_signed();
        let path = folder.path().join(FILE);
        let process =
            |started, boot| TrainerProcess { pid, started, boot, results: None, private: None };
        let later = process(Some(1), os::boot_id());
        let before = Some("before the machine was started again".to_owned());
        let earlier = process(start_of(pid), before);
        for other in [later, earlier] {
            fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
            end(&folder);
            assert!(!path.exists());
            assert!(child.try_wait().unwrap().is_none());
        }
        remember(&folder, Some(child.id()), Path::new("relative"), None);
        end(&folder);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn processes_outside_the_group_are_found_by_their_private_folder() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        let private = tempfile::tempdir().unwrap().keep();
        let start = |folder: &Path| {
            let mut sleep = Command::new("sleep");
            sleep
                .arg("3600")
                .env("TMPDIR", folder.join(TRAINER_PART))
                .process_group(0)
                .spawn()
                .unwrap()
        };
        let (mut trainer, mut escaped) = (start(&private), start(&private));
        let mut other = start(state.path());
        remember(&folder, Some(trainer.id()), &private, None);
        end(&folder);
        for ended in [&mut trainer, &mut escaped] {
            assert_eq!(ended.wait().unwrap().signal(), Some(9));
        }
        assert!(other.try_wait().unwrap().is_none() && !private.exists());
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn only_saved_models_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        let models = folder.files_dir().join("models");
        let save = |name: &str, file: &str| {
            fs::create_dir_all(models.join(name)).unwrap();
            fs::write(models.join(name).join(file), "x").unwrap();
        };
        save("of-the-package", "best.ckpt");
        let run = sleap_rtc_package::script::Run::Track(sleap_rtc_package::script::Track {
            data: sleap_rtc_package::script::Folder::default().place("a.slp").unwrap(),
            mounted: None,
            models: Vec::new(),
            output: sleap_rtc_protocol::path::RelPath::new("b.slp").unwrap(),
            options: Vec::new(),
        });
        let results = Results::before(&folder.files_dir(), &folder.results_dir(), &run);
        save("saved", "best.ckpt");
        save("begun", "training_log.csv");
        let mut child = Command::new("sleep").arg("3600").process_group(0).spawn().unwrap();
        remember(&folder, Some(child.id()), Path::new("relative"), Some(&results));
        end(&folder);
        child.wait().unwrap();
        let kept: Vec<_> = fs::read_dir(folder.results_dir()).unwrap().flatten().collect();
        assert_eq!(kept.len(), 1);
        assert!(kept[0].path().ends_with("saved") && kept[0].path().join("best.ckpt").exists());
    }
}
