//! The capabilities of a worker, and their form in its signaling metadata.

use crate::ids::PeerId;
use crate::job::JobType;
use crate::progress::RunningJob;
use crate::queue_report::QueueRow;
use crate::signaling::PeerInfo;
use crate::worker::WorkerStatus;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One GPU. Values that were not measured are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// Product name, such as `NVIDIA RTX A5000`.
    pub model: String,
    /// Total memory in MiB.
    pub memory_mib: u64,
    /// Memory that no process uses, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free_mib: Option<u64>,
    /// Share of the last sample period in which a kernel ran, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<f64>,
    /// Memory in use by programs other than this worker's jobs, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_others_mib: Option<u64>,
    /// Whether a job of this worker uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<bool>,
}

/// A machine's accelerators and its driver.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Accelerators {
    /// All GPUs, in the driver's order.
    #[serde(default)]
    pub gpus: Vec<Gpu>,
    /// The driver's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// The newest CUDA version that the driver supports, such as `12.4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_version: Option<String>,
}

impl Accelerators {
    /// The GPU with the most memory. The property `gpu_memory_mb` is its memory.
    pub fn largest(&self) -> Option<&Gpu> {
        self.gpus.iter().max_by_key(|gpu| gpu.memory_mib)
    }
}

/// What a worker reports about itself when it registers.
#[derive(Debug, Clone, PartialEq)]
pub struct Capabilities {
    /// GPUs and driver.
    pub accelerators: Accelerators,
    /// Host name, for people.
    pub hostname: String,
    /// The version of sleap-nn or SLEAP on the worker, once it is known.
    pub sleap_version: Option<String>,
    /// How many jobs may run at once.
    pub slots: u32,
    /// The model types that it trains: the Python worker's three, where `base` means any single model.
    pub supported_models: Vec<String>,
    /// The job types that it accepts.
    pub supported_job_types: Vec<JobType>,
    /// Properties that its operator sets. None of [`WORKER_PROPERTIES`].
    pub own: Map<String, Value>,
}

/// The property that lists the problems of the worker's machine, as sentences. The list is empty once
/// they are solved.
pub const PROBLEMS: &str = "problems";

/// The property with the same sentences as [`Problems`](crate::problems::Problems).
pub const PROBLEMS_BY_PART: &str = "problems-by-part";

/// The properties that a worker sets by itself. Its operator's own properties have other names.
pub const WORKER_PROPERTIES: [&str; 23] = [
    "gpu_memory_mb",
    "gpu_model",
    "sleap_version",
    "cuda_version",
    "hostname",
    "status",
    "max_concurrent_jobs",
    "supported_models",
    "supported_job_types",
    "gpus",
    "driver_version",
    "slots_free",
    "protocols",
    "jobs",
    USED_BY_USER,
    QUEUE,
    QUEUE_LENGTH,
    EXPECTED_START,
    PROBLEMS,
    PROBLEMS_BY_PART,
    MOUNTS,
    ENDPOINT,
    SANDBOX,
];

/// The property that lists the labels of the worker's mounts, if it has any.
pub const MOUNTS: &str = "mounts";

/// The property with the peer's iroh endpoint: `{"id": …}`.
pub const ENDPOINT: &str = "iroh";

/// The property that names the sandbox of the worker's jobs: `landlock` (`landlock-disk` or
/// `landlock-home` if its trainer must read more of the machine), `strict`, `none` or `off`.
pub const SANDBOX: &str = "sandbox";

/// The property with the seconds for which each user's jobs have occupied a slot of the worker in
/// the last seven days: `{"ada": 5400}`.
pub const USED_BY_USER: &str = "used_s_by_user";

/// The property that lists the jobs that wait for a slot, in the order in which they start: a list of
/// [`QueueRow`]. A worker without it has no queue.
pub const QUEUE: &str = "queue";

/// The property that says how many jobs wait for a slot.
pub const QUEUE_LENGTH: &str = "queue-length";

/// The property that says in how many seconds a further job would start. Null if that is not known.
pub const EXPECTED_START: &str = "expected-start-s";

/// Tags of a worker, by which Python clients find it.
pub const WORKER_TAGS: [&str; 3] = ["sleap-rtc", "training-worker", "inference-worker"];
/// Tags of a client.
pub const CLIENT_TAGS: [&str; 2] = ["sleap-rtc", "training-client"];

