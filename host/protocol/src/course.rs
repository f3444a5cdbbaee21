//! What a job's events say so far: its runs, their losses, the time that is left, and the trainer's log.

use crate::job::{JobEvent, JobOutcome, NumberedEvent};
use crate::log_text::LogText;
use crate::progress::JobProgress;
use crate::text::Printable;
use crate::timing::JobTimer;
use crate::workload::Workload;
use serde_json::Value;
use std::collections::VecDeque;

/// The lines of the log that are kept.
pub const MAX_LINES: usize = 10_000;
/// The characters of a line that are kept.
const MAX_LINE_CHARS: usize = 2_000;
/// The most runs and epochs that are kept. A worker may send any number.
const MAX_RUNS: usize = 64;
const MAX_EPOCHS: usize = 20_000;
const MAX_NAME_CHARS: usize = 80;
/// What precedes the path of a model's folder in the trainer's log.
const FOLDER: &str = "Setting up model ckpt dir: `";

/// An epoch of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epoch {
    /// Its number, counted from 0.
    pub number: u64,
    /// The loss of the training data.
    pub loss: Option<f64>,
    /// The loss of the validation data.
    pub validation: Option<f64>,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
}

/// One run of the trainer.
#[derive(Debug, Clone, PartialEq)]
pub struct RunCourse {
    /// Its name.
    pub name: Printable,
    /// When it started, in milliseconds since 1970.
    pub started_ms: u64,
    /// Its epochs so far. Some may have gone unreported.
    pub epochs: Vec<Epoch>,
    /// The most epochs that it trains, if known.
    pub most_epochs: Option<u32>,
    /// How it ended, if it has.
    pub outcome: Option<JobOutcome>,
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: Option<u64>,
    /// The name of the folder of its model, if the trainer has named it.
    pub folder: Option<Printable>,
}

/// A job, as far as its events tell.
#[derive(Debug, Default)]
pub struct Course {
    timer: JobTimer,
    /// The names of all its runs, in order.
    pub planned: Vec<Printable>,
    /// Its runs so far.
    pub runs: Vec<RunCourse>,
    /// How it ended, if it has.
    pub outcome: Option<JobOutcome>,
    log: LogText,
    lines: VecDeque<Printable>,
}

impl RunCourse {
    /// A run that has just started, `started_ms` milliseconds after 1970 began.
    pub fn new(name: Printable, started_ms: u64) -> Self {
        let (epochs, most_epochs, outcome) = (Vec::new(), None, None);
        let (ended_ms, folder) = (None, None);
        Self { name, started_ms, epochs, most_epochs, outcome, ended_ms, folder }
    }

    /// How long it took, in seconds, if it has ended.
    pub fn took_s(&self) -> Option<f64> {
        Some(self.ended_ms?.saturating_sub(self.started_ms) as f64 / 1e3)
    }

    /// How long an epoch takes, in seconds, as the last ones did.
    pub fn epoch_s(&self) -> Option<f64> {
        let last = self.epochs.last()?;
        let back = self.epochs.len().min(6);
        let before = match self.epochs.get(self.epochs.len().wrapping_sub(back)) {
            Some(epoch) if back > 1 => (epoch.at_ms, back - 1),
            _ => (self.started_ms, 1),
        };
        Some(last.at_ms.saturating_sub(before.0) as f64 / 1e3 / before.1 as f64)
    }

    /// The epoch with the smallest validation loss, or loss where there is none.
    pub fn best(&self) -> Option<&Epoch> {
        let is_validated = self.epochs.iter().any(|epoch| epoch.validation.is_some());
        let value = |epoch: &Epoch| {
            let value = if is_validated { epoch.validation } else { epoch.loss };
            value.filter(|loss| loss.is_finite())
        };
        let known = self.epochs.iter().filter(|epoch| value(epoch).is_some());
        known.min_by(|one, other| {
            let (one, other) = (value(one), value(other));
            one.partial_cmp(&other).unwrap_or(std::cmp::Ordering::Equal)
        })
    }
}

impl Course {
    /// A job without events, of which these runs are `expected`, as far as they are known.
    pub fn expecting(expected: Vec<Workload>) -> Self {
        Self { timer: JobTimer::new(expected), ..Self::default() }
    }

    /// Takes the next event.
    pub fn take(&mut self, numbered: &NumberedEvent) {
        self.timer.see(numbered);
        let at_ms = numbered.at_ms;
        match &numbered.event {
            JobEvent::Staged { runs } => {
                let names = runs.iter().take(MAX_RUNS);
                self.planned = names.map(|name| Printable::line(name, MAX_NAME_CHARS)).collect();
            }
            JobEvent::RunStarted { name } if self.runs.len() < MAX_RUNS => {
                let name = Printable::line(name, MAX_NAME_CHARS);
                let most_epochs = self.timer.progress().epochs;
                self.runs.push(RunCourse { most_epochs, ..RunCourse::new(name, at_ms) });
            }
            JobEvent::RunEnded { outcome, .. } => {
                if let Some(run) = self.runs.last_mut() {
                    (run.outcome, run.ended_ms) = (Some(outcome.clone()), Some(at_ms));
                }
            }
            JobEvent::Progress { message } => self.note(message, at_ms),
            JobEvent::Log { text } => self.add_log(text),
            JobEvent::Finished { outcome } => self.outcome = Some(outcome.clone()),
            JobEvent::RunStarted { .. } | JobEvent::Unknown => {}
        }
    }

