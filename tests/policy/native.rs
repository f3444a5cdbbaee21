//! The default policies as native functions give the same answers as the components.

use crate::cases::{Worker, cases};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::{JobDescription, JobType};
use sleap_rtc_protocol::worker::WorkerStatus;
use std::collections::BTreeMap;

/// Converts to the records of a plugin. Each plugin has types of its own.
macro_rules! records {
    ($module:ident, $plugin:ident) => {
        mod $module {
            use super::*;
            use $plugin::bindings::sleap_rtc::policy::types as wit;

            pub fn job(job: &JobDescription) -> wit::Job {
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
                        properties: vec![],
                    },
                    user: job.user.clone(),
                    properties: vec![],
                }
            }

            fn job_type(job_type: JobType) -> wit::JobType {
                match job_type {
                    JobType::Training => wit::JobType::Training,
                    JobType::Inference => wit::JobType::Inference,
                }
            }

            #[allow(dead_code, reason = "an estimate asks no worker")]
            pub fn worker(facts: &WorkerFacts) -> wit::Worker {
                let gpus = facts.accelerators.gpus.iter().map(|gpu| wit::Gpu {
                    model: gpu.model.clone(),
                    memory_mib: gpu.memory_mib,
                    memory_free_mib: gpu.memory_free_mib,
                    utilization: gpu.utilization,
                    taken: gpu.taken,
                    properties: vec![],
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
                    slots_free: facts.slots_free,
                    active_jobs: facts.slots - facts.slots_free,
                    job_types: facts.job_types.iter().copied().map(job_type).collect(),
                    models: facts.models.clone(),
                    tags: facts.tags.clone(),
                    properties: vec![],
                }
            }
        }
    };
}

records!(selection_records, largest_gpu);
records!(compatibility_records, requirements);
records!(estimation_records, linear_estimate);

#[test]
fn selection() {
    use selection_records as records;
    for case in cases().selection {
        let workers: Vec<_> =
            case.workers.iter().map(|Worker(facts)| records::worker(facts)).collect();
        let ranking = largest_gpu::rank(&records::job(&case.job), &workers);
        let called = |index: u32| &workers[index as usize].peer_id;
        let ranked: Vec<_> = ranking.choices.iter().map(|choice| called(choice.index)).collect();
        assert_eq!(ranked, case.ranked.iter().collect::<Vec<_>>(), "{}", case.name);
        let out =
            ranking.left_out.iter().map(|out| (called(out.index).clone(), out.reason.clone()));
        assert_eq!(out.collect::<BTreeMap<_, _>>(), case.out, "{}", case.name);
    }
}

#[test]
fn compatibility() {
    use compatibility_records as records;
    for case in cases().compatibility {
        let Worker(worker) = &case.worker;
        let reasons = requirements::obstacles(&records::job(&case.job), &records::worker(worker));
        let messages: Vec<_> = reasons.into_iter().map(|reason| reason.message).collect();
        assert_eq!(messages, case.no, "{}", case.name);
    }
}

#[test]
fn queueing() {
    for case in cases().queueing {
        let jobs = |users: &'static [String]| -> Vec<fewest_running::Job<'static>> {
            users.iter().map(|user| fewest_running::Job { user, takes_s: None }).collect()
        };
        let (running, waiting) = (jobs(case.running.leak()), jobs(case.waiting.leak()));
        let order = fewest_running::order(case.slots, &running, &waiting);
        let order: Vec<usize> = order.into_iter().map(|(index, _)| index as usize).collect();
        assert_eq!(order, case.order, "{}", case.name);
    }
}

#[test]
fn estimate() {
    use estimation_records as records;
    for case in cases().estimate {
        let job = records::job(&case.job);
        let told = linear_estimate::duration(&job, None, &[]);
        assert_eq!(told.minutes, case.minutes, "{}", case.name);
    }
}
