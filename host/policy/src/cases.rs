//! Rooms and jobs that every plugin must handle.

use super::{ExtensionPoint, JobHere, Line};
use serde_json::{Value, json};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::{ImageSize, JobDescription, JobType, Requirements};
use sleap_rtc_protocol::signaling::PeerInfo;
use sleap_rtc_protocol::workload::{MemoryNeed, Workload};

/// A call with which to test a plugin.
#[derive(Debug, Clone)]
pub struct Case {
    /// What distinguishes it from the others.
    pub name: &'static str,
    /// The job.
    pub job: JobDescription,
    /// The room's workers. Exactly one for questions about a single worker.
    pub workers: Vec<WorkerFacts>,
    /// What runs and what waits at that worker, for questions about an order.
    pub line: Line,
}

impl Case {
    fn new(name: &'static str, job: JobDescription, workers: Vec<WorkerFacts>) -> Self {
        Self { name, job, workers, line: Line::default() }
    }
}

/// The cases for `point`.
pub(crate) fn cases(point: ExtensionPoint) -> Vec<Case> {
    if point == ExtensionPoint::Queueing {
        return lines();
    }
    let rooms = [
        ("an ordinary worker", training(), ordinary(0, "available")),
        ("a tracking job", tracking(), ordinary(0, "available")),
        ("no GPU", training(), worker("cpu", json!({ "status": "available", "gpus": [] }))),
        ("zero memory", training(), worker("zero", zero_memory())),
        ("missing fields", JobDescription::unknown(JobType::Training), worker("bare", json!({}))),
        ("non-ASCII names", foreign_job(), worker("π-実験室", foreign_names())),
        ("huge strings", huge_job(), worker("huge", huge_strings())),
    ];
    let mut cases: Vec<_> = rooms
        .into_iter()
        .map(|(name, job, worker)| Case::new(name, job, worker.into_iter().collect()))
        .collect();
    if point == ExtensionPoint::Selection {
        cases.push(Case::new("no workers", training(), vec![]));
        let statuses = ["busy", "reserved", "maintenance", "a word of tomorrow"];
        let workers = (0..).zip(statuses).filter_map(|(number, status)| ordinary(number, status));
        cases.push(Case::new("nobody is free", training(), workers.collect()));
        cases.push(crowd("1,000 workers", 1000));
    }
    cases
}

/// `count` workers with full records, most of them free.
pub(crate) fn crowd(name: &'static str, count: u64) -> Case {
    let status = |number| if number % 7 == 3 { "busy" } else { "available" };
    let workers = (0..count).filter_map(|number| ordinary(number, status(number))).collect();
    Case::new(name, training(), workers)
}

/// The cases of orders.
fn lines() -> Vec<Case> {
    let waits = |job: JobDescription| Line { waiting: vec![here(0, job)], ..Line::default() };
    let all_held = Line { running: vec![here(0, training())], waiting: Vec::new() };
    let unknown = JobHere {
        takes_s: None,
        slots: Vec::new(),
        ..here(1, JobDescription::unknown(JobType::Inference))
    };
    let huge_user = JobHere { user: huge(), since_s: u64::MAX, ..here(0, huge_job()) };
    let lines = [
        ("one job", waits(training())),
        ("no jobs", Line::default()),
        ("nothing to order", all_held),
        ("missing fields", Line { running: vec![unknown.clone()], waiting: vec![unknown] }),
        ("non-ASCII names", waits(foreign_job())),
        ("huge strings", Line { running: vec![huge_user.clone()], waiting: vec![huge_user] }),
    ];
    let worker: Vec<WorkerFacts> = ordinary(0, "busy").into_iter().collect();
    let case = |(name, line)| Case { line, ..Case::new(name, training(), worker.clone()) };
    lines.into_iter().map(case).chain([queue("1,000 jobs", 1000)]).collect()
}

/// A worker at which two jobs run and `count` jobs of ten users wait.
pub(crate) fn queue(name: &'static str, count: u32) -> Case {
    let line = Line {
        running: (0..2).map(|number| here(number, training())).collect(),
        waiting: (0..count).map(|number| here(number, training())).collect(),
    };
    Case { line, ..Case::new(name, training(), ordinary(0, "busy").into_iter().collect()) }
}

/// A job of one of ten users.
fn here(number: u32, description: JobDescription) -> JobHere {
    JobHere {
        id: format!("job-{number}"),
        user: description.user.clone().map_or_else(String::new, |user| match number % 10 {
            0 => user,
            other => format!("{user}-{other}"),
        }),
        description,
        since_s: u64::from(1000 - number.min(1000)) * 60,
        takes_s: Some(1800),
        slots: vec![0, 1],
    }
}

fn training() -> JobDescription {
    JobDescription {
        job_type: JobType::Training,
        model_types: vec!["centroid".into(), "centered_instance".into()],
        epochs: Some(200),
        batch_size: Some(4),
        frame_count: Some(1500),
        image: Some(ImageSize { height: 1024, width: 1024, channels: 1 }),
        package_bytes: Some(250_000_000),
        sleap_nn_version: None,
        mounted_videos: Vec::new(),
        runs: runs(),
        requirements: Requirements { min_gpu_memory_mib: Some(8000) },
        user: Some("ada".into()),
    }
}

