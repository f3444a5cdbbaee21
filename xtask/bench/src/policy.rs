//! `bench policy`: compares the default selector as a component with the same function in native Rust, and
//! measures how long it takes to load, and how long the program with a custom policy takes to start.

use anyhow::{Context, Result, anyhow, ensure};
use largest_gpu::bindings::sleap_rtc::policy::types::{
    Gpu, Job, JobType, Property, Requirements, Value, Worker, WorkerStatus,
};
use sleap_rtc_policy::ExtensionPoint;
use sleap_rtc_policy::examine::{self, Candidate, Case, PluginFile};
use sleap_rtc_policy::simulate::generate::{Recipe, generate};
use sleap_rtc_policy::simulate::simulate;
use sleap_rtc_policy::{OnFailure, PluginConfig, Policies, PolicyConfig};
use sleap_rtc_protocol::capabilities::Accelerators;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// `bench policy`.
#[derive(clap::Args)]
pub struct PolicyOptions {
    /// Number of measurements, of which the median and the best are shown.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
}

/// Prints the tables.
pub fn run(options: &PolicyOptions) -> Result<()> {
    let rounds = options.rounds.max(1);
    let home = tempfile::tempdir()?;
    let cache = home.path().join("cache");
    loading(rounds, &cache)?;
    calls(rounds, home.path(), &cache)?;
    texts(rounds, &cache)?;
    queue(rounds, &cache)?;
    simulation(&cache)?;
    start_up(rounds, home.path())
}

/// Enough for any call on a busy machine.
fn patient() -> PluginConfig {
    PluginConfig { timeout_ms: 60_000, memory_mib: 1024, ..PluginConfig::new(OnFailure::Refuse) }
}

/// Prints what the texts and lists of a full record cost: the selector with 1,000 full records, and with
/// 1,000 that have the same form and nothing in it but a name.
fn texts(rounds: usize, cache: &Path) -> Result<()> {
    let candidate = PluginFile::embedded(ExtensionPoint::Selection, Some(cache))?
        .load(ExtensionPoint::Selection, &patient())?;
    let full = examine::room(1_000);
    let mut bare = full.clone();
    for worker in &mut bare.workers {
        worker.hostname = None;
        worker.accelerators = Accelerators::default();
        worker.sleap_version = None;
        worker.job_types.clear();
        worker.models.clear();
        worker.tags.clear();
        worker.properties.clear();
    }
    let best = |case: &Case| {
        Times::of(rounds, || {
            let outcome = candidate.try_case(case);
            outcome.answer.map(|_| outcome.took).map_err(|why| anyhow!("{why}"))
        })
    };
    println!("{:<44} {:>10} {:>10}", "the default selector, 1,000 workers", "median ms", "best ms");
    tell("full records", best(&full)?);
    tell("records with a name alone", best(&bare)?);
    Ok(())
}

/// Prints how long the default queueing plugin takes for 1,000 jobs that wait.
fn queue(rounds: usize, cache: &Path) -> Result<()> {
    let candidate = PluginFile::embedded(ExtensionPoint::Queueing, Some(cache))?
        .load(ExtensionPoint::Queueing, &patient())?;
    let case = examine::queue(1_000);
    let times = Times::of(rounds, || {
        let outcome = candidate.try_case(&case);
        outcome.answer.map(|_| outcome.took).map_err(|why| anyhow!("{why}"))
    })?;
    tell("the default order of 1,000 waiting jobs", times);
    Ok(())
}

/// Prints how long the simulation of a busy room takes.
fn simulation(cache: &Path) -> Result<()> {
    let recipe = Recipe {
        seed: 1,
        jobs: 10_000,
        users: 20,
        workers: 50,
        per_hour: 120.0,
        tracking: 0.3,
        deadline_week: true,
    };
    let trace = generate(&recipe, None);
    let defaults = PolicyConfig { cache: Some(cache.into()), ..PolicyConfig::new(cache.into()) };
    let times = Times::of(3, || {
        let start = Instant::now();
        black_box(simulate(&trace, &defaults)?);
        Ok(start.elapsed())
    })?;
    tell("10,000 simulated jobs on 50 workers", times);
    Ok(())
}

/// Prints how long the selector takes to load, and leaves it in `cache`.
fn loading(rounds: usize, cache: &Path) -> Result<()> {
    // Starts the engine first.
    load(None)?;
    load(Some(cache))?;
    println!("{:<44} {:>10} {:>10}", "loading the default selector", "median ms", "best ms");
    tell("compiled", Times::of(rounds, || load(None))?);
    tell("from the cache", Times::of(rounds, || load(Some(cache)))?);
    Ok(())
}

