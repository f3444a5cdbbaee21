//! What a job's runs take, derived from its numbered events. While a job runs, this says how much time is left.

use crate::job::{JobEvent, JobOutcome, NumberedEvent};
use crate::progress::{JobProgress, TimeLeft};
use crate::workload::{Timing, Workload};
use serde_json::Value;

/// The most runs to time. A script has fewer.
const MAX_RUNS: usize = 64;

/// Follows the events of one job.
#[derive(Debug, Clone, Default)]
pub struct JobTimer {
    /// What is known of its runs, in order.
    expected: Vec<Workload>,
    progress: JobProgress,
    runs: Vec<RunTimer>,
    finished: Option<(u64, JobOutcome)>,
}

impl JobTimer {
    /// No event has been seen yet. `expected` are the job's runs, as far as they are known.
    pub fn new(expected: Vec<Workload>) -> Self {
        Self { expected, ..Self::default() }
    }

    /// Applies an event.
    pub fn see(&mut self, numbered: &NumberedEvent) {
        let NumberedEvent { at_ms, event, .. } = numbered;
        self.progress.see(event);
        match event {
            JobEvent::RunStarted { .. } if self.runs.len() < MAX_RUNS => {
                self.runs.push(RunTimer::new(*at_ms));
            }
            JobEvent::RunEnded { outcome, .. } => {
                if let Some(run) = self.runs.last_mut() {
                    run.ended = Some((*at_ms, outcome.clone()));
                }
            }
            JobEvent::Finished { outcome } => self.finished = Some((*at_ms, outcome.clone())),
            JobEvent::Progress { message } => {
                if let Some(run) = self.runs.last_mut().filter(|run| run.ended.is_none()) {
                    run.see(message, *at_ms);
                }
            }
            _ => {}
        }
        let expected = self.expected.get(self.progress.run.saturating_sub(1));
        self.progress.epochs = expected.and_then(|run| run.epochs);
        self.progress.left = self.runs.last().and_then(|run| run.left(expected, *at_ms));
    }

    /// How far the job is, with the time that its current run needs.
    pub fn progress(&self) -> &JobProgress {
        &self.progress
    }

    /// What each run took that has ended, and whether it succeeded, in order.
    pub fn timings(&self) -> impl Iterator<Item = (Timing, bool)> {
        self.runs.iter().filter_map(RunTimer::timing)
    }

    /// From the start of the first run to the end of the job, in seconds, and whether the job succeeded. `None`
    /// while it runs, and if it never ran.
    pub fn whole(&self) -> Option<(f64, bool)> {
        let (ended_ms, outcome) = self.finished.as_ref()?;
        let started_ms = self.runs.first()?.started_ms;
        Some((seconds(started_ms, *ended_ms), *outcome == JobOutcome::Succeeded))
    }
}

/// One run.
#[derive(Debug, Clone)]
struct RunTimer {
    started_ms: u64,
    /// The first epoch or frame began.
    working_ms: Option<u64>,
    /// When the last complete epoch ended.
    epoch_ms: Option<u64>,
    epochs: u32,
    /// The batches of the current epoch: the first and the last that was reported, with their times.
    reported: Option<[(u64, u64); 2]>,
    /// Batches between two reports, and their milliseconds, over all epochs.
    batches: u64,
    batches_ms: u64,
    batches_per_epoch: u64,
    /// The first and the last report about frames, with their times.
    frames: Option<[(u64, u64); 2]>,
    frames_in_all: u64,
    ended: Option<(u64, JobOutcome)>,
}

impl RunTimer {
    fn new(started_ms: u64) -> Self {
        Self {
            started_ms,
            working_ms: None,
            epoch_ms: None,
            epochs: 0,
            reported: None,
            batches: 0,
            batches_ms: 0,
            batches_per_epoch: 0,
            frames: None,
            frames_in_all: 0,
            ended: None,
        }
    }

