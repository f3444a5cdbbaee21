//! Where results go: whole, or not at all.

use super::ClientError;
use super::collected::Collected;
use super::shared::SharedJob;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_transfer::storage;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What the user wants to have at the end.
#[derive(Debug, Clone)]
pub enum Output {
    /// Trained models: a folder that holds one folder for each run.
    Models(PathBuf),
    /// Predictions: one file.
    Predictions(PathBuf),
}

impl Output {
    /// A new folder named after the package: `labels.pkg.zip` gives `labels`, then `labels-1`, ….
    pub fn models_for(package: &Path) -> Self {
        let name = package.file_name().map(|name| name.to_string_lossy().into_owned());
        let mut name = name.unwrap_or_else(|| "models".into());
        for ending in [".zip", ".slp", ".pkg"] {
            name = name.strip_suffix(ending).map(str::to_owned).unwrap_or(name);
        }
        if name.is_empty() || Path::new(&name) == package {
            name.push_str("-models");
        }
        let numbered = (1..).map(|number| PathBuf::from(format!("{name}-{number}")));
        let mut candidates = std::iter::once(PathBuf::from(&name)).chain(numbered);
        Self::Models(candidates.find(|path| !path.exists()).unwrap_or_else(|| name.into()))
    }

    /// As [`Self::models_for`], but beside the package rather than in the working directory.
    pub fn models_beside(package: &Path) -> Self {
        let named = Self::models_for(Path::new(package.file_name().unwrap_or_default()));
        Self::Models(parent(package).join(named.path()))
    }

    /// Where the result will be.
    pub fn path(&self) -> &Path {
        match self {
            Self::Models(path) | Self::Predictions(path) => path,
        }
    }

    /// Whether a result could be written there: hours of training should not end with a folder
    /// that is read-only. Leaves nothing behind.
    ///
    /// # Errors
    /// The system's reason why not.
    pub fn check(&self) -> io::Result<()> {
        Collected::fresh(self.beside()).map(drop)
    }

    /// A new folder, on the same file system, in which a result is collected first.
    pub(super) fn collect(&self) -> Result<Collected, ClientError> {
        Collected::fresh(self.beside()).map_err(|source| self.error(source))
    }

    /// The folder in which the result of `job` is collected, with what an earlier client has brought
    /// of it.
    pub(super) fn collect_of(&self, job: &JobId) -> Result<Collected, ClientError> {
        let above = self.folder().ancestors().map(or_here);
        let begun = above.filter_map(|folder| Collected::of_earlier(folder, job)).next();
        match begun {
            Some(collected) => Ok(collected),
            None => Collected::of(self.beside(), job).map_err(|source| self.error(source)),
        }
    }

    /// The output folder, or where that will be: it is made when there is a result to put in it.
    fn beside(&self) -> &Path {
        let there = self.folder().ancestors().map(or_here).find(|folder| folder.exists());
        there.unwrap_or(Path::new("."))
    }

    fn folder(&self) -> &Path {
        match self {
            Self::Models(folder) => folder,
            Self::Predictions(file) => parent(file),
        }
    }

    /// Puts what was collected in its place and returns that place. What cannot be put there stays
    /// where it was collected.
    pub(super) fn publish(&self, collected: Collected) -> Result<PathBuf, ClientError> {
        let publish = || {
            fs::create_dir_all(self.folder())?;
            match self {
                Self::Models(folder) => move_entries(collected.path(), folder),
                Self::Predictions(file) => move_file(collected.path(), file),
            }
        };
        match publish() {
            Ok(()) => {
                collected.done();
                Ok(self.path().to_owned())
            }
            Err(source) => {
                let (path, kept) = (self.path().to_owned(), collected.keep());
                Err(ClientError::Unplaced { path, kept, source })
            }
        }
    }

