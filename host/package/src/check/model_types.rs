//! Which models predict together. A model's type is its first head. sleap-nn makes one predictor of all models:
//! newer versions refuse a second model of the same type, and older ones ignore it.

use super::{CheckError, config_text};
use crate::config::Config;
use crate::files::{Found, PackageFiles};
use sleap_rtc_protocol::path::RelPath;
use std::fmt;

/// The configs of a trained model.
pub(crate) const CONFIGS: [&str; 3] =
    ["training_config.yaml", "training_config.yml", "training_config.json"];
/// Models of these types predict alone: sleap-nn ignores every other model beside one of them.
const ALONE: [&str; 5] = [
    "single_instance",
    "bottomup",
    "multi_class_bottomup",
    "bottomup_segmentation",
    "semantic_segmentation",
];
/// Models that follow a centroid model. sleap-nn uses only the first that is given.
const SECOND_STAGE: [&str; 2] = ["centered_instance", "multi_class_topdown"];

/// A model as a script names it, and its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedModel {
    /// Its folder.
    pub name: String,
    /// Such as `centroid`.
    pub model_type: String,
}

impl fmt::Display for TypedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.model_type)
    }
}

/// The type of the model in a folder, if it can be read.
pub(crate) fn of_folder(package: &dyn PackageFiles, folder: &RelPath) -> Option<String> {
    let mut configs = CONFIGS.into_iter().filter_map(|name| {
        let path = RelPath::new(format!("{folder}/{name}")).ok()?;
        (package.look(&path) == Found::File).then_some(path)
    });
    of_config(package, &configs.next()?)
}

/// The type of the model that a config describes, if it can be read.
pub(crate) fn of_config(package: &dyn PackageFiles, config: &RelPath) -> Option<String> {
    let text = config_text(package, config).ok()?;
    Config::read(&text).ok()?.model_types().into_iter().next()
}

/// Refuses models if sleap-nn would not use all of them.
pub(crate) fn together(models: &[TypedModel]) -> Result<(), CheckError> {
    for (index, second) in models.iter().enumerate() {
        for first in &models[..index] {
            let types = [&*first.model_type, &*second.model_type];
            let are_equal = types[0] == types[1];
            let predicts_alone = types.iter().any(|kind| ALONE.contains(kind));
            let are_second_stages = types.iter().all(|kind| SECOND_STAGE.contains(kind));
            if are_equal || predicts_alone || are_second_stages {
                let (first, second) = (first.clone(), second.clone());
                return Err(CheckError::ModelTypes { first, second });
            }
        }
    }
    Ok(())
}
