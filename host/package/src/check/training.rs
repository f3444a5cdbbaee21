//! Checks a training: its config, and the files that the config names.

use super::{
    CheckError, Checking, MachineFacts, config_text, devices, distinct, find, heads, known,
    outside, tracking, wandb,
};
use crate::config::{Config, Settings};
use crate::files::{Found, PackageFiles};
use crate::labels::Labels;
use crate::not_a_package::hollow;
use crate::script::{Folder, PathMap, RUN_NAME, Train, TrainLegacy, Value, plain_name, stem};
use sleap_rtc_protocol::path::RelPath;

/// Keys of labels. The last ones are opened only after the training.
const LABELS: [&str; 3] =
    ["data_config.train_labels_path", "data_config.val_labels_path", "data_config.test_file_path"];
/// Keys of other files.
const WEIGHTS: [&str; 3] =
    ["model_config.pretrained_backbone_weights", "model_config.pretrained_head_weights", RESUMED];
const RESUMED: &str = "trainer_config.resume_ckpt_path";
/// Keys of files in a config of SLEAP up to 1.4.1. Its training labels are those of the script.
const LEGACY_FILES: [&str; 3] =
    ["data.labels.validation_labels", "data.labels.test_labels", "model.base_checkpoint"];
const SCRIPT: &str = "train-script.sh";
const PREFIX_MAP: &str = "--prefix-map";
/// Prefixes of files that are fetched rather than read from the worker's disk.
const REMOTE: [&str; 4] = ["http://", "https://", "s3://", "gs://"];
/// Whether a training ignores predicted instances. It does unless this is false.
const USER_INSTANCES: &str = "data_config.user_instances_only";
const CACHE: &str = "data_config.cache_img_path";
const SAVE: &str = "trainer_config.save_ckpt";
/// How many of the best checkpoints are kept.
const BEST_KEPT: &str = "trainer_config.model_ckpt.save_top_k";
const EPOCHS: &str = "trainer_config.max_epochs";
/// Mappings of which exactly one entry is set.
const ONE_OF: [&str; 2] = ["model_config.head_configs", "model_config.backbone_config"];
const FOLDER: &str = "trainer_config.ckpt_dir";
const PORTS: [&str; 2] = ["trainer_config.zmq.controller_port", "trainer_config.zmq.publish_port"];

/// Checks a training and completes its settings. Returns the name by which the package's scripts
/// refer to the model.
pub(crate) fn check(
    with: Checking<'_>,
    train: &mut Train,
    remarks: &mut Vec<String>,
) -> Result<String, CheckError> {
    let Checking { package, site, .. } = with;
    train.config.path = find(package, &train.config, || SCRIPT.to_owned(), remarks)?;
    let text = config_text(package, &train.config.path)?;
    let name = train.config.path.clone();
    let wrong = |why: String| CheckError::Config { config: name.clone(), why };
    let config = Config::read(&text).map_err(wrong)?;
    if !config.is_sleap_nn() {
        return Err(wrong("it has no model_config, so it is not a config of sleap-nn".to_owned()));
    }
    let settings = Settings { config: &config, changes: &train.settings };
    check_values(&settings)
        .and_then(|()| heads::check_parts(&settings))
        .and_then(|()| wandb::check(&settings))
        .map_err(wrong)?;
    outside::check_training(&text, &config, train)?;
    check_version(&settings, &train.config.path, site)?;
    find_files(with, &config, train, remarks)?;
    let settings = Settings { config: &config, changes: &train.settings };
    known::check(&settings, site.version).map_err(wrong)?;
    own_settings(&config, train, remarks);
    devices::fit(&config, train, site, remarks);
    wandb::fit(&config, train, site, remarks);
    let settings = Settings { config: &config, changes: &train.settings };
    let name = match train.run_name.take().or_else(|| settings.text(RUN_NAME)) {
        Some(written) => own_name(&written, train, remarks),
        None => stem(&train.config.path).to_owned(),
    };
    train.run_name = Some(name.clone());
    Ok(name)
}

