//! `plugin inspect`: shows what a plugin contains, even if it cannot be used.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use super::{ms_text, worlds};
use sleap_rtc_policy::ExtensionPoint;
use sleap_rtc_policy::PluginConfig;
use sleap_rtc_policy::examine::PluginFile;
use std::time::Duration;

/// The number of calls from which the median is taken.
const CALLS: usize = 11;
/// The cases whose calls are timed.
const TIMED: [&str; 2] = ["an ordinary worker", "1,000 workers"];

/// Prints the table.
pub(crate) fn run(plugin: &PluginFile, config: &PluginConfig) -> Result<Exit, Failure> {
    let points = plugin.points();
    let mut rows = Vec::new();
    let mut add = |name: &str, values: &[String]| {
        for (place, value) in values.iter().enumerate() {
            let name = if place == 0 { name } else { "" };
            rows.push([name.to_owned(), value.clone()]);
        }
    };
    add("plugin", std::slice::from_ref(&plugin.name));
    add("file", &[plugin.path.display().to_string()]);
    add("size", &[format!("{} bytes", plugin.size_bytes)]);
    add("BLAKE3", std::slice::from_ref(&plugin.hash));
    add("package", &or_none(plugin.packages()));
    add("world", &worlds(plugin));
    add("exports", &or_none(plugin.exports().to_vec()));
    add("imports", &or_none(plugin.imports().to_vec()));
    add("compile", &[ms_text(plugin.compiled_in)]);
    let calls: Vec<_> = points.iter().flat_map(|point| calls(plugin, *point, config)).collect();
    match points.is_empty() {
        true => add("call", &[plugin.exports_nothing().to_string()]),
        false => add("call", &calls),
    }
    print::raw(&columns(&rows)).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

fn or_none(names: Vec<String>) -> Vec<String> {
    if names.is_empty() { vec!["none".into()] } else { names }
}

/// How long calls at `point` take, or why they fail.
fn calls(plugin: &PluginFile, point: ExtensionPoint, config: &PluginConfig) -> Vec<String> {
    let key = point.key();
    let candidate = match plugin.load(point, config) {
        Ok(candidate) => candidate,
        Err(error) => return vec![format!("{key}: {error}")],
    };
    let cases = candidate.cases();
    let timed = cases.iter().filter(|case| TIMED.contains(&case.name));
    let rows = timed.map(|case| {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let outcome = candidate.try_case(case);
            if let Err(why) = outcome.answer {
                return format!("{key}, {}: {why}", case.name);
            }
            times.push(outcome.took);
        }
        format!("{key}, {}: {}", case.name, ms_text(median(times)))
    });
    rows.collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
