//! Builds the package of a prediction: labels or a video, models, and a script.

use super::ClientError;
use super::display::say;
use super::error::PackageFault;
use super::package::{checked, hash};
use super::read_progress::ReadProgress;
use super::videos::VideoSearch;
use sleap_rtc_package::prediction::{
    self, BEST, ModelPlaces, NotData, Prediction, is_labels, is_of_model, model_files,
    packaged_name,
};
use sleap_rtc_package::script::Frames;
use sleap_rtc_package::{CheckError, Labels, Listing, START_BYTES};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_transfer::{Hashes, Package, Part, PartSource};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The most models in a folder that an error names.
const MAX_MODELS_NAMED: usize = 8;

/// A prediction to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackingPackage {
    /// Labels or a video.
    pub data: PathBuf,
    /// The models' folders, at least one.
    pub models: Vec<PathBuf>,
    /// Where the predictions go.
    pub output: PathBuf,
    /// The frames to predict, by their numbers in the video; `None` for all.
    pub frames: Option<Frames>,
    /// The video of the labels to predict; `None` for all.
    pub video_index: Option<u32>,
    /// Further options of the tracker.
    pub options: Vec<String>,
}

impl TrackingPackage {
    /// Builds, checks and hashes the package. Blocks.
    ///
    /// # Errors
    /// A file cannot be read, or no worker could run the prediction.
    pub fn build(
        &self,
        videos: VideoSearch,
        hashes: &Hashes,
        progress: &ReadProgress,
    ) -> Result<Package, ClientError> {
        Ok(self.build_checked(videos, hashes, progress)?)
    }

    fn build_checked(
        &self,
        mut videos: VideoSearch,
        hashes: &Hashes,
        progress: &ReadProgress,
    ) -> Result<Package, PackageFault> {
        let data = packaged_name(&self.data, "labels.slp")?;
        let mounted = match is_labels(&self.data) {
            true => None,
            false => videos.on_worker(&self.data),
        };
        if let Some(is) = unusable_data(&self.data) {
            return Err(NotData { data: self.data.clone(), is }.into());
        }
        let mut parts = Vec::new();
        if mounted.is_none() {
            parts.push(file(&data, &self.data));
            videos.note(&self.data, data.clone());
        }
        let mut places = ModelPlaces::default();
        let mut models = Vec::new();
        for model in &self.models {
            let folder =
                model_folder(model).ok_or_else(|| PackageFault::NotAModel(model.clone()))?;
            let place = places.place(&absolute(folder)?)?;
            parts.extend(parts_of_model(folder, &place)?);
            models.push(place);
        }
        let (video_index, frames) = self.selection()?;
        let prediction = Prediction {
            data: mounted.unwrap_or_else(|| data.to_string()),
            models,
            output: Some(packaged_name(&self.output, "predictions.slp")?),
            video_index,
            frames,
            options: self.options.clone(),
        };
        let mut members = Part::members(parts)?;
        members.push(prediction.script()?);
        let mut listing = Listing::new(members, Vec::new())?;
        checked(&mut listing, JobType::Inference, &self.data, &mut videos)
            .map_err(|fault| self.as_typed(fault, &prediction.models))?;
        hash(listing, hashes, progress)
    }

    /// The fault with the models as the user has named them, instead of their places in the package.
    fn as_typed(&self, fault: PackageFault, places: &[RelPath]) -> PackageFault {
        let PackageFault::Check(CheckError::ModelTypes { mut first, mut second }) = fault else {
            return fault;
        };
        for model in [&mut first, &mut second] {
            let place = places.iter().position(|place| place.as_str() == model.name);
            if let Some(typed) = place.and_then(|place| self.models.get(place)) {
                model.name = typed.display().to_string();
            }
        }
        CheckError::ModelTypes { first, second }.into()
    }

    /// The video and the frames to name to the tracker. For labels without a video index, sleap-nn takes
    /// `--frames` as positions among the labelled frames; with one, as frame numbers of the video.
    fn selection(&self) -> Result<(Option<u32>, Option<Frames>), PackageFault> {
        let unchanged = (self.video_index, self.frames.clone());
        let Some(wanted) = self.frames.as_ref().filter(|_| is_labels(&self.data)) else {
            return Ok(unchanged);
        };
        let Some(labels) = open_labels(&self.data) else { return Ok(unchanged) };
        let index = match (self.video_index, labels.videos.len()) {
            (Some(index), _) => index,
            (None, 0) => return Ok(unchanged),
            (None, 1) => 0,
            (None, videos) => {
                return Err(PackageFault::WhichVideo { data: self.data.clone(), videos });
            }
        };
        let Some(video) = labels.videos.get(index as usize) else { return Ok(unchanged) };
        let there = match (video.is_embedded, &video.frames, video.shape) {
            (true, Some(frames), _) => frames.clone(),
            (true, None, _) => return Ok((Some(index), self.frames.clone())),
            (false, _, Some([count, ..])) if wanted.first() >= count => Vec::new(),
            (false, ..) => return Ok((Some(index), self.frames.clone())),
        };
        let positions = (0..).zip(&there).filter(|(_, frame)| wanted.contains(**frame));
        let (positions, found): (Vec<u64>, Vec<u64>) =
            positions.map(|(position, frame)| (position, *frame)).unzip();
        let held = match (there.first(), there.last()) {
            (Some(first), Some(last)) => {
                format!("it holds {} frames, from {first} to {last}", there.len())
            }
            _ => format!("its video has {} frames", video.shape.map_or(0, |[count, ..]| count)),
        };
        if found.is_empty() {
            return Err(PackageFault::NoSuchFrames { data: self.data.clone(), held });
        }
        say(&format!(
            "Predicting {} of the {} frames in {}, those at positions {}; {held}",
            found.len(),
            there.len(),
            self.data.display(),
            Frames::these(positions)
        ));
        Ok((Some(index), Some(Frames::these(found))))
    }
}

