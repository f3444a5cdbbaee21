//! Checks a prediction: its data, its models, and its labels' videos.

use super::model_types::{self, CONFIGS, TypedModel};
use super::{CheckError, Checking, MachineFacts, MadeModel, MissingVideo, distinct, find, outside};
use crate::files::{Found, PackageFiles};
use crate::labels::{Labels, is_hdf5, missing_end};
use crate::not_a_package::hollow;
use crate::script::{Model, NamedPath, Track, is_foreign, options};
use crate::videos::VideoPlace;
use sleap_rtc_protocol::path::RelPath;

const BEST: &str = "best.ckpt";
const WEIGHTS: [&str; 5] = [".ckpt", ".h5", ".onnx", ".engine", ".keras"];
/// The endings of videos that sleap-nn reads.
pub(crate) const VIDEOS: [&str; 14] = [
    "mp4", "avi", "mov", "mj2", "mkv", "h5", "hdf5", "seq", "tif", "tiff", "png", "jpg", "jpeg",
    "bmp",
];
/// The endings of predictions for which sleap-nn has a format that it can write. It knows those of NWB
/// (`.nwb`) and Label Studio (`.json`) too, and fails at them after the prediction.
pub const OUTPUTS: [&str; 4] = ["slp", "h5", "geojson", "csv"];
/// Options that select frames. The trainer would follow only the first of them.
const CHOICES: [&str; 4] = [
    "--only_labeled_frames",
    "--only_suggested_frames",
    "--only_predicted_frames",
    "--exclude_user_labeled",
];

/// Checks a prediction. `made` are the models of this job's own trainings.
pub(crate) fn check(
    with: Checking<'_>,
    track: &mut Track,
    made: &[MadeModel],
    remarks: &mut Vec<String>,
) -> Result<(), CheckError> {
    let package = with.package;
    let by = if made.is_empty() { "track-script.sh" } else { "inference-script.sh" };
    let by = || by.to_owned();
    check_choices(track)?;
    match with.videos.find(&track.data.written) {
        Some(VideoPlace::Worker(place)) if !is_labels(&track.data.path) => {
            track.mounted = Some(place.clone());
        }
        _ => track.data.path = find(package, &track.data, by, remarks)?,
    }
    let data = track.data.written.as_str();
    if !is_labels(&track.data.path) && !VIDEOS.iter().any(|video| has_ending(data, video)) {
        return Err(CheckError::VideoType(data.to_owned()));
    }
    if !OUTPUTS.iter().any(|ending| has_ending(track.output.file_name(), ending)) {
        return Err(CheckError::OutputType(track.output.clone()));
    }
    if track.output == track.data.path {
        return Err(CheckError::OutputIsData(track.output.clone()));
    }
    let (mut taken, mut typed) = (Vec::new(), Vec::new());
    for model in &mut track.models {
        let Model::Named(place) = model else { continue };
        let mut note = |name: &str, model_type: Option<String>| {
            let of = |model_type| TypedModel { name: name.to_owned(), model_type };
            typed.extend(model_type.map(of));
        };
        if let Some(made) = made.iter().rev().find(|made| names_model(place, &made.name)) {
            note(&made.name, model_types::of_config(package, &made.config));
            *model = Model::Made(made.run);
            continue;
        }
        place.path = model_folder(package, place, find(package, place, by, remarks)?)?;
        note(&place.written, model_types::of_folder(package, &place.path));
        if place.is_outside() {
            taken.push((place.written.clone(), place.path.clone()));
        }
    }
    distinct(&taken, by)?;
    model_types::together(&typed)?;
    for option in &mut track.options {
        let is_file = options::kind(option.name) == Some(options::OptionKind::File);
        if let Some(written) = option.value.clone().filter(|_| is_file)
            && let Ok(place) = crate::script::Folder::default().place(&written)
        {
            option.value = Some(find(package, &place, by, remarks)?.into());
        }
    }
    fit_device(track, with.site, remarks);
    check_data(with, track)
}

