//! Workers, jobs and guests for the tests.

use sleap_rtc_policy::{ExtensionPoint, OnFailure, Policies, PolicyConfig};
use sleap_rtc_protocol::capabilities::{Accelerators, Gpu, WorkerFacts};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobDescription, JobType};
use sleap_rtc_protocol::worker::WorkerStatus;
use std::path::PathBuf;

/// The file of a guest that only tests load.
pub fn guest_path(name: &str) -> PathBuf {
    test_guests::dir().join(format!("{name}.wasm"))
}

/// The content of that file.
pub fn guest(name: &str) -> Vec<u8> {
    std::fs::read(guest_path(name)).unwrap()
}

/// An available worker with these GPUs: total memory in MiB.
pub fn worker(name: &str, gpus: &[u64]) -> WorkerFacts {
    let gpu =
        |memory_mib: &u64| Gpu { model: "RTX".into(), memory_mib: *memory_mib, ..Gpu::default() };
    WorkerFacts {
        peer_id: PeerId::new(name).unwrap(),
        hostname: Some(format!("{name}.lab")),
        status: WorkerStatus::Available,
        accelerators: Accelerators {
            gpus: gpus.iter().map(gpu).collect(),
            driver_version: Some("550.54".into()),
            cuda_version: Some("12.4".into()),
        },
        sleap_version: None,
        slots: 1,
        slots_free: 1,
        jobs: Vec::new(),
        job_types: vec![JobType::Training, JobType::Inference],
        models: ["base", "centroid", "topdown"].map(String::from).to_vec(),
        tags: vec!["sleap-rtc".into()],
        speaks_native: true,
        properties: serde_json::Map::new(),
    }
}

/// A training job without requirements.
pub fn training() -> JobDescription {
    JobDescription::unknown(JobType::Training)
}

/// The default plugins.
pub fn defaults() -> Policies {
    Policies::load(&PolicyConfig::new("no/such/folder".into())).unwrap()
}

/// The hostile guest at `point`, with a deed to do.
pub fn hostile(point: ExtensionPoint, deed: &str, on_failure: OnFailure) -> Policies {
    let mut config = PolicyConfig::new(test_guests::dir().to_owned());
    let section = match point {
        ExtensionPoint::Selection => &mut config.selection[0],
        ExtensionPoint::Compatibility => &mut config.compatibility[0],
        ExtensionPoint::Estimate => &mut config.estimate[0],
        ExtensionPoint::Queueing => &mut config.queueing[0],
    };
    section.plugin = Some("hostile-guest".into());
    section.settings.insert("do".into(), deed.into());
    section.on_failure = on_failure;
    Policies::load(&config).unwrap()
}

/// The error for a file with these bytes in `[policy.compatibility]`.
pub fn refused(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("some.wasm"), bytes).unwrap();
    let mut config = PolicyConfig::new(dir.path().to_owned());
    config.compatibility[0].plugin = Some("some".into());
    match Policies::load(&config) {
        Ok(_) => panic!("{} bytes were accepted", bytes.len()),
        Err(error) => error.to_string(),
    }
}