/// What the file at `path` is, if it is neither labels nor a video.
fn unusable_data(path: &Path) -> Option<&'static str> {
    let there = path.metadata().ok()?;
    if there.is_dir() {
        return Some("a folder");
    }
    if !there.is_file() {
        return None;
    }
    let mut start = Vec::new();
    File::open(path).ok()?.take(START_BYTES).read_to_end(&mut start).ok()?;
    prediction::unusable_data(&start, path)
}

fn open_labels(path: &Path) -> Option<Labels> {
    Labels::read(Box::new(File::open(path).ok()?))
}

/// The files of a trained model that are sent. Links are followed.
fn parts_of_model(folder: &Path, place: &RelPath) -> Result<Vec<Part>, PackageFault> {
    let unreadable = |source| PackageFault::Folder { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    let names = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let part = |name: &String| {
        let path = RelPath::new(format!("{place}/{name}"))?;
        Ok(Part { path, source: PartSource::File(folder.join(name)) })
    };
    let names = model_files(&folder.display().to_string(), names).map_err(|error| {
        let models = models_in(folder);
        match models.is_empty() {
            true => PackageFault::from(error),
            false => PackageFault::Models { folder: folder.to_owned(), models },
        }
    })?;
    names.iter().map(part).collect()
}

/// The folders in `folder` that are trained models.
fn models_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let inner = entries.map(|entry| entry.path()).filter(|path| {
        ["yaml", "json"].iter().any(|end| path.join(format!("training_config.{end}")).is_file())
    });
    let mut models: Vec<String> = inner.map(|path| path.display().to_string()).collect();
    models.sort();
    models.truncate(MAX_MODELS_NAMED);
    models
}

/// The folder of a trained model, which may be given by a file that a tracker reads there.
fn model_folder(model: &Path) -> Option<&Path> {
    if model.is_dir() {
        return Some(model);
    }
    let name = model.file_name()?.to_str()?;
    let parent = model.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    // A tracker would read the best one instead.
    let is_passed_over = name.ends_with(".ckpt") && name != BEST && folder.join(BEST).exists();
    (is_of_model(name) && !is_passed_over).then_some(folder)
}

fn file(packaged: &RelPath, path: &Path) -> Part {
    Part { path: packaged.clone(), source: PartSource::File(path.to_owned()) }
}

fn absolute(model: &Path) -> Result<PathBuf, PackageFault> {
    let unreadable = |source| PackageFault::Folder { path: model.to_owned(), source };
    std::path::absolute(model).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_labels_nor_a_video_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let given = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            unusable_data(&path)
        };
        assert_eq!(given("empty.mp4", b""), Some("empty (0 bytes)"));
        assert_eq!(given("notes.txt", b"frames 1 to 9\n"), Some("a text file"));
        assert_eq!(given("video.mp4", b"\0\0\0\x18ftypmp42"), None);
        assert_eq!(given("labels.slp", b"text is refused elsewhere"), None);
        assert_eq!(unusable_data(folder.path()), Some("a folder"));
        assert_eq!(unusable_data(&folder.path().join("nowhere")), None);
    }

    #[test]
    fn a_model_is_a_folder_or_a_file_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(model_folder(folder.path()), Some(folder.path()));
        assert_eq!(model_folder(&path("best.ckpt")), Some(folder.path()));
        assert_eq!(model_folder(&path("training_config.yaml")), Some(folder.path()));
        assert_eq!(model_folder(Path::new("best.ckpt")), Some(Path::new(".")));
        assert_eq!(model_folder(&path("model.zip")), None);
        assert_eq!(model_folder(&path("last.ckpt")), Some(folder.path()));
        std::fs::write(path("best.ckpt"), "").unwrap();
        assert_eq!(model_folder(&path("last.ckpt")), None);
        let inner = path("models/centroid");
        std::fs::create_dir_all(&inner).unwrap();
        assert!(models_in(&path("models")).is_empty());
        std::fs::write(inner.join("training_config.yaml"), "").unwrap();
        assert_eq!(models_in(&path("models")), [inner.display().to_string()]);
    }
}
