//! Puts results in their place: complete, or not at all.

use super::ClientError;
use super::partial_download::PartialDownload;
use super::shared::SharedJob;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_transfer::copy_tree;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The output that the user wants.
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

    /// Like [`Self::models_for`], but beside the package instead of in the working directory.
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

    /// Checks that a result can be written there, so that hours of training do not end with a read-only
    /// folder. Leaves nothing behind.
    ///
    /// # Errors
    /// The system's error.
    pub fn check(&self) -> io::Result<()> {
        PartialDownload::create(self.beside()).map(drop)
    }

    /// Creates a folder on the same file system in which to receive a result.
    pub(crate) fn new_download(&self) -> Result<PartialDownload, ClientError> {
        PartialDownload::create(self.beside()).map_err(|source| self.error(source))
    }

    /// Opens the folder in which to receive the result of `job`, with everything that an earlier
    /// client received.
    pub(crate) fn resume_download(&self, job: &JobId) -> Result<PartialDownload, ClientError> {
        let above = self.folder().ancestors().map(or_here);
        let begun = above.filter_map(|folder| PartialDownload::reopen(folder, job)).next();
        match begun {
            Some(partial) => Ok(partial),
            None => PartialDownload::open(self.beside(), job).map_err(|source| self.error(source)),
        }
    }

    /// The output folder, or its nearest existing parent: it is created only for a result.
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

    /// Moves a complete result to its place and returns that place. If that fails, the result stays
    /// where it was received.
    pub(crate) fn publish(&self, partial: PartialDownload) -> Result<PathBuf, ClientError> {
        let publish = || {
            fs::create_dir_all(self.folder())?;
            match self {
                Self::Models(folder) => move_entries(partial.path(), folder),
                Self::Predictions(file) => move_file(partial.path(), file),
            }
        };
        match publish() {
            Ok(()) => {
                partial.discard();
                Ok(self.path().to_owned())
            }
            Err(source) => {
                let (path, kept) = (self.path().to_owned(), partial.keep());
                Err(ClientError::Unplaced { path, kept, source })
            }
        }
    }

    /// Copies a result from the worker's folder `results` on this machine.
    pub fn copy(&self, results: &Path) -> Result<PathBuf, ClientError> {
        let partial = self.new_download()?;
        copy_tree(results, partial.path())
            .map_err(|source| ClientError::Transfer { what: "result", source })?;
        self.publish(partial)
    }

    /// Moves the result of a shared-storage job from the place where the worker put it.
    pub(crate) fn publish_shared(&self, shared: &SharedJob) -> Result<PathBuf, ClientError> {
        if let (Self::Predictions(file), Some(partial)) = (self, shared.scratch_output()) {
            let placed = fs::create_dir_all(parent(file)).and_then(|()| move_file(partial, file));
            placed.map_err(|source| self.error(source))?;
        }
        Ok(self.path().to_owned())
    }

    /// The error of a result that cannot be written.
    pub(crate) fn error(&self, source: io::Error) -> ClientError {
        ClientError::Output { path: self.path().to_owned(), source }
    }
}

fn parent(file: &Path) -> &Path {
    or_here(file.parent().unwrap_or(Path::new("")))
}

fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Moves each run's folder. If its name is taken by something else, it gets a number.
fn move_entries(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let numbered = (1..).map(|number| to.join(format!("{name}-{number}")));
        let mut places = std::iter::once(to.join(&name)).chain(numbered);
        let is_for_it =
            |place: &PathBuf| !place.exists() || is_same(place, &entry.path()).unwrap_or(false);
        let place = places.find(is_for_it).unwrap_or_else(|| to.join(&name));
        if !place.exists() {
            fs::rename(entry.path(), place)?;
        }
    }
    Ok(())
}

/// Whether two files or folders have the same content.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (a, b) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
    if a.is_dir() && b.is_dir() {
        let (mine, others) = (sorted_names(one)?, sorted_names(other)?);
        let is_same = |name| is_same(&one.join(name), &other.join(name)).unwrap_or(false);
        return Ok(mine == others && mine.iter().all(is_same));
    }
    if !a.is_file() || !b.is_file() || a.len() != b.len() {
        return Ok(false);
    }
    let (mut mine, mut others) =
        (BufReader::new(File::open(one)?), BufReader::new(File::open(other)?));
    loop {
        let (left, right) = (mine.fill_buf()?, others.fill_buf()?);
        let count = left.len().min(right.len());
        if left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(left.len() == right.len());
        }
        mine.consume(count);
        others.consume(count);
    }
}

fn sorted_names(folder: &Path) -> io::Result<Vec<OsString>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    let files = fs::read_dir(from)?.flatten().map(|entry| entry.path());
    let mut files = files.filter(|path| path.is_file());
    match (files.next(), files.next()) {
        (Some(only), None) => match fs::rename(&only, to) {
            // On another file system, it is copied first, then renamed.
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
    fn a_run_that_is_there_already_is_kept_and_the_same_one_is_not_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::Models(folder.path().join("out"));
        for content in ["one", "two", "one", "two"] {
            let partial = output.new_download().unwrap();
            fs::create_dir(partial.path().join("run")).unwrap();
            fs::write(partial.path().join("run/best.ckpt"), content).unwrap();
            output.publish(partial).unwrap();
        }
        let read = |run: &str| fs::read_to_string(folder.path().join(run).join("best.ckpt"));
        assert_eq!(
            (read("out/run").unwrap(), read("out/run-1").unwrap()),
            ("one".into(), "two".into())
        );
        assert_eq!(sorted_names(&folder.path().join("out")).unwrap(), ["run", "run-1"]);
    }

    #[test]
    fn predictions_end_at_the_path_that_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::Predictions(folder.path().join("p.slp"));
        let partial = output.new_download().unwrap();
        assert!(output.publish(partial).is_err());
        let partial = output.new_download().unwrap();
        fs::write(partial.path().join("other-name.slp"), "x").unwrap();
        assert_eq!(fs::read(output.publish(partial).unwrap()).unwrap(), b"x");
    }

    #[test]
    fn a_folder_is_made_only_for_a_result() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::Models(folder.path().join("a/b"));
        output.check().unwrap();
        drop(output.new_download().unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(folder.path().join("a"), "a file").unwrap();
        assert!(output.check().is_err());
    }

    #[test]
    fn a_result_that_cannot_be_placed_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::Models(folder.path().join("out"));
        let partial = output.new_download().unwrap();
        fs::create_dir(partial.path().join("run")).unwrap();
        fs::write(folder.path().join("out"), "somebody was faster").unwrap();
        let Err(ClientError::Unplaced { kept, .. }) = output.publish(partial) else {
            panic!("it was placed")
        };
        assert!(kept.join("run").is_dir());
    }
}