    /// Applies a message of the trainer.
    fn see(&mut self, message: &Value, at_ms: u64) {
        let number = |key: &str| message.get(key).and_then(Value::as_u64);
        match message.get("event").and_then(Value::as_str) {
            Some("epoch_begin") => {
                self.working_ms.get_or_insert(at_ms);
                self.reported = None;
            }
            Some("batch_end") => {
                let here = (number("batch").unwrap_or(0), at_ms);
                self.batches_per_epoch = self.batches_per_epoch.max(here.0.saturating_add(1));
                let [first, _] = self.reported.unwrap_or([here, here]);
                self.reported = Some([first, here]);
            }
            Some("epoch_end") => {
                self.working_ms.get_or_insert(self.started_ms);
                self.epochs = self.epochs.saturating_add(1);
                self.epoch_ms = Some(at_ms);
                if let Some([first, last]) = self.reported.take() {
                    self.batches = self.batches.saturating_add(last.0.saturating_sub(first.0));
                    self.batches_ms =
                        self.batches_ms.saturating_add(last.1.saturating_sub(first.1));
                }
            }
            _ => {
                if let Some((done, all)) = number("n_processed").zip(number("n_total")) {
                    self.working_ms.get_or_insert(at_ms);
                    let [first, _] = self.frames.unwrap_or([(done, at_ms); 2]);
                    self.frames = Some([first, (done, at_ms)]);
                    self.frames_in_all = all;
                }
            }
        }
    }

    /// Seconds of a complete epoch.
    fn s_per_epoch(&self) -> Option<f64> {
        let from_ms = self.working_ms?;
        (self.epochs > 0)
            .then(|| seconds(from_ms, self.epoch_ms.unwrap_or(from_ms)) / f64::from(self.epochs))
    }

    fn s_per_batch(&self) -> Option<f64> {
        match self.batches {
            0 => Some(self.s_per_epoch()? / (self.batches_per_epoch.max(1)) as f64),
            batches => Some(self.batches_ms as f64 / 1e3 / batches as f64),
        }
    }

    fn s_per_frame(&self) -> Option<f64> {
        let [first, last] = self.frames?;
        let frames = last.0.checked_sub(first.0).filter(|frames| *frames > 0)?;
        Some(seconds(first.1, last.1) / frames as f64)
    }

    /// The time that is left at `now_ms`.
    fn left(&self, expected: Option<&Workload>, now_ms: u64) -> Option<TimeLeft> {
        if self.ended.is_some() {
            return None;
        }
        if let Some([_, (done, at_ms)]) = self.frames {
            let frames = self.frames_in_all.saturating_sub(done) as f64;
            let left_s = frames * self.s_per_frame()? - seconds(at_ms, now_ms);
            return Some(TimeLeft::new(left_s, false));
        }
        let expected = expected?;
        let epochs = f64::from(expected.epochs?.saturating_sub(self.epochs));
        let s_per_epoch = self.s_per_epoch()?;
        let left_s = epochs * s_per_epoch - seconds(self.epoch_ms?, now_ms).min(s_per_epoch);
        Some(TimeLeft::new(left_s, expected.stops_early))
    }

    /// What it took, and whether it succeeded. `None` while it runs.
    fn timing(&self) -> Option<(Timing, bool)> {
        let (ended_ms, outcome) = self.ended.as_ref()?;
        let succeeded = *outcome == JobOutcome::Succeeded;
        let timing = Timing {
            took_s: seconds(self.started_ms, *ended_ms),
            start_up_s: self.working_ms.map(|at_ms| seconds(self.started_ms, at_ms)),
            ..Timing::default()
        };
        if let Some([_, last]) = self.frames {
            let (frames, after_s) = (Some(last.0), Some(seconds(last.1, *ended_ms)));
            return Some((
                Timing { frames, after_s, s_per_frame: self.s_per_frame(), ..timing },
                succeeded,
            ));
        }
        let Some(s_per_epoch) = self.s_per_epoch() else { return Some((timing, succeeded)) };
        let s_per_batch = self.s_per_batch();
        let batches_s = s_per_batch.unwrap_or(0.0) * self.batches_per_epoch as f64;
        let timing = Timing {
            epochs: Some(self.epochs),
            s_per_batch,
            batches_per_epoch: (self.batches_per_epoch > 0).then_some(self.batches_per_epoch),
            validation_s: Some((s_per_epoch - batches_s).max(0.0)),
            after_s: self.epoch_ms.map(|at_ms| seconds(at_ms, *ended_ms)),
            ..timing
        };
        Some((timing, succeeded))
    }
}

