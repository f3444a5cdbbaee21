//! Which earlier runs a plugin receives that estimates a job.

use super::bindings::types::{Property, Value};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::JobDescription;
use sleap_rtc_protocol::workload::{FinishedRun, Workload};
use std::collections::BTreeSet;

/// The key in the context.
const KEY: &str = "history";
/// The most earlier runs for each run of the job.
const PER_RUN: usize = 40;
/// The most for the whole job.
const IN_ALL: usize = 120;
/// The most bytes of their JSON. Each takes about 600.
const BYTES: usize = 128 * 1024;

/// The runs in `history` that are most like those of `job`, the most similar first, as a property of the
/// context. `history` has the newest last.
pub(crate) fn property(
    job: &JobDescription,
    worker: &WorkerFacts,
    history: &[FinishedRun],
) -> Option<Property> {
    let gpu = worker.accelerators.largest().map(|gpu| gpu.model.as_str());
    let asked = match job.runs.is_empty() {
        true => vec![whole(job)],
        false => job.runs.clone(),
    };
    let (mut order, mut known) = (Vec::new(), BTreeSet::new());
    for run in &asked {
        let alike = nearest(run, gpu, worker.sleap_version.as_deref(), history);
        order.extend(alike.into_iter().filter(|place| known.insert(*place)));
    }
    let mut json = String::from("[");
    for run in order.into_iter().take(IN_ALL).map(|place| &history[place]) {
        let run = serde_json::to_string(run).ok()?;
        if json.len() + run.len() > BYTES {
            break;
        }
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&run);
    }
    json.push(']');
    (json.len() > 2).then(|| Property { key: KEY.into(), value: Value::Json(json) })
}

/// A job whose runs its client does not tell, as one run.
fn whole(job: &JobDescription) -> Workload {
    Workload {
        model_types: job.model_types.clone(),
        epochs: job.epochs,
        batch_size: job.batch_size,
        frames: job.frame_count,
        input: job.image,
        ..Workload::unknown(job.job_type)
    }
}

/// The places in `history` of the runs that are most like `run`, the most similar first.
fn nearest(
    run: &Workload,
    gpu: Option<&str>,
    version: Option<&str>,
    history: &[FinishedRun],
) -> Vec<usize> {
    let of_type = (0..history.len()).rev().filter(|at| history[*at].run.job_type == run.job_type);
    let mut places: Vec<(f64, usize)> = of_type
        .map(|at| {
            let past = &history[at];
            let other_gpu = past.gpu.as_deref() != gpu;
            let other_version = past.sleap_nn_version.as_deref() != version;
            let apart = 3.0 * f64::from(u8::from(other_gpu))
                + 0.3 * f64::from(u8::from(other_version))
                + distance(run, &past.run);
            (apart, at)
        })
        .collect();
    // Of equals, the newest comes first, because the sort is stable.
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places.truncate(PER_RUN);
    places.into_iter().map(|(_, at)| at).collect()
}

/// How different two runs are: 1 for e times as much of something that matters.
fn distance(one: &Workload, other: &Workload) -> f64 {
    let apart = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => (one.max(1.0) / other.max(1.0)).ln().abs(),
        (None, None) => 0.0,
        _ => 1.0,
    };
    let number = |get: fn(&Workload) -> Option<f64>| apart(get(one), get(other));
    let types = f64::from(u8::from(one.model_types != other.model_types));
    2.0 * types
        + number(|run| run.input.map(|input| f64::from(input.height) * f64::from(input.width)))
        + number(|run| run.batch_size.map(f64::from))
        + number(|run| run.filters.map(f64::from))
        + 0.5 * number(|run| run.epochs.map(f64::from))
        + 0.5 * number(|run| run.frames.map(|frames| frames as f64))
        + 0.5 * f64::from(u8::from(one.stops_early != other.stops_early))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::job::JobType;
    use sleap_rtc_protocol::workload::Timing;

    fn run(model: &str, batch_size: u32) -> Workload {
        let (model_types, batch_size) = (vec![model.into()], Some(batch_size));
        Workload { model_types, batch_size, ..Workload::unknown(JobType::Training) }
    }

    fn past(run: Workload, gpu: &str) -> FinishedRun {
        let (gpu, took) = (Some(gpu.into()), Timing::default());
        FinishedRun { run, gpu, sleap_nn_version: None, took, succeeded: true }
    }

    #[test]
    fn the_most_similar_come_first_and_of_equals_the_newest() {
        let history = [
            past(run("centroid", 4), "A"),
            past(run("centroid", 4), "B"),
            past(run("bottomup", 4), "A"),
            past(run("centroid", 32), "A"),
            past(run("centroid", 4), "A"),
            past(Workload::unknown(JobType::Inference), "A"),
        ];
        assert_eq!(nearest(&run("centroid", 4), Some("A"), None, &history), [4, 0, 2, 3, 1]);
    }

    #[test]
    fn a_long_history_is_cut() {
        let history: Vec<_> = (0..5000).map(|n| past(run(&"x".repeat(2000), n), "A")).collect();
        let places = nearest(&run("x", 100), Some("A"), None, &history);
        assert_eq!((places.len(), places[0]), (PER_RUN, 100));
    }
}
