//! Describes one run by what decides its duration and its memory.

use super::config::Settings;
use super::labels::Labels;
use sleap_rtc_protocol::job::{ImageSize, JobType};
use sleap_rtc_protocol::workload::{MemoryNeed, Workload};

/// Batches of an epoch at least, where the configuration does not say.
const MIN_BATCHES: u64 = 200;
/// Sides and strides above these are mistakes.
const MAX_SIDE: f64 = 65_536.0;
const MAX_STRIDE: u32 = 256;
const MAX_FILTERS: u32 = 4096;
const BYTES: u64 = 4;
/// The weights, their gradients, and the two averages of the optimizer.
const COPIES_OF_WEIGHTS: u64 = 4;

/// A training with these settings and these labels, which are `None` where they could not be read.
pub(crate) fn training(settings: &Settings<'_>, labels: &[Option<Labels>]) -> Workload {
    let model_types = settings.config.model_types();
    let whole = Workload { model_types, ..Workload::unknown(JobType::Training) };
    if !settings.config.is_sleap_nn() {
        let count = |key: &str| settings.count(&format!("optimization.{key}"));
        return Workload { epochs: count("epochs"), batch_size: count("batch_size"), ..whole };
    }
    let is_cropped = whole
        .model_types
        .iter()
        .any(|model| matches!(model.as_str(), "centered_instance" | "multi_class_topdown"));
    let frames = sum(labels, |labels| labels.labelled_frames);
    let samples = if is_cropped { sum(labels, |labels| labels.labelled_instances) } else { frames };
    let batch_size = settings.count("trainer_config.train_data_loader.batch_size");
    let image = labels.iter().flatten().find_map(|labels| labels.image);
    let input = input(settings, image, is_cropped);
    let unet = Unet::of(settings);
    Workload {
        epochs: settings.count("trainer_config.max_epochs"),
        stops_early: settings.is_on("trainer_config.early_stopping.stop_training_on_plateau"),
        batch_size,
        batches_per_epoch: samples.zip(batch_size).map(|(all, size)| batches(settings, all, size)),
        frames,
        input,
        filters: unet.as_ref().map(|unet| unet.filters),
        memory: unet
            .zip(input)
            .filter(|_| !on_cpu(settings))
            .map(|(unet, input)| unet.memory(input)),
        ..whole
    }
}

/// A prediction of `frames` frames with models of these types.
pub(crate) fn inference(
    model_types: Vec<String>,
    frames: Option<u64>,
    input: Option<ImageSize>,
) -> Workload {
    Workload { model_types, frames, input, ..Workload::unknown(JobType::Inference) }
}

fn sum(labels: &[Option<Labels>], count: impl Fn(&Labels) -> Option<u64>) -> Option<u64> {
    labels.iter().map(|labels| count(labels.as_ref()?)).reduce(|a, b| a?.checked_add(b?)).flatten()
}

fn on_cpu(settings: &Settings<'_>) -> bool {
    settings.text("trainer_config.trainer_accelerator").is_some_and(|word| word == "cpu")
}

/// Batches in an epoch of `all` samples, of which some are for validation.
fn batches(settings: &Settings<'_>, all: u64, batch_size: u32) -> u64 {
    let has_own_validation = !settings.texts("data_config.val_labels_path").is_empty();
    let share = settings.number("data_config.validation_fraction").unwrap_or(0.1);
    let samples = match has_own_validation {
        true => all as f64,
        false => all as f64 * (1.0 - share.clamp(0.0, 1.0)),
    };
    let of_samples = (samples / f64::from(batch_size.max(1))).ceil() as u64;
    let count = |key: &str| settings.count(&format!("trainer_config.{key}")).map(u64::from);
    let wanted = count("train_steps_per_epoch").unwrap_or(of_samples);
    wanted.max(count("min_train_steps_per_epoch").unwrap_or(MIN_BATCHES))
}

/// The size of a sample as the network sees it: a crop or a frame, scaled, in full strides.
fn input(settings: &Settings<'_>, image: Option<ImageSize>, is_cropped: bool) -> Option<ImageSize> {
    let at = |key: &str| format!("data_config.preprocessing.{key}");
    let channels =
        match (settings.is_on(&at("ensure_grayscale")), settings.is_on(&at("ensure_rgb"))) {
            (true, _) => 1,
            (_, true) => 3,
            _ => image?.channels,
        };
    let (height, width) = match is_cropped {
        // Without one, the trainer finds the size from the labels.
        true => crop(settings)?,
        false => {
            let side = |key: &str, own: fn(ImageSize) -> u32| {
                settings.count(&at(key)).or(image.map(own)).map(f64::from)
            };
            (side("max_height", |image| image.height)?, side("max_width", |image| image.width)?)
        }
    };
    let scale = settings.number(&at("scale")).unwrap_or(1.0);
    let stride = Unet::of(settings).map_or(1, |unet| 1 << unet.levels);
    let side = |pixels: f64| {
        let scaled = (pixels * scale).ceil();
        let fits = (1.0..=MAX_SIDE).contains(&scaled);
        fits.then(|| (scaled as u32).div_ceil(stride) * stride)
    };
    Some(ImageSize { height: side(height)?, width: side(width)?, channels })
}

/// The side of a crop: one number, or a height and a width.
fn crop(settings: &Settings<'_>) -> Option<(f64, f64)> {
    let mut sides = Vec::new();
    for key in ["crop_size", "crop_hw"] {
        let texts = settings.texts(&format!("data_config.preprocessing.{key}"));
        sides.extend(texts.iter().filter_map(|text| text.parse::<u32>().ok()).map(f64::from));
    }
    Some((*sides.first()?, *sides.get(1).or(sides.first())?))
}

/// A network of this kind, as far as its memory is concerned.
struct Unet {
    filters: u32,
    rate: f64,
    /// How often it halves its input.
    levels: u32,
}

impl Unet {
    fn of(settings: &Settings<'_>) -> Option<Self> {
        let at = |key: &str| format!("model_config.backbone_config.unet.{key}");
        let filters = settings.count(&at("filters")).filter(|n| (1..=MAX_FILTERS).contains(n))?;
        let stride = settings.count(&at("max_stride")).filter(|n| (1..=MAX_STRIDE).contains(n))?;
        let rate = settings.number(&at("filters_rate")).filter(|n| (1.0..=4.0).contains(n))?;
        Some(Self { filters, rate, levels: stride.ilog2() })
    }

    fn channels(&self, level: u32) -> f64 {
        f64::from(self.filters) * self.rate.powi(level.cast_signed())
    }

    /// The input, and what each level keeps for the gradients: two layers on the way down and two on the
    /// way up.
    fn memory(&self, input: ImageSize) -> MemoryNeed {
        let (height, width) = (f64::from(input.height), f64::from(input.width));
        let level =
            |level: u32| height * width / 4f64.powi(level.cast_signed()) * self.channels(level);
        let kept: f64 = (0..=self.levels).map(|l| 2.0 * level(l)).sum();
        let values = height * width * f64::from(input.channels) + 2.0 * kept;
        let weights: f64 = (0..=self.levels)
            .map(|level| {
                let before =
                    if level == 0 { f64::from(input.channels) } else { self.channels(level - 1) };
                let own = self.channels(level);
                // Three by three, two layers, and as much on the way up.
                2.0 * 9.0 * (before * own + own * own)
            })
            .sum();
        MemoryNeed {
            fixed_bytes: (weights as u64).saturating_mul(BYTES * COPIES_OF_WEIGHTS),
            bytes_per_sample: (values as u64).saturating_mul(BYTES),
        }
    }
}