/// The seconds between two times. None if a clock was set back.
fn seconds(from_ms: u64, to_ms: u64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobType;
    use serde_json::json;

    struct Story(JobTimer, u64);

    impl Story {
        fn new(runs: Vec<Workload>) -> Self {
            Self(JobTimer::new(runs), 0)
        }

        fn at(&mut self, at_s: f64, event: JobEvent) -> &mut Self {
            self.1 += 1;
            self.0.see(&NumberedEvent { seq: self.1, at_ms: (at_s * 1e3) as u64, event });
            self
        }

        fn says(&mut self, at_s: f64, message: Value) -> &mut Self {
            self.at(at_s, JobEvent::Progress { message })
        }

        /// Trains epochs of four batches of a second each, with a second of validation.
        fn epochs(&mut self, from_s: f64, epochs: std::ops::Range<u64>) -> &mut Self {
            for epoch in epochs {
                let begin_s = from_s + 5.0 * epoch as f64;
                self.says(begin_s, json!({"event": "epoch_begin", "epoch": epoch}));
                for batch in 0..4 {
                    let message = json!({"event": "batch_end", "epoch": epoch, "batch": batch});
                    self.says(begin_s + 1.0 + f64::from(batch), message);
                }
                self.says(begin_s + 5.0, json!({"event": "epoch_end", "epoch": epoch}));
            }
            self
        }
    }

    fn started(name: &str) -> JobEvent {
        JobEvent::RunStarted { name: name.into() }
    }

    fn ended(outcome: JobOutcome) -> JobEvent {
        JobEvent::RunEnded { name: "a".into(), outcome }
    }

    fn training(epochs: u32, stops_early: bool) -> Workload {
        Workload { epochs: Some(epochs), stops_early, ..Workload::unknown(JobType::Training) }
    }

    #[test]
    fn a_training_is_taken_apart() {
        let mut story = Story::new(vec![training(10, true)]);
        story.at(100.0, started("a")).epochs(120.0, 0..3).at(150.0, ended(JobOutcome::Succeeded));
        let (took, succeeded) = story.0.timings().next().unwrap();
        assert!(succeeded);
        let expected = Timing {
            took_s: 50.0,
            start_up_s: Some(20.0),
            epochs: Some(3),
            s_per_batch: Some(1.0),
            batches_per_epoch: Some(4),
            validation_s: Some(1.0),
            after_s: Some(15.0),
            ..Timing::default()
        };
        assert_eq!(took, expected);
        assert_eq!(story.0.whole(), None);
        story.at(151.0, JobEvent::Finished { outcome: JobOutcome::Succeeded });
        assert_eq!(story.0.whole(), Some((51.0, true)));
    }

    #[test]
    fn what_is_left_follows_from_the_epochs_so_far() {
        let mut story = Story::new(vec![training(10, false), training(10, true)]);
        let left = |story: &Story| story.0.progress().left.map(|left| (left.seconds, left.at_most));
        story.at(0.0, started("a"));
        assert_eq!(left(&story), None);
        story.epochs(20.0, 0..4);
        assert_eq!(left(&story), Some((30, false)));
        assert_eq!(story.0.progress().to_string(), "running, epoch 4 of 10, about 30 s left");
        story.at(50.0, ended(JobOutcome::Succeeded));
        assert_eq!(left(&story), None);
        story.at(51.0, started("b")).epochs(60.0, 0..1);
        assert_eq!(left(&story), Some((45, true)));
        // A training that is slower than before is not done before its time.
        story.says(900.0, json!({"event": "batch_end", "batch": 0}));
        assert_eq!(left(&story), Some((40, true)));
    }

    #[test]
    fn frames_are_timed_without_the_start() {
        let mut story = Story::new(vec![]);
        story.at(0.0, started("inference"));
        story.says(10.0, json!({"n_processed": 4, "n_total": 24}));
        story.says(12.0, json!({"n_processed": 14, "n_total": 24}));
        assert_eq!(story.0.progress().left.map(|left| left.seconds), Some(2));
        story.says(14.0, json!({"n_processed": 24, "n_total": 24}));
        story.at(15.0, ended(JobOutcome::Cancelled));
        let (took, succeeded) = story.0.timings().next().unwrap();
        let all = (took.took_s, took.start_up_s, took.frames, took.s_per_frame, took.after_s);
        assert_eq!(all, (15.0, Some(10.0), Some(24), Some(0.2), Some(1.0)));
        assert!(!succeeded);
    }

    #[test]
    fn hostile_messages_and_clocks_that_go_back_are_survived() {
        let mut story = Story::new(vec![training(u32::MAX, true)]);
        story.at(1e9, started("a")).epochs(0.0, 0..2);
        for batch in [u64::MAX, 0, u64::MAX] {
            story.says(5.0, json!({"event": "batch_end", "epoch": u64::MAX, "batch": batch}));
        }
        story.says(2.0, json!({"event": "epoch_end"}));
        story.says(1.0, json!({"n_processed": u64::MAX, "n_total": 0}));
        story.says(3.0, json!({"n_processed": 0, "n_total": u64::MAX}));
        story.at(0.5, ended(JobOutcome::Succeeded));
        let (took, _) = story.0.timings().next().unwrap();
        assert!(took.took_s.is_finite());
    }
}
