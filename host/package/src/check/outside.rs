//! Refuses configs that could reach the worker's variables, or its files outside the package.
//!
//! The trainer's loader (OmegaConf) replaces `${…}` with environment variables or with the content of
//! files. SLEAP never writes that into a config, so it is refused everywhere.

use super::{CheckError, config_text};
use crate::config::Config;
use crate::files::{Found, PackageFiles};
use crate::script::{Train, Value, is_foreign};
use sleap_rtc_protocol::path::RelPath;

/// How an interpolation begins.
const INTERPOLATION: &str = "${";
/// Keys that need no check: their paths are resolved in the package or replaced, or their values
/// are not paths.
const HARMLESS_KEYS: &[&str] = &[
    "data_config.cache_img_path",
    "data_config.test_file_path",
    "data_config.train_labels_path",
    "data_config.val_labels_path",
    "description",
    "filename",
    "model_config.pretrained_backbone_weights",
    "model_config.pretrained_head_weights",
    "name",
    "trainer_config.ckpt_dir",
    "trainer_config.resume_ckpt_path",
    "trainer_config.run_name",
];
/// Keys with which Hydra composes a config of further files, which nobody has checked, or decides where it
/// writes.
const COMPOSED: [&str; 2] = ["defaults", "hydra"];
/// How a line begins that puts a config under another key than the ones it names.
const MOVED: &str = "@package";
/// The configs that trainers save with their models.
const MODEL_CONFIGS: [&str; 4] =
    ["training_config.yaml", "training_config.yml", "training_config.json", "initial_config.yaml"];

/// Refuses a training whose config or script reaches beyond the package.
pub(crate) fn check_training(
    text: &str,
    config: &Config<'_>,
    train: &Train,
) -> Result<(), CheckError> {
    check_interpolation(&train.config.path, text, config)?;
    check_composition(&train.config.path, text, config)?;
    let mut found = None;
    let mut look = |key: &str, text: &str, is_harmless: bool| {
        if found.is_none() && !is_harmless && leads_out(text) {
            found = Some((key.to_owned(), text.to_owned()));
        }
    };
    config.each_text(&mut |key, text| {
        // Only the texts that are found under the key are resolved.
        let is_seen = || config.texts(key).iter().any(|seen| seen == text);
        look(key, text, HARMLESS_KEYS.contains(&key) && is_seen());
    });
    for setting in &train.settings {
        let is_harmless = HARMLESS_KEYS.contains(&setting.key.as_str());
        setting.value.texts().iter().for_each(|text| look(&setting.key, text, is_harmless));
        if let Value::Bare(list) = &setting.value {
            inner_texts(list).for_each(|text| look(&setting.key, text, is_harmless));
        }
    }
    match found {
        None => Ok(()),
        Some((key, written)) => {
            Err(CheckError::Path { config: train.config.path.clone(), key, written })
        }
    }
}

/// The texts in lists and mappings of a setting.
fn inner_texts(list: &str) -> impl Iterator<Item = &str> {
    let pieces = list.split(['[', ']', '{', '}', ',']);
    pieces.map(|piece| {
        let value = piece.split_once(": ").map_or(piece, |(_, value)| value);
        value.trim_matches([' ', '"', '\''])
    })
}

/// Refuses a config that Hydra would compose of further files or move under another key.
fn check_composition(path: &RelPath, text: &str, config: &Config<'_>) -> Result<(), CheckError> {
    let moves = |line: &str| {
        line.trim_start().strip_prefix('#').is_some_and(|rest| rest.trim_start().starts_with(MOVED))
    };
    let key = COMPOSED.into_iter().find(|key| config.has(key));
    match key.or_else(|| text.lines().any(moves).then_some(MOVED)) {
        None => Ok(()),
        Some(key) => Err(CheckError::Config {
            config: path.clone(),
            why: format!(
                "it has `{key}`, with which Hydra reads further files or writes elsewhere: write all \
                 settings into this file, and remove it"
            ),
        }),
    }
}

/// Refuses a config with an interpolation, in its raw text or in its parsed text.
pub(crate) fn check_interpolation(
    path: &RelPath,
    text: &str,
    config: &Config<'_>,
) -> Result<(), CheckError> {
    let mut found = text.contains(INTERPOLATION).then(String::new);
    config.each_text(&mut |key, text| {
        if text.contains(INTERPOLATION) || key.contains(INTERPOLATION) {
            found = Some(key.to_owned());
        }
    });
    match found {
        None => Ok(()),
        Some(key) => Err(CheckError::Interpolation { config: path.clone(), key }),
    }
}

/// Refuses a model whose configs have an interpolation.
pub(crate) fn check_model(package: &dyn PackageFiles, folder: &RelPath) -> Result<(), CheckError> {
    for name in MODEL_CONFIGS {
        let Ok(path) = RelPath::new(format!("{folder}/{name}")) else { continue };
        if package.look(&path) == Found::File {
            let text = config_text(package, &path)?;
            let wrong = |why| CheckError::Config { config: path.clone(), why };
            check_interpolation(&path, &text, &Config::read(&text).map_err(wrong)?)?;
        }
    }
    Ok(())
}

/// Whether a text is a path that leaves the package.
fn leads_out(text: &str) -> bool {
    // `a: b` is a text, and no path of Windows.
    let is_drive = text.as_bytes().get(1) == Some(&b':');
    let names_folder = |text: &str| text[2..].starts_with(['/', '\\']);
    let is_path = text.len() > 1 && is_foreign(text) && (!is_drive || names_folder(text));
    is_path || text.starts_with("file:") || text.split(['/', '\\']).any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_distinguished_from_words() {
        for out in ["/home/ada/x.slp", "~/x", "C:\\x", "a/../../b", "..", "file:///etc/passwd"] {
            assert!(leads_out(out), "{out}");
        }
        for inside in ["models/a", "a..b", "/", "1.0e-06", "https://host/x", "a: b", "c:", ""] {
            assert!(!leads_out(inside), "{inside}");
        }
    }
}
