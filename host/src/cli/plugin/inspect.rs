//! `plugin inspect`: what is in a plugin, whether it can be used or not.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use super::{told_ms, worlds};
use sleap_rtc_policy::ExtensionPoint;
use sleap_rtc_policy::PluginConfig;
use sleap_rtc_policy::examine::PluginFile;
use std::time::Duration;

/// Calls of which the median is told.
const CALLS: usize = 11;
/// The cases whose calls are timed.
const TIMED: [&str; 2] = ["an ordinary worker", "1,000 workers"];

/// Prints it.
pub(super) fn run(plugin: &PluginFile, config: &PluginConfig) -> Result<Exit, Failure> {
    let points = plugin.points();
    let mut rows = Vec::new();
    let mut tell = |name: &str, values: &[String]| {
        for (place, value) in values.iter().enumerate() {
            let name = if place == 0 { name } else { "" };
            rows.push([name.to_owned(), value.clone()]);
        }
    };
    tell("plugin", std::slice::from_ref(&plugin.name));
    tell("file", &[plugin.path.display().to_string()]);
    tell("size", &[format!("{} bytes", plugin.size_bytes)]);
    tell("BLAKE3", std::slice::from_ref(&plugin.hash));
    tell("package", &or_none(plugin.packages()));
    tell("world", &worlds(plugin));
    tell("exports", &or_none(plugin.exports().to_vec()));
    tell("imports", &or_none(plugin.imports().to_vec()));
    tell("compile", &[told_ms(plugin.compiled_in)]);
    let calls: Vec<_> = points.iter().flat_map(|point| calls(plugin, *point, config)).collect();
    match points.is_empty() {
        true => tell("call", &[plugin.exports_nothing().to_string()]),
        false => tell("call", &calls),
    }
    print::raw(&columns(&rows)).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

fn or_none(names: Vec<String>) -> Vec<String> {
    if names.is_empty() { vec!["none".into()] } else { names }
}

/// How long calls at `point` take, or why there can be none.
fn calls(plugin: &PluginFile, point: ExtensionPoint, config: &PluginConfig) -> Vec<String> {
    let key = point.key();
    let candidate = match plugin.load(point, config) {
        Ok(candidate) => candidate,
        Err(error) => return vec![format!("{key}: {error}")],
    };
    let cases = candidate.cases();
    let timed = cases.iter().filter(|case| TIMED.contains(&case.name));
    let told = timed.map(|case| {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let outcome = candidate.try_case(case);
            if let Err(why) = outcome.answer {
                return format!("{key}, {}: {why}", case.name);
            }
            times.push(outcome.took);
        }
        format!("{key}, {}: {}", case.name, told_ms(median(times)))
    });
    told.collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
