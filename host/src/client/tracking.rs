//! The package of a prediction: labels or a video, models, and the script that says what to do.

use super::ClientError;
use super::display::say;
use super::package::{bad, checked, hash};
use super::reading::Reading;
use sleap_rtc_package::script::Frames;
use sleap_rtc_package::{Labels, check_model};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_transfer::{Hashes, Listing, Package, Part, PartSource};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Where a tracking package's models are.
const MODELS: &str = "models";
/// What of a model's folder a tracker reads, besides a checkpoint. Runs leave much else there:
/// pictures, metrics, further checkpoints, what W&B links to.
const OF_A_MODEL: [&str; 7] = [".yaml", ".yml", ".json", ".h5", ".onnx", ".engine", ".keras"];
const BEST: &str = "best.ckpt";

/// A prediction that a user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracking {
    /// Labels or a video.
    pub data: PathBuf,
    /// The models' folders, at least one.
    pub models: Vec<PathBuf>,
    /// Where the predictions go.
    pub output: PathBuf,
    /// Only these frames, by their numbers in the video.
    pub frames: Option<Frames>,
    /// Only this video of the labels.
    pub video_index: Option<u32>,
    /// Further options of the tracker.
    pub options: Vec<String>,
}

/// Puts the package of a prediction together, checks and hashes it. Blocks.
///
/// # Errors
/// Files that cannot be read, and what no worker could predict.
pub fn build(job: &Tracking, hashes: &Hashes, reading: &Reading) -> Result<Package, ClientError> {
    let data_place = place(&job.data, "labels.slp")?;
    let mut parts = vec![file(&data_place, &job.data)];
    let mut words = vec!["sleap-nn".to_owned(), "predict".into(), "--data_path".into()];
    words.push(data_place.to_string());
    let mut taken = HashMap::new();
    for model in &job.models {
        let folder = model_folder(model);
        let below = model_place(folder, &mut taken)?;
        parts.extend(model_files(folder, &below)?);
        words.extend(["--model_paths".to_owned(), below.to_string()]);
    }
    let result = place(&job.output, "predictions.slp")?;
    // The result must not be written over the labels it is made from.
    let folder = if result == data_place { "predictions/" } else { "" };
    words.extend(["-o".to_owned(), format!("{folder}{result}")]);
    let (video_index, frames) = select(job)?;
    if let Some(index) = video_index {
        words.extend(["--video_index".to_owned(), index.to_string()]);
    }
    if let Some(frames) = frames {
        words.extend(["--frames".to_owned(), frames.to_string()]);
    }
    words.extend(job.options.iter().cloned());
    let script = format!("#!/bin/bash\n{}\n", shell_words::join(words));
    let path = RelPath::new(JobType::Inference.script_name()).map_err(bad)?;
    parts.push(Part { path, source: PartSource::Bytes(script.into_bytes()) });
    let mut listing = Listing::parts(parts).map_err(bad)?;
    checked(&mut listing, JobType::Inference, &job.data)?;
    hash(listing, hashes, reading)
}

/// The video and the frames to ask the tracker for. Of labels, sleap-nn takes numbers of frames for
/// positions among the labelled ones unless a video is named: then they are numbers of frames.
fn select(job: &Tracking) -> Result<(Option<u32>, Option<Frames>), ClientError> {
    let as_given = (job.video_index, job.frames.clone());
    let Some(asked) = job.frames.as_ref().filter(|_| is_labels(&job.data)) else {
        return Ok(as_given);
    };
    let Some(labels) = Labels::read(&job.data) else { return Ok(as_given) };
    let name = job.data.display();
    let index = match (job.video_index, labels.videos.len()) {
        (Some(index), _) => index,
        (None, 0) => return Ok(as_given),
        (None, 1) => 0,
        (None, count) => {
            return Err(ClientError::Package(format!(
                "{name} has {count} videos: say with --video-index which one's frames are meant"
            )));
        }
    };
    let Some(video) = labels.videos.get(index as usize) else { return Ok(as_given) };
    let there = match (video.is_embedded, &video.frames, video.shape) {
        (true, Some(frames), _) => frames.clone(),
        (true, None, _) => return Ok((Some(index), job.frames.clone())),
        (false, _, Some([count, ..])) if asked.first() >= count => Vec::new(),
        (false, ..) => return Ok((Some(index), job.frames.clone())),
    };
    let positions = (0..).zip(&there).filter(|(_, frame)| asked.contains(**frame));
    let (positions, found): (Vec<u64>, Vec<u64>) =
        positions.map(|(at, frame)| (at, *frame)).unzip();
    let held = match (there.first(), there.last()) {
        (Some(first), Some(last)) => {
            format!("it holds {} frames, from {first} to {last}", there.len())
        }
        _ => format!("its video has {} frames", video.shape.map_or(0, |[count, ..]| count)),
    };
    if found.is_empty() {
        return Err(ClientError::Package(format!(
            "none of the frames that --frames asks for is in {name}: {held}"
        )));
    }
    say(&format!(
        "{} of the {} frames in {name} are predicted, those at positions {}; {held}",
        found.len(),
        there.len(),
        Frames::these(positions)
    ));
    Ok((Some(index), Some(Frames::these(found))))
}

fn is_labels(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("slp"))
}

/// What of a trained model is sent: its config and its checkpoint. Links are followed.
fn model_files(folder: &Path, below: &RelPath) -> Result<Vec<Part>, ClientError> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| ClientError::Package(format!("{}: {error}", folder.display())))?;
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    let names: Vec<String> =
        files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    check_model(&folder.display().to_string(), &names).map_err(bad)?;
    let has_best = names.iter().any(|name| name == BEST);
    let wanted = |name: &&String| match name.ends_with(".ckpt") {
        true => !has_best || *name == BEST,
        false => OF_A_MODEL.iter().any(|ending| name.ends_with(ending)),
    };
    let part = |name: &String| {
        let path = RelPath::new(format!("{below}/{name}")).map_err(bad)?;
        Ok(Part { path, source: PartSource::File(folder.join(name)) })
    };
    names.iter().filter(wanted).map(part).collect()
}

/// What a file is called in the package: its own name, or `otherwise` where that would be refused,
/// since the user may call files as they like.
fn place(path: &Path, otherwise: &str) -> Result<RelPath, ClientError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.filter(|name| !name.starts_with('-') && !name.contains('$'));
    let own = name.and_then(|name| RelPath::new(name).ok());
    own.map_or_else(|| RelPath::new(otherwise).map_err(bad), Ok)
}

/// The folder of a trained model, which people also name by the checkpoint in it.
fn model_folder(model: &Path) -> &Path {
    let parent = || model.parent().filter(|parent| !parent.as_os_str().is_empty());
    if model.is_dir() { model } else { parent().unwrap_or(Path::new(".")) }
}

fn file(place: &RelPath, path: &Path) -> Part {
    Part { path: place.clone(), source: PartSource::File(path.to_owned()) }
}

/// `models/NAME`; a second model of the same name gets a number.
fn model_place(model: &Path, taken: &mut HashMap<String, usize>) -> Result<RelPath, ClientError> {
    let whole = std::path::absolute(model).map_err(bad)?;
    let name = place(&whole, "model")?.to_string();
    let count = taken.entry(name.clone()).or_insert(0);
    *count += 1;
    let unique = if *count == 1 { name } else { format!("{name}-{count}") };
    RelPath::new(format!("{MODELS}/{unique}")).map_err(bad)
}
