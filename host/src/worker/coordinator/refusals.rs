//! What a caller is told that gets neither a slot nor a place in the queue.

use super::Coordinator;
use crate::worker::USER_CHARS;
use crate::worker::running::Running;
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::queue_report::words::about;
use sleap_rtc_protocol::text::{Printable, duration};
use sleap_rtc_protocol::worker::Refused;
use std::time::Instant;

/// The most running jobs and reservations that a refusal names.
const NAMED_OCCUPANTS: usize = 4;

impl Coordinator {
    /// The refusal for people.
    pub(crate) fn no_slot(&self, refused: Refused) -> Refusal {
        let status = self.state.status().as_str();
        match refused {
            Refused::Maintenance => {
                let text = match &self.storage_problem {
                    Some(problem) => format!("the worker takes no new jobs: {problem}"),
                    None => format!("the worker takes no new jobs (status {status})"),
                };
                Refusal::new(RefusalCode::Maintenance, text)
            }
            Refused::OutOfService => self.context.out_of_service(),
            Refused::Queue(refused) => {
                let occupants = self.occupants(Instant::now());
                let text =
                    format!("Worker is currently busy (status: {status}{occupants}): {refused}");
                Refusal::new(RefusalCode::Busy, text)
            }
            _ => {
                let occupants = self.occupants(Instant::now());
                let text = format!(
                    "Worker is currently busy (status: {status}{occupants}). Use --room-id and --token to \
                     find available workers in the room, or try again later."
                );
                Refusal::new(RefusalCode::Busy, text)
            }
        }
    }

    /// Who has the slots and since when, so that people can talk to each other.
    fn occupants(&self, now: Instant) -> String {
        let now_ms = sleap_rtc_base::clock::now_ms();
        let running = Running::publish_all(&self.running).into_iter().map(|job| {
            let user = job.user.as_deref().unwrap_or(job.owner.as_str());
            let seconds = now_ms.saturating_sub(job.since_ms) / 1_000;
            let (user, age) = (Printable::line(user, USER_CHARS), duration(seconds as f64));
            let left = job.left_s.map(|left_s| format!(", {} left", about(left_s)));
            format!("{user} runs a job (for {age}{})", left.unwrap_or_default())
        });
        let all: Vec<String> = running.chain(self.reservations.holders(now)).collect();
        let shown = &all[..all.len().min(NAMED_OCCUPANTS)];
        match (shown.is_empty(), all.len() - shown.len()) {
            (true, _) => String::new(),
            (false, 0) => format!("; {}", shown.join(", ")),
            (false, more) => format!("; {}, and {more} more", shown.join(", ")),
        }
    }
}
