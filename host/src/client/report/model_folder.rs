//! What a trainer has left in the folder of a model. Nothing there is trusted: what cannot be read, or is
//! too large, is left out and named.

use super::numbers::{MAX_METRICS_BYTES, scalars};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sleap_rtc_package::config::{Config, MAX_CONFIG_BYTES};
use sleap_rtc_protocol::course::{Epoch, RunCourse};
use sleap_rtc_protocol::text::Printable;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

const LOG: &str = "training_log.csv";
const CONFIGS: [&str; 3] = ["training_config.yaml", "initial_config.yaml", "training_config.json"];
const MOST_EPOCHS: &str = "trainer_config.max_epochs";
const MAX_LOG_BYTES: u64 = 16 << 20;
const MAX_EPOCHS: usize = 20_000;
/// The most pictures of a model, and the largest.
const MAX_PICTURES: usize = 12;
const MAX_PICTURE_BYTES: u64 = 2 << 20;
const NAME_CHARS: usize = 120;

/// What is shown of a model.
#[derive(Debug, Default)]
pub(super) struct ModelFolder {
    pub(super) name: Printable,
    /// Its losses.
    pub(super) run: Option<RunCourse>,
    /// Its configuration, as the trainer wrote it.
    pub(super) config: Option<String>,
    /// The numbers of each file of metrics.
    pub(super) numbers: Vec<(Printable, Vec<(String, String)>)>,
    pub(super) pictures: Vec<ModelPicture>,
    /// Files that are not shown.
    pub(super) left_out: Vec<Printable>,
}

/// A picture that the trainer made.
#[derive(Debug)]
pub(super) struct ModelPicture {
    pub(super) name: Printable,
    /// As an address that contains the picture.
    pub(super) data: String,
}

impl ModelFolder {
    /// Whether a trainer has left a model there.
    pub(super) fn is_one(path: &Path) -> bool {
        path.is_dir() && CONFIGS.iter().chain([&LOG]).any(|name| path.join(name).is_file())
    }

    /// Reads it.
    pub(super) fn read(folder: &Path) -> Self {
        let mut this = Self { name: name(folder), ..Self::default() };
        this.run = text(&folder.join(LOG), MAX_LOG_BYTES).map(|log| losses(&this.name, &log));
        let configs = CONFIGS.iter().map(|name| folder.join(name));
        this.config = configs.filter_map(|path| text(&path, MAX_CONFIG_BYTES)).next();
        let most_epochs = this.most_epochs();
        this.run.iter_mut().for_each(|run| run.most_epochs = most_epochs);
        for path in files(folder) {
            let shown = name(&path);
            if !shown.as_str().starts_with("metrics.") {
                continue;
            }
            match text(&path, MAX_METRICS_BYTES).as_deref().and_then(scalars) {
                Some(found) => this.numbers.push((shown, found)),
                // The same numbers stand in a JSON file beside it, if the trainer is new enough.
                None if path.with_extension("json").is_file() => {}
                None => this.left_out.push(shown),
            }
        }
        this.add_pictures(&folder.join("viz"));
        this
    }

    /// The latest pictures, whose names end with the epoch.
    fn add_pictures(&mut self, folder: &Path) {
        let is_picture = |path: &PathBuf| media_type(path).is_some();
        let mut paths: Vec<PathBuf> = files(folder).into_iter().filter(is_picture).collect();
        paths.sort_by_key(|path| std::cmp::Reverse(epoch(path)));
        for path in paths {
            let read = media_type(&path).zip(bytes(&path, MAX_PICTURE_BYTES));
            match read.filter(|_| self.pictures.len() < MAX_PICTURES) {
                Some((media_type, bytes)) => {
                    let data = format!("data:{media_type};base64,{}", STANDARD.encode(bytes));
                    self.pictures.push(ModelPicture { name: name(&path), data });
                }
                None => self.left_out.push(name(&path)),
            }
        }
    }

    fn most_epochs(&self) -> Option<u32> {
        let config = Config::read(self.config.as_deref()?).ok()?;
        config.texts(MOST_EPOCHS).first()?.parse().ok()
    }

    /// What its configuration says of the keys that matter most.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        const KEYS: [(&str, &str); 12] = [
            ("sleap-nn", "sleap_nn_version"),
            ("Most epochs", MOST_EPOCHS),
            ("Batch size", "trainer_config.train_data_loader.batch_size"),
            ("Optimizer", "trainer_config.optimizer_name"),
            ("Learning rate", "trainer_config.optimizer.lr"),
            ("Stops early", "trainer_config.early_stopping.stop_training_on_plateau"),
            ("Patience", "trainer_config.early_stopping.patience"),
            ("Seed", "trainer_config.seed"),
            ("Scale", "data_config.preprocessing.scale"),
            ("Crop", "data_config.preprocessing.crop_size"),
            ("Validation share", "data_config.validation_fraction"),
            ("Augmentation", "data_config.use_augmentations_train"),
        ];
        let Some(config) = self.config.as_deref().and_then(|text| Config::read(text).ok()) else {
            return Vec::new();
        };
        let heads = config.model_types().join(", ");
        let heads = Some(("Model", heads)).filter(|(_, heads)| !heads.is_empty());
        let labels = config.texts("data_config.train_labels_path").join(", ");
        let labels = Some(("Labels", labels)).filter(|(_, labels)| !labels.is_empty());
        let value = |key: &str| Some(config.texts(key).join(", ")).filter(|text| !text.is_empty());
        let others = KEYS.iter().filter_map(|(label, key)| Some((*label, value(key)?)));
        heads.into_iter().chain(labels).chain(others).collect()
    }
}

/// The losses in a log of comma-separated values. A column may be empty.
fn losses(name: &Printable, log: &str) -> RunCourse {
    let mut lines = log.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
    let column = |names: [&str; 2]| header.iter().position(|column| names.contains(column));
    let (number, loss, validation) = (
        column(["epoch", "Epoch"]),
        column(["train/loss", "loss"]),
        column(["val/loss", "val_loss"]),
    );
    let epoch = |(place, line): (usize, &str)| {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let value = |column: Option<usize>| -> Option<f64> { cells.get(column?)?.parse().ok() };
        Epoch {
            number: value(number).map_or(place as u64, |number| number.max(0.0) as u64),
            loss: value(loss),
            validation: value(validation),
            at_ms: 0,
        }
    };
    let epochs = lines.enumerate().take(MAX_EPOCHS).map(epoch);
    let epochs = epochs.filter(|epoch| epoch.loss.or(epoch.validation).is_some()).collect();
    RunCourse { epochs, ..RunCourse::new(name.clone(), 0) }
}

/// The number at the end of a picture's name, before its extension.
fn epoch(path: &Path) -> u64 {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let digits = stem.rsplit('.').next().unwrap_or_default().to_owned();
    digits.parse().unwrap_or(0)
}

fn media_type(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        "webp" => Some("image/webp"),
        // SVG may load other files, and run scripts where it is opened alone.
        _ => None,
    }
}

fn name(path: &Path) -> Printable {
    Printable::line(&path.file_name().unwrap_or_default().to_string_lossy(), NAME_CHARS)
}

/// The files in a folder, by name. None if it cannot be read.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn bytes(path: &Path, limit_bytes: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit_bytes + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit_bytes).then_some(bytes)
}

fn text(path: &Path, limit_bytes: u64) -> Option<String> {
    String::from_utf8(bytes(path, limit_bytes)?).ok()
}
