//! Prefers the worker that the job's user has used least in the last seven days, and among equals
//! the one with the most GPU memory.

use crate::exports::sleap_rtc::policy::selection::{Choice, Exclusion, Guest, Ranking};
use crate::sleap_rtc::policy::types::{Context, Job, Value, Worker, WorkerStatus};
use std::cmp::Reverse;
use std::collections::HashMap;

impl Guest for crate::Plugin {
    fn select(_context: Context, job: Job, workers: Vec<Worker>) -> Result<Ranking, String> {
        Ok(rank(&job, &workers))
    }
}

fn rank(job: &Job, workers: &[Worker]) -> Ranking {
    let (mut fit, mut left_out) = (Vec::new(), Vec::new());
    for (index, worker) in (0..).zip(workers) {
        match obstacle(job, worker) {
            Some(reason) => left_out.push(Exclusion { index, reason }),
            None => fit.push((index, used_s(worker, job.user.as_deref()), memory_mib(worker))),
        }
    }
    fit.sort_by_key(|(_, used_s, memory_mib)| (*used_s, Reverse(*memory_mib)));
    let user = job.user.as_deref().unwrap_or("somebody");
    let choice = |(index, used_s, _)| {
        let reason = match used_s {
            0 => format!("{user} has not used it in seven days"),
            _ => format!("{user} has used it for {} in seven days", duration_text(used_s)),
        };
        Choice { index, score: 0.0 - used_s as f64, reason }
    };
    Ranking { choices: fit.into_iter().map(choice).collect(), left_out }
}

fn obstacle(job: &Job, worker: &Worker) -> Option<String> {
    let (needs, has) = (job.requirements.min_gpu_memory_mib.unwrap_or(0), memory_mib(worker));
    match worker.status {
        WorkerStatus::Available if has < needs => Some(format!("needs {needs} MiB, has {has} MiB")),
        WorkerStatus::Available => None,
        _ => Some("not available".into()),
    }
}

/// Total memory of the largest GPU.
fn memory_mib(worker: &Worker) -> u64 {
    worker.gpus.iter().map(|gpu| gpu.memory_mib).max().unwrap_or(0)
}

/// For how many seconds jobs of `user` held a slot of `worker`; 0 if the worker does not report it.
fn used_s(worker: &Worker, user: Option<&str>) -> u64 {
    let property = worker.properties.iter().find(|property| property.key == "used_s_by_user");
    let Some(Value::Json(json)) = property.map(|property| &property.value) else { return 0 };
    let by_user: HashMap<String, u64> = serde_json::from_str(json).unwrap_or_default();
    user.and_then(|user| by_user.get(user)).copied().unwrap_or(0)
}

/// A time for people.
fn duration_text(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sleap_rtc::policy::types::{Gpu, JobType, Property, Requirements};

    fn worker(memory_mib: u64, used: &str) -> Worker {
        let gpu = Gpu {
            model: "A".into(),
            memory_mib,
            memory_free_mib: None,
            utilization: None,
            taken: None,
            properties: vec![],
        };
        Worker {
            peer_id: "w".into(),
            hostname: None,
            status: WorkerStatus::Available,
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
            properties: vec![Property {
                key: "used_s_by_user".into(),
                value: Value::Json(used.into()),
            }],
        }
    }

    fn job(user: Option<&str>, min_gpu_memory_mib: Option<u64>) -> Job {
        Job {
            job_type: JobType::Training,
            model_types: vec![],
            epochs: None,
            batch_size: None,
            frame_count: None,
            image: None,
            package_bytes: None,
            requirements: Requirements { min_gpu_memory_mib, properties: vec![] },
            user: user.map(str::to_owned),
            properties: vec![],
        }
    }

    fn order(job: &Job, workers: &[Worker]) -> Vec<u32> {
        rank(job, workers).choices.iter().map(|choice| choice.index).collect()
    }

    #[test]
    fn a_user_of_one_machine_is_sent_to_another() {
        let workers = [
            worker(24_000, r#"{"ada": 7200, "bob": 60}"#),
            worker(8_000, r#"{"ada": 30}"#),
            worker(16_000, "no JSON"),
        ];
        assert_eq!(order(&job(Some("ada"), None), &workers), [2, 1, 0]);
        assert_eq!(order(&job(Some("bob"), None), &workers), [2, 1, 0]);
        assert_eq!(order(&job(Some("eve"), None), &workers), [0, 2, 1]);
        assert_eq!(order(&job(None, None), &workers), [0, 2, 1]);
        let last = rank(&job(Some("ada"), None), &workers).choices.pop();
        let reason = last.map(|choice| choice.reason);
        assert_eq!(reason.as_deref(), Some("ada has used it for 2 h in seven days"));
    }

    #[test]
    fn workers_that_cannot_take_the_job_are_left_out() {
        let mut busy = worker(80_000, "{}");
        busy.status = WorkerStatus::Busy;
        let ranking = rank(&job(None, Some(12_000)), &[busy, worker(8_000, "{}")]);
        assert!(ranking.choices.is_empty());
        let reasons: Vec<_> = ranking.left_out.iter().map(|out| out.reason.as_str()).collect();
        assert_eq!(reasons, ["not available", "needs 12000 MiB, has 8000 MiB"]);
    }
}
