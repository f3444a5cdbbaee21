//! Builds the package of a prediction: labels or a video, models, and a script.

use super::ClientError;
use super::display::say;
use super::error::PackageFault;
use super::package::{checked, hash};
use super::read_progress::ReadProgress;
use super::videos::VideoSearch;
use sleap_rtc_package::script::Frames;
use sleap_rtc_package::{Labels, Listing, NotAPackage, START_BYTES, check_model, recognize_start};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::{PathError, RelPath};
use sleap_rtc_transfer::{Hashes, Package, Part, PartSource};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The folder of the models in the package.
const MODELS: &str = "models";
/// The files of a model's folder that a tracker reads, besides a checkpoint. The other files there, such
/// as images, metrics and further checkpoints, are not sent.
const MODEL_FILES: [&str; 7] = [".yaml", ".yml", ".json", ".h5", ".onnx", ".engine", ".keras"];
/// The checkpoint of the epoch with the lowest loss.
const BEST: &str = "best.ckpt";

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
        if let Some(text) = unusable_data(&self.data) {
            return Err(PackageFault::Data { data: self.data.clone(), is: text });
        }
        let mut parts = Vec::new();
        if mounted.is_none() {
            parts.push(file(&data, &self.data));
            videos.note(&self.data, data.clone());
        }
        let mut words = vec!["sleap-nn".to_owned(), "predict".into(), "--data_path".into()];
        words.push(mounted.unwrap_or_else(|| data.to_string()));
        let mut taken = HashMap::new();
        for model in &self.models {
            let folder =
                model_folder(model).ok_or_else(|| PackageFault::NotAModel(model.clone()))?;
            let packaged = packaged_model(folder, &mut taken)?;
            parts.extend(model_files(folder, &packaged)?);
            words.extend(["--model_paths".to_owned(), packaged.to_string()]);
        }
        let result = packaged_name(&self.output, "predictions.slp")?;
        // The result must not replace the input labels.
        let folder = if result == data { "predictions/" } else { "" };
        words.extend(["-o".to_owned(), format!("{folder}{result}")]);
        let (video_index, frames) = self.selection()?;
        if let Some(index) = video_index {
            words.extend(["--video_index".to_owned(), index.to_string()]);
        }
        if let Some(frames) = frames {
            words.extend(["--frames".to_owned(), frames.to_string()]);
        }
        words.extend(self.options.iter().cloned());
        let script = format!("#!/bin/bash\n{}\n", shell_words::join(words));
        let path = RelPath::new(JobType::Inference.script_name())?;
        parts.push(Part { path, source: PartSource::Bytes(script.into_bytes()) });
        let mut listing = Listing::new(Part::members(parts)?, Vec::new())?;
        checked(&mut listing, JobType::Inference, &self.data, &mut videos)?;
        hash(listing, hashes, progress)
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
    if !there.is_file() || is_labels(path) {
        return None;
    }
    let mut start = Vec::new();
    File::open(path).ok()?.take(START_BYTES).read_to_end(&mut start).ok()?;
    match recognize_start(&start, path)? {
        NotAPackage::EmptyFile => Some("empty (0 bytes)"),
        NotAPackage::Text | NotAPackage::Config => Some("a text file"),
        NotAPackage::OtherArchive { .. } => Some("an archive"),
        _ => None,
    }
}

fn open_labels(path: &Path) -> Option<Labels> {
    Labels::read(Box::new(File::open(path).ok()?))
}

fn is_labels(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("slp"))
}

/// The files of a trained model that are sent: its config and its checkpoint. Links are followed.
fn model_files(folder: &Path, packaged: &RelPath) -> Result<Vec<Part>, PackageFault> {
    let unreadable = |source| PackageFault::Folder { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    let names: Vec<String> =
        files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    check_model(&folder.display().to_string(), &names)?;
    let has_best = names.iter().any(|name| name == BEST);
    let wanted = |name: &&String| match name.ends_with(".ckpt") {
        true => !has_best || *name == BEST,
        false => MODEL_FILES.iter().any(|ending| name.ends_with(ending)),
    };
    let part = |name: &String| {
        let path = RelPath::new(format!("{packaged}/{name}"))?;
        Ok(Part { path, source: PartSource::File(folder.join(name)) })
    };
    names.iter().filter(wanted).map(part).collect()
}

/// The name of a file in the package: its own, or `fallback` if that is not allowed there.
fn packaged_name(path: &Path, fallback: &str) -> Result<RelPath, PathError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.filter(|name| !name.starts_with('-') && !name.contains('$'));
    let own = name.and_then(|name| RelPath::new(name).ok());
    own.map_or_else(|| RelPath::new(fallback), Ok)
}

/// The folder of a trained model, which may be given by a file that a tracker reads there.
fn model_folder(model: &Path) -> Option<&Path> {
    if model.is_dir() {
        return Some(model);
    }
    let name = model.file_name()?.to_str()?;
    let is_of_model = name.ends_with(".ckpt") || MODEL_FILES.iter().any(|end| name.ends_with(end));
    let parent = model.parent().filter(|parent| !parent.as_os_str().is_empty());
    is_of_model.then(|| parent.unwrap_or(Path::new(".")))
}

fn file(packaged: &RelPath, path: &Path) -> Part {
    Part { path: packaged.clone(), source: PartSource::File(path.to_owned()) }
}

/// `models/NAME`; a second model of the same name gets a number.
fn packaged_model(
    model: &Path,
    taken: &mut HashMap<String, usize>,
) -> Result<RelPath, PackageFault> {
    let unreadable = |source| PackageFault::Folder { path: model.to_owned(), source };
    let absolute = std::path::absolute(model).map_err(unreadable)?;
    let name = packaged_name(&absolute, "model")?.to_string();
    let count = taken.entry(name.clone()).or_insert(0);
    *count += 1;
    let unique = if *count == 1 { name } else { format!("{name}-{count}") };
    Ok(RelPath::new(format!("{MODELS}/{unique}"))?)
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
    }
}
