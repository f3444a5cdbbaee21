//! `plugin validate`: runs the built-in cases and prints one line for each.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use super::ms_text;
use sleap_rtc_policy::ExtensionPoint;
use sleap_rtc_policy::PluginConfig;
use sleap_rtc_policy::examine::PluginFile;

/// How an error that the plugin itself returned begins.
const PLUGIN_ERROR: &str = "it says:";

/// Loads the plugin at each extension point that it exports, and calls it with every case.
pub(crate) fn run(plugin: &PluginFile, config: &PluginConfig) -> Result<Exit, Failure> {
    let points = plugin.points();
    if points.is_empty() {
        return Err(plugin.exports_nothing().into());
    }
    let mut tally = Tally::default();
    for point in points {
        let text = at(plugin, point, config, &mut tally)?;
        print::raw(&text).exit(Exit::Unexpected)?;
    }
    let (name, cases, failed) = (&plugin.name, tally.cases, tally.failed);
    if failed == 0 {
        print::line(&format!("{name} is valid: {cases} cases")).exit(Exit::Unexpected)?;
        return Ok(Exit::Success);
    }
    let failure = Failure::usage(format!("{name} is not valid: {failed} of {cases} cases failed"));
    Err(match tally.plugin_error {
        true => failure.hint("if the plugin needs settings, pass them with --setting KEY=VALUE"),
        false => failure,
    })
}

#[derive(Default)]
struct Tally {
    cases: usize,
    failed: usize,
    /// Whether the plugin itself returned an error.
    plugin_error: bool,
}

fn at(
    plugin: &PluginFile,
    point: ExtensionPoint,
    config: &PluginConfig,
    tally: &mut Tally,
) -> Result<String, Failure> {
    let candidate = plugin.load(point, config)?;
    let mut rows = Vec::new();
    for case in candidate.cases() {
        let outcome = candidate.try_case(&case);
        tally.cases += 1;
        let (mark, said) = match outcome.answer {
            Ok(said) => ("  ok", said),
            Err(why) => {
                tally.failed += 1;
                tally.plugin_error |= why.starts_with(PLUGIN_ERROR);
                ("  WRONG", why)
            }
        };
        rows.push([mark.to_owned(), case.name.to_owned(), ms_text(outcome.took), said]);
        for remark in outcome.remarks {
            rows.push([String::new(), String::new(), "note".into(), remark]);
        }
    }
    Ok(format!("{} (world {})\n{}", point.key(), point.world(), columns(&rows)))
}
