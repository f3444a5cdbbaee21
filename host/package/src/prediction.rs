//! The package of a prediction: labels or a video, models, and a script.

use super::check::{CheckError, check_model};
use super::member::Member;
use super::not_a_package::{NotAPackage, recognize_start};
use super::script::Frames;
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::{PathError, RelPath};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The folder of the models in the package.
const MODELS: &str = "models";
/// The files of a model's folder that a tracker reads, besides a checkpoint. The other files there, such
/// as images, metrics and further checkpoints, are not sent.
const MODEL_FILES: [&str; 7] = [".yaml", ".yml", ".json", ".h5", ".onnx", ".engine", ".keras"];
/// The checkpoint of the epoch with the lowest loss.
pub const BEST: &str = "best.ckpt";
const PREDICTIONS: &str = "predictions.slp";

/// A prediction, as its script has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prediction {
    /// The labels or the video: a path in the package, or one on the worker.
    pub data: String,
    /// The folders of the models in the package.
    pub models: Vec<RelPath>,
    /// The name of the result; `predictions.slp` if nothing else is wanted.
    pub output: Option<RelPath>,
    /// The video of the labels to predict; `None` for all.
    pub video_index: Option<u32>,
    /// The frames to predict; `None` for all.
    pub frames: Option<Frames>,
    /// Further options of the tracker.
    pub options: Vec<String>,
}

impl Prediction {
    /// The script, as a file of the package.
    ///
    /// # Errors
    ///
    /// Never fails in practice: the names of scripts are paths.
    pub fn script(&self) -> Result<Member, PathError> {
        let mut words =
            ["sleap-nn", "predict", "--data_path", &self.data].map(str::to_owned).to_vec();
        for model in &self.models {
            words.extend(["--model_paths".to_owned(), model.to_string()]);
        }
        let result = self.output.as_ref().map_or(PREDICTIONS, RelPath::as_str);
        // The result must not replace the input labels.
        let folder = if result == self.data { "predictions/" } else { "" };
        words.extend(["-o".to_owned(), format!("{folder}{result}")]);
        if let Some(index) = self.video_index {
            words.extend(["--video_index".to_owned(), index.to_string()]);
        }
        if let Some(frames) = &self.frames {
            words.extend(["--frames".to_owned(), frames.to_string()]);
        }
        words.extend(self.options.iter().cloned());
        let script = format!("#!/bin/bash\n{}\n", shell_words::join(words));
        Ok(Member::bytes(RelPath::new(JobType::Inference.script_name())?, script.into_bytes()))
    }
}

/// How a zip with files in it begins.
const ZIP: &[u8] = b"PK\x03\x04";

/// Data that is neither labels nor a video.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{data} is {is}, and a prediction needs labels (.slp) or a video", data = .data.display())]
pub struct NotData {
    /// The file or the folder.
    pub data: PathBuf,
    /// What it is.
    pub is: &'static str,
}

/// What the file called `path`, which begins with `start`, is if it is neither labels nor a video.
pub fn unusable_data(start: &[u8], path: &Path) -> Option<&'static str> {
    if is_labels(path) {
        return None;
    }
    if start.starts_with(ZIP) {
        return Some(
            "a zip, perhaps SLEAP's training package (unpacked, it has its labels beside the script)",
        );
    }
    match recognize_start(start, path)? {
        NotAPackage::EmptyFile => Some("empty (0 bytes)"),
        NotAPackage::Text | NotAPackage::Config => Some("a text file"),
        NotAPackage::OtherArchive { .. } => Some("an archive"),
        _ => None,
    }
}

/// Whether a file of this name has labels.
pub fn is_labels(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("slp"))
}

/// The name of a file in the package: its own, or `fallback` if that is not allowed there.
///
/// # Errors
///
/// Fails if the fallback is not allowed there either.
pub fn packaged_name(path: &Path, fallback: &str) -> Result<RelPath, PathError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.filter(|name| !name.starts_with('-') && !name.contains('$'));
    let own = name.and_then(|name| RelPath::new(name).ok());
    own.map_or_else(|| RelPath::new(fallback), Ok)
}

/// Whether a tracker reads a file of this name in a model's folder.
pub fn is_of_model(name: &str) -> bool {
    name.ends_with(".ckpt") || MODEL_FILES.iter().any(|ending| name.ends_with(ending))
}

/// The files of a trained model that are sent, of those in its `folder`: its config and its checkpoint.
///
/// # Errors
///
/// Fails if the folder does not contain a model.
pub fn model_files(folder: &str, mut names: Vec<String>) -> Result<Vec<String>, CheckError> {
    check_model(folder, &names)?;
    let has_best = names.iter().any(|name| name == BEST);
    names.retain(|name| match name.ends_with(".ckpt") {
        true => !has_best || *name == BEST,
        false => is_of_model(name),
    });
    Ok(names)
}

/// The places of models in a package.
#[derive(Debug, Default)]
pub struct ModelPlaces {
    taken: HashMap<String, usize>,
}

impl ModelPlaces {
    /// `models/NAME`, after the model's folder. A second model of the same name gets a number.
    ///
    /// # Errors
    ///
    /// Fails if the path is too long.
    pub fn place(&mut self, folder: &Path) -> Result<RelPath, PathError> {
        let name = packaged_name(folder, "model")?.to_string();
        let count = self.taken.entry(name.clone()).or_insert(0);
        *count += 1;
        let unique = if *count == 1 { name } else { format!("{name}-{count}") };
        RelPath::new(format!("{MODELS}/{unique}"))
    }
}