/// Prints how long calls take: to the component, to the same component as a lab's own plugin, with the
/// conversions of a client, and to the native function.
fn calls(rounds: usize, home: &Path, cache: &Path) -> Result<()> {
    let embedded = PluginFile::embedded(ExtensionPoint::Selection, Some(cache))?;
    let candidate = embedded.load(ExtensionPoint::Selection, &patient())?;
    let file = home.join("own.wasm");
    fs::write(&file, embedded.bytes())?;
    let own =
        PluginFile::open_cached(&file, Some(cache))?.load(ExtensionPoint::Selection, &patient())?;
    let defaults = PolicyConfig { cache: Some(cache.into()), ..PolicyConfig::new(cache.into()) };
    let policies = Policies::load(&defaults)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let columns = [
        "workers",
        "component ms",
        "best",
        "lab's own ms",
        "best",
        "question ms",
        "best",
        "native ms",
        "ratio",
    ];
    println!("{}", columns.map(|column| format!("{column:>13}")).concat());
    for count in [0, 10, 100, 1_000, 10_000] {
        let case = examine::room(count);
        let (job, workers) = (job(), (0..count).map(worker).collect::<Vec<_>>());
        let call = |plugin: &Candidate| {
            let outcome = plugin.try_case(&case);
            outcome.answer.map(|_| outcome.took).map_err(|why| anyhow!("{count} workers: {why}"))
        };
        let component = Times::of(rounds, || call(&candidate))?;
        let own = Times::of(rounds, || call(&own))?;
        let question = Times::of(rounds, || {
            let start = Instant::now();
            let selection = runtime.block_on(policies.select(&case.job, &case.workers));
            ensure!(selection.notice.is_none(), "{:?}", selection.notice);
            Ok(start.elapsed())
        })?;
        let native = Times::of(rounds, || {
            let start = Instant::now();
            black_box(largest_gpu::rank(black_box(&job), black_box(&workers)));
            Ok(start.elapsed())
        })?;
        let times = [&component, &own, &question].map(|times| [times.median, times.best]).concat();
        let times: String = times.iter().map(|time| format!("{:>13.3}", ms(*time))).collect();
        let ratio = component.best.as_secs_f64() / native.best.as_secs_f64();
        println!("{count:>13}{times}{:>13.4}{ratio:>13.1}", ms(native.best));
    }
    Ok(())
}

/// Prints how long the real program takes to start, with `home` as its home.
fn start_up(rounds: usize, home: &Path) -> Result<()> {
    let plugin = home.join("lab.wasm");
    fs::write(&plugin, PluginFile::embedded(ExtensionPoint::Selection, None)?.bytes())?;
    let config = home.join("policy.toml");
    fs::write(&config, format!("[policy.selection]\nplugin = {plugin:?}\n"))?;
    let (plugin, config) = (plugin.to_string_lossy(), config.to_string_lossy());
    // No server listens there: the client loads its policies, fails to connect, and ends with code
    // 3.
    let job = ["why", "--room-id", "r", "--token", "t", "--signaling", "ws://127.0.0.1:9"];
    let with_policy = [&job[..], &["--config", &config]].concat();
    let validate = ["plugin", "validate", &plugin];
    let cold = || {
        fs::remove_dir_all(home.join(".cache"))?;
        start(home, &with_policy, 3)
    };
    println!("{:<44} {:>10} {:>10}", "the program, from start to end", "median ms", "best ms");
    tell("--version", Times::of(rounds, || start(home, &["--version"], 0))?);
    tell("plugin validate, which compiles", Times::of(rounds, || start(home, &validate, 0))?);
    tell("client without a server", Times::of(rounds, || start(home, &job, 3))?);
    start(home, &with_policy, 3)?;
    tell("the same, own policy, compiled", Times::of(rounds, cold)?);
    tell(
        "the same, own policy, from the cache",
        Times::of(rounds, || start(home, &with_policy, 3))?,
    );
    Ok(())
}

/// Runs the real program, which must end with `code`.
fn start(home: &Path, arguments: &[&str], code: i32) -> Result<Duration> {
    let program = std::env::current_exe()?.with_file_name("sleap-rtc");
    let mut command = Command::new(&program);
    command.args(arguments).current_dir(home).env_clear().env("HOME", home);
    let start = Instant::now();
    let output = command.output().with_context(|| program.display().to_string())?;
    let took = start.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{arguments:?}: {}: {said}", output.status);
    Ok(took)
}

/// Compiles the component, or loads it from the cache, and calls it.
fn load(cache: Option<&Path>) -> Result<Duration> {
    let config = PluginConfig::new(OnFailure::Refuse);
    let start = Instant::now();
    PluginFile::embedded(ExtensionPoint::Selection, cache)?
        .load(ExtensionPoint::Selection, &config)?;
    Ok(start.elapsed())
}

/// Statistics of several measurements.
struct Times {
    median: Duration,
    best: Duration,
}

impl Times {
    fn of(rounds: usize, mut measure: impl FnMut() -> Result<Duration>) -> Result<Self> {
        let mut times = (0..rounds).map(|_| measure()).collect::<Result<Vec<_>>>()?;
        times.sort();
        Ok(Self { median: times[times.len() / 2], best: times[0] })
    }
}

fn tell(what: &str, times: Times) {
    println!("{what:<44} {:>10.2} {:>10.2}", ms(times.median), ms(times.best));
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
