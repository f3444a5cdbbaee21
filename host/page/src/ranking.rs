//! Which worker gets a job: the default policy, as a plain function.

use largest_gpu::bindings::sleap_rtc::policy::types as wit;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::{JobDescription, JobType};
use sleap_rtc_protocol::worker::WorkerStatus;

/// A worker's place among the others. The numbers are positions in the list that was ranked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranked {
    /// Those that can take the job, best first, each with the reason.
    pub fit: Vec<(usize, String)>,
    /// The others, each with the reason.
    pub left_out: Vec<(usize, String)>,
}

/// Why a job cannot wait at a worker.
const NO_LINE: &str = "no job can wait there";

/// Ranks `workers` for `job`. Those whose trainer for it does not work would refuse it.
pub fn rank(job: &JobDescription, workers: &[WorkerFacts]) -> Ranked {
    let records: Vec<_> = workers.iter().map(worker_record).collect();
    let ranking = largest_gpu::rank(&job_record(job), &records);
    let fits = ranking.choices.into_iter().map(|choice| (choice.index as usize, choice.reason));
    let out = ranking.left_out.into_iter().map(|out| (out.index as usize, out.reason));
    let (mut fit, mut left_out) = (Vec::new(), out.collect::<Vec<_>>());
    for (index, reason) in fits {
        match workers.get(index).and_then(|worker| worker.trainer_problem(job.job_type)) {
            Some(problem) => left_out.push((index, problem)),
            None => fit.push((index, reason)),
        }
    }
    Ranked { fit, left_out }
}

/// Ranks the workers at which the job can wait for a slot: where it is expected to start first, and then
/// as if they were free.
pub fn lines(job: &JobDescription, workers: &[WorkerFacts]) -> Ranked {
    let has_line = |worker: &WorkerFacts| {
        worker.queue().is_some() && worker.status != WorkerStatus::Maintenance
    };
    let as_free: Vec<WorkerFacts> = workers.iter().map(WorkerFacts::as_if_free).collect();
    let Ranked { fit, mut left_out } = rank(job, &as_free);
    let (mut fit, without): (Vec<_>, Vec<_>) =
        fit.into_iter().partition(|(place, _)| workers.get(*place).is_some_and(has_line));
    fit.sort_by_key(|(place, _)| {
        workers.get(*place).and_then(WorkerFacts::expected_start_s).unwrap_or(u64::MAX)
    });
    left_out.extend(without.into_iter().map(|(place, _)| (place, NO_LINE.to_owned())));
    Ranked { fit, left_out }
}

fn job_record(job: &JobDescription) -> wit::Job {
    wit::Job {
        job_type: job_type(job.job_type),
        model_types: job.model_types.clone(),
        epochs: job.epochs,
        batch_size: job.batch_size,
        frame_count: job.frame_count,
        image: None,
        package_bytes: job.package_bytes,
        requirements: wit::Requirements {
            min_gpu_memory_mib: job.requirements.min_gpu_memory_mib,
            properties: Vec::new(),
        },
        user: job.user.clone(),
        properties: Vec::new(),
    }
}

fn job_type(job_type: JobType) -> wit::JobType {
    match job_type {
        JobType::Training => wit::JobType::Training,
        JobType::Inference => wit::JobType::Inference,
    }
}

fn worker_record(facts: &WorkerFacts) -> wit::Worker {
    let gpus = facts.accelerators.gpus.iter().map(|gpu| wit::Gpu {
        model: gpu.model.clone(),
        memory_mib: gpu.memory_mib,
        memory_free_mib: gpu.memory_free_mib,
        utilization: gpu.utilization,
        taken: gpu.taken,
        properties: Vec::new(),
    });
    wit::Worker {
        peer_id: facts.peer_id.to_string(),
        hostname: facts.hostname.clone(),
        status: match facts.status {
            WorkerStatus::Available => wit::WorkerStatus::Available,
            WorkerStatus::Reserved => wit::WorkerStatus::Reserved,
            WorkerStatus::Busy => wit::WorkerStatus::Busy,
            WorkerStatus::Maintenance => wit::WorkerStatus::Maintenance,
            WorkerStatus::Unknown => wit::WorkerStatus::Other("unknown".into()),
        },
        gpus: gpus.collect(),
        driver_version: facts.accelerators.driver_version.clone(),
        cuda_version: facts.accelerators.cuda_version.clone(),
        sleap_version: facts.sleap_version.clone(),
        slots: facts.slots,
        slots_free: facts.slots_free.min(facts.slots),
        active_jobs: facts.slots.saturating_sub(facts.slots_free),
        job_types: facts.job_types.iter().copied().map(job_type).collect(),
        models: facts.models.clone(),
        tags: facts.tags.clone(),
        properties: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use sleap_rtc_protocol::signaling::{Metadata, PeerInfo, Role};

    fn worker(id: &str, memory_mib: u64, status: &str) -> WorkerFacts {
        let properties = json!({
            "gpu_model": "A", "gpu_memory_mb": memory_mib, "status": status, "slots_free": 1,
        });
        let properties = properties.as_object().cloned().unwrap_or_default();
        WorkerFacts::from_peer(&PeerInfo {
            peer_id: id.parse().unwrap(),
            role: Role::Worker,
            metadata: Metadata { tags: Vec::new(), properties },
            connected_at: json!(0),
        })
    }

    #[test]
    fn a_worker_whose_trainer_does_not_work_is_left_out() {
        let mut broken = worker("a", 80_000, "available");
        broken.properties.insert("problems-by-part".into(), json!({ "training": "no torch" }));
        let workers = [broken, worker("b", 8_000, "available")];
        let fit = |job_type| {
            let ranked = rank(&JobDescription::unknown(job_type), &workers);
            (ranked.fit.into_iter().map(|(place, _)| place).collect::<Vec<_>>(), ranked.left_out)
        };
        assert_eq!(fit(JobType::Training), (vec![1], vec![(0, "no torch".to_owned())]));
        assert_eq!(fit(JobType::Inference), (vec![0, 1], vec![]));
    }

    #[test]
    fn a_job_waits_where_it_starts_first() {
        let line = |mut worker: WorkerFacts, starts_s: Option<u64>| {
            worker.properties.insert("queue".into(), json!([]));
            worker.properties.insert("expected-start-s".into(), json!(starts_s));
            worker
        };
        let workers = [
            line(worker("a", 80_000, "busy"), None),
            line(worker("b", 8_000, "busy"), Some(600)),
            line(worker("c", 8_000, "reserved"), Some(60)),
            worker("d", 8_000, "busy"),
            line(worker("e", 8_000, "maintenance"), Some(0)),
        ];
        let ranked = lines(&JobDescription::unknown(JobType::Training), &workers);
        let order: Vec<_> = ranked.fit.iter().map(|(place, _)| *place).collect();
        let mut out: Vec<_> = ranked.left_out.iter().map(|(place, _)| *place).collect();
        out.sort_unstable();
        assert_eq!((order, out), (vec![2, 1, 0], vec![3, 4]));
    }

    #[test]
    fn the_largest_free_gpu_comes_first_and_the_others_have_a_reason() {
        let workers = [
            worker("a", 8_000, "available"),
            worker("b", 80_000, "busy"),
            worker("c", 16_000, "available"),
        ];
        let ranked = rank(&JobDescription::unknown(JobType::Training), &workers);
        let order: Vec<_> = ranked.fit.iter().map(|(index, _)| *index).collect();
        assert_eq!((order, ranked.left_out), (vec![2, 0], vec![(1, "busy".to_owned())]));
    }
}
