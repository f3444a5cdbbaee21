//! The workers of a room that can run a job.

use sleap_rtc_policy::{Exclusion, Policies, Selection};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::JobDescription;

/// Ranks `workers` for `job` as the policy does, without those whose trainer for it does not work: they
/// would refuse it.
pub(super) async fn select(
    policies: &Policies,
    job: &JobDescription,
    workers: &[WorkerFacts],
) -> Selection {
    let mut selection = policies.select(job, workers).await;
    let broken = |index: usize| workers.get(index)?.trainer_problem(job.job_type);
    selection.ranking.retain(|choice| {
        let index = choice.index;
        let Some(reason) = broken(index) else { return true };
        selection.left_out.push(Exclusion { index, plugin: "sleap-rtc".into(), reason });
        false
    });
    selection
}
