//! An earlier run.

use super::run::{Run, positive};
use serde_json::Value;

/// A run that has ended, and what it took. Times are in seconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    pub(crate) run: Run,
    pub(crate) gpu: Option<String>,
    /// Whether it ended by itself and succeeded, so that its duration counts.
    pub(crate) succeeded: bool,
    pub(crate) took: f64,
    pub(crate) start_up: Option<f64>,
    pub(crate) epochs: Option<f64>,
    pub(crate) batch: Option<f64>,
    pub(crate) validation: Option<f64>,
    pub(crate) after: Option<f64>,
    pub(crate) frame: Option<f64>,
}

impl Past {
    /// Reads an element of `history`.
    pub(crate) fn read(json: &Value) -> Option<Self> {
        let took = &json["took"];
        let time = |key: &str| took[key].as_f64().filter(|s| (0.0..1e9).contains(s));
        let batches_per_epoch = positive(&took["batches_per_epoch"]);
        let run = Run::read(&json["run"])?;
        Some(Self {
            gpu: json["gpu"].as_str().map(str::to_owned),
            succeeded: json["succeeded"].as_bool().unwrap_or(false),
            took: time("took_s").filter(|s| *s > 0.0)?,
            start_up: time("start_up_s"),
            epochs: positive(&took["epochs"]),
            batch: time("s_per_batch"),
            validation: time("validation_s"),
            after: time("after_s"),
            frame: time("s_per_frame"),
            // The trainer knows better than the package how much there was to do.
            run: Run {
                batches_per_epoch: batches_per_epoch.or(run.batches_per_epoch),
                frames: positive(&took["frames"]).or(run.frames),
                ..run
            },
        })
    }

    /// How many epochs a run with `most` epochs would have had. A training that ended early would have done so
    /// again.
    pub(crate) fn epochs_of(&self, most: f64) -> Option<f64> {
        let (done, asked) = (self.epochs?, self.run.epochs?);
        if !self.succeeded || !self.run.stops_early {
            return None;
        }
        Some(if done < asked { done.min(most) } else { most })
    }
}
