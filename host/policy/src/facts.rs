//! Converts the host's types to the records of the WIT package.
//!
//! Workers can report texts and lists of any length. These are shortened here, so that one worker
//! cannot fill the memory of a plugin that ranks a thousand of them.

use super::bindings::types::{
    Context, Gpu, ImageSize, Job, JobType, Property, Requirements, Value, Worker, WorkerStatus,
};
use super::local_time::LocalTime;
use serde_json::Value as Json;
use sleap_rtc_protocol::capabilities::{self, WorkerFacts};
use sleap_rtc_protocol::job::{self, JobDescription};
use sleap_rtc_protocol::worker;
use sleap_rtc_protocol::workload::{NeededMemory, Workload};

const TEXT_BYTES: usize = 4096;
const LIST_ITEMS: usize = 256;
/// The longest description of a job's runs. Each takes about 250 bytes.
const RUNS_BYTES: usize = 16 * 1024;

/// The first argument of a call.
pub(crate) fn context(asker: Option<&str>, settings: &[Property], at: LocalTime) -> Context {
    let (asker, settings) = (asker.map(text), settings.to_vec());
    Context { asker, settings, properties: at.properties() }
}

/// A plugin's settings. They come from the local user, so nothing is shortened.
pub(crate) fn settings(table: &toml::Table) -> Vec<Property> {
    let property = |(key, value): (&String, &toml::Value)| Property {
        key: key.clone(),
        value: match value {
            toml::Value::String(text) => Value::Text(text.clone()),
            toml::Value::Integer(integer) => Value::Integer(*integer),
            toml::Value::Float(number) if number.is_finite() => Value::Number(*number),
            toml::Value::Float(number) => Value::Text(number.to_string()),
            toml::Value::Boolean(flag) => Value::Flag(*flag),
            toml::Value::Datetime(time) => Value::Text(time.to_string()),
            toml::Value::Array(_) | toml::Value::Table(_) => Value::Json(json(value).to_string()),
        },
    };
    table.iter().map(property).collect()
}

/// TOML as JSON. Values without a JSON form become text.
fn json(value: &toml::Value) -> Json {
    match value {
        toml::Value::String(text) => Json::from(text.as_str()),
        toml::Value::Integer(integer) => Json::from(*integer),
        toml::Value::Float(number) if number.is_finite() => Json::from(*number),
        toml::Value::Float(number) => Json::from(number.to_string()),
        toml::Value::Boolean(flag) => Json::from(*flag),
        toml::Value::Datetime(time) => Json::from(time.to_string()),
        toml::Value::Array(items) => items.iter().map(json).collect(),
        toml::Value::Table(table) => {
            table.iter().map(|(key, value)| (key.clone(), json(value))).collect()
        }
    }
}

/// A job's description.
pub(crate) fn job(description: &JobDescription) -> Job {
    Job { properties: runs(&description.runs).into_iter().collect(), ..job_alone(description) }
}

/// A job's description without its runs.
pub(crate) fn job_alone(job: &JobDescription) -> Job {
    Job {
        job_type: job_type(job.job_type),
        model_types: texts(&job.model_types),
        epochs: job.epochs,
        batch_size: job.batch_size,
        frame_count: job.frame_count,
        image: job.image.map(|image| ImageSize {
            height: image.height,
            width: image.width,
            channels: image.channels,
        }),
        package_bytes: job.package_bytes,
        requirements: Requirements {
            min_gpu_memory_mib: job.requirements.min_gpu_memory_mib,
            properties: Vec::new(),
        },
        user: job.user.as_deref().map(text),
        properties: Vec::new(),
    }
}

/// The GPU memory that a job needs.
pub(crate) fn needed_memory(need: &NeededMemory) -> [Property; 3] {
    let property = |key: &str, value| Property { key: key.into(), value };
    let integer = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    [
        property("gpu-memory-needed-mib", integer(need.mib)),
        property("gpu-memory-per-sample-mib", Value::Number(need.mib_per_sample)),
        property("gpu-memory-batch-size", Value::Integer(need.batch_size.into())),
    ]
}

/// The runs of a job: all of them or none, because a part would pass for the whole.
fn runs(runs: &[Workload]) -> Option<Property> {
    let json = serde_json::to_string(runs).ok().filter(|json| json.len() <= RUNS_BYTES)?;
    (!runs.is_empty()).then(|| Property { key: "runs".into(), value: Value::Json(json) })
}

/// A worker's description.
pub(crate) fn worker(facts: &WorkerFacts) -> Worker {
    let driver = &facts.accelerators;
    let active_jobs = facts.slots.saturating_sub(facts.slots_free);
    // If all slots are free, no job holds a GPU. Otherwise only the worker knows which ones are
    // held.
    let free = (active_jobs == 0).then_some(false);
    Worker {
        peer_id: facts.peer_id.as_str().to_owned(),
        hostname: facts.hostname.as_deref().map(text),
        status: status(facts.status),
        gpus: driver.gpus.iter().take(LIST_ITEMS).map(|found| gpu(found, free)).collect(),
        driver_version: driver.driver_version.as_deref().map(text),
        cuda_version: driver.cuda_version.as_deref().map(text),
        sleap_version: facts.sleap_version.as_deref().map(text),
        slots: facts.slots,
        slots_free: facts.slots_free.min(facts.slots),
        active_jobs,
        job_types: facts.job_types.iter().take(LIST_ITEMS).copied().map(job_type).collect(),
        models: texts(&facts.models),
        tags: texts(&facts.tags),
        properties: facts.properties.iter().take(LIST_ITEMS).filter_map(property).collect(),
    }
}

