//! `plugin bench`: how long calls take, beside the built-in plugin in the same run.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use super::told_ms;
use sleap_rtc_policy::ExtensionPoint;
use sleap_rtc_policy::examine::{self, Candidate, PluginFile};
use sleap_rtc_policy::{OnFailure, PluginConfig};
use std::time::Duration;

/// Calls of which the median is told.
const CALLS: usize = 21;

/// Prints a line for each extension point of `plugin` and each size of room.
pub(super) fn run(plugin: &PluginFile, config: &PluginConfig) -> Result<Exit, Failure> {
    let points = plugin.points();
    if points.is_empty() {
        return Err(plugin.exports_nothing().into());
    }
    let head = ["question", "workers", plugin.name.as_str(), "built-in", "ratio"];
    let mut rows = vec![head.map(String::from)];
    for point in points {
        // Nothing is to be stopped here that would answer in the end.
        let patient = PluginConfig { timeout_ms: 10_000, ..PluginConfig::new(OnFailure::Refuse) };
        let built_in = PluginFile::embedded(point, None)?.load(point, &patient)?;
        let candidate = plugin.load(point, config)?;
        let rooms: &[u64] = match point {
            ExtensionPoint::Selection => &[10, 100, 1000],
            ExtensionPoint::Compatibility | ExtensionPoint::Estimate => &[1],
        };
        for workers in rooms {
            let (own, theirs) = medians(&candidate, &built_in, *workers)?;
            let ratio = own.as_secs_f64() / theirs.as_secs_f64();
            let row = [told_ms(own), told_ms(theirs), format!("{ratio:.2}")];
            let [own, theirs, ratio] = row;
            rows.push([point.key().into(), workers.to_string(), own, theirs, ratio]);
        }
    }
    print::raw(&columns(&rows)).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

/// The medians of both, asked in turn: what slows the machine slows both.
fn medians(
    candidate: &Candidate,
    built_in: &Candidate,
    workers: u64,
) -> Result<(Duration, Duration), Failure> {
    let case = examine::room(workers);
    let time = |candidate: &Candidate| {
        let outcome = candidate.try_case(&case);
        let failed = |why| Failure::usage(format!("with {workers} workers: {why}"));
        outcome.answer.map(|_| outcome.took).map_err(failed)
    };
    let (mut own, mut theirs) = (Vec::with_capacity(CALLS), Vec::with_capacity(CALLS));
    for _ in 0..CALLS {
        own.push(time(candidate)?);
        theirs.push(time(built_in)?);
    }
    own.sort();
    theirs.sort();
    Ok((own[CALLS / 2], theirs[CALLS / 2]))
}
