//! Adapts the config of a training with SLEAP 1.4.1 to this machine.
//!
//! The package's JSON contains paths of the exporting machine: where models belong, and perhaps other
//! files. The trainer receives a copy with paths of this machine. An earlier run of the same job may
//! have changed the package's folder, so links are not followed.

use super::command::legacy_config;
use serde_json::Value;
use sleap_rtc_base::mounts::is_inside;
use sleap_rtc_package::script::{TrainLegacy, is_foreign};
use sleap_rtc_protocol::path::RelPath;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// Writes the copy for a training whose package is in `root`.
pub fn write(root: &Path, train: &TrainLegacy) -> io::Result<()> {
    let original = train.config.path.below(root);
    if !is_inside(root, &original)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(&original)?)?;
    confine(root, &train.files, &mut config);
    let object = config.as_object_mut().ok_or(io::ErrorKind::InvalidData)?;
    let outputs = object.entry("outputs").or_insert_with(|| serde_json::json!({}));
    let outputs = outputs.as_object_mut().ok_or(io::ErrorKind::InvalidData)?;
    outputs.insert("runs_folder".into(), "models".into());
    outputs.insert("run_name".into(), train.run_name.clone().into());
    for key in ["run_name_prefix", "run_name_suffix"] {
        outputs.insert(key.into(), "".into());
    }
    let name = legacy_config(&train.config.path);
    let path = original.with_file_name(name.rsplit('/').next().unwrap_or_default());
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(&serde_json::to_vec_pretty(&config)?)
}

/// Replaces the paths of `files`. Replaces any other path that leads out of the package by the file of the
/// same name in it, or by null: trainers read no other files.
fn confine(root: &Path, files: &[(String, RelPath)], value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((_, path)) = files.iter().find(|(written, _)| written == text) {
                *value = path.as_str().into();
                return;
            }
            let leads_out = text.len() > 1 && is_foreign(text)
                || text.split(['/', '\\']).any(|part| part == "..");
            if leads_out {
                let name = text.rsplit(['/', '\\']).next().unwrap_or_default();
                let is_there = !matches!(name, "" | "..") && root.join(name).is_file();
                *value = if is_there { name.into() } else { Value::Null };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| confine(root, files, item)),
        Value::Object(entries) => {
            entries.values_mut().for_each(|entry| confine(root, files, entry));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_package::script::Folder;
    use std::os::unix::fs::symlink;

    fn training() -> TrainLegacy {
        let place = |text| Folder::default().place(text).unwrap();
        let (config, labels) = (place("c.json"), place("a.slp"));
        let files = vec![("/home/ada/old".into(), RelPath::new("models/old").unwrap())];
        TrainLegacy { config, labels, run_name: Some("run".into()), files }
    }

    #[test]
    fn foreign_paths_become_package_paths_or_null() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("val.slp"), "").unwrap();
        let config = r#"{"data": {"labels": {"validation_labels": "/home/ada/val.slp",
            "test_labels": "/etc/passwd", "hints": ["../x", "rel/y"]}},
            "model": {"base_checkpoint": "/home/ada/old"}, "n": 1}"#;
        std::fs::write(root.path().join("c.json"), config).unwrap();
        write(root.path(), &training()).unwrap();
        let written =
            std::fs::read(root.path().join(legacy_config(&training().config.path))).unwrap();
        let written: Value = serde_json::from_slice(&written).unwrap();
        let labels = &written["data"]["labels"];
        assert_eq!(
            (&labels["validation_labels"], &labels["test_labels"]),
            (&"val.slp".into(), &Value::Null)
        );
        assert_eq!(labels["hints"], serde_json::json!([null, "rel/y"]));
        assert_eq!(written["outputs"]["run_name"], "run");
        assert_eq!(written["model"]["base_checkpoint"], "models/old");
    }

    #[test]
    fn links_that_an_earlier_run_made_are_not_followed() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = other.path().join("identity.json");
        std::fs::write(&secret, "{}").unwrap();
        symlink(&secret, root.path().join("c.json")).unwrap();
        assert!(write(root.path(), &training()).is_err());
        std::fs::remove_file(root.path().join("c.json")).unwrap();
        std::fs::write(root.path().join("c.json"), "{}").unwrap();
        symlink(&secret, root.path().join(legacy_config(&training().config.path))).unwrap();
        write(root.path(), &training()).unwrap();
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "{}");
    }
}
