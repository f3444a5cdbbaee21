//! Logs to W&B. Without a key sleap-nn ends before the first epoch, and with `offline` it writes the same
//! logs beside the model.

use super::MachineFacts;
use crate::config::{Config, Settings};
use crate::script::{Train, Value};

const USED: &str = "trainer_config.use_wandb";
const MODE: &str = "trainer_config.wandb.wandb_mode";
const KEY: &str = "trainer_config.wandb.api_key";
const OFFLINE: &str = "offline";

/// The length of a key. W&B's program refuses shorter ones.
const KEY_CHARS: usize = 40;

/// Refuses what cannot be a key.
pub(crate) fn check(settings: &Settings<'_>) -> Result<(), String> {
    let is_short = settings.text(KEY).is_some_and(|key| key.chars().count() < KEY_CHARS);
    match is_short && settings.is_on(USED) && settings.text(MODE).as_deref() != Some(OFFLINE) {
        true => Err(format!(
            "{KEY} is shorter than {KEY_CHARS} characters, so it is no key of W&B: write the whole key, or \
             leave it out"
        )),
        false => Ok(()),
    }
}

/// Keeps the logs with the model where nobody has a key for W&B.
pub(crate) fn fit(
    config: &Config<'_>,
    train: &mut Train,
    site: MachineFacts<'_>,
    remarks: &mut Vec<String>,
) {
    let settings = Settings { config, changes: &train.settings };
    let is_offline = settings.text(MODE).as_deref() == Some(OFFLINE);
    let has_key = site.has_wandb_key != Some(false) || settings.text(KEY).is_some();
    if !settings.is_on(USED) || is_offline || has_key {
        return;
    }
    remarks.push(format!(
        "{}: {MODE} is {OFFLINE}, because neither the package ({KEY}) nor this worker (WANDB_API_KEY in its \
         pass_env) has a key: the logs are in the model's folder, and `wandb sync` sends them",
        train.config.path
    ));
    train.set(MODE, Value::Text(OFFLINE.into()));
}
