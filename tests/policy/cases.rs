//! `cases.toml`: the answers that every implementation of the default policies must give.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobDescription, JobType};
use sleap_rtc_protocol::signaling::{Metadata, PeerInfo, Role};
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    pub selection: Vec<SelectionCase>,
    pub compatibility: Vec<CompatibilityCase>,
    pub estimate: Vec<EstimateCase>,
    pub queueing: Vec<QueueingCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionCase {
    pub name: String,
    #[serde(default = "training")]
    pub job: JobDescription,
    pub workers: Vec<Worker>,
    pub ranked: Vec<String>,
    #[serde(default)]
    pub out: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompatibilityCase {
    pub name: String,
    #[serde(default = "training")]
    pub job: JobDescription,
    pub worker: Worker,
    pub no: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EstimateCase {
    pub name: String,
    pub job: JobDescription,
    pub minutes: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueingCase {
    pub name: String,
    pub slots: u32,
    pub running: Vec<String>,
    pub waiting: Vec<String>,
    pub order: Vec<usize>,
}

fn training() -> JobDescription {
    JobDescription::unknown(JobType::Training)
}

/// A worker as the room knows it.
#[derive(Deserialize)]
#[serde(from = "Map<String, Value>")]
pub struct Worker(pub WorkerFacts);

impl From<Map<String, Value>> for Worker {
    fn from(said: Map<String, Value>) -> Self {
        let assumed = json!({
            "status": "available", "max_concurrent_jobs": 1, "slots_free": 1,
            "supported_job_types": ["training", "inference"],
            "supported_models": ["base", "centroid", "topdown"],
        });
        let mut properties = assumed.as_object().unwrap().clone();
        properties.extend(said);
        let name = properties.remove("name").unwrap_or_else(|| json!("w"));
        if let Some(Value::Array(gpus)) = properties.get_mut("gpus") {
            for gpu in gpus {
                if gpu.is_u64() {
                    *gpu = json!({ "memory_mib": gpu });
                }
                gpu["model"] = json!("RTX");
            }
        }
        Self(WorkerFacts::from_peer(&PeerInfo {
            peer_id: PeerId::new(name.as_str().unwrap()).unwrap(),
            role: Role::Worker,
            metadata: Metadata { tags: vec![], properties },
            connected_at: Value::Null,
        }))
    }
}

pub fn cases() -> Cases {
    toml::from_str(include_str!("cases.toml")).unwrap()
}
