//! Whether a job fits into the memory of the GPUs that it could get.

use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::JobDescription;
use sleap_rtc_protocol::workload::{FinishedRun, NeededMemory, Workload};

/// A job that takes more than this share of what is left of a GPU may run out of memory, in percent:
/// neither the formula nor what was seen of earlier jobs is exact.
const CLOSE_PERCENT: u64 = 85;
/// The newest runs that correct the formula.
const RUNS: usize = 15;
/// What was seen may be of another program, so it corrects the formula within these bounds.
const CORRECTIONS: (f64, f64) = (0.25, 8.0);

/// The GPU memory that the job probably needs: by its formula, as far as earlier runs agreed with theirs.
pub(crate) fn needed(job: &JobDescription, history: &[FinishedRun]) -> Option<NeededMemory> {
    NeededMemory::of(&job.runs, |run| correction(run, history))
}

/// How many times as much memory trainings took as their formulas said: the median of the newest ones of the
/// same models.
fn correction(run: &Workload, history: &[FinishedRun]) -> f64 {
    let alike = history.iter().rev().filter(|past| past.run.model_types == run.model_types);
    let factor = |past: &FinishedRun| {
        let (peak, formula) = (past.took.peak_memory_mib?, past.run.memory_mib()?);
        (formula > 0).then(|| peak as f64 / formula as f64)
    };
    let mut factors: Vec<f64> = alike.filter_map(factor).take(RUNS).collect();
    factors.sort_by(f64::total_cmp);
    let median = factors.get(factors.len() / 2).copied().unwrap_or(1.0);
    median.clamp(CORRECTIONS.0, CORRECTIONS.1)
}

/// A warning if the job may run out of memory, as far as `worker` knows what it could get.
pub(crate) fn warning(need: &NeededMemory, worker: &WorkerFacts) -> Option<String> {
    let gpu = worker.accelerators.largest()?;
    let left_mib = gpu.memory_mib.saturating_sub(gpu.memory_others_mib.unwrap_or(0));
    if need.mib.saturating_mul(100) <= left_mib.saturating_mul(CLOSE_PERCENT) {
        return None;
    }
    let others = match gpu.memory_others_mib {
        Some(others @ 1..) => format!(", of which other programs use {others} MB"),
        _ => String::new(),
    };
    Some(format!(
        "{kind} needs about {needs} MB of GPU memory, and the GPU has {has} MB{others}: if the memory runs out, \
         use a smaller batch size (now {batch_size}) or a smaller input scale",
        kind = need.kind,
        needs = need.mib,
        has = gpu.memory_mib,
        batch_size = need.batch_size,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::job::JobType;
    use sleap_rtc_protocol::signaling::{Metadata, PeerInfo, Role};
    use sleap_rtc_protocol::workload::{MemoryNeed, Timing};

    fn run(model: &str, batch_size: u32) -> Workload {
        Workload {
            model_types: vec![model.into()],
            batch_size: Some(batch_size),
            memory: Some(MemoryNeed { fixed_bytes: 0, bytes_per_sample: 100 << 20 }),
            ..Workload::unknown(JobType::Training)
        }
    }

    fn past(model: &str, peak_memory_mib: u64) -> FinishedRun {
        let took = Timing { peak_memory_mib: Some(peak_memory_mib), ..Timing::default() };
        FinishedRun {
            run: run(model, 10),
            gpu: None,
            sleap_nn_version: None,
            took,
            succeeded: false,
        }
    }

    fn worker(others_mib: u64) -> WorkerFacts {
        let gpus = serde_json::json!([{"model": "A", "memory_mib": 1000, "memory_others_mib": others_mib}]);
        let properties = [("gpus".to_owned(), gpus)].into_iter().collect();
        WorkerFacts::from_peer(&PeerInfo {
            peer_id: sleap_rtc_protocol::ids::PeerId::new("w").unwrap(),
            role: Role::Worker,
            metadata: Metadata { tags: vec![], properties },
            connected_at: serde_json::Value::Null,
        })
    }

    #[test]
    fn the_largest_training_counts_and_what_was_seen_corrects_the_formula() {
        let job = JobDescription {
            runs: vec![run("centroid", 4), run("bottomup", 6)],
            ..JobDescription::unknown(JobType::Training)
        };
        let mib = |history: &[FinishedRun]| needed(&job, history).unwrap().mib;
        assert_eq!(mib(&[]), 600);
        let seen = [past("centroid", 2000), past("bottomup", 1500), past("bottomup", 9999)];
        assert_eq!(mib(&seen[..2]), 900);
        assert_eq!(mib(&[past("bottomup", 1)]), 400);
        assert_eq!(needed(&JobDescription::unknown(JobType::Training), &seen), None);
    }

    #[test]
    fn a_warning_names_the_numbers_and_what_to_change() {
        let need = |batch| NeededMemory::of(&[run("centroid", batch)], |_| 1.0).unwrap();
        assert_eq!(warning(&need(8), &worker(0)), None);
        insta::assert_snapshot!(warning(&need(8), &worker(100)).unwrap(), @"training centroid needs about 800 MB of GPU memory, and the GPU has 1000 MB, of which other programs use 100 MB: if the memory runs out, use a smaller batch size (now 8) or a smaller input scale");
    }
}