    /// How far it is, with the time that its current run still takes.
    pub fn progress(&self) -> &JobProgress {
        self.timer.progress()
    }

    /// How long it took from its first run to its end, in seconds, once it has ended.
    pub fn took_s(&self) -> Option<f64> {
        self.timer.whole().map(|(took_s, _)| took_s)
    }

    /// The last lines of the log.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &Printable> + ExactSizeIterator {
        self.lines.iter()
    }

    fn note(&mut self, message: &Value, at_ms: u64) {
        let Some(run) = self.runs.last_mut().filter(|run| run.epochs.len() < MAX_EPOCHS) else {
            return;
        };
        let is_end = message.get("event").and_then(Value::as_str) == Some("epoch_end");
        let number = message.get("epoch").and_then(Value::as_u64);
        let Some(number) = number.filter(|_| is_end) else { return };
        if run.epochs.last().is_some_and(|last| last.number >= number) {
            return;
        }
        let loss = |names: [&str; 2]| {
            let logs = message.get("logs")?;
            names.into_iter().find_map(|name| logs.get(name)?.as_f64())
        };
        let (loss, validation) = (loss(["loss", "train/loss"]), loss(["val/loss", "val_loss"]));
        run.epochs.push(Epoch { number, loss, validation, at_ms });
    }

    fn add_log(&mut self, text: &str) {
        for line in self.log.push(text).lines() {
            if let (Some(run), Some((_, path))) = (self.runs.last_mut(), line.split_once(FOLDER)) {
                let path = path.split('`').next().unwrap_or_default();
                let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
                run.folder = Some(Printable::line(name, MAX_NAME_CHARS));
            }
            if self.lines.len() == MAX_LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(Printable::lines(line, MAX_LINE_CHARS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobType;
    use serde_json::json;

    fn epoch_end(number: u64, loss: f64) -> JobEvent {
        let logs = json!({"loss": loss, "val/loss": loss * 2.0});
        JobEvent::Progress { message: json!({"event": "epoch_end", "epoch": number, "logs": logs}) }
    }

    fn take(course: &mut Course, event: JobEvent, at_ms: u64) {
        course.take(&NumberedEvent { seq: 1, at_ms, event });
    }

    #[test]
    fn losses_belong_to_the_run_that_is_on() {
        let run = Workload { epochs: Some(5), ..Workload::unknown(JobType::Training) };
        let mut course = Course::expecting(vec![run.clone(), run]);
        take(&mut course, epoch_end(0, 9.0), 0);
        let runs = ["centroid", "centered"].map(String::from);
        take(&mut course, JobEvent::Staged { runs: runs.to_vec() }, 0);
        for name in &runs {
            take(&mut course, JobEvent::RunStarted { name: name.clone() }, 1_000);
            for number in 0..3 {
                let loss = 1.0 / (1.0 + number as f64);
                take(&mut course, epoch_end(number, loss), 1_500 + 500 * number);
            }
            assert_eq!(course.progress().current_run().unwrap(), "epoch 3 of 5, about 1 s left");
            // What was reported before is not reported again.
            take(&mut course, epoch_end(1, 5.0), 9_000);
            let (outcome, name) = (JobOutcome::Succeeded, name.clone());
            take(&mut course, JobEvent::RunEnded { name, outcome }, 9_000);
        }
        let [one, other] = &course.runs[..] else { panic!("{:?}", course.runs) };
        assert_eq!((one.epochs.len(), other.epochs.len()), (3, 3));
        assert_eq!((one.most_epochs, other.most_epochs), (Some(5), Some(5)));
        assert_eq!(other.epoch_s(), Some(0.5));
        assert_eq!(one.best().map(|epoch| epoch.number), Some(2));
        assert_eq!(course.planned.len(), 2);
    }

    #[test]
    fn a_log_is_bounded_and_harmless() {
        let mut course = Course::default();
        let log = |text: &str| JobEvent::Log { text: text.to_owned() };
        take(&mut course, log("\r 10 %\r 100 %\n<script>\x1b[2J\u{202e}\n"), 0);
        take(&mut course, JobEvent::RunStarted { name: "centroid".into() }, 0);
        take(&mut course, log("12:00 | Setting up model ckpt dir: `models/centroid-1`...\n"), 0);
        assert_eq!(course.runs[0].folder, Some(Printable::line("centroid-1", 20)));
        take(&mut course, log(&"x".repeat(1 << 20)), 0);
        take(&mut course, log("\n"), 0);
        let lines: Vec<_> = course.lines().map(|line| line.as_str().to_owned()).collect();
        assert_eq!(lines[..2], [" 100 %", "<script>"]);
        assert_eq!(lines[3].chars().count(), MAX_LINE_CHARS);
        for _ in 0..3 {
            take(&mut course, log(&"line\n".repeat(MAX_LINES)), 0);
        }
        assert_eq!(course.lines().len(), MAX_LINES);
    }
}
