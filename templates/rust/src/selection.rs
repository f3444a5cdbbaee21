//! Ranks the available workers by their free GPU memory.

use crate::exports::sleap_rtc::policy::selection::{Choice, Exclusion, Guest, Ranking};
use crate::sleap_rtc::policy::types::{Context, Job, Worker, WorkerStatus};

impl Guest for crate::Plugin {
    fn select(_context: Context, _job: Job, workers: Vec<Worker>) -> Result<Ranking, String> {
        Ok(rank(&workers))
    }
}

fn rank(workers: &[Worker]) -> Ranking {
    let (mut choices, mut left_out) = (Vec::new(), Vec::new());
    for (index, worker) in (0..).zip(workers) {
        if matches!(worker.status, WorkerStatus::Available) {
            let free_mib = free_mib(worker);
            let reason = format!("{free_mib} MiB of GPU memory free");
            choices.push(Choice { index, score: free_mib as f64, reason });
        } else {
            left_out.push(Exclusion { index, reason: "not available".into() });
        }
    }
    choices.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ranking { choices, left_out }
}

/// Free memory of the GPU that has most of it. Total memory stands in for a value not measured.
fn free_mib(worker: &Worker) -> u64 {
    let free = worker.gpus.iter().map(|gpu| gpu.memory_free_mib.unwrap_or(gpu.memory_mib));
    free.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sleap_rtc::policy::types::Gpu;

    fn worker(status: WorkerStatus, memory_mib: u64, memory_free_mib: Option<u64>) -> Worker {
        let gpu = Gpu {
            model: "A".into(),
            memory_mib,
            memory_free_mib,
            utilization: None,
            taken: None,
            properties: vec![],
        };
        Worker {
            peer_id: "w".into(),
            hostname: None,
            status,
            gpus: vec![gpu],
            driver_version: None,
            cuda_version: None,
            sleap_version: None,
            slots: 1,
            slots_free: 1,
            active_jobs: 0,
            job_types: vec![],
            models: vec![],
            tags: vec![],
            properties: vec![],
        }
    }

    #[test]
    fn the_most_free_memory_comes_first_and_busy_workers_are_left_out() {
        let ranking = rank(&[
            worker(WorkerStatus::Available, 24_000, Some(1_000)),
            worker(WorkerStatus::Busy, 80_000, None),
            worker(WorkerStatus::Available, 8_000, None),
        ]);
        let order: Vec<_> = ranking.choices.iter().map(|choice| choice.index).collect();
        assert_eq!(order, [2, 0]);
        assert_eq!(ranking.choices[0].reason, "8000 MiB of GPU memory free");
        assert_eq!(ranking.left_out[0].index, 1);
    }
}