/// Refuses choices of frames that sleap-nn would not follow.
fn check_choices(track: &Track) -> Result<(), CheckError> {
    let mut choices = CHOICES.into_iter().filter(|name| track.has(name));
    if let (Some(first), Some(second)) = (choices.next(), choices.next()) {
        return Err(CheckError::Choices(first, second));
    }
    if let Some(choice) = CHOICES.into_iter().find(|name| track.has(name)) {
        // Without the index of a video, sleap-nn ignores the numbers beside such a choice.
        if track.has(options::FRAMES) && !track.has(options::VIDEO_INDEX) {
            return Err(CheckError::Choices(options::FRAMES, choice));
        }
        if !is_labels(&track.data.path) {
            return Err(CheckError::OnlyLabels(choice, track.data.written.clone()));
        }
    }
    Ok(())
}

/// Whether `place` is the folder of the model called `name`, or a file in it that stands for the folder.
fn names_model(place: &NamedPath, name: &str) -> bool {
    let whole = place.candidates().next();
    let mut parts = whole.iter().flat_map(|path| path.as_str().rsplit('/'));
    let last = parts.next();
    let is_file = last.is_some_and(|last| last == BEST || CONFIGS.contains(&last));
    last == Some(name) || (is_file && parts.next() == Some(name))
}

/// The model's folder. A script may also name a file in it.
fn model_folder(
    package: &dyn PackageFiles,
    place: &NamedPath,
    path: RelPath,
) -> Result<RelPath, CheckError> {
    let parent =
        || path.as_str().rsplit_once('/').and_then(|(folder, _)| RelPath::new(folder).ok());
    let folder = match package.look(&path) {
        Found::File if path.as_str().ends_with(".ckpt") && path.file_name() != BEST => {
            return Err(CheckError::Checkpoint { written: place.written.clone() });
        }
        Found::File => parent().ok_or_else(|| CheckError::Model {
            folder: place.written.clone(),
            lacks: "folder of its own",
        })?,
        _ => path,
    };
    let names = package.names_in(&folder);
    check_model(&place.written, &names)?;
    if is_empty(package, &folder) {
        let (folder, lacks) = (
            place.written.clone(),
            "weights: its best.ckpt is empty or stands for a file elsewhere",
        );
        return Err(CheckError::Model { folder, lacks });
    }
    outside::check_model(package, &folder)?;
    Ok(folder)
}

/// Whether the best checkpoint has no content.
fn is_empty(package: &dyn PackageFiles, folder: &RelPath) -> bool {
    let best = RelPath::new(format!("{folder}/{BEST}")).ok();
    best.and_then(|path| package.open(&path)).and_then(hollow).is_some()
}

/// Whether a folder with files of these names is a trained model.
pub fn check_model(folder: &str, names: &[String]) -> Result<(), CheckError> {
    let lacks = |lacks| Err(CheckError::Model { folder: folder.to_owned(), lacks });
    let exported = names.iter().any(|name| name.ends_with(".onnx") || name.ends_with(".engine"));
    if !exported && !names.iter().any(|name| CONFIGS.contains(&name.as_str())) {
        return lacks("training_config.yaml");
    }
    match names.iter().any(|name| WEIGHTS.iter().any(|ending| name.ends_with(ending))) {
        true => Ok(()),
        false => lacks("checkpoint (best.ckpt)"),
    }
}

/// Replaces the device: a job's GPUs are numbered from 0.
fn fit_device(track: &mut Track, site: MachineFacts<'_>, remarks: &mut Vec<String>) {
    let Some(gpus) = site.gpus else { return };
    for option in track.options.iter_mut().filter(|option| option.name == "--device") {
        let Some(written) = option.value.clone() else { continue };
        let number = written.strip_prefix("cuda:").and_then(|number| number.parse::<usize>().ok());
        let fits = match (written.as_str(), number) {
            ("auto" | "cpu", _) => true,
            ("cuda", _) => gpus > 0,
            ("mps", _) => cfg!(target_os = "macos"),
            (_, Some(number)) => number < gpus,
            _ => false,
        };
        if !fits {
            remarks.push(format!(
                "--device is auto, not {written}: the slot decides which devices it uses"
            ));
            option.value = Some("auto".to_owned());
        } else if written == "cpu" && gpus > 0 {
            remarks.push("it predicts on the CPU (--device cpu), not on this worker's GPU".into());
        }
    }
}