/// Refuses values that every sleap-nn refuses, or with which it would train nothing.
fn check_values(settings: &Settings<'_>) -> Result<(), String> {
    if settings.count(EPOCHS) == Some(0) {
        return Err(format!("{EPOCHS} is 0, so it would train nothing"));
    }
    let mut removed = settings.changes.iter().filter(|change| change.value == Value::Removed);
    if let Some(change) = removed.find(|change| !settings.config.has(&change.key)) {
        return Err(format!("the script removes {} (`~`), which it does not have", change.key));
    }
    for key in ONE_OF {
        let set = settings.keys_set(key);
        if set.len() != 1 {
            let which = if set.is_empty() { "none".to_owned() } else { set.join(" and ") };
            return Err(format!("{key} must set exactly one of its entries, and it sets {which}"));
        }
    }
    Ok(())
}

/// The name of the model's folder, where the script or the config calls it `written`.
fn own_name(written: &str, train: &Train, remarks: &mut Vec<String>) -> String {
    if let Some(name) = plain_name(written) {
        return name;
    }
    let last = written.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next();
    let name = last.and_then(plain_name).unwrap_or_else(|| stem(&train.config.path).to_owned());
    remarks.push(format!(
        "{}: the model's folder is {name}, because run_name ({written}) is not one plain name",
        train.config.path
    ));
    name
}

