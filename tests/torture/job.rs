//! Reads a job's folder on the worker's disk.

use crate::plan::Verdict;
use serde_json::Value;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobState, NumberedEvent};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of one job.
pub struct JobFolder(PathBuf);

impl JobFolder {
    pub fn of(jobs: &Path, job: &JobId) -> Self {
        Self(jobs.join(job.as_str()))
    }

    pub fn files(&self) -> PathBuf {
        self.0.join("files")
    }

    pub fn results(&self) -> PathBuf {
        self.0.join("results")
    }

    /// The number of complete lines of events.
    pub fn event_count(&self) -> u64 {
        self.event_bytes().iter().filter(|byte| **byte == b'\n').count() as u64
    }

    fn event_bytes(&self) -> Vec<u8> {
        fs::read(self.0.join("events.jsonl")).unwrap_or_default()
    }

    /// All complete events. Their numbers must have no gap.
    pub fn events(&self) -> Result<Vec<NumberedEvent>, String> {
        let bytes = self.event_bytes();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let read = |(number, line): (u64, &[u8])| match serde_json::from_slice(line) {
            Ok(NumberedEvent { seq, .. }) if seq != number => {
                Err(format!("event {seq} is number {number} of its file"))
            }
            Ok(event) => Ok(event),
            Err(error) => Err(format!("event {number} cannot be read: {error}")),
        };
        (1..).zip(lines).map(read).collect()
    }

    /// The state in its record, or `None` without a record.
    pub fn state(&self) -> Option<JobState> {
        let record: Value =
            serde_json::from_slice(&fs::read(self.0.join("job.json")).ok()?).ok()?;
        serde_json::from_value(record["state"].clone()).ok()
    }

    /// The process that owns the job.
    pub fn run_job(&self) -> Option<i32> {
        match self.state()? {
            JobState::Running { pid } => i32::try_from(pid).ok(),
            _ => None,
        }
    }

    /// The trainer's process.
    pub fn trainer(&self) -> Option<i32> {
        let trainer: Value =
            serde_json::from_slice(&fs::read(self.0.join("trainer.json")).ok()?).ok()?;
        i32::try_from(trainer["pid"].as_i64()?).ok()
    }

    /// How the job ended. It must have one outcome, in its last event, and the same in its record.
    /// A job without a folder, and one that ended before its package was complete, has never begun.
    pub fn verdict(&self) -> Result<Verdict, String> {
        let Some(state) = self.state() else { return Ok(Verdict::NotBegun) };
        let events = self.events()?;
        let outcomes: Vec<&JobOutcome> = events.iter().filter_map(outcome).collect();
        let [outcome] = outcomes[..] else {
            let (outcomes, events) = (outcomes.len(), events.len());
            return Err(format!("{outcomes} outcomes in {events} events; its record: {state:?}"));
        };
        if events.last().and_then(self::outcome).is_none() {
            return Err("there are events after the outcome".into());
        }
        match state {
            JobState::Finished(recorded) if recorded == *outcome => {}
            other => {
                return Err(format!(
                    "its events end with {outcome:?}, but its record has {other:?}"
                ));
            }
        }
        match outcome {
            JobOutcome::Interrupted if events.len() == 1 => Ok(Verdict::NotBegun),
            JobOutcome::Succeeded => Ok(Verdict::Succeeded),
            JobOutcome::Failed { .. } => Ok(Verdict::Failed),
            JobOutcome::Interrupted => Ok(Verdict::Interrupted),
            other => Err(format!("its outcome is {other:?}, which nobody requested")),
        }
    }
}

fn outcome(numbered: &NumberedEvent) -> Option<&JobOutcome> {
    match &numbered.event {
        JobEvent::Finished { outcome } => Some(outcome),
        _ => None,
    }
}
