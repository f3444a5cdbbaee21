//! `plugin validate`: the built-in cases, one line for each.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use super::told_ms;
use sleap_rtc_policy::ExtensionPoint;
use sleap_rtc_policy::PluginConfig;
use sleap_rtc_policy::examine::PluginFile;

/// What a plugin's own words begin with.
const OWN_WORDS: &str = "it says:";

/// Loads the plugin at each extension point that it exports, and asks it about every case.
pub(super) fn run(plugin: &PluginFile, config: &PluginConfig) -> Result<Exit, Failure> {
    let points = plugin.points();
    if points.is_empty() {
        return Err(plugin.exports_nothing().into());
    }
    let mut tally = Tally::default();
    for point in points {
        let text = at(plugin, point, config, &mut tally)?;
        print::raw(&text).exit(Exit::Unexpected)?;
    }
    let (name, asked, failed) = (&plugin.name, tally.asked, tally.failed);
    if failed == 0 {
        print::line(&format!("{name} is valid: {asked} cases")).exit(Exit::Unexpected)?;
        return Ok(Exit::Success);
    }
    let failure = Failure::usage(format!("{name} is not valid: {failed} of {asked} cases failed"));
    Err(match tally.spoke {
        true => failure.hint("if it needs settings, give them: --setting KEY=VALUE"),
        false => failure,
    })
}

#[derive(Default)]
struct Tally {
    asked: usize,
    failed: usize,
    /// Whether the plugin itself reported an error.
    spoke: bool,
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
        tally.asked += 1;
        let (mark, said) = match outcome.answer {
            Ok(said) => ("  ok", said),
            Err(why) => {
                tally.failed += 1;
                tally.spoke |= why.starts_with(OWN_WORDS);
                ("  WRONG", why)
            }
        };
        rows.push([mark.to_owned(), case.name.to_owned(), told_ms(outcome.took), said]);
        for remark in outcome.remarks {
            rows.push([String::new(), String::new(), "note".into(), remark]);
        }
    }
    Ok(format!("{} (world {})\n{}", point.key(), point.world(), columns(&rows)))
}
