//! `bench policy`: the default selector as a component, beside the same function in native Rust;
//! and what loading it costs.

use anyhow::{Result, anyhow};
use largest_gpu::bindings::sleap_rtc::policy::types::{
    Gpu, Job, JobType, Property, Requirements, Value, Worker, WorkerStatus,
};
use sleap_rtc::policy::ExtensionPoint;
use sleap_rtc::policy::examine::{self, PluginFile};
use sleap_rtc::policy::{OnFailure, PluginConfig};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

/// `bench policy`.
#[derive(clap::Args)]
pub struct Options {
    /// Measurements of which the median is told.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
}

/// Prints both tables.
pub fn run(options: &Options) -> Result<()> {
    let rounds = options.rounds.max(1);
    // Starts the engine.
    load(None)?;
    let home = tempfile::tempdir()?;
    let cache = home.path().join("cache");
    load(Some(&cache))?;
    let cold = median(rounds, || load(None))?;
    let cached = median(rounds, || load(Some(&cache)))?;
    println!("load: {:.2} ms compiled, {:.2} ms from the cache", ms(cold), ms(cached));

    let config = PluginConfig {
        timeout_ms: 60_000,
        memory_mib: 1024,
        ..PluginConfig::new(OnFailure::Refuse)
    };
    let candidate = PluginFile::embedded(ExtensionPoint::Selection, Some(&cache))?
        .load(ExtensionPoint::Selection, &config)?;
    println!("{:>8} {:>14} {:>12} {:>8}", "workers", "component ms", "native ms", "ratio");
    for count in [0, 10, 100, 1_000, 10_000] {
        let case = examine::room(count);
        let (job, workers) = (job(), (0..count).map(worker).collect::<Vec<_>>());
        let component = median(rounds, || {
            let outcome = candidate.try_case(&case);
            outcome.answer.map(|_| outcome.took).map_err(|why| anyhow!("{count} workers: {why}"))
        })?;
        let native = median(rounds, || {
            let start = Instant::now();
            black_box(largest_gpu::rank(black_box(&job), black_box(&workers)));
            Ok(start.elapsed())
        })?;
        let ratio = component.as_secs_f64() / native.as_secs_f64();
        println!("{count:>8} {:>14.3} {:>12.4} {ratio:>8.1}", ms(component), ms(native));
    }
    Ok(())
}

/// Compiles or finds the component, and tries it.
fn load(cache: Option<&Path>) -> Result<Duration> {
    let config = PluginConfig::new(OnFailure::Refuse);
    let start = Instant::now();
    PluginFile::embedded(ExtensionPoint::Selection, cache)?
        .load(ExtensionPoint::Selection, &config)?;
    Ok(start.elapsed())
}

fn median(rounds: usize, mut measure: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let mut times = (0..rounds).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    times.sort();
    Ok(times[times.len() / 2])
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The job of [`examine::room`], as the plugin sees it.
fn job() -> Job {
    Job {
        job_type: JobType::Training,
        model_types: vec!["centroid".into(), "centered_instance".into()],
        epochs: Some(200),
        batch_size: Some(4),
        frame_count: Some(1500),
        image: None,
        package_bytes: Some(250_000_000),
        requirements: Requirements { min_gpu_memory_mib: Some(8000), properties: vec![] },
        user: Some("ada".into()),
        properties: vec![],
    }
}

/// A worker of [`examine::room`], as the plugin sees it.
fn worker(number: u64) -> Worker {
    let busy = number % 7 == 3;
    let gpu = |model: &str, memory_mib, memory_free_mib, utilization| Gpu {
        model: model.into(),
        memory_mib,
        memory_free_mib,
        utilization,
        taken: (!busy).then_some(false),
        properties: vec![],
    };
    let property = |key: &str, value| Property { key: key.into(), value };
    Worker {
        peer_id: format!("worker-{number}"),
        hostname: Some(format!("gpu{number}.lab")),
        status: if busy { WorkerStatus::Busy } else { WorkerStatus::Available },
        gpus: vec![
            gpu("NVIDIA RTX A5000", 8192 + 1024 * (number % 64), Some(7000), Some(0.25)),
            gpu("NVIDIA T400", 4096, None, None),
        ],
        driver_version: Some("550.54".into()),
        cuda_version: Some("12.4".into()),
        sleap_version: Some("1.4.1".into()),
        slots: 1,
        slots_free: u32::from(!busy),
        active_jobs: u32::from(busy),
        job_types: vec![JobType::Training, JobType::Inference],
        models: ["base", "centroid", "topdown"].map(String::from).to_vec(),
        tags: vec!["sleap-rtc".into()],
        properties: vec![
            property("owner", Value::Text("ada".into())),
            property("racks", Value::Json("[1,2]".into())),
            property("used_hours", Value::Number(12.5)),
        ],
    }
}
