//! The facts in a training config: YAML of sleap-nn, or JSON of SLEAP up to 1.4.1.

use crate::job::script::{Override, OverrideValue};
use saphyr::{LoadableYamlNode, Yaml};
use sleap_rtc_protocol::path::RelPath;

/// Collections that a config may open within lines, and nested ones in one line: the parser's
/// memory and stack grow with them, and sleap-nn writes a handful.
const MAX_FLOW: usize = 2000;
const MAX_NESTED_IN_LINE: usize = 32;
const MAX_MODEL_TYPES: usize = 16;

/// What a config says, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Names of the heads that it defines.
    pub model_types: Vec<String>,
    /// The most epochs that it trains.
    pub epochs: Option<u32>,
    /// Samples in a batch.
    pub batch_size: Option<u32>,
    /// Labels in the package that it trains on.
    pub labels: Vec<RelPath>,
}

/// Reads a config.
pub fn read(text: &str) -> Option<Facts> {
    if !is_tame(text) {
        return None;
    }
    let documents = Yaml::load_from_str(text).ok()?;
    let config = documents.first()?;
    let nn = config.as_mapping_get("model_config").is_some();
    let (heads, epochs, batch) = match nn {
        true => (
            ["model_config", "head_configs"].as_slice(),
            ["trainer_config", "max_epochs"].as_slice(),
            ["trainer_config", "train_data_loader", "batch_size"].as_slice(),
        ),
        false => (
            ["model", "heads"].as_slice(),
            ["optimization", "epochs"].as_slice(),
            ["optimization", "batch_size"].as_slice(),
        ),
    };
    Some(Facts {
        model_types: get(config, heads).map(set_keys).unwrap_or_default(),
        epochs: get(config, epochs).and_then(count),
        batch_size: get(config, batch).and_then(count),
        labels: get(config, &["data_config", "train_labels_path"]).map(paths).unwrap_or_default(),
    })
}

impl Facts {
    /// What the script's own settings change.
    pub fn apply(&mut self, overrides: &[Override]) {
        for setting in overrides {
            match (setting.key, &setting.value) {
                ("trainer_config.max_epochs", OverrideValue::Scalar(value)) => {
                    self.epochs = value.parse().ok();
                }
                ("trainer_config.train_data_loader.batch_size", OverrideValue::Scalar(value)) => {
                    self.batch_size = value.parse().ok();
                }
                ("data_config.train_labels_path", OverrideValue::Paths(paths)) => {
                    self.labels.clone_from(paths);
                }
                _ => {}
            }
        }
    }
}

/// Whether the text nests no deeper than a config does.
fn is_tame(text: &str) -> bool {
    let flow = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    let nested = |line: &str| {
        line.split_whitespace().filter(|word| matches!(*word, "-" | "?" | ":")).count()
    };
    flow <= MAX_FLOW && text.lines().all(|line| nested(line) <= MAX_NESTED_IN_LINE)
}

fn get<'a, 'i>(node: &'a Yaml<'i>, path: &[&str]) -> Option<&'a Yaml<'i>> {
    path.iter().try_fold(node, |node, key| node.as_mapping_get(key))
}

/// The keys whose value is not null.
fn set_keys(node: &Yaml<'_>) -> Vec<String> {
    let Some(mapping) = node.as_mapping() else { return Vec::new() };
    let set = mapping.iter().filter(|(_, value)| !value.is_null());
    let keys = set.filter_map(|(key, _)| key.as_str());
    keys.filter(|key| key.len() <= 64).take(MAX_MODEL_TYPES).map(str::to_owned).collect()
}

fn count(node: &Yaml<'_>) -> Option<u32> {
    u32::try_from(node.as_integer()?).ok()
}

fn paths(node: &Yaml<'_>) -> Vec<RelPath> {
    let one = node.as_str().into_iter();
    let many = node.as_vec().into_iter().flatten().filter_map(|item| item.as_str());
    one.chain(many).filter_map(|path| RelPath::new(path).ok()).take(MAX_MODEL_TYPES).collect()
}
