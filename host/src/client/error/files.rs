//! Why the user's package, or files on shared storage, cannot be used.

use super::ClientError;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_package::prediction::NotData;
use sleap_rtc_package::{ArchiveError, CheckError, NotAPackage};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::path::{PathError, RelPath};
use sleap_rtc_transfer::StorageError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a package cannot be submitted.
#[derive(Debug)]
pub struct PackageError {
    /// The package, unless `fault` names the file.
    path: Option<PathBuf>,
    fault: PackageFault,
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", path.display(), WithCauses(&self.fault)),
            None => write!(f, "{}", WithCauses(&self.fault)),
        }
    }
}

/// What is wrong with a package.
#[derive(Debug, thiserror::Error)]
pub enum PackageFault {
    /// It is not a package.
    #[error(transparent)]
    NotAPackage(#[from] NotAPackage),
    /// Its files cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// No worker could run it.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A file cannot have its name in a package.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A folder cannot be read.
    #[error("cannot read {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The data is neither labels nor a video.
    #[error(transparent)]
    Data(#[from] NotData),
    /// A video that labels name cannot be one.
    #[error(
        "{} is {is}, and {labels} names it as a video: copy the video there, or say with --path-map where \
         it is",
        file.display()
    )]
    NotAVideo {
        /// The file.
        file: PathBuf,
        /// What it is.
        is: &'static str,
        /// The labels.
        labels: RelPath,
    },
    /// It is a file, and no file of a model.
    #[error("{0} is not a trained model: give the folder that SLEAP's training made")]
    NotAModel(PathBuf),
    /// It is a folder of models, and no model itself.
    #[error("{folder} is not a trained model, but the folder of {}: give each of them", models.join(", "))]
    Models {
        /// The folder.
        folder: PathBuf,
        /// The models in it.
        models: Vec<String>,
    },
    /// Too many labels whose videos are not in the package.
    #[error("too many of its labels have their videos elsewhere")]
    TooManyLabels,
    /// `--frames` without `--video-index`, for labels with several videos.
    #[error(
        "{data} has {videos} videos: choose the one whose frames to predict with --video-index"
    )]
    WhichVideo {
        /// The labels.
        data: PathBuf,
        /// How many videos they have.
        videos: usize,
    },
    /// None of the frames that `--frames` asks for exists.
    #[error("none of the frames that --frames asks for is in {data}: {held}")]
    NoSuchFrames {
        /// The labels.
        data: PathBuf,
        /// The frames that they have.
        held: String,
    },
    /// Python workers cannot run it.
    #[error("{worker} is a Python worker: {why}")]
    NotForPython {
        /// Which worker.
        worker: PeerId,
        /// Why not.
        why: String,
    },
}

impl PackageFault {
    /// The error about the package at `path`.
    pub(crate) fn at(self, path: &Path) -> ClientError {
        use ArchiveError::{Empty, NotAFile, NotAZip, Read};
        let names_its_file = matches!(
            self,
            Self::Archive(Read { .. } | NotAZip { .. } | NotAFile { .. } | Empty { .. })
        );
        let path = (!names_its_file).then(|| path.to_owned());
        ClientError::Package(PackageError { path, fault: self })
    }
}

impl From<PackageFault> for ClientError {
    fn from(fault: PackageFault) -> Self {
        Self::Package(PackageError { path: None, fault })
    }
}

impl PackageFault {
    /// The error about a file of the user's that cannot be read.
    pub(crate) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Folder { path, source }
    }
}

/// Why shared storage cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// A path leaves the shared root.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A path cannot be sent to a worker.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file or folder cannot be used.
    #[error("cannot use {path}")]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A path is somewhere else.
    #[error(
        "{path} is not below the shared root {root}; move it there, or submit without shared storage"
    )]
    Outside {
        /// The file or folder.
        path: PathBuf,
        /// The shared root.
        root: PathBuf,
    },
}

impl From<SharedError> for ClientError {
    fn from(error: SharedError) -> Self {
        Self::Shared(error)
    }
}