/// Checks that the worker's sleap-nn has every setting.
fn check_version(
    settings: &Settings<'_>,
    config: &RelPath,
    site: MachineFacts<'_>,
) -> Result<(), CheckError> {
    let (Some(installed), Some(needed)) = (site.version, known::needed(settings)) else {
        return Ok(());
    };
    let wanted = needed.version.to_string();
    match known::is_newer(&wanted, installed) {
        true => Err(CheckError::Version {
            config: config.clone(),
            key: needed.key,
            wanted,
            installed: installed.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Finds every file that the config or the script names, and overrides the paths that differ.
fn find_files(
    with: Checking<'_>,
    config: &Config<'_>,
    train: &mut Train,
    remarks: &mut Vec<String>,
) -> Result<(), CheckError> {
    let package = with.package;
    let mut taken = Vec::new();
    let config_name = train.config.path.clone();
    let settings = Settings { config, changes: &train.settings };
    let users_alone = !settings.is_off(USER_INSTANCES);
    for key in LABELS.into_iter().chain(WEIGHTS) {
        let settings = Settings { config, changes: &train.settings };
        let (written, is_list) = (settings.texts(key), settings.is_list(key));
        let mut found = Vec::new();
        for text in &written {
            if REMOTE.iter().any(|scheme| text.starts_with(scheme)) {
                found.push(text.clone());
                continue;
            }
            let by = || format!("{config_name} ({key})");
            let missing = || CheckError::Missing { name: text.clone(), by: by() };
            let place = train.folder.place(text).map_err(|_| missing())?;
            let path = find(package, &place, by, remarks)?;
            if place.is_outside() {
                taken.push((text.clone(), path.clone()));
            }
            check_content(package, key, (text, &path), by)?;
            // The test file may be a video.
            let is_labels = key != LABELS[2] || path.as_str().ends_with(".slp");
            if LABELS.contains(&key) && is_labels {
                let needs = match (key == LABELS[2], written.len() == 1 && users_alone) {
                    (true, _) => Needs::Videos,
                    (false, false) => Needs::Frames,
                    (false, true) => Needs::UserInstances,
                };
                let labels = check_labels(with, &path, needs, train)?;
                let settings = Settings { config, changes: &train.settings };
                if let Some(labels) = labels.filter(|_| key == LABELS[0] && found.is_empty()) {
                    heads::check_labels(&settings, &labels)
                        .map_err(|why| CheckError::Config { config: config_name.clone(), why })?;
                }
            }
            found.push(path.to_string());
            train.files.push(path);
        }
        let needs_list = key == LABELS[0] || key == LABELS[1];
        let is_one_text = needs_list && found.len() == 1 && !is_list;
        if found != written || is_one_text {
            let value = match (needs_list, &found[..]) {
                (false, [only]) => Value::Text(only.clone()),
                _ => Value::list(&found),
            };
            train.set(key, value);
        }
    }
    distinct(&taken, || config_name.to_string())?;
    let settings = Settings { config, changes: &train.settings };
    check_counts(&settings).map_err(|why| CheckError::Config { config: config_name, why })
}

/// Refuses no labels, and labels to train on and to validate with that sleap-nn cannot pair.
fn check_counts(settings: &Settings<'_>) -> Result<(), String> {
    let [trained, validated] = [LABELS[0], LABELS[1]].map(|key| settings.texts(key).len());
    match (trained, validated) {
        (0, _) => Err(format!("it names no labels ({})", LABELS[0])),
        // It fails when the training is over.
        (trained, validated) if validated != 0 && validated != trained => Err(format!(
            "{} lists {trained} and {} lists {validated}, and sleap-nn pairs them: list as many, or leave \
             the second one out",
            LABELS[0], LABELS[1]
        )),
        _ => Ok(()),
    }
}

/// Refuses a folder in the place of a file, and weights without content.
fn check_content(
    package: &dyn PackageFiles,
    key: &str,
    (written, path): (&str, &RelPath),
    by: impl FnOnce() -> String,
) -> Result<(), CheckError> {
    let is_hollow = || package.open(path).and_then(hollow).is_some();
    let is = match package.look(path) == Found::File {
        false => "is a folder",
        true if WEIGHTS.contains(&key) && is_hollow() => "is empty or stands for a file elsewhere",
        true if WEIGHTS.contains(&key) && !is_weights(key, path) => {
            "is no checkpoint by its name (.ckpt, or .h5 for weights)"
        }
        true => return Ok(()),
    };
    Err(CheckError::NoFile { name: written.to_owned(), by: by(), is })
}

/// Whether sleap-nn reads weights of this name, by its ending.
fn is_weights(key: &str, path: &RelPath) -> bool {
    let name = path.file_name();
    name.ends_with(".ckpt") || (name.ends_with(".h5") && key != RESUMED)
}

/// What a training needs of labels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Their videos.
    Videos,
    /// Also labelled frames.
    Frames,
    /// Also instances in them that a user has placed.
    UserInstances,
}

/// Checks labels that the config names, and returns them if they can be read.
fn check_labels(
    with: Checking<'_>,
    path: &RelPath,
    needs: Needs,
    train: &mut Train,
) -> Result<Option<Labels>, CheckError> {
    let package = with.package;
    let Some(labels) = tracking::labels(package, path)? else { return Ok(None) };
    if needs != Needs::Videos && labels.labelled_frames == Some(0) {
        return Err(CheckError::NoFrames(path.clone()));
    }
    if needs == Needs::UserInstances && labels.user_instances == Some(0) {
        return Err(CheckError::NoUserInstances(path.clone()));
    }
    let mapped = |file: &str| {
        train.maps.iter().any(|PathMap { old, new, .. }| {
            let rest = file.strip_prefix(old.as_str()).map(|rest| rest.trim_start_matches('/'));
            rest.is_some_and(|rest| match rest {
                "" => package.look(new) == Found::File,
                rest => RelPath::new(format!("{new}/{rest}"))
                    .is_ok_and(|path| package.look(&path) == Found::File),
            })
        })
    };
    tracking::check_videos(with, path, &labels, &tracking::used_videos(&labels), mapped)?;
    let named = |name: &String| labels.videos.iter().any(|video| video.names(name));
    let moved = with.videos.moved(path).into_iter().filter(|(name, _)| named(name));
    let moved: Vec<_> = moved.filter(|moved| !train.videos.contains(moved)).collect();
    // sleap-nn accepts one kind of map at a time.
    if !moved.is_empty() && train.maps.iter().any(|map| map.option == PREFIX_MAP) {
        return Err(CheckError::Choices(PREFIX_MAP, "videos that are sent along or on a mount"));
    }
    train.videos.extend(moved);
    Ok(Some(labels))
}

/// Replaces settings that only the worker can decide, and makes the training save its model.
fn own_settings(config: &Config<'_>, train: &mut Train, remarks: &mut Vec<String>) {
    let settings = Settings { config, changes: &train.settings };
    let mut own: Vec<String> = PORTS.iter().filter_map(|key| settings.text(key)).collect();
    let folder = settings.text(FOLDER).filter(|folder| folder != "models" && folder != "./models");
    own.extend(folder);
    if !own.is_empty() {
        remarks.push(format!(
            "{}: the worker decides the checkpoint folder and the ZMQ ports (not {})",
            train.config.path,
            own.join(", ")
        ));
    }
    train.settings.retain(|setting| setting.key != FOLDER && !PORTS.contains(&&*setting.key));
    let cache = Settings { config, changes: &train.settings }.text(CACHE);
    if cache.is_some() {
        remarks.push(format!("{}: {CACHE} is left out: the worker decides it", train.config.path));
        train.set(CACHE, Value::Bare("null".into()));
    }
    let settings = Settings { config, changes: &train.settings };
    let is_on = settings.is_on(SAVE);
    if !is_on {
        remarks.push(format!(
            "{}: {SAVE} is set, because otherwise no model would be saved",
            train.config.path
        ));
    }
    if !is_on || !config.is_true(SAVE) {
        train.set(SAVE, Value::Bare("true".into()));
    }
    let settings = Settings { config, changes: &train.settings };
    if settings.count(BEST_KEPT) == Some(0) {
        remarks.push(format!(
            "{}: {BEST_KEPT} is 1, not 0, because otherwise no model would be saved",
            train.config.path
        ));
        train.set(BEST_KEPT, Value::Bare("1".into()));
    }
}

/// Checks a training of SLEAP up to 1.4.1. Returns the name of its model.
pub(crate) fn check_legacy(
    with: Checking<'_>,
    train: &mut TrainLegacy,
    remarks: &mut Vec<String>,
) -> Result<String, CheckError> {
    let package = with.package;
    let by = || SCRIPT.to_owned();
    train.config.path = find(package, &train.config, by, remarks)?;
    train.labels.path = find(package, &train.labels, by, remarks)?;
    let text = config_text(package, &train.config.path)?;
    let config = Config::read(&text)
        .map_err(|why| CheckError::Config { config: train.config.path.clone(), why })?;
    outside::check_interpolation(&train.config.path, &text, &config)?;
    find_legacy_files(with, &config, train, remarks)?;
    let named =
        train.files.iter().map(|(_, path)| path).filter(|path| path.as_str().ends_with(".slp"));
    for path in named.chain([&train.labels.path]) {
        if let Some(labels) = tracking::labels(package, path)? {
            let used = tracking::used_videos(&labels);
            tracking::check_videos(with, path, &labels, &used, |_| false)?;
        }
    }
    let own = config.texts("outputs.run_name").into_iter().next();
    let name = own.and_then(|name| plain_name(&name));
    let name = name.unwrap_or_else(|| stem(&train.config.path).to_owned());
    train.run_name = Some(name.clone());
    Ok(name)
}

/// Finds the further files and folders that a config of SLEAP up to 1.4.1 names.
fn find_legacy_files(
    with: Checking<'_>,
    config: &Config<'_>,
    train: &mut TrainLegacy,
    remarks: &mut Vec<String>,
) -> Result<(), CheckError> {
    let config_name = train.config.path.clone();
    let mut taken = Vec::new();
    for key in LEGACY_FILES {
        for written in config.texts(key).into_iter().filter(|text| !text.is_empty()) {
            let by = || format!("{config_name} ({key})");
            let missing = || CheckError::Missing { name: written.clone(), by: by() };
            let place = Folder::default().place(&written).map_err(|_| missing())?;
            let path = find(with.package, &place, by, remarks)?;
            if place.is_outside() {
                taken.push((written.clone(), path.clone()));
            }
            train.files.push((written, path));
        }
    }
    distinct(&taken, || config_name.to_string())
}
