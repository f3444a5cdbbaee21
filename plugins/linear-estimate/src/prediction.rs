//! The duration of a run, from earlier ones.

use super::past::Past;
use super::run::Run;

/// How a batch's time grows with its work: not at all while a GPU waits for its data, and in proportion once
/// it is busy. The one that suits the earlier runs best is used.
const GROWTHS: [f64; 3] = [1.0, 0.6, 0.0];
/// Each place in the order of the earlier runs counts for less than the one before it.
const HALF_WEIGHT_AT: f64 = 12.0;
/// Before there are enough earlier runs, this factor is as good a guess as any.
const DOUBT: f64 = 2.0;
const DOUBT_WEIGHT: f64 = 0.5;
const TAIL: f64 = 0.1;
/// With fewer runs of the same kind, those of other kinds count too.
const ENOUGH: usize = 2;

/// A duration in seconds. `low <= likely <= high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prediction {
    pub(crate) low: f64,
    pub(crate) likely: f64,
    pub(crate) high: f64,
}

/// A value and how much it counts.
type Weighted = (f64, f64);

/// The duration of `run` on `gpu`. `past` are earlier runs, the most similar first.
pub(crate) fn predict(run: &Run, gpu: Option<&str>, past: &[Past]) -> Option<Prediction> {
    let past = comparable(run, gpu, past);
    let by_growth = GROWTHS.map(|growth| (growth, misses(&past, growth)));
    let (growth, misses) =
        by_growth.into_iter().min_by(|a, b| spread(&a.1).total_cmp(&spread(&b.1)))?;
    let likely = likely(run, &past, growth)?;
    let doubt = DOUBT.ln();
    let mut factors = misses;
    factors.extend([(-doubt, DOUBT_WEIGHT), (doubt, DOUBT_WEIGHT)]);
    let low = quantile(&mut factors, TAIL).min(0.0).exp() * likely;
    let high = quantile(&mut factors, 1.0 - TAIL).max(0.0).exp() * likely;
    Some(Prediction { low, likely, high })
}

/// The earlier runs of the same models on the same GPU, or else those that are comparable at least.
fn comparable<'a>(run: &Run, gpu: Option<&str>, past: &'a [Past]) -> Vec<&'a Past> {
    let all = past.iter().filter(|past| past.run.is_training == run.is_training);
    let of_models: Vec<&Past> =
        all.clone().filter(|past| past.run.model_types == run.model_types).collect();
    let on_gpu: Vec<&Past> =
        of_models.iter().copied().filter(|past| past.gpu.as_deref() == gpu).collect();
    [on_gpu, of_models]
        .into_iter()
        .find(|some| some.len() >= ENOUGH)
        .unwrap_or_else(|| all.collect())
}

/// By which factors (as logarithms) earlier runs took longer than the others would have predicted.
fn misses(past: &[&Past], growth: f64) -> Vec<Weighted> {
    let miss = |(place, one): (usize, &&Past)| {
        let others: Vec<&Past> =
            past.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, o)| *o).collect();
        let predicted = likely(&one.run, &others, growth)?;
        let miss = (one.took / predicted).ln();
        miss.is_finite().then_some((miss, weight(place)))
    };
    past.iter().enumerate().filter(|(_, one)| one.succeeded).filter_map(miss).collect()
}

/// How far off the predictions were: the median of the factors, as logarithms.
fn spread(misses: &[Weighted]) -> f64 {
    let mut sizes: Vec<Weighted> =
        misses.iter().map(|(miss, weight)| (miss.abs(), *weight)).collect();
    quantile(&mut sizes, 0.5)
}

fn likely(run: &Run, past: &[&Past], growth: f64) -> Option<f64> {
    let median = |value: &dyn Fn(&Past) -> Option<f64>| {
        let values =
            past.iter().enumerate().filter_map(|(place, past)| Some((value(past)?, weight(place))));
        let mut values: Vec<Weighted> = values.collect();
        (!values.is_empty()).then(|| quantile(&mut values, 0.5))
    };
    let work = |past: &Past| run.work_over(&past.run).powf(growth);
    let start_up = median(&|past| past.start_up).unwrap_or(0.0);
    let after =
        median(&|past| Some(past.after? * run.data_over(&past.run).powf(growth))).unwrap_or(0.0);
    let main = match run.is_training {
        true => {
            let asked = run.epochs.or_else(|| median(&|past| past.run.epochs))?;
            let early = run.stops_early.then(|| median(&|past| past.epochs_of(asked))).flatten();
            let batches =
                run.batches_per_epoch.or_else(|| median(&|past| past.run.batches_per_epoch))?;
            let batch = median(&|past| Some(past.batch? * work(past)))?;
            let validation = median(&|past| Some(past.validation? * run.data_over(&past.run)));
            early.unwrap_or(asked) * (batches * batch + validation.unwrap_or(0.0))
        }
        false => run.frames? * median(&|past| Some(past.frame? * work(past)))?,
    };
    Some(start_up + main + after).filter(|seconds| seconds.is_finite() && *seconds > 0.0)
}

fn weight(place: usize) -> f64 {
    1.0 / (1.0 + place as f64 / HALF_WEIGHT_AT)
}

/// The value below which a `share` of the weight lies. 0 without values.
fn quantile(values: &mut [Weighted], share: f64) -> f64 {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all: f64 = values.iter().map(|(_, weight)| weight).sum();
    let mut below = 0.0;
    for (value, weight) in values.iter() {
        below += weight;
        if below >= share * all {
            return *value;
        }
    }
    values.last().map_or(0.0, |(value, _)| *value)
}
