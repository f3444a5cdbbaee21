//! `plugin simulate`: runs a trace against policies, and shows their numbers side by side.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use super::plot::{self, Scene, span};
use super::trace_source::{TraceArgs, TraceSource, cannot};
use crate::config::{self, Overrides, Sources};
use clap::Args;
use serde_json::json;
use sleap_rtc_policy::simulate::statistics::{Statistics, Waits};
use sleap_rtc_policy::simulate::trace::Trace;
use sleap_rtc_policy::simulate::{JobResult, Simulated, simulate};
use sleap_rtc_policy::{PolicyConfig, PolicyError};
use std::fs;
use std::path::PathBuf;
use std::thread;

/// The examples under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  What the configured policies would make of a busy month, with a picture:
    sleap-rtc plugin simulate --generate --jobs 2000 --deadline-week --plot month.svg
  Two policies for the workers of a recorded room, and the trace for later:
    sleap-rtc plugin simulate --generate --room room.json --save trace.jsonl \\
      --policy now.toml --policy new.toml
  The jobs that this machine's worker has run, for the workers of its room:
    sleap-rtc plugin simulate --jobs-of ~/.local/share/sleap-rtc/worker --room room.json
  The same again:
    sleap-rtc plugin simulate trace.jsonl --policy now.toml --policy new.toml";

/// The most users and GPUs that are shown one by one.
const ROWS: usize = 20;
/// The most policies of one simulation.
const POLICIES: usize = 8;

#[derive(Args)]
pub(crate) struct SimulateArgs {
    /// A configuration file with the policies to try; repeatable [default: the configuration in use]
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Draw who had which GPU when, and the waiting times, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Write where and when each job ran, as lines of JSON
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,
    #[command(flatten)]
    source: TraceArgs,
}

/// A checked `plugin simulate`.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulateOptions {
    source: TraceSource,
    policies: Vec<PathBuf>,
    plot: Option<PathBuf>,
    schedule: Option<PathBuf>,
}

impl SimulateArgs {
    pub(crate) fn check(self) -> SimulateOptions {
        let Self { policy, plot, schedule, source } = self;
        SimulateOptions { source: source.check(), policies: policy, plot, schedule }
    }
}

/// Simulates, each policy on a thread of its own, and prints the numbers.
pub(crate) fn run(options: &SimulateOptions, configured: &PolicyConfig) -> Result<Exit, Failure> {
    let trace = options.source.trace()?;
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
