//! Chooses the worker at which the job waits for a slot.

use super::skipped::{SkipReason, Skipped};
use super::{Round, Search, name};
use crate::client::candidates::select;
use crate::client::display::say;
use crate::client::error::quoted;
use crate::client::room::{Connected, Room};
use crate::client::{ClientError, queue_text};
use crate::config::Wait;
use crate::question;
use sleap_rtc_policy::Policies;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::JobSpec;
use sleap_rtc_protocol::worker::WorkerStatus;

/// The most other workers that are named where a job waits.
const NAMED_LINES: usize = 3;

/// Lets the job wait at the worker where it is expected to start first, among those that fit it.
pub(crate) async fn in_line(
    room: &mut Room,
    policies: &Policies,
    spec: &JobSpec,
    search: &mut Search,
) -> Result<Connected, ClientError> {
    let workers = room.workers(None).await?;
    let mut round = Round { room, spec, search, skipped: Skipped::default() };
    let lines = round.lines(policies, &workers).await;
    for worker in &lines {
        say(&format!("Waiting at {} ({}): {}", name(worker), worker.peer_id, why(worker, &lines)));
        if let Some(connected) = round.offer(worker, true).await? {
            return Ok(connected);
        }
    }
    Err(round.skipped.into_error(spec.description.requirements.min_gpu_memory_mib))
}

/// Why the job waits at `chosen`, among the workers of `lines`.
fn why(chosen: &WorkerFacts, lines: &[&WorkerFacts]) -> String {
    let start = |worker: &WorkerFacts| match worker.expected_start_s() {
        Some(seconds) => queue_text::about(seconds),
        None => "nobody knows when".to_owned(),
    };
    let others: Vec<String> = lines
        .iter()
        .filter(|worker| worker.peer_id != chosen.peer_id)
        .take(NAMED_LINES)
        .map(|worker| format!("{} {}", name(worker), start(worker)))
        .collect();
    match others.is_empty() {
        true => format!("expected to start: {}", start(chosen)),
        false => {
            format!("expected to start there first: {}; {}", start(chosen), others.join(", "))
        }
    }
}

impl Round<'_> {
    /// The workers at which the job can wait: where it is expected to start first, and then as the policy
    /// would rank them if they were free.
    async fn lines<'w>(
        &mut self,
        policies: &Policies,
        workers: &'w [WorkerFacts],
    ) -> Vec<&'w WorkerFacts> {
        let has_line = |worker: &&WorkerFacts| {
            worker.queue().is_some()
                && worker.status != WorkerStatus::Maintenance
                && !self.search.failed.contains(&worker.peer_id)
        };
        let with_line: Vec<&WorkerFacts> = workers.iter().filter(has_line).collect();
        let as_free: Vec<WorkerFacts> =
            with_line.iter().map(|worker| worker.as_if_free()).collect();
        let policies = policies.asked_by(self.room.own_id().as_str());
        let selection = select(&policies, &self.spec.description, &as_free).await;
        for out in &selection.left_out {
            if let Some(worker) = with_line.get(out.index) {
                self.skipped.add(worker, SkipReason::Unfit, &out.reason);
            }
        }
        for worker in workers {
            if worker.status == WorkerStatus::Maintenance {
                let why = "is in maintenance, and starts no jobs before its end";
                self.skipped.add(worker, SkipReason::Maintenance, &why);
            } else if worker.queue().is_none() {
                self.skipped.add(worker, SkipReason::Refused, &"no job can wait there");
            } else if self.search.failed.contains(&worker.peer_id) {
                let why = "had taken the job, and then refused it";
                self.skipped.add(worker, SkipReason::Refused, &why);
            }
        }
        let ranked = selection.ranking.iter().filter_map(|choice| with_line.get(choice.index));
        let mut lines: Vec<&WorkerFacts> = ranked.copied().collect();
        lines.sort_by_key(|worker| worker.expected_start_s().unwrap_or(u64::MAX));
        lines
    }
}

impl Search {
    /// Asks the user whether the job should wait, after every worker has refused it.
    pub(crate) async fn asks_to_wait_anywhere(&mut self, room: &Room, skipped: &Skipped) -> bool {
        if !skipped.has_refusal() || !question::may_ask() {
            return false;
        }
        let workers = room.workers(None).await.unwrap_or_default();
        if !workers.iter().any(|worker| worker.queue().is_some()) {
            return false;
        }
        let question = format!(
            "No worker takes the job now:\n{}\nWait where it is expected to start first? [y/N] ",
            skipped.lines()
        );
        let waits = question::confirm(&question).await == Some(true);
        self.wait = waits.then_some(Wait::UntilItStarts);
        waits
    }

    /// Asks the user whether the job should wait at `worker`, which refuses it for `why`. Returns false if
    /// there is nobody at a terminal, or nothing to wait in.
    pub(crate) async fn asks_to_wait(&mut self, room: &Room, worker: &PeerId, why: &str) -> bool {
        if !question::may_ask() {
            return false;
        }
        let facts = room.facts(worker).await;
        let Some(length) = facts.as_ref().and_then(WorkerFacts::queue).map(|line| line.len())
        else {
            return false;
        };
        let place = u32::try_from(length + 1).ok();
        let standing =
            queue_text::standing(place, facts.and_then(|facts| facts.expected_start_s()));
        let question = format!("{}\nWait there, {standing}? [y/N] ", quoted(why));
        let waits = question::confirm(&question).await == Some(true);
        self.wait = waits.then_some(Wait::UntilItStarts);
        waits
    }
}
