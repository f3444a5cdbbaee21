//! The default selection plugin: the available worker with the largest GPU comes first.
//!
//! It leaves out workers that are not available, do not take this kind of job or have too little GPU
//! memory. The others are ranked by the total memory of their largest GPU; among equals by its
//! free memory (measured before not measured), then by fewer active jobs, then by peer id.

#[cfg(all(feature = "guest", target_family = "wasm"))]
mod bump;

/// Bindings generated from the WIT package.
#[allow(missing_docs, unsafe_code, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({ world: "selection-plugin", path: "../../wit" });

    #[cfg(all(feature = "guest", target_family = "wasm"))]
    use super::LargestGpu;
    #[cfg(all(feature = "guest", target_family = "wasm"))]
    export!(LargestGpu);
}

use bindings::exports::sleap_rtc::policy::selection::{Choice, Exclusion, Guest, Ranking};
use bindings::sleap_rtc::policy::types::{Context, Gpu, Job, JobType, Worker, WorkerStatus};
use std::cmp::Reverse;

struct LargestGpu;

impl Guest for LargestGpu {
    fn select(_: Context, job: Job, workers: Vec<Worker>) -> Result<Ranking, String> {
        Ok(rank(&job, &workers))
    }
}

/// Ranks `workers` for `job`.
pub fn rank(job: &Job, workers: &[Worker]) -> Ranking {
    let mut fit = Vec::new();
    let mut left_out = Vec::new();
    for (index, worker) in (0..).zip(workers) {
        match obstacle(job, worker) {
            Some(reason) => left_out.push(Exclusion { index, reason }),
            None => fit.push((index, worker)),
        }
    }
    fit.sort_by_key(|(_, worker)| {
        let gpu = largest(worker);
        let total = gpu.map_or(0, |gpu| gpu.memory_mib);
        let free = gpu.and_then(|gpu| gpu.memory_free_mib);
        (Reverse(total), Reverse(free), worker.active_jobs, worker.peer_id.as_str())
    });
    let choices = fit.iter().map(|(index, worker)| choice(*index, worker)).collect();
    Ranking { choices, left_out }
}

fn choice(index: u32, worker: &Worker) -> Choice {
    match largest(worker) {
        Some(gpu) => Choice {
            index,
            score: gpu.memory_mib as f64,
            reason: format!("largest GPU {} with {} MB", gpu.model, grouped(gpu.memory_mib)),
        },
        None => Choice { index, score: 0.0, reason: "no GPU".into() },
    }
}

/// Why `worker` cannot take `job`, for the user.
fn obstacle(job: &Job, worker: &Worker) -> Option<String> {
    match &worker.status {
        WorkerStatus::Available if worker.slots_free > 0 => {}
        WorkerStatus::Available => return Some("no slot is free".into()),
        WorkerStatus::Reserved => return Some("reserved for another client".into()),
        WorkerStatus::Busy => return Some("busy".into()),
        WorkerStatus::Maintenance => return Some("in maintenance".into()),
        WorkerStatus::Other(word) => return Some(format!("its status is {word:?}")),
    }
    if !worker.job_types.is_empty() && !worker.job_types.iter().any(|t| same(t, &job.job_type)) {
        return Some(format!("takes no {} jobs", word(&job.job_type)));
    }
    let has = largest(worker).map_or(0, |gpu| gpu.memory_mib);
    let needs = job.requirements.min_gpu_memory_mib.unwrap_or(0);
    (has < needs).then(|| format!("needs {} MB, has {} MB", grouped(needs), grouped(has)))
}

/// The GPU with the most memory; among equals the one with the most of it free.
fn largest(worker: &Worker) -> Option<&Gpu> {
    worker.gpus.iter().max_by_key(|gpu| (gpu.memory_mib, gpu.memory_free_mib))
}

fn same(a: &JobType, b: &JobType) -> bool {
    word(a) == word(b)
}

fn word(job_type: &JobType) -> &str {
    match job_type {
        JobType::Training => "training",
        JobType::Inference => "inference",
        JobType::Other(word) => word,
    }
}

/// `12000` as `12,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindings::sleap_rtc::policy::types::Requirements;

    fn worker(peer_id: &str, gpus: &[(u64, Option<u64>)]) -> Worker {
        let gpu = |(memory_mib, memory_free_mib): &(u64, Option<u64>)| Gpu {
            model: "A".into(),
            memory_mib: *memory_mib,
            memory_free_mib: *memory_free_mib,
            utilization: None,
            taken: None,
            properties: vec![],
        };
        Worker {
            peer_id: peer_id.into(),
            hostname: None,
            status: WorkerStatus::Available,
            gpus: gpus.iter().map(gpu).collect(),
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

    fn job(min_gpu_memory_mib: Option<u64>) -> Job {
        Job {
            job_type: JobType::Training,
            model_types: vec![],
            epochs: None,
            batch_size: None,
            frame_count: None,
            image: None,
            package_bytes: None,
            requirements: Requirements { min_gpu_memory_mib, properties: vec![] },
            user: None,
            properties: vec![],
        }
    }

    fn order(job: &Job, workers: &[Worker]) -> Vec<u32> {
        rank(job, workers).choices.iter().map(|choice| choice.index).collect()
    }

    #[test]
    fn the_largest_single_gpu_decides_not_the_sum() {
        let workers = [
            worker("many", &[(8000, None), (8000, None), (8000, None)]),
            worker("none", &[]),
            worker("one", &[(12000, None)]),
        ];
        assert_eq!(order(&job(None), &workers), [2, 0, 1]);
    }

    #[test]
    fn ties_are_broken_by_free_memory_then_jobs_then_name() {
        let mut two_jobs = worker("a", &[(8000, Some(4000))]);
        two_jobs.active_jobs = 2;
        let workers = [
            worker("e", &[(8000, None)]),
            two_jobs,
            worker("c", &[(8000, Some(4000))]),
            worker("b", &[(8000, Some(4000))]),
            worker("d", &[(8000, Some(6000))]),
        ];
        assert_eq!(order(&job(None), &workers), [4, 3, 2, 1, 0]);
    }

    #[test]
    fn workers_that_cannot_take_the_job_are_left_out_with_a_reason() {
        let mut workers = vec![worker("small", &[(8192, None)]), worker("busy", &[(80000, None)])];
        workers[1].status = WorkerStatus::Busy;
        let mut other = worker("tracks", &[(80000, None)]);
        other.job_types = vec![JobType::Inference];
        workers.push(other);
        let ranking = rank(&job(Some(12000)), &workers);
        assert!(ranking.choices.is_empty());
        let reasons: Vec<_> = ranking.left_out.iter().map(|out| out.reason.as_str()).collect();
        assert_eq!(reasons, ["needs 12,000 MB, has 8,192 MB", "busy", "takes no training jobs"]);
    }
}