    /// Copies a result that lies on this machine, in the worker's folder `results`.
    pub fn copy(&self, results: &Path) -> Result<PathBuf, ClientError> {
        let collected = self.collect()?;
        storage::copy_tree(results, collected.path())
            .map_err(|source| ClientError::Transfer { what: "result", source })?;
        self.publish(collected)
    }

    /// Takes the result of a shared-storage job from where the worker put it.
    pub(super) fn publish_shared(&self, shared: &SharedJob) -> Result<PathBuf, ClientError> {
        if let (Self::Predictions(file), Some(collected)) = (self, shared.collected()) {
            let placed = fs::create_dir_all(parent(file)).and_then(|()| move_file(collected, file));
            placed.map_err(|source| self.error(source))?;
        }
        Ok(self.path().to_owned())
    }

    /// The error of a result that cannot be written.
    pub(super) fn error(&self, source: io::Error) -> ClientError {
        ClientError::Output { path: self.path().to_owned(), source }
    }
}

fn parent(file: &Path) -> &Path {
    or_here(file.parent().unwrap_or(Path::new("")))
}

fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Moves each run's folder; one that is there already keeps its name and the new one gets a number.
fn move_entries(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let numbered = (1..).map(|number| to.join(format!("{name}-{number}")));
        let mut places = std::iter::once(to.join(&name)).chain(numbered);
        let place = places.find(|place| !place.exists()).unwrap_or_else(|| to.join(&name));
        fs::rename(entry.path(), place)?;
    }
    Ok(())
}

fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    let files = fs::read_dir(from)?.flatten().map(|entry| entry.path());
    let mut files = files.filter(|path| path.is_file());
    match (files.next(), files.next()) {
        (Some(only), None) => match fs::rename(&only, to) {
            // Another file system: copied beside, then renamed.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let beside = tempfile::NamedTempFile::new_in(parent(to))?;
                fs::copy(&only, beside.path())?;
                beside.persist(to)?;
                Ok(())
            }
            renamed => renamed,
        },
        (None, _) => Err(io::Error::other("the worker sent no predictions")),
        _ => Err(io::Error::other("the worker sent more than one file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_folder_is_named_after_the_package() {
        for (package, folder) in
            [("x/labels.pkg.zip", "labels"), ("a.zip", "a"), ("x/folder", "folder")]
        {
            assert_eq!(Output::models_for(Path::new(package)).path(), Path::new(folder));
        }
        assert_eq!(Output::models_for(Path::new("folder")).path(), Path::new("folder-models"));
    }

    #[test]
    fn a_run_that_is_there_already_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::Models(folder.path().join("out"));
        for _ in 0..2 {
            let collected = output.collect().unwrap();
            fs::create_dir(collected.path().join("run")).unwrap();
            output.publish(collected).unwrap();
        }
        assert!(folder.path().join("out/run").is_dir());
        assert!(folder.path().join("out/run-1").is_dir());
    }

    #[test]
    fn predictions_end_at_the_path_that_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::Predictions(folder.path().join("p.slp"));
        let collected = output.collect().unwrap();
        assert!(output.publish(collected).is_err());
        let collected = output.collect().unwrap();
        fs::write(collected.path().join("other-name.slp"), "x").unwrap();
        assert_eq!(fs::read(output.publish(collected).unwrap()).unwrap(), b"x");
    }

    #[test]
    fn a_folder_is_made_only_for_a_result() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::Models(folder.path().join("a/b"));
        output.check().unwrap();
        drop(output.collect().unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(folder.path().join("a"), "a file").unwrap();
        assert!(output.check().is_err());
    }

    #[test]
    fn a_result_that_cannot_be_placed_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::Models(folder.path().join("out"));
        let collected = output.collect().unwrap();
        fs::create_dir(collected.path().join("run")).unwrap();
        fs::write(folder.path().join("out"), "somebody was faster").unwrap();
        let Err(ClientError::Unplaced { kept, .. }) = output.publish(collected) else {
            panic!("it was placed")
        };
        assert!(kept.join("run").is_dir());
    }
}
