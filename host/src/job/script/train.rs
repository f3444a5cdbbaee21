//! The arguments of a training command, in every dialect.

use super::{
    LineFault, Override, OverrideValue, Run, Train, TrainLegacy, is_plain, package_path, stem,
};
use sleap_rtc_protocol::path::RelPath;

/// Settings that a script may change. All others stay as the config has them.
const SCALARS: &[&str] = &[
    "data_config.validation_fraction",
    "data_config.preprocessing.scale",
    "data_config.preprocessing.crop_size",
    "trainer_config.early_stopping.min_delta",
    "trainer_config.early_stopping.patience",
    "trainer_config.early_stopping.stop_training_on_plateau",
    "trainer_config.enable_progress_bar",
    "trainer_config.keep_viz",
    "trainer_config.max_epochs",
    "trainer_config.min_train_steps_per_epoch",
    "trainer_config.optimizer.lr",
    "trainer_config.optimizer_name",
    "trainer_config.save_ckpt",
    "trainer_config.seed",
    "trainer_config.train_data_loader.batch_size",
    "trainer_config.train_data_loader.num_workers",
    "trainer_config.train_steps_per_epoch",
    "trainer_config.trainer_accelerator",
    "trainer_config.trainer_devices",
    "trainer_config.val_data_loader.batch_size",
    "trainer_config.val_data_loader.num_workers",
    "trainer_config.visualize_preds_during_training",
];
const PATHS: &[&str] = &["data_config.train_labels_path", "data_config.val_labels_path"];
/// Settings that are always set anew, so it is no loss to leave them out.
const OURS: &[&str] = &[
    "trainer_config.ckpt_dir",
    "trainer_config.zmq.controller_port",
    "trainer_config.zmq.publish_port",
];
const RUN_NAME: &str = "trainer_config.run_name";

/// Options of `sleap-train` (SLEAP up to 1.4.1) that take a value.
const LEGACY_VALUED: &[&str] = &[
    "--base_checkpoint",
    "--controller_port",
    "--gpu",
    "--prefix",
    "--publish_port",
    "--run_name",
    "--suffix",
    "--test_labels",
    "--val_labels",
    "--video-paths",
];

pub(super) fn parse(words: &[String], dropped: &mut Vec<String>) -> Result<Run, LineFault> {
    let (mut name, mut folder, mut settings) = (None, None, Vec::new());
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let (option, inline) = match word.split_once('=') {
            Some((option, value)) if word.starts_with('-') => (option, Some(value)),
            _ => (word, None),
        };
        // SLEAP 1.5.0 left the folder empty, so a setting stands where the folder should.
        let mut value = || inline.or_else(|| words.next_if(|next| !is_setting(next)));
        match option {
            "--config-name" | "-c" | "--config" => name = value(),
            "--config-dir" | "-d" | "--config-path" => folder = value(),
            "--video-paths" | "-v" | "--prefix-map" | "--video-path-map" => {
                value();
                dropped.push(option.to_owned());
            }
            option if option.starts_with('-') => dropped.push(option.to_owned()),
            yaml if name.is_none() && !is_setting(yaml) => name = Some(yaml),
            setting => settings.push(setting),
        }
    }
    let config = config_path(folder, name.ok_or(LineFault::Missing("config"))?)?;
    let mut run = Train { config, run_name: None, overrides: Vec::new() };
    for setting in settings {
        apply(&mut run, setting, dropped)?;
    }
    Ok(Run::Train(run))
}

fn is_setting(word: &str) -> bool {
    !word.starts_with('-') && word.contains('=')
}

fn config_path(folder: Option<&str>, name: &str) -> Result<RelPath, LineFault> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let name = match name.rsplit_once('.') {
        Some((_, "yaml" | "yml")) => name.to_owned(),
        Some((_, "json")) => return Err(LineFault::Config(name.to_owned())),
        _ => format!("{name}.yaml"),
    };
    let folder = folder.unwrap_or_default().trim_end_matches('/');
    match folder.strip_prefix("./").unwrap_or(folder) {
        "" | "." => package_path(&name),
        folder => package_path(&format!("{folder}/{name}")),
    }
}

fn apply(run: &mut Train, setting: &str, dropped: &mut Vec<String>) -> Result<(), LineFault> {
    let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
    let key = key.trim_start_matches('+');
    // SLEAP 1.5.0 again: the settings after this one are glued to it.
    let glued = value.find("trainer_config.");
    let value = unquote(&value[..glued.unwrap_or(value.len())]);
    if key == RUN_NAME {
        run.run_name = run_name(value)?;
    } else if let Some(key) = find(SCALARS, key) {
        match is_plain(value) {
            true => set(run, key, OverrideValue::Scalar(value.to_owned())),
            false => dropped.push(key.to_owned()),
        }
    } else if let Some(key) = find(PATHS, key) {
        let paths = value.trim_start_matches('[').trim_end_matches(']').split(',');
        let paths = paths.map(|path| package_path(unquote(path.trim())));
        set(run, key, OverrideValue::Paths(paths.collect::<Result<_, _>>()?));
    } else if !OURS.contains(&key) {
        dropped.push(key.chars().take(80).collect());
    }
    Ok(())
}

fn find(list: &[&'static str], key: &str) -> Option<&'static str> {
    list.iter().copied().find(|known| *known == key)
}

fn set(run: &mut Train, key: &'static str, value: OverrideValue) {
    run.overrides.retain(|earlier| earlier.key != key);
    run.overrides.push(Override { key, value });
}

fn unquote(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

/// One plain name; nothing for the words that mean "none".
fn run_name(value: &str) -> Result<Option<String>, LineFault> {
    if matches!(value, "" | "null" | "None") {
        return Ok(None);
    }
    let refuse = || LineFault::RunName(value.chars().take(120).collect());
    match package_path(value) {
        Ok(path) if path.as_str() == value && !value.contains('/') => Ok(Some(value.to_owned())),
        _ => Err(refuse()),
    }
}

pub(super) fn parse_legacy(words: &[String], dropped: &mut Vec<String>) -> Result<Run, LineFault> {
    let mut places = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if LEGACY_VALUED.contains(&word.as_str()) {
            words.next();
            dropped.push(word.clone());
        } else if word.starts_with('-') {
            dropped.push(word.clone());
        } else {
            places.push(word);
        }
    }
    let mut places = places.into_iter();
    let config = package_path(places.next().ok_or(LineFault::Missing("config"))?)?;
    if config.as_str().ends_with(".yaml") || config.as_str().ends_with(".yml") {
        return Ok(Run::Train(Train { config, run_name: None, overrides: Vec::new() }));
    }
    let labels = package_path(places.next().ok_or(LineFault::Missing("labels"))?)?;
    Ok(Run::TrainLegacy(TrainLegacy { config, labels }))
}

impl Train {
    /// The folder below `models/` that this run asks for: without a name, the config's own name
    /// could be anything, so the config file's is taken.
    pub fn folder_name(&self) -> &str {
        self.run_name.as_deref().unwrap_or_else(|| stem(&self.config))
    }
}