/// Whether a name ends with a dot and `ending`, in lower or upper case.
fn has_ending(name: &str, ending: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, own)| own.eq_ignore_ascii_case(ending))
}

fn is_labels(path: &RelPath) -> bool {
    path.as_str().to_ascii_lowercase().ends_with(".slp")
}

fn check_data(with: Checking<'_>, track: &Track) -> Result<(), CheckError> {
    let package = with.package;
    let path = &track.data.path;
    if !is_labels(path) {
        return Ok(());
    }
    let Some(labels) = labels(package, path)? else { return Ok(()) };
    let all: Vec<usize> = (0..labels.videos.len()).collect();
    let asked = match track.option(options::VIDEO_INDEX) {
        _ if all.is_empty() => return Ok(()),
        None if track.has("--only_suggested_frames") => all,
        None => used_videos(&labels),
        Some(index) => match index.parse().ok().filter(|index| all.contains(index)) {
            Some(index) => vec![index],
            None => {
                let (index, count) = (index.to_owned(), all.len());
                return Err(CheckError::VideoIndex { index, labels: path.clone(), count });
            }
        },
    };
    check_videos(with, path, &labels, &asked, |_| false)
}

/// Reads labels. `None` if they are HDF5 with unknown content.
pub(crate) fn labels(
    package: &dyn PackageFiles,
    path: &RelPath,
) -> Result<Option<Labels>, CheckError> {
    if !package.open(path).is_some_and(is_hdf5) {
        return Err(CheckError::NotLabels { file: path.clone() });
    }
    if let Some((bytes, whole_bytes)) = package.open_at_random(path).and_then(missing_end) {
        return Err(CheckError::CutLabels { file: path.clone(), bytes, whole_bytes });
    }
    Ok(package.open_at_random(path).and_then(Labels::read))
}

/// The videos with labelled frames. The trainer opens no others.
pub(crate) fn used_videos(labels: &Labels) -> Vec<usize> {
    let all = 0..labels.videos.len();
    match &labels.frames {
        Some(frames) => all.filter(|video| frames.iter().any(|(used, _)| used == video)).collect(),
        None => all.collect(),
    }
}

/// Checks that the trainer will find the videos `wanted` of the labels at `path`.
pub(crate) fn check_videos(
    with: Checking<'_>,
    path: &RelPath,
    labels: &Labels,
    wanted: &[usize],
    mapped: impl Fn(&str) -> bool,
) -> Result<(), CheckError> {
    let package = with.package;
    let is_there = &|file: &String, is_one: bool| {
        // The trainer fetches what is elsewhere.
        file.contains("://") && !file.starts_with("file:")
            || with.videos.find(file).is_some()
            || mapped(file)
            || package.sees(file)
            || in_package(package, path, file, is_one)
    };
    let videos = wanted.iter().filter_map(|index| labels.videos.get(*index));
    let missing: Vec<MissingVideo> = videos
        .filter(|video| !video.is_embedded)
        .flat_map(|video| {
            let is_one = video.files.len() == 1;
            let missing = video.files.iter().filter(move |file| !is_there(file, is_one));
            missing.map(move |file| MissingVideo { name: file.clone(), is_picture: !is_one })
        })
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(CheckError::Videos { labels: path.clone(), missing }),
    }
}

/// Whether the package has the file where sleap-io looks: at the written path, relative to the top,
/// or, for a video of one file, next to the labels.
fn in_package(package: &dyn PackageFiles, labels: &RelPath, file: &str, is_one: bool) -> bool {
    let top = crate::script::Folder::default();
    let Ok(place) = top.place(file) else { return false };
    let labels = labels.as_str();
    let folder = &labels[..labels.len() - labels.rsplit('/').next().unwrap_or(labels).len()];
    let beside = RelPath::new(format!("{folder}{}", place.path.file_name()));
    let is_beside = is_one && beside.is_ok_and(|path| package.look(&path) == Found::File);
    let is_below = !is_foreign(file) && !file.split(['/', '\\']).any(|part| part == "..");
    is_beside || (is_below && package.look(&place.path) == Found::File)
}
