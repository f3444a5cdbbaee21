//! Records what a running job does.

use super::error::JobError;
use super::events::EventLog;
use super::folder::JobFolder;
use serde_json::Value;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::rate_limit::RateLimit;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The shortest interval between two recorded messages about batches.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);
/// The average rate and the largest burst of all other recorded messages. A training sends two in
/// each epoch.
const MESSAGE_INTERVAL: Duration = Duration::from_millis(20);
const BURST_MESSAGES: u32 = 2000;
const LIMIT_REACHED: &str = "\n[sleap-rtc] The log has reached its limit; further output is not \
     kept. The job continues.\n";

/// The job's events and raw log, both bounded.
pub struct Recorder {
    events: EventLog,
    raw: Option<File>,
    raw_bytes: u64,
    bulk_bytes: u64,
    message_bytes: u64,
    limit_bytes: u64,
    last_batch: Option<Instant>,
    messages: RateLimit,
    seq: watch::Sender<u64>,
}

impl Recorder {
    /// `limit_bytes` applies separately to the raw log, to the sum of all log and batch events, and
    /// to the sum of all other messages of trainers.
    pub fn new(folder: &JobFolder, events: EventLog, limit_bytes: u64) -> Self {
        let path = folder.log_path();
        let raw = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let raw = raw
            .inspect_err(|error| tracing::warn!(error = %WithCauses(&error), "cannot open the raw log of the job"))
            .ok();
        let seq = watch::Sender::new(events.seq());
        Self {
            events,
            raw,
            raw_bytes: 0,
            bulk_bytes: 0,
            message_bytes: 0,
            limit_bytes,
            last_batch: None,
            messages: RateLimit::new(Instant::now()),
            seq,
        }
    }

    /// The number of the last event. Changes when there are new events.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.seq.subscribe()
    }

    /// Adds an event. A full disk must not end a training, so an error is only logged.
    pub fn note(&mut self, event: JobEvent) {
        match self.events.append(event) {
            Ok(seq) => {
                self.seq.send_replace(seq);
            }
            Err(error) => {
                tracing::error!(error = %WithCauses(&error), "cannot write an event of the job")
            }
        }
    }

    /// Adds text to the log, up to the limit.
    pub fn log(&mut self, text: String) {
        if self.bulk_bytes < self.limit_bytes {
            self.bulk(JobEvent::Log { text });
            if self.bulk_bytes >= self.limit_bytes {
                self.note(JobEvent::Log { text: LIMIT_REACHED.to_owned() });
            }
        }
    }

    /// Adds a message from sleap-rtc itself to the log.
    pub fn remark(&mut self, text: &str) {
        self.note(JobEvent::Log { text: format!("[sleap-rtc] {text}\n") });
    }

    /// Adds a trainer's message. Drops most messages about batches.
    pub fn progress(&mut self, message: Value, now: Instant) {
        match message.get("event").and_then(Value::as_str) {
            Some("batch_start") => {}
            Some("batch_end") => {
                let recent = self.last_batch.is_some_and(|last| now < last + BATCH_INTERVAL);
                if !recent && self.bulk_bytes < self.limit_bytes {
                    self.last_batch = Some(now);
                    self.bulk(JobEvent::Progress { message });
                }
            }
            _ if self.may_pass(now) && self.message_bytes < self.limit_bytes => {
                self.message_bytes += self.measured(JobEvent::Progress { message });
            }
            _ => {}
        }
    }

    /// Whether the rate allows one more message.
    fn may_pass(&mut self, now: Instant) -> bool {
        let burst = MESSAGE_INTERVAL * BURST_MESSAGES;
        self.messages.try_charge(MESSAGE_INTERVAL, burst, now).is_some()
    }

    fn bulk(&mut self, event: JobEvent) {
        self.bulk_bytes += self.measured(event);
    }

    /// Adds an event and returns its size in bytes.
    fn measured(&mut self, event: JobEvent) -> u64 {
        let before = self.events.bytes();
        self.note(event);
        self.events.bytes() - before
    }

    /// Adds bytes to the raw log, up to the limit.
    pub fn raw(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.raw else { return };
        self.raw_bytes += bytes.len() as u64;
        if self.raw_bytes > self.limit_bytes {
            self.raw = None;
        } else if let Err(error) = file.write_all(bytes) {
            tracing::warn!(error = %WithCauses(&error), "cannot write to the raw log of the job; it ends here");
            self.raw = None;
        }
    }

    /// Ends the job.
    pub fn finish(&mut self, outcome: JobOutcome) -> Result<JobOutcome, JobError> {
        let outcome = self.events.finish(outcome)?;
        self.seq.send_replace(self.events.seq());
        Ok(outcome)
    }
}