impl Capabilities {
    /// The `properties` of a worker's metadata: the Python worker's keys, then ours
    /// (`gpus`, `driver_version`, `slots_free`, `protocols`), and its operator's own.
    pub fn properties(&self, status: WorkerStatus, slots_free: u32) -> Map<String, Value> {
        let largest = self.accelerators.largest();
        let job_types: Vec<&str> = self.supported_job_types.iter().map(|t| t.as_str()).collect();
        let properties = json!({
            "gpu_memory_mb": largest.map_or(0, |gpu| gpu.memory_mib),
            "gpu_model": largest.map_or("CPU", |gpu| gpu.model.as_str()),
            "sleap_version": self.sleap_version.as_deref().unwrap_or("unknown"),
            "cuda_version": self.accelerators.cuda_version.as_deref().unwrap_or("N/A"),
            "hostname": self.hostname,
            "status": status.as_str(),
            "max_concurrent_jobs": self.slots,
            "supported_models": self.supported_models,
            "supported_job_types": job_types,
            "gpus": self.accelerators.gpus,
            "driver_version": self.accelerators.driver_version,
            "slots_free": slots_free,
            "protocols": [crate::DIALECT],
        });
        let mut all = self.own.clone();
        if let Value::Object(map) = properties {
            all.extend(map);
        }
        all
    }
}

/// A worker as policies and people see it, read from what it reports in discovery.
///
/// Every field is the worker's own claim. A value of the wrong type, such as a text in place of a number,
/// counts as absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerFacts {
    /// The worker.
    pub peer_id: PeerId,
    /// Host name.
    pub hostname: Option<String>,
    /// Whether it accepts jobs now.
    pub status: WorkerStatus,
    /// GPUs and driver. A Python worker reports at most one GPU.
    pub accelerators: Accelerators,
    /// Version of sleap-nn or SLEAP.
    pub sleap_version: Option<String>,
    /// How many jobs may run at once.
    pub slots: u32,
    /// How many slots are free.
    pub slots_free: u32,
    /// The running jobs that it reports.
    pub jobs: Vec<RunningJob>,
    /// The job types that it accepts.
    pub job_types: Vec<JobType>,
    /// The model types that it trains. Empty means any.
    pub models: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it speaks `sleap-rtc/1`.
    pub speaks_native: bool,
    /// All other properties.
    pub properties: Map<String, Value>,
}

impl WorkerFacts {
    /// Reads a peer's metadata. Cannot fail, because malformed values count as absent.
    pub fn from_peer(peer: &PeerInfo) -> Self {
        let mut rest = peer.metadata.properties.clone();
        rest.remove(ENDPOINT);
        let hostname = text(rest.remove("hostname"));
        let status = read(rest.remove("status")).unwrap_or(WorkerStatus::Unknown);
        let python = python_gpu(rest.remove("gpu_model"), rest.remove("gpu_memory_mb"));
        let gpus: Vec<Gpu> = read(rest.remove("gpus")).unwrap_or_default();
        let slots = read(rest.remove("max_concurrent_jobs")).unwrap_or(1);
        let one_if_available = u32::from(status == WorkerStatus::Available);
        Self {
            peer_id: peer.peer_id.clone(),
            hostname,
            status,
            accelerators: Accelerators {
                gpus: if gpus.is_empty() { python.into_iter().collect() } else { gpus },
                driver_version: text(rest.remove("driver_version")),
                cuda_version: text(rest.remove("cuda_version")),
            },
            sleap_version: text(rest.remove("sleap_version")),
            slots,
            slots_free: read(rest.remove("slots_free")).unwrap_or(one_if_available),
            jobs: read(rest.remove("jobs")).unwrap_or_default(),
            job_types: read(rest.remove("supported_job_types"))
                .unwrap_or_else(|| vec![JobType::Training, JobType::Inference]),
            models: read(rest.remove("supported_models")).unwrap_or_default(),
            tags: peer.metadata.tags.clone(),
            speaks_native: read::<Vec<String>>(rest.remove("protocols"))
                .is_some_and(|names| names.iter().any(|name| name == crate::DIALECT)),
            properties: rest,
        }
    }
}

impl WorkerFacts {
    /// What people call the worker: its host's name, or else its id. A peer's own text.
    pub fn name(&self) -> &str {
        self.hostname.as_deref().unwrap_or(self.peer_id.as_str())
    }

