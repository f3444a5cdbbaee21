//! What the user is told about a job's duration before it starts and while it trains, and about its end.

use super::{Opening, Submission};
use crate::client::action::Action;
use crate::client::display::Display;
use crate::hook::JobEnd;
use sleap_rtc_protocol::job::{JobEvent, NumberedEvent};
use sleap_rtc_protocol::workload::Outlook;
use std::path::Path;

/// The time between two lines about a training's progress. It prints a bar of its own.
const TELL_EVERY_MS: u64 = 60_000;

/// What has been said about how far one job is.
#[derive(Default)]
pub(super) struct JobOutlook {
    /// The events that were there before this client came.
    known_events: u64,
    has_told_estimate: bool,
    /// When it last told how far the job is, by the worker's clock.
    told_ms: u64,
}

impl JobOutlook {
    /// The worker has accepted a job, of which this client has seen no event and the worker has `last_event`.
    pub(super) fn accepted(&mut self, outlook: Outlook, last_event: u64, display: &mut Display) {
        self.known_events = last_event;
        if last_event == 0 && !self.has_told_estimate {
            outlook.lines().iter().for_each(|line| display.note(line));
            self.has_told_estimate = true;
        }
        display.expect(outlook.runs);
    }

    /// The display has seen an event. Tells how far a training is after an epoch, but not after each one.
    pub(super) fn see(&mut self, numbered: &NumberedEvent, display: &mut Display) {
        let JobEvent::Progress { message } = &numbered.event else { return };
        let is_epoch = message.get("event").is_some_and(|event| event == "epoch_end");
        let is_new = numbered.seq > self.known_events;
        let is_due = numbered.at_ms >= self.told_ms.saturating_add(TELL_EVERY_MS);
        let progress = display.progress();
        if is_epoch && is_new && is_due && progress.left.is_some() {
            self.told_ms = numbered.at_ms;
            display.beside_log(&format!("--- {progress}"));
        }
    }
}

impl Submission<'_> {
    /// The end of the job, if this client has followed it to its end, which it sums up. `result` is where
    /// its result is.
    pub(crate) fn end(&mut self, result: Option<&Path>) -> Option<JobEnd> {
        let Action::Attach { .. } = self.action else { return None };
        let outcome = self.cursor.outcome()?.clone();
        self.display.sum_up(result);
        let record = self.progress.record();
        let id = self.job_ref.job.to_string();
        let (name, job_type, user) = match (self.opening, record) {
            (Opening::Submit(spec, _), _) => {
                let described = &spec.description;
                (spec.name.clone(), Some(described.job_type), described.user.clone())
            }
            (Opening::Attach, Some(record)) => (record.name.clone(), Some(record.job_type), None),
            (Opening::Attach, None) => (id.clone(), None, None),
        };
        Some(JobEnd {
            id,
            name,
            job_type,
            outcome,
            user,
            worker: self.job_ref.worker.to_string(),
            took_s: self.display.took_s(),
            result: result.map(Path::to_owned),
        })
    }
}
