//! Moves what a run made from the package to the results.

use serde::{Deserialize, Serialize};
use sleap_rtc_base::mounts::is_inside;
use sleap_rtc_package::script::Run;
use sleap_rtc_protocol::path::RelPath;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The folder in which trainers put models, within the package's top folder.
const MODELS: &str = "models";
/// The endings of files in which trainers save models.
const SAVED: [&str; 2] = [".ckpt", "_model.h5"];

/// Finds what a run made, by comparison with what existed before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    root: PathBuf,
    to: PathBuf,
    models_before: HashSet<OsString>,
    /// The name of the result, if it is known in advance.
    #[serde(default)]
    name: Option<String>,
}

impl Results {
    /// Records the content of the package in `root` before `run`.
    pub fn before(root: &Path, to: &Path, run: &Run) -> Self {
        let name = match run {
            Run::Train(train) => Some(train.folder_name().to_owned()),
            Run::TrainLegacy(train) => train.run_name.clone(),
            Run::Track(_) => None,
        };
        let models_before = names(&root.join(MODELS)).collect();
        Self { root: root.to_owned(), to: to.to_owned(), models_before, name }
    }

    /// Moves the models of a training to the results: the folder that the trainer named, or else
    /// all new ones. Nothing else in the job needs them afterwards. A folder without a saved model
    /// stays. Returns where the results are.
    pub fn keep_models(&self, named: Option<&str>) -> io::Result<Vec<PathBuf>> {
        let models = self.root.join(MODELS);
        // A job may have replaced it by a link to the folder of another job.
        if !models.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            return Ok(Vec::new());
        }
        let named = named.and_then(plain_name).map(OsString::from);
        let found: Vec<OsString> = match named {
            Some(name) if models.join(&name).is_dir() => vec![name],
            _ => names(&models).filter(|name| !self.models_before.contains(name)).collect(),
        };
        let is_only = found.len() == 1;
        let mut kept = Vec::new();
        for name in found {
            let folder = models.join(&name);
            let is_folder = folder.symlink_metadata()?.is_dir();
            if is_folder && has_model(&folder) {
                // The trainer appends a number if the package has an older folder of that name.
                let own = self.name.as_ref().filter(|_| is_only).map(OsString::from);
                kept.push(self.take(&folder, &own.unwrap_or(name))?);
            }
        }
        Ok(kept)
    }

    /// Moves the predictions of an inference to the results, if there are any.
    pub fn keep_predictions(&self, output: &RelPath) -> io::Result<Option<PathBuf>> {
        let file = output.below(&self.root);
        match file.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok(meta) if meta.is_file() && is_inside(&self.root, &file)? => {
                Ok(Some(self.take(&file, output.file_name().as_ref())?))
            }
            Ok(_) => Ok(None),
        }
    }

    fn take(&self, from: &Path, name: &std::ffi::OsStr) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.to)?;
        let to = self.to.join(name);
        fs::rename(from, &to)?;
        Ok(to)
    }
}

fn has_model(folder: &Path) -> bool {
    let mut files = names(folder).filter_map(|name| name.into_string().ok());
    files.any(|name| {
        SAVED.iter().any(|ending| name.ends_with(ending)) && folder.join(name).is_file()
    })
}

fn names(folder: &Path) -> impl Iterator<Item = OsString> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(Result::ok).map(|entry| entry.file_name())
}

/// The name of the folder within `models`, if a trainer's text is a path to one.
fn plain_name(said: &str) -> Option<&str> {
    let name = said.strip_prefix("./").unwrap_or(said).strip_prefix(MODELS)?.strip_prefix('/')?;
    (!name.contains('/') && RelPath::new(name).is_ok()).then_some(name)
}

/// Whether the results of `run` are models.
pub fn makes_models(run: &Run) -> bool {
    !matches!(run, Run::Track(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_of_another_job_are_not_taken() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        for folder in ["other/theirs", "own", "results"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(at("other/theirs/best.ckpt"), "x").unwrap();
        let (root, to) = (at("own"), at("results"));
        let results = Results { root, to, models_before: HashSet::new(), name: None };
        std::os::unix::fs::symlink(at("other"), at("own/models")).unwrap();
        for named in [None, Some("models/theirs")] {
            assert_eq!(results.keep_models(named).unwrap(), Vec::<PathBuf>::new());
        }
        fs::remove_file(at("own/models")).unwrap();
        fs::create_dir(at("own/models")).unwrap();
        std::os::unix::fs::symlink(at("other/theirs"), at("own/models/link")).unwrap();
        assert_eq!(results.keep_models(None).unwrap(), Vec::<PathBuf>::new());
        assert!(at("other/theirs/best.ckpt").exists());
    }
}