/// The runs of [`training`].
fn runs() -> Vec<Workload> {
    let input = |side| Some(ImageSize { height: side, width: side, channels: 1 });
    let run = |model: &str, side, bytes_per_sample| Workload {
        model_types: vec![model.into()],
        epochs: Some(100),
        stops_early: true,
        batch_size: Some(4),
        batches_per_epoch: Some(338),
        frames: Some(1500),
        input: input(side),
        filters: Some(16),
        memory: Some(MemoryNeed { fixed_bytes: 40 << 20, bytes_per_sample }),
        ..Workload::unknown(JobType::Training)
    };
    vec![run("centroid", 512, 70 << 20), run("centered_instance", 160, 20 << 20)]
}

fn tracking() -> JobDescription {
    let run = Workload { frames: Some(1500), ..Workload::unknown(JobType::Inference) };
    JobDescription { job_type: JobType::Inference, epochs: None, runs: vec![run], ..training() }
}

fn foreign_job() -> JobDescription {
    JobDescription { user: Some("Zoë Ångström 🐁".into()), ..training() }
}

fn huge_job() -> JobDescription {
    let models = (0..1000).map(|number| format!("{number}{}", huge())).collect();
    JobDescription {
        user: Some(huge()),
        model_types: models,
        epochs: Some(u32::MAX),
        batch_size: Some(u32::MAX),
        frame_count: Some(u64::MAX),
        package_bytes: Some(u64::MAX),
        sleap_nn_version: None,
        mounted_videos: Vec::new(),
        ..training()
    }
}

fn ordinary(number: u64, status: &str) -> Option<WorkerFacts> {
    let memory_mib = 8192 + 1024 * (number % 64);
    let properties = json!({
        "hostname": format!("gpu{number}.lab"),
        "status": status,
        "gpus": [
            { "model": "NVIDIA RTX A5000", "memory_mib": memory_mib, "memory_free_mib": 7000,
              "utilization": 0.25 },
            { "model": "NVIDIA T400", "memory_mib": 4096 },
        ],
        "driver_version": "550.54",
        "cuda_version": "12.4",
        "sleap_version": "1.4.1",
        "max_concurrent_jobs": 1,
        "slots_free": u64::from(status == "available"),
        "supported_models": ["base", "centroid", "topdown"],
        "supported_job_types": ["training", "inference"],
        "owner": "ada",
        "racks": [1, 2],
        "used_s_by_user": { "ada": 90_000, "bob": 12 },
    });
    worker(&format!("worker-{number}"), properties)
}

fn zero_memory() -> Value {
    json!({
        "hostname": "zero", "status": "available", "max_concurrent_jobs": 0, "slots_free": 0,
        "gpus": [{ "model": "", "memory_mib": 0, "memory_free_mib": 0, "utilization": 0.0 }],
    })
}

fn foreign_names() -> Value {
    json!({
        "hostname": "実験室-π-🦀", "status": "available",
        "gpus": [{ "model": "显卡 \u{202e}e\u{301}", "memory_mib": 24_564 }],
        "supported_models": ["центроид"], "besitzer": "Jürgen", "ключ": "значение",
    })
}

/// More than the host passes on, so that the plugin receives the largest possible records.
fn huge_strings() -> Value {
    let many = |count: usize| (0..count).map(|n| format!("{n}{}", huge())).collect::<Vec<_>>();
    let mut properties = json!({
        "hostname": huge(), "status": "available",
        "gpus": [{ "model": huge(), "memory_mib": u64::MAX, "memory_free_mib": u64::MAX }],
        "driver_version": huge(), "cuda_version": huge(), "sleap_version": huge(),
        "max_concurrent_jobs": u32::MAX, "slots_free": u32::MAX, "supported_models": many(300),
    });
    if let Value::Object(properties) = &mut properties {
        properties.extend(many(300).into_iter().map(|text| (text.clone(), text.into())));
    }
    properties
}

fn huge() -> String {
    "x".repeat(5000)
}

/// A worker as discovery would show it. `None` only if `peer_id` is invalid.
fn worker(peer_id: &str, properties: Value) -> Option<WorkerFacts> {
    let peer = json!({
        "peer_id": peer_id, "role": "worker", "connected_at": null,
        "metadata": { "tags": ["sleap-rtc"], "properties": properties },
    });
    serde_json::from_value::<PeerInfo>(peer).ok().map(|peer| WorkerFacts::from_peer(&peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_workers() {
        for point in ExtensionPoint::ALL {
            for case in cases(point) {
                let expected = match case.name {
                    "no workers" => 0,
                    "1,000 jobs" => {
                        assert_eq!(case.line.waiting.len(), 1000);
                        1
                    }
                    "nobody is free" => 4,
                    "1,000 workers" => 1000,
                    _ => 1,
                };
                assert_eq!(case.workers.len(), expected, "{}", case.name);
            }
        }
    }
}
