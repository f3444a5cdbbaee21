//! `plugin simulate`: runs a trace against policies, and shows their numbers side by side.

use super::super::description::read_json;
use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use super::plot::{self, Scene, span};
use crate::config::{self, Overrides, Sources};
use clap::Args;
use serde_json::json;
use sleap_rtc_policy::simulate::generate::{Recipe, generate};
use sleap_rtc_policy::simulate::statistics::{Statistics, Waits};
use sleap_rtc_policy::simulate::trace::{Trace, TraceWorker};
use sleap_rtc_policy::simulate::{JobResult, Simulated, simulate};
use sleap_rtc_policy::{PolicyConfig, PolicyError};
use sleap_rtc_protocol::signaling::{PeerInfo, Role};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::thread;

/// The examples under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  What the configured policies would make of a busy month, with a picture:
    sleap-rtc plugin simulate --generate --jobs 2000 --deadline-week --plot month.svg
  Two policies for the workers of a recorded room, and the trace for later:
    sleap-rtc plugin simulate --generate --room room.json --save trace.jsonl \\
      --policy now.toml --policy new.toml
  The same again:
    sleap-rtc plugin simulate trace.jsonl --policy now.toml --policy new.toml";

/// The most users and GPUs that are shown one by one.
const ROWS: usize = 20;
/// The most policies of one simulation.
const POLICIES: usize = 8;

#[derive(Args)]
pub(crate) struct SimulateArgs {
    /// The trace: workers and jobs as lines of JSON
    #[arg(value_name = "TRACE", required_unless_present = "generate", conflicts_with = "generate")]
    trace: Option<PathBuf>,
    /// A configuration file with the policies to try; repeatable [default: the configuration in use]
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Draw who had which GPU when, and the waiting times, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Write where and when each job ran, as lines of JSON
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,
    /// Make up the trace
    #[arg(long)]
    generate: bool,
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// How a trace is made up.
#[derive(Args)]
#[command(next_help_heading = "Made-up traces, with --generate")]
struct RecipeArgs {
    /// The same seed makes the same trace
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// How many jobs
    #[arg(long, value_name = "NUMBER", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    jobs: u32,
    /// How many users; the first submits most
    #[arg(long, value_name = "NUMBER", default_value_t = 6,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    users: u32,
    /// How many workers, unless --room names some
    #[arg(long, value_name = "NUMBER", default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,
    /// Jobs in an hour of a working day
    #[arg(long, value_name = "NUMBER", default_value_t = 8.0, value_parser = positive)]
    per_hour: f64,
    /// The share of tracking jobs, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.3, value_parser = share)]
    tracking: f64,
    /// Make the second week the one before a deadline
    #[arg(long)]
    deadline_week: bool,
    /// The room's workers, as printed by `sleap-rtc room snapshot`
    #[arg(long, value_name = "ROOM.json", requires = "generate")]
    room: Option<PathBuf>,
    /// Keep the trace in this file
    #[arg(long, value_name = "FILE", requires = "generate")]
    save: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|number| (0.001..=1e6).contains(number));
    number.ok_or("expects a number from 0.001 to 1000000")
}

fn share(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or("expects a number from 0 to 1")
}

/// A checked `plugin simulate`.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulateOptions {
    source: TraceSource,
    policies: Vec<PathBuf>,
    plot: Option<PathBuf>,
    schedule: Option<PathBuf>,
}

/// Where the trace comes from.
#[derive(Debug, Clone, PartialEq)]
enum TraceSource {
    File(PathBuf),
    Recipe { recipe: Recipe, room: Option<PathBuf>, save: Option<PathBuf> },
}

impl SimulateArgs {
    pub(crate) fn check(self) -> SimulateOptions {
        let Self { trace, policy, plot, schedule, generate: _, recipe } = self;
        let source = match trace {
            Some(trace) => TraceSource::File(trace),
            None => recipe.check(),
        };
        SimulateOptions { source, policies: policy, plot, schedule }
    }
}

impl RecipeArgs {
    fn check(self) -> TraceSource {
        let Self { seed, jobs, users, workers, per_hour, tracking, deadline_week, room, save } =
            self;
        let (jobs, users, workers) = (jobs as usize, users as usize, workers as usize);
        let recipe = Recipe { seed, jobs, users, workers, per_hour, tracking, deadline_week };
        TraceSource::Recipe { recipe, room, save }
    }
}

