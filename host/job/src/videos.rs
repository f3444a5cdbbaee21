//! Renames videos in labels to paths where the trainer finds them, and in results to paths on the
//! user's machine. Labels are HDF5, so the trainer's own Python changes them.

use super::command::{CommandLine, TrainerSearch};
use super::confinement::TrainerDirs;
use super::interpreter::interpreter;
use super::settings::RunnerSettings;
use super::trainer::RunningTrainer;
use sleap_rtc_package::VideoPaths;
use sleap_rtc_package::script::{Run, Track};
use sleap_rtc_protocol::path::RelPath;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// The script that the interpreter runs.
const SCRIPT: &str = include_str!("video_paths.py");
/// The script's input, a list of paths, in the trainer's working folder.
const LIST: &str = ".sleap-rtc-video-paths.json";
/// Long enough to read and write labels once. A video's predictions are a gigabyte at most.
const LIMIT: Duration = Duration::from_secs(300);
/// How much of the interpreter's last output to keep, in bytes.
const MAX_SAID: usize = 16 * 1024;

/// An old path and the new one.
pub type Renamed = (String, String);

/// The labels of a run to change before the trainer reads them, and the paths in them. `None` if
/// the trainer finds the videos by itself, or by options of its own.
pub fn before(run: &Run, videos: &VideoPaths) -> Option<(Vec<RelPath>, Vec<Renamed>)> {
    let labels = match run {
        Run::Track(Track { mounted: Some(_), .. }) => return None,
        Run::Track(track) => vec![track.data.path.clone()],
        Run::TrainLegacy(train) => vec![train.labels.path.clone()],
        Run::Train(train) if super::command::maps_videos(train) => return None,
        Run::Train(train) => train.files.clone(),
    };
    let labels: Vec<_> =
        labels.into_iter().filter(|path| path.as_str().ends_with(".slp")).collect();
    let moved = videos.moved(labels.first()?);
    (!moved.is_empty()).then_some((labels, moved))
}

/// The paths to change in results, from this machine's to the user's.
pub fn after(videos: &VideoPaths) -> Vec<Renamed> {
    let pair =
        |video: &sleap_rtc_package::VideoPath| (video.place.path().to_owned(), video.name.clone());
    videos.0.iter().map(pair).filter(|(here, there)| here != there).collect()
}

/// The labels among results: a file of predictions, or the files in a model's folder.
pub fn labels_in(results: &[PathBuf]) -> Vec<PathBuf> {
    let is_labels = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "slp");
    let in_folder = |result: &PathBuf| {
        let entries = fs::read_dir(result).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let files = results.iter().flat_map(|result| match result.is_dir() {
        true => in_folder(result),
        false => vec![result.clone()],
    });
    files.filter(is_labels).collect()
}

impl TrainerSearch {
    /// The Python in which sleap-nn runs, without arguments.
    fn python(&self) -> Option<CommandLine> {
        let CommandLine { program, mut arguments } = self.find_command("").ok()?;
        arguments.pop();
        // `python -m sleap_nn.cli`, `conda run -n sleap sleap-nn`.
        if arguments.iter().any(|word| word == "-m") {
            return Some(CommandLine { program, arguments: Vec::new() });
        }
        if let Some(name) = arguments.last_mut() {
            *name = "python".to_owned();
            return Some(CommandLine { program, arguments });
        }
        let python = interpreter(&fs::read(&program).ok()?, |name| self.find(name))?;
        Some(CommandLine { program: python, arguments })
    }
}

/// How to run the interpreter.
pub struct Renaming<'a> {
    pub trainer_search: &'a TrainerSearch,
    /// Confines the interpreter, because labels come from strangers.
    pub settings: &'a RunnerSettings,
    /// The interpreter's folders, and the files that it may change.
    pub place: &'a TrainerDirs,
}

impl Renaming<'_> {
    /// Replaces the paths in `labels`. Each file keeps either all old paths or has all new ones.
    /// The error is a reason in words.
    pub async fn rename(&self, renamed: &[Renamed], labels: &[PathBuf]) -> Result<(), String> {
        let list = self.place.folder.join(LIST);
        let json = serde_json::to_vec(renamed).map_err(|error| error.to_string())?;
        // Does not follow a link that the job left in its place.
        let _ = fs::remove_file(&list);
        let made = fs::OpenOptions::new().write(true).create_new(true).open(&list);
        let written = made.and_then(|mut file| file.write_all(&json));
        written.map_err(|error| format!("{}: {error}", list.display()))?;
        let done = self.run(labels).await;
        // A leftover list is harmless.
        let _ = fs::remove_file(&list);
        done
    }

    async fn run(&self, labels: &[PathBuf]) -> Result<(), String> {
        let python = self.trainer_search.python().ok_or("the trainer's Python is not known")?;
        let CommandLine { program, mut arguments } = python;
        arguments.extend(["-c", SCRIPT, LIST].map(str::to_owned));
        for path in labels {
            let whole = std::path::absolute(path).map_err(|error| error.to_string())?;
            arguments.push(whole.to_string_lossy().into_owned());
        }
        let command = CommandLine { program, arguments };
        let cannot = |error| format!("cannot start {}: {error}", command.program.display());
        let start = self.settings.command(&command, self.place).await.map_err(cannot)?;
        let mut running = RunningTrainer::start(start).map_err(cannot)?;
        let mut said = Vec::new();
        let ending = async {
            while let Some((_, bytes)) = running.output.recv().await {
                said.extend(bytes);
                said.drain(..said.len().saturating_sub(MAX_SAID));
            }
            running.child.wait().await
        };
        match tokio::time::timeout(LIMIT, ending).await {
            Err(_) => Err(format!("the trainer's Python took longer than {} s", LIMIT.as_secs())),
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(_)) => {
                let said = String::from_utf8_lossy(&said);
                let last = said.lines().rev().find(|line| !line.trim().is_empty());
                Err(last
                    .unwrap_or("the trainer's Python failed without a message")
                    .trim()
                    .chars()
                    .take(200)
                    .collect())
            }
            Ok(Err(error)) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn program(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_python_of_each_kind_of_trainer_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let own = |name: &str| folder.path().join(name);
        for name in ["python", "python3", "conda", "apptainer"] {
            program(&own(name), "");
        }
        program(&own("sleap-nn"), &format!("#!{}\nimport sys\n", own("python").display()));
        let trainer_search = TrainerSearch::new(folder.path().into());
        let found = |trainer: Option<&str>| {
            let words = trainer.map(|words| words.split(' ').map(str::to_owned).collect());
            trainer_search.clone().with_trainer(words).python().unwrap()
        };
        let line = |name: &str, arguments: &[&str]| CommandLine {
            program: own(name),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        };
        assert_eq!(found(None), line("python", &[]));
        assert_eq!(found(Some("sleap-nn")), line("python", &[]));
        assert_eq!(found(Some("python3 -m sleap_nn.cli")), line("python3", &[]));
        let conda = line("conda", &["run", "-n", "sleap", "python"]);
        assert_eq!(found(Some("conda run -n sleap sleap-nn")), conda);
        program(&own("sleap-nn"), "#!/usr/bin/env python3\n");
        assert_eq!(found(None), line("python3", &[]));
    }
}
