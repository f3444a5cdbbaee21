//! `plugin replay`: puts recorded questions to a plugin, and shows where it decides otherwise.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use sleap_rtc_policy::examine::PluginFile;
use sleap_rtc_policy::replay::{Difference, ReplayError, Replayed, replay};
use sleap_rtc_policy::{ExtensionPoint, PluginConfig, PolicyConfig};
use std::path::{Path, PathBuf};

/// The most differences that are shown.
const ROWS: usize = 50;

/// The inputs of a replay.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The file of `[policy] record`.
    pub(crate) record: PathBuf,
    /// The plugin whose decisions are compared.
    pub(crate) of: Option<String>,
    /// Whether a difference is an error.
    pub(crate) expect_same: bool,
}

/// Prints a table of the differences, and a summary.
pub(crate) fn run(
    plugin: &PluginFile,
    config: &PluginConfig,
    options: &Replay,
    policy: &PolicyConfig,
) -> Result<Exit, Failure> {
    let config = with_settings(plugin, config, policy);
    let replayed = replay(&options.record, plugin, &config, options.of.as_deref())?;
    let mut text = table(&replayed.differences);
    text.push_str(&summary(&replayed));
    print::raw(&text).exit(Exit::Unexpected)?;
    match options.expect_same && !replayed.differences.is_empty() {
        true => Err(Failure::message(Exit::Unexpected, "the plugin decides otherwise")),
        false => Ok(Exit::Success),
    }
}

/// The differences and the summary for `plugin update`, whose record may have no decision for the plugin.
pub(crate) fn compared(
    record: &Path,
    plugin: &PluginFile,
    config: &PluginConfig,
) -> Result<String, Failure> {
    match replay(record, plugin, config, None) {
        Ok(replayed) => Ok(table(&replayed.differences) + &summary(&replayed)),
        Err(error @ (ReplayError::NoneOf { .. } | ReplayError::NoneFor { .. })) => {
            Ok(format!("{error}\n"))
        }
        Err(error) => Err(error.into()),
    }
}

/// `config` with the settings of the configuration, unless the command line has some: a record has none.
pub(crate) fn with_settings(
    plugin: &PluginFile,
    config: &PluginConfig,
    policy: &PolicyConfig,
) -> PluginConfig {
    let mut config = config.clone();
    if config.settings.is_empty() {
        let sections = ExtensionPoint::ALL.iter().flat_map(|point| policy.plugins(*point));
        let mut own = sections.filter(|section| section.name().as_ref() == Some(&plugin.name));
        config.settings = own.next().map(|section| section.settings.clone()).unwrap_or_default();
    }
    config
}

fn table(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let mut rows = vec![["time (UTC)", "question", "job", "before", "after"].map(String::from)];
    rows.extend(differences.iter().take(ROWS).map(|difference| {
        let Difference { point, job, before, after, .. } = difference;
        [difference.time(), point.key().into(), job.clone(), before.clone(), after.clone()]
    }));
    let mut text = columns(&rows);
    if let Some(more) = differences.len().checked_sub(ROWS).filter(|more| *more > 0) {
        text.push_str(&format!("and {more} more\n"));
    }
    text
}

fn summary(replayed: &Replayed) -> String {
    let Replayed { decisions, differences, unreadable } = replayed;
    let mut text = match differences.len() {
        0 => format!("all {decisions} decisions are the same\n"),
        differ => {
            let changes = replayed.changes();
            let changes =
                changes.iter().map(|(change, count)| format!("{count} {}", change.text()));
            let changes = changes.collect::<Vec<_>>().join(", ");
            let verb = if differ == 1 { "differs" } else { "differ" };
            format!("of {decisions} decisions {differ} {verb}: {changes}\n")
        }
    };
    if *unreadable > 0 {
        text.push_str(&format!("{unreadable} lines of the record cannot be read\n"));
    }
    text
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        Self::new(Exit::Usage, error)
    }
}
