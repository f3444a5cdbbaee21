//! `plugin bench`: compares the duration of calls with the built-in plugin's.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use super::ms_text;
use sleap_rtc_policy::ExtensionPoint;
use sleap_rtc_policy::examine::{self, Candidate, Case, PluginFile};
use sleap_rtc_policy::{OnFailure, PluginConfig};
use std::time::Duration;

/// The number of calls from which the median is taken.
const CALLS: usize = 21;

/// Prints a line for each extension point of `plugin` and each size: so many workers or, for an order, so many
/// jobs that wait.
pub(crate) fn run(plugin: &PluginFile, config: &PluginConfig) -> Result<Exit, Failure> {
    let points = plugin.points();
    if points.is_empty() {
        return Err(plugin.exports_nothing().into());
    }
    let head = ["call", "size", plugin.name.as_str(), "built-in", "ratio"];
    let mut rows = vec![head.map(String::from)];
    for point in points {
        // A slow machine must not stop the built-in plugin.
        let patient = PluginConfig { timeout_ms: 10_000, ..PluginConfig::new(OnFailure::Refuse) };
        let built_in = PluginFile::embedded(point, None)?.load(point, &patient)?;
        let candidate = plugin.load(point, config)?;
        let sizes: &[u32] = match point {
            ExtensionPoint::Selection | ExtensionPoint::Queueing => &[10, 100, 1000],
            ExtensionPoint::Compatibility | ExtensionPoint::Estimate => &[1],
        };
        for size in sizes {
            let case = match point {
                ExtensionPoint::Queueing => examine::queue(*size),
                _ => examine::room((*size).into()),
            };
            let (own, theirs) = medians(&candidate, &built_in, &case)?;
            let ratio = own.as_secs_f64() / theirs.as_secs_f64();
            let row = [ms_text(own), ms_text(theirs), format!("{ratio:.2}")];
            let [own, theirs, ratio] = row;
            rows.push([point.key().into(), size.to_string(), own, theirs, ratio]);
        }
    }
    print::raw(&columns(&rows)).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

/// The medians of both, called alternately so that other load on the machine affects both.
fn medians(
    candidate: &Candidate,
    built_in: &Candidate,
    case: &Case,
) -> Result<(Duration, Duration), Failure> {
    let time = |candidate: &Candidate| {
        let outcome = candidate.try_case(case);
        let failed = |why| Failure::usage(format!("{}: {why}", case.name));
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
