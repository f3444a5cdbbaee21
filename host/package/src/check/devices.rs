//! Makes a training use the devices of its slot instead of those of the exporting machine.

use super::MachineFacts;
use crate::config::{Config, Settings};
use crate::script::{Train, Value};

const ACCELERATOR: &str = "trainer_config.trainer_accelerator";
const DEVICES: &str = "trainer_config.trainer_devices";
const INDICES: &str = "trainer_config.trainer_device_indices";

/// Adapts the devices that a training asks for to those of its slot.
pub(crate) fn fit(
    config: &Config<'_>,
    train: &mut Train,
    site: MachineFacts<'_>,
    remarks: &mut Vec<String>,
) {
    let Some(gpus) = site.gpus else { return };
    let settings = Settings { config, changes: &train.settings };
    let accelerator = settings.text(ACCELERATOR).unwrap_or_else(|| "auto".to_owned());
    let indices = settings.texts(INDICES);
    let count = settings.count(DEVICES).map_or(0, |count| count as usize);
    // sleap-nn takes a number, a list, `auto`, or -1 for all.
    let written = settings.texts(DEVICES).join(", ");
    let is_list = settings.is_list(DEVICES);
    let listed = if is_list { settings.texts(DEVICES) } else { indices.clone() };
    let name = train.config.path.clone();
    let mut say = |what: String| remarks.push(format!("{name}: {what}"));
    if accelerator == "cpu" {
        if gpus > 0 {
            say("it trains on the CPU (trainer_accelerator: cpu), not on this worker's GPU".into());
        }
    } else if gpus == 0 && accelerator != "auto" && !is_own_accelerator(&accelerator) {
        say(format!("this worker has no GPU: trainer_accelerator is auto, not {accelerator}"));
        train.set(ACCELERATOR, Value::Text("auto".into()));
    } else if gpus > 0 && !matches!(accelerator.as_str(), "auto" | "gpu" | "cuda") {
        say(format!(
            "trainer_accelerator is auto, not {accelerator}: the training uses the worker's GPU"
        ));
        train.set(ACCELERATOR, Value::Text("auto".into()));
    }
    let wanted = if listed.is_empty() { count } else { listed.len() };
    if !indices.is_empty() {
        say(format!(
            "trainer_device_indices [{}] is left out: the slot decides which devices it uses",
            indices.join(", ")
        ));
        train.set(INDICES, Value::Bare("null".into()));
    }
    if accelerator == "cpu" || gpus == 0 {
        if is_list || written.starts_with('-') {
            say(format!("trainer_devices is 1, not {written}: the training runs on the CPU"));
            train.set(DEVICES, Value::Bare("1".into()));
        }
    } else if wanted > gpus || !listed.is_empty() {
        let used = wanted.min(gpus);
        if wanted > gpus {
            say(format!("trainer_devices is {used}, not {wanted}: the slot has no more GPUs"));
        } else if is_list {
            say(format!("trainer_devices is {used}, not [{written}]: the slot decides which"));
        }
        train.set(DEVICES, Value::Bare(used.to_string()));
    }
}

/// Whether the accelerator is Apple's GPU, which slots do not have.
fn is_own_accelerator(accelerator: &str) -> bool {
    cfg!(target_os = "macos") && accelerator == "mps"
}