    /// The properties that change while a worker runs.
    pub fn changing(&self) -> Map<String, Value> {
        let largest = self.accelerators.largest();
        let properties = json!({
            "status": self.status.as_str(),
            "max_concurrent_jobs": self.slots,
            "slots_free": self.slots_free,
            "jobs": self.jobs,
            "gpus": self.accelerators.gpus,
            "gpu_memory_mb": largest.map_or(0, |gpu| gpu.memory_mib),
            "gpu_model": largest.map_or("CPU", |gpu| gpu.model.as_str()),
            "cuda_version": self.accelerators.cuda_version.as_deref().unwrap_or("N/A"),
            "driver_version": self.accelerators.driver_version,
            "sleap_version": self.sleap_version.as_deref().unwrap_or("unknown"),
        });
        let Value::Object(mut changing) = properties else { return Map::new() };
        let line = [QUEUE, QUEUE_LENGTH, EXPECTED_START];
        let others = [USED_BY_USER, PROBLEMS, PROBLEMS_BY_PART, SANDBOX];
        for key in line.into_iter().chain(others) {
            if let Some((key, value)) = self.properties.get_key_value(key) {
                changing.insert(key.clone(), value.clone());
            }
        }
        changing
    }

    /// The jobs that wait for a slot, in the order in which they start. `None` if no job waits there ever.
    pub fn queue(&self) -> Option<Vec<QueueRow>> {
        self.reported(QUEUE)
    }

    /// In how many seconds a further job would start, if that is known.
    pub fn expected_start_s(&self) -> Option<u64> {
        self.reported(EXPECTED_START)
    }

    /// The same worker with a free slot.
    #[must_use]
    pub fn as_if_free(&self) -> Self {
        let slots_free = self.slots_free.max(1);
        Self { status: WorkerStatus::Available, slots_free, ..self.clone() }
    }

    /// Whether the worker has mounts on which it may see videos.
    pub fn has_mounts(&self) -> bool {
        self.properties.get(MOUNTS).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    }

    /// A property, if the worker reports it and it makes sense.
    pub(crate) fn reported<T: serde::de::DeserializeOwned>(&self, key: &str) -> Option<T> {
        read(self.properties.get(key).cloned())
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Option<Value>) -> Option<T> {
    serde_json::from_value(value?).ok()
}

/// A text. Python workers write `unknown` and `N/A` for values that they do not know.
fn text(value: Option<Value>) -> Option<String> {
    read::<String>(value).filter(|text| !matches!(text.as_str(), "" | "unknown" | "N/A"))
}

fn python_gpu(model: Option<Value>, memory: Option<Value>) -> Option<Gpu> {
    let memory_mib = memory?.as_f64().filter(|mib| *mib >= 1.0)? as u64;
    let model = text(model).unwrap_or_else(|| "GPU".into());
    Some(Gpu { model, memory_mib, ..Gpu::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signaling::{Metadata, Role};

    fn peer(properties: Value) -> PeerInfo {
        let Value::Object(properties) = properties else { panic!("not an object") };
        PeerInfo {
            peer_id: PeerId::new("w").unwrap(),
            role: Role::Worker,
            metadata: Metadata { tags: vec![], properties },
            connected_at: Value::Null,
        }
    }

    #[test]
    fn a_client_reads_what_a_worker_reports() {
        let reported = Capabilities {
            accelerators: Accelerators {
                gpus: vec![Gpu { model: "A".into(), memory_mib: 8192, ..Gpu::default() }],
                driver_version: Some("550".into()),
                cuda_version: Some("12.4".into()),
            },
            hostname: "gpu1".into(),
            sleap_version: None,
            slots: 2,
            supported_models: vec!["base".into()],
            supported_job_types: vec![JobType::Training],
            own: Map::from_iter([("owner".to_owned(), json!("ada"))]),
        };
        let properties = reported.properties(WorkerStatus::Available, 1);
        let facts = WorkerFacts::from_peer(&peer(Value::Object(properties.clone())));
        assert_eq!(facts.accelerators, reported.accelerators);
        assert_eq!((facts.slots, facts.slots_free, facts.speaks_native), (2, 1, true));
        assert_eq!(facts.sleap_version, None);
        assert_eq!(facts.job_types, [JobType::Training]);
        assert_eq!(facts.properties, reported.own);
        let changing = facts.changing();
        let all = properties.keys().chain(changing.keys()).filter(|key| *key != "owner");
        for key in all {
            assert!(WORKER_PROPERTIES.contains(&key.as_str()), "{key}");
        }
    }

    #[test]
    fn a_python_worker_and_nonsense_are_read_too() {
        let facts = WorkerFacts::from_peer(&peer(json!({
            "gpu_memory_mb": 16384, "gpu_model": "RTX", "status": "available",
        })));
        assert_eq!(facts.accelerators.largest().unwrap().memory_mib, 16384);
        assert_eq!((facts.slots_free, facts.speaks_native), (1, false));
        let facts = WorkerFacts::from_peer(&peer(json!({
            "gpu_memory_mb": "lots", "gpus": 7, "status": [], "slots_free": -1,
        })));
        assert!(facts.accelerators.gpus.is_empty());
        assert_eq!(facts.status, WorkerStatus::Unknown);
    }
}