fn gpu(gpu: &capabilities::Gpu, free: Option<bool>) -> Gpu {
    Gpu {
        model: text(&gpu.model),
        memory_mib: gpu.memory_mib,
        memory_free_mib: gpu.memory_free_mib,
        utilization: gpu.utilization.filter(|share| (0.0..=1.0).contains(share)),
        taken: gpu.taken.or(free),
        properties: gpu.memory_others_mib.into_iter().filter_map(memory_others).collect(),
    }
}

fn memory_others(mib: u64) -> Option<Property> {
    let value = Value::Integer(i64::try_from(mib).ok()?);
    Some(Property { key: "memory-others-mib".into(), value })
}

fn property((key, value): (&String, &Json)) -> Option<Property> {
    let value = match value {
        Json::Null => return None,
        Json::Bool(flag) => Value::Flag(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Number(number.as_f64()?),
        },
        Json::String(said) => Value::Text(text(said)),
        // Truncated JSON is invalid, so a value that is too long is left out.
        Json::Array(_) | Json::Object(_) => {
            Value::Json(Some(value.to_string()).filter(|json| json.len() <= TEXT_BYTES)?)
        }
    };
    Some(Property { key: text(key), value })
}

fn status(status: worker::WorkerStatus) -> WorkerStatus {
    match status {
        worker::WorkerStatus::Available => WorkerStatus::Available,
        worker::WorkerStatus::Reserved => WorkerStatus::Reserved,
        worker::WorkerStatus::Busy => WorkerStatus::Busy,
        worker::WorkerStatus::Maintenance => WorkerStatus::Maintenance,
        worker::WorkerStatus::Unknown => WorkerStatus::Other("unknown".into()),
    }
}

fn job_type(job_type: job::JobType) -> JobType {
    match job_type {
        job::JobType::Training => JobType::Training,
        job::JobType::Inference => JobType::Inference,
    }
}

/// The word for a kind of job.
pub(crate) fn word(job_type: &JobType) -> &str {
    match job_type {
        JobType::Training => "training",
        JobType::Inference => "inference",
        JobType::Other(word) => word,
    }
}

fn texts(list: &[String]) -> Vec<String> {
    list.iter().take(LIST_ITEMS).map(|item| text(item)).collect()
}

/// The beginning of a text.
pub(crate) fn text(said: &str) -> String {
    said[..said.floor_char_boundary(TEXT_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::signaling::PeerInfo;

    #[test]
    fn settings_keep_their_types() {
        let table: toml::Table =
            "a = 'x'\nb = 3\nc = 1.5\nd = true\ne = [1, 'y']\nf = nan\ng = { h = 2026-01-02 }"
                .parse()
                .unwrap();
        let values: Vec<_> =
            settings(&table).into_iter().map(|p| (p.key, format!("{:?}", p.value))).collect();
        let expected = [
            ("a", r#"Value::Text("x")"#),
            ("b", "Value::Integer(3)"),
            ("c", "Value::Number(1.5)"),
            ("d", "Value::Flag(true)"),
            ("e", r#"Value::Json("[1,\"y\"]")"#),
            ("f", r#"Value::Text("NaN")"#),
            ("g", r#"Value::Json("{\"h\":\"2026-01-02\"}")"#),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(values, expected);
    }

    #[test]
    fn plugins_see_how_long_a_queue_is() {
        let peer = |start: Json| {
            let properties = serde_json::json!({ "queue-length": 2, "expected-start-s": start });
            let peer = serde_json::json!({
                "peer_id": "w", "role": "worker", "connected_at": null,
                "metadata": { "tags": [], "properties": properties },
            });
            let peer: PeerInfo = serde_json::from_value(peer).unwrap();
            worker(&WorkerFacts::from_peer(&peer)).properties
        };
        let told = peer(540.into());
        let told: Vec<_> =
            told.iter().map(|p| (p.key.as_str(), format!("{:?}", p.value))).collect();
        let expected =
            [("expected-start-s", "Value::Integer(540)"), ("queue-length", "Value::Integer(2)")];
        assert_eq!(told, expected.map(|(key, value)| (key, value.to_owned())));
        assert_eq!(peer(Json::Null).len(), 1);
    }

    #[test]
    fn long_texts_of_workers_are_truncated() {
        let long = "ä".repeat(10_000);
        let kept = property((&long, &Json::from(long.as_str()))).unwrap();
        assert_eq!(kept.key.len(), TEXT_BYTES);
        assert!(matches!(kept.value, Value::Text(text) if text.len() == TEXT_BYTES));
        assert!(property((&long, &Json::from(vec![long.clone()]))).is_none());
    }
}