/// Simulates, each policy on a thread of its own, and prints the numbers.
pub(crate) fn run(options: &SimulateOptions, configured: &PolicyConfig) -> Result<Exit, Failure> {
    let trace = trace(&options.source)?;
    let policies = policies(&options.policies, configured)?;
    let simulated = thread::scope(|scope| {
        let running: Vec<_> =
            policies.iter().map(|(_, config)| scope.spawn(|| simulate(&trace, config))).collect();
        let joined = running.into_iter().map(|thread| match thread.join() {
            Ok(simulated) => simulated.map_err(Failure::from),
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<Result<Vec<Simulated>, Failure>>()
    })?;
    let columns: Vec<Column<'_>> = policies
        .iter()
        .zip(&simulated)
        .map(|((name, _), simulated)| Column {
            name,
            statistics: Statistics::new(&trace, simulated),
            simulated,
        })
        .collect();
    print::raw(&report(&trace, &columns)).exit(Exit::Unexpected)?;
    if let Some(path) = &options.schedule {
        let schedules = columns.iter().map(|column| schedule(&trace, column));
        let text: String = schedules.collect();
        fs::write(path, text).map_err(|error| cannot("write", path, error))?;
    }
    if let Some(path) = &options.plot {
        let scenes: Vec<Scene<'_>> = columns
            .iter()
            .map(|column| Scene { name: column.name, simulated: column.simulated })
            .collect();
        fs::write(path, plot::svg(&trace, &scenes))
            .map_err(|error| cannot("write", path, error))?;
    }
    Ok(Exit::Success)
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

fn cannot(what: &str, path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("cannot {what} {}: {error}", path.display()))
}

fn trace(source: &TraceSource) -> Result<Trace, Failure> {
    let (recipe, room, save) = match source {
        TraceSource::File(path) => {
            let file = File::open(path).map_err(|error| cannot("read", path, error))?;
            return Trace::read(BufReader::new(file)).map_err(|error| {
                Failure::usage(format!("{} is not a trace: {error}", path.display()))
            });
        }
        TraceSource::Recipe { recipe, room, save } => (recipe, room, save),
    };
    let workers = room.as_ref().map(|path| {
        let peers: Vec<PeerInfo> = read_json("--room", path, "a list of peers")?;
        let workers = peers.iter().filter(|peer| peer.role != Role::Client);
        let workers: Vec<_> = workers.map(TraceWorker::from_peer).collect();
        match workers.is_empty() {
            true => Err(Failure::usage(format!("{} has no workers", path.display()))),
            false => Ok(workers),
        }
    });
    let trace = generate(recipe, workers.transpose()?);
    if let Some(path) = save {
        let text = trace.to_text().exit(Exit::Unexpected)?;
        fs::write(path, text).map_err(|error| cannot("write", path, error))?;
    }
    Ok(trace)
}

/// The policies with their names: those of the files, or else the configured ones.
fn policies(
    files: &[PathBuf],
    configured: &PolicyConfig,
) -> Result<Vec<(String, PolicyConfig)>, Failure> {
    if files.len() > POLICIES {
        return Err(Failure::usage(format!(
            "--policy: at most {POLICIES} can be compared at once"
        )));
    }
    if files.is_empty() {
        return Ok(vec![("configured".to_owned(), configured.clone())]);
    }
    let load = |file: &PathBuf| {
        let config =
            config::load(&Sources::from_process(Some(file.clone())), Overrides::default())?;
        let name = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        Ok((name, config.policy))
    };
    files.iter().map(load).collect()
}

/// A line for each job.
fn schedule(trace: &Trace, policy: &Column<'_>) -> String {
    let lines = trace.jobs.iter().zip(&policy.simulated.jobs).map(|(job, result)| {
        let line = match result {
            JobResult::Ran { worker, slot, start_ms, end_ms, .. } => json!({
                "policy": policy.name, "id": job.id, "worker": trace.workers[*worker].peer_id,
                "slot": slot, "start_ms": start_ms, "end_ms": end_ms,
            }),
            JobResult::Refused(why) => {
                json!({ "policy": policy.name, "id": job.id, "refused": why })
            }
        };
        format!("{line}\n")
    });
    lines.collect()
}

/// One policy of the report.
struct Column<'a> {
    name: &'a str,
    statistics: Statistics,
    simulated: &'a Simulated,
}

fn report(trace: &Trace, policies: &[Column<'_>]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |label: &str, value: &dyn Fn(&Column<'_>) -> String| {
        rows.push(std::iter::once(label.to_owned()).chain(policies.iter().map(value)).collect());
    };
    row("", &|column| column.name.to_owned());
    row("waiting: median, 95 %", &|column| waits(&column.statistics.all));
    let groups: [fn(&Statistics) -> &Groups; 2] = [|all| &all.by_kind, |all| &all.by_user];
    for group in groups {
        let mut keys: Vec<&String> =
            policies.iter().flat_map(|column| group(&column.statistics).keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys.into_iter().take(ROWS) {
            row(&format!("- {key}"), &|column| {
                group(&column.statistics).get(key).map_or_else(|| "-".to_owned(), waits)
            });
        }
    }
    row("longest passed over", &|column| span(column.statistics.passed_over_ms));
    row("fairness (Jain)", &|column| format!("{:.3}", column.statistics.fairness));
    row("refused", &|column| column.statistics.refused.to_string());
    row("until the last end", &|column| span(column.statistics.makespan_ms));
    row("use of the GPUs", &|column| {
        let shares = column.statistics.gpus.iter().map(|used| used.share);
        percent(shares.sum::<f64>() / column.statistics.gpus.len().max(1) as f64)
    });
    let gpus: Vec<&str> =
        policies[0].statistics.gpus.iter().map(|used| used.name.as_str()).collect();
    for (place, gpu) in gpus.iter().enumerate().take(ROWS) {
        row(&format!("- {gpu}"), &|column| percent(column.statistics.gpus[place].share));
    }
    if policies.iter().any(|column| !column.simulated.failures.is_empty()) {
        row("failures of plugins", &|column| {
            let failures = column.simulated.failures.iter();
            failures.map(|(point, count)| format!("{point} {count}")).collect::<Vec<_>>().join(", ")
        });
    }
    let slots: usize = trace.workers.iter().map(|worker| worker.slots.len()).sum();
    let (jobs, workers) = (trace.jobs.len(), trace.workers.len());
    let mut text = format!("{jobs} jobs, {workers} workers with {slots} slots\n{}", columns(&rows));
    if let Some(more) = gpus.len().checked_sub(ROWS).filter(|more| *more > 0) {
        text.push_str(&format!("and {more} more GPUs\n"));
    }
    text
}

type Groups = std::collections::BTreeMap<String, Waits>;

fn waits(waits: &Waits) -> String {
    format!("{}, {}", span(waits.median_ms), span(waits.p95_ms))
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
