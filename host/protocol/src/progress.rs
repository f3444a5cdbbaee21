//! What everyone in the room may see of a running job: its owner, its start and its progress.

use crate::ids::PeerId;
use crate::job::{JobEvent, JobType};
use crate::text::duration;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// A running job, as it appears in its worker's metadata. Contains no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningJob {
    /// The peer that submitted it.
    pub owner: PeerId,
    /// The user name that the client claims. It is not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When it was submitted, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it began to run, in milliseconds since 1970. A job that waited was submitted long before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// Its progress.
    #[serde(default)]
    pub progress: JobProgress,
    /// Training or inference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_type: Option<JobType>,
    /// How long it is expected to run yet, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_s: Option<u64>,
    /// How a client that follows it is connected to the worker: "direct, 12 ms".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// The progress of a job, derived from its events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// The number of the current run, counted from 1; 0 before the first run.
    pub run: usize,
    /// The number of runs; 0 if unknown.
    pub runs: usize,
    /// The current epoch of a training, counted from 0 like the trainer does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The most epochs of a training, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// Frames of an inference: processed, and in total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<(u64, u64)>,
    /// The time that the current run still needs, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<TimeLeft>,
}

/// The time that a run still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeLeft {
    /// In seconds, rounded.
    pub seconds: u64,
    /// Whether the run may end earlier, because it stops when it no longer improves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_most: bool,
}

impl TimeLeft {
    /// `seconds` may be anything. It is rounded, so that it does not change with every batch.
    pub fn new(seconds: f64, at_most: bool) -> Self {
        let whole = seconds.max(0.0).round() as u64;
        let step = match whole {
            0..10 => 1,
            10..60 => 5,
            60..600 => 30,
            600..7200 => 60,
            _ => 600,
        };
        Self { seconds: whole.saturating_add(step / 2) / step * step, at_most }
    }
}

impl fmt::Display for TimeLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = if self.at_most { "at most" } else { "about" };
        write!(f, "{about} {} left", duration(self.seconds as f64))
    }
}

impl JobProgress {
    /// Applies an event. Returns whether the progress has changed.
    pub fn see(&mut self, event: &JobEvent) -> bool {
        let before = self.clone();
        match event {
            JobEvent::Staged { runs } => self.runs = runs.len(),
            JobEvent::RunStarted { .. } => {
                *self = Self { run: self.run + 1, runs: self.runs, ..Self::default() };
            }
            JobEvent::Progress { message } => {
                let number = |key: &str| message.get(key).and_then(Value::as_u64);
                self.epoch = number("epoch").or(self.epoch);
                self.frames = number("n_processed").zip(number("n_total")).or(self.frames);
            }
            _ => {}
        }
        *self != before
    }
}

impl fmt::Display for JobProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.run, self.runs) {
            (0, _) => return f.write_str("starting"),
            (_, 0 | 1) => f.write_str("running")?,
            (run, runs) => write!(f, "run {run} of {runs}")?,
        }
        self.details().try_for_each(|detail| write!(f, ", {detail}"))
    }
}

impl JobProgress {
    /// As `Display`, but only how far the run is if the job has no other and that is known.
    pub fn brief(&self) -> String {
        let details: Vec<String> = self.details().collect();
        match (self.run, self.runs) {
            (1.., 0 | 1) if !details.is_empty() => details.join(", "),
            _ => self.to_string(),
        }
    }

    /// How far the current run is, if that is known.
    pub fn current_run(&self) -> Option<String> {
        let details: Vec<String> = self.details().collect();
        (!details.is_empty()).then(|| details.join(", "))
    }

    /// How far the current run is, and how long it still takes.
    fn details(&self) -> impl Iterator<Item = String> {
        let epoch = self.epoch.map(|epoch| match self.epochs {
            Some(epochs) => format!("epoch {} of {epochs}", epoch.saturating_add(1)),
            None => format!("epoch {epoch}"),
        });
        let frames = self.frames.map(|(done, all)| format!("{done} of {all} frames"));
        let left = self.left.map(|left| left.to_string());
        [epoch, frames, left].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn progress_follows_the_events() {
        let mut progress = JobProgress::default();
        let mut after = |event: JobEvent| (progress.see(&event), progress.to_string());
        let message = |message| JobEvent::Progress { message };
        assert_eq!(after(JobEvent::Log { text: "x".into() }), (false, "starting".into()));
        assert!(after(JobEvent::Staged { runs: vec!["a".into(), "b".into()] }).0);
        assert_eq!(after(JobEvent::RunStarted { name: "a".into() }), (true, "run 1 of 2".into()));
        let epoch = message(json!({"event": "batch_end", "epoch": 3}));
        assert_eq!(after(epoch.clone()), (true, "run 1 of 2, epoch 3".into()));
        assert!(!after(epoch).0);
        assert_eq!(after(JobEvent::RunStarted { name: "b".into() }), (true, "run 2 of 2".into()));
        let frames = message(json!({"n_processed": 8, "n_total": 12}));
        assert_eq!(after(frames), (true, "run 2 of 2, 8 of 12 frames".into()));
        assert!(!after(message(json!({"epoch": -1, "n_processed": "all"}))).0);
    }
}
