//! Asks the queueing policy in which order the jobs of the queue start.

use super::WorkerContext;
use super::queue_report::{Waiting, user_of};
use super::running::Running;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_policy::{JobHere, Line, LineOrder, Placed};
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::queue::{Order, OrderedBy};
use sleap_rtc_protocol::worker::WorkerState;
use std::collections::HashMap;

/// The jobs as the policy sees them. Waiting jobs that the operator holds or has put first are left out.
pub(crate) fn question(
    state: &WorkerState,
    waiting: &HashMap<JobId, Waiting>,
    running: &HashMap<JobId, Running>,
) -> Line {
    let age_s = |since_ms| now_ms().saturating_sub(since_ms) / 1000;
    let runs = |(job, running): (&JobId, &Running)| JobHere {
        id: job.to_string(),
        user: user_of(&running.folder),
        description: running.folder.spec().description.clone(),
        since_s: age_s(running.began_ms()),
        takes_s: running.left_s(),
        slots: state.slot_of(job).into_iter().collect(),
    };
    let mut running: Vec<JobHere> = running.iter().map(runs).collect();
    running.sort_by(|a, b| b.since_s.cmp(&a.since_s).then_with(|| a.id.cmp(&b.id)));
    let for_policy = state
        .queue()
        .jobs()
        .iter()
        .filter(|job| !job.entry.is_held && job.entry.front_ms.is_none());
    let waits = for_policy.filter_map(|job| {
        let known = waiting.get(&job.job)?;
        Some(JobHere {
            id: job.job.to_string(),
            user: job.user.clone(),
            description: known.folder.spec().description.clone(),
            since_s: age_s(job.entry.since_ms),
            takes_s: known.runs_s,
            slots: state.fitting(job.needs_mib),
        })
    });
    Line { running, waiting: waits.collect() }
}

/// The policy's order for the queue in this revision.
pub(crate) async fn ask(context: &WorkerContext, revision: u64, line: Line) -> Order {
    match context.policies.order(&context.facts(), &line).await {
        LineOrder::Failed(why) => {
            Order { revision, by: OrderedBy::Failed(why), places: Vec::new() }
        }
        LineOrder::Decided { by, places } => {
            let place = |Placed { index, reason }: Placed| {
                let job = JobId::new(line.waiting.get(index)?.id.clone()).ok()?;
                let reason =
                    if reason.trim().is_empty() { "no reason given".into() } else { reason };
                Some((job, reason))
            };
            let places = places.into_iter().filter_map(place).collect();
            Order { revision, by: OrderedBy::Plugin(by), places }
        }
    }
}
