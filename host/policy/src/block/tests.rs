//! A guest that says what it was asked says the same, whichever way its lists came.

use super::*;
use crate::bindings::types::Context;
use crate::component::{Origin, Plugin};
use crate::limits::CallLimits;
use crate::questions::order::OrderLine;
use crate::questions::{Question, Select};
use crate::{ExtensionPoint, LocalTime, facts};

/// What the mirror sees of `question` when it comes from `origin`.
fn mirrored<Q: Question>(question: &Q, origin: Origin) -> String {
    let bytes = std::fs::read(test_guests::dir().join("mirror-guest.wasm")).unwrap();
    let limits = CallLimits { timeout_ms: 60_000, memory_mib: 256 };
    let mirror = Plugin::load("mirror", &bytes, Q::POINT, limits, origin, None).unwrap();
    match mirror.call(question).unwrap() {
        Ok(_) => panic!("a mirror only says what it was asked"),
        Err(seen) => seen,
    }
}

fn assert_same<Q: Question>(question: &Q) {
    let expected = mirrored(question, Origin::File);
    assert_eq!(mirrored(question, Origin::Embedded), expected);
}

/// Each case of a value, under keys of different lengths, so that what follows a text begins anywhere.
fn properties() -> Vec<Property> {
    let values = [
        Value::Text("ä".into()),
        Value::Number(-0.1),
        Value::Integer(i64::MIN),
        Value::Flag(true),
        Value::Json("[1]".into()),
        Value::Text(String::new()),
    ];
    let property = |(number, value)| Property { key: "k".repeat(number), value };
    values.into_iter().enumerate().map(property).collect()
}

fn full_gpu() -> Gpu {
    Gpu {
        model: "A".into(),
        memory_mib: u64::MAX,
        memory_free_mib: Some(1),
        utilization: Some(0.5),
        taken: Some(true),
        properties: properties(),
    }
}

fn bare_gpu() -> Gpu {
    Gpu {
        model: String::new(),
        memory_mib: 2,
        memory_free_mib: None,
        utilization: None,
        taken: None,
        properties: Vec::new(),
    }
}

fn full_worker(status: WorkerStatus) -> Worker {
    Worker {
        peer_id: "peer".into(),
        hostname: Some("host".into()),
        status,
        gpus: vec![full_gpu(), bare_gpu()],
        driver_version: Some("1".into()),
        cuda_version: Some("22".into()),
        sleap_version: Some("333".into()),
        slots: 3,
        slots_free: 2,
        active_jobs: 1,
        job_types: vec![JobType::Training, JobType::Inference, JobType::Other("new".into())],
        models: vec!["m".into(), "mm".into()],
        tags: vec!["tag".into()],
        properties: properties(),
    }
}

fn bare_worker(status: WorkerStatus) -> Worker {
    Worker {
        peer_id: "p".into(),
        hostname: None,
        status,
        gpus: Vec::new(),
        driver_version: None,
        cuda_version: None,
        sleap_version: None,
        slots: 0,
        slots_free: 0,
        active_jobs: 0,
        job_types: Vec::new(),
        models: Vec::new(),
        tags: Vec::new(),
        properties: Vec::new(),
    }
}

fn full_job() -> Job {
    Job {
        job_type: JobType::Other("new".into()),
        model_types: vec!["a".into(), "bb".into()],
        epochs: Some(1),
        batch_size: Some(2),
        frame_count: Some(3),
        image: Some(ImageSize { height: 4, width: 5, channels: 6 }),
        package_bytes: Some(7),
        requirements: Requirements { min_gpu_memory_mib: Some(8), properties: properties() },
        user: Some("ada".into()),
        properties: properties(),
    }
}

fn bare_job() -> Job {
    Job {
        job_type: JobType::Inference,
        model_types: Vec::new(),
        epochs: None,
        batch_size: None,
        frame_count: None,
        image: None,
        package_bytes: None,
        requirements: Requirements { min_gpu_memory_mib: None, properties: Vec::new() },
        user: None,
        properties: Vec::new(),
    }
}

fn context() -> Context {
    facts::context(Some("asker"), &properties(), LocalTime::ORDINARY)
}

#[test]
fn workers_are_the_same_in_one_block() {
    let workers = vec![
        full_worker(WorkerStatus::Available),
        bare_worker(WorkerStatus::Reserved),
        bare_worker(WorkerStatus::Busy),
        full_worker(WorkerStatus::Maintenance),
        full_worker(WorkerStatus::Other("odd".into())),
    ];
    assert_same(&Select { context: context(), job: full_job(), workers });
    assert_same(&Select { context: context(), job: bare_job(), workers: Vec::new() });
}

#[test]
fn jobs_are_the_same_in_one_block() {
    let running = |slot: Option<u32>, job| RunningJob {
        id: "id".into(),
        user: "ben".into(),
        job,
        ran_s: 1,
        left_s: slot.map(u64::from),
        slot,
        properties: properties(),
    };
    let waiting = |takes_s: Option<u64>, job| WaitingJob {
        id: "id".into(),
        user: String::new(),
        job,
        waited_s: 2,
        takes_s,
        fitting_slots: takes_s.map_or(Vec::new(), |_| vec![0, 7]),
        properties: properties(),
    };
    let running = vec![running(Some(3), full_job()), running(None, bare_job())];
    let waiting = vec![waiting(None, bare_job()), waiting(Some(9), full_job())];
    let worker = full_worker(WorkerStatus::Busy);
    assert_same(&OrderLine { context: context(), worker, running, waiting });
}

#[test]
fn every_case_of_the_tools_is_the_same_in_one_block() {
    for case in crate::cases::cases(ExtensionPoint::Selection) {
        let workers = case.workers.iter().map(facts::worker).collect();
        assert_same(&Select { context: context(), job: facts::job(&case.job), workers });
    }
    for case in crate::cases::cases(ExtensionPoint::Queueing) {
        let worker = bare_worker(WorkerStatus::Busy);
        assert_same(&OrderLine::new(context(), worker, &case.line));
    }
}
