//! `sleap-rtc estimates --local`: how well the worker of this machine knows how long its jobs take.

use super::exit::{Exit, ExitWith, Failure};
use super::local::{self, LocalArgs};
use super::print;
use crate::config::{Config, Overrides};
use crate::worker::history;
use sleap_rtc_protocol::text::duration;
use sleap_rtc_protocol::workload::{Calibration, FinishedJob};
use std::collections::BTreeMap;

/// The examples under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  What this machine's worker had estimated, and what its jobs took, for each kind of job:
    sleap-rtc estimates --local";

/// The columns before the kind.
const HEAD: &str = "jobs  within  median error   median  kind";

/// The options of `estimates`.
#[derive(Debug, clap::Args)]
pub struct EstimatesArgs {
    #[command(flatten)]
    whose: LocalArgs,
}

impl EstimatesArgs {
    pub(crate) fn check(&self) -> Result<Overrides, Failure> {
        if self.whose.is_meant() {
            return Ok(self.whose.overrides());
        }
        let text = "`estimates` reads the records of this machine's worker";
        Err(Failure::usage(text).hint("on the worker's machine, run `sleap-rtc estimates --local`"))
    }
}

/// Prints the calibration of each kind of job, and of all.
pub(crate) fn show(config: &Config) -> Result<Exit, Failure> {
    let jobs = history::read(local::state_dir(config)?).exit(Exit::Unexpected)?;
    for line in table(&jobs) {
        print::line(&line).exit(Exit::Unexpected)?;
    }
    Ok(Exit::Success)
}

fn table(jobs: &[FinishedJob]) -> Vec<String> {
    let mut kinds: BTreeMap<String, Vec<&FinishedJob>> = BTreeMap::new();
    for job in jobs {
        kinds.entry(job.kind()).or_default().push(job);
    }
    let row = |kind: &str, found: Calibration| {
        let Calibration { jobs, within, median_error, median_s } = found;
        let (within, error) = (within * 100.0, median_error * 100.0);
        format!("{jobs:>4}  {within:>4.0} %  {error:>10.0} %  {:>7}  {kind}", duration(median_s))
    };
    let rows = kinds
        .iter()
        .filter_map(|(kind, jobs)| Some(row(kind, Calibration::of(jobs.iter().copied())?)));
    let rows: Vec<String> = rows.collect();
    let mut lines = match Calibration::of(jobs) {
        None => vec!["no job with an estimate has succeeded here yet".to_owned()],
        Some(all) => {
            let all = (rows.len() > 1).then(|| row("all", all));
            [HEAD.to_owned()].into_iter().chain(rows).chain(all).collect()
        }
    };
    let judged = Calibration::of(jobs).map_or(0, |all| all.jobs);
    if jobs.len() > judged {
        let others = jobs.len() - judged;
        lines.push(format!("{others} more did not succeed, or had no estimate"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::job::JobType;
    use sleap_rtc_protocol::workload::{Estimate, FinishedRun, Timing, Workload};

    fn job(model: &str, took_s: f64, minutes: f64) -> FinishedJob {
        let run = Workload {
            model_types: vec![model.to_owned()],
            ..Workload::unknown(JobType::Training)
        };
        let took = Timing { took_s, ..Timing::default() };
        let run = FinishedRun { run, gpu: None, sleap_nn_version: None, took, succeeded: true };
        let estimate =
            Estimate { minutes, low: minutes * 0.8, high: minutes * 1.25, confidence: 0.8 };
        FinishedJob { took_s, succeeded: true, estimate: Some(estimate), runs: vec![run] }
    }

    #[test]
    fn each_kind_has_its_row() {
        assert_eq!(table(&[]), ["no job with an estimate has succeeded here yet"]);
        let jobs = [
            job("centroid", 600.0, 10.0),
            job("centroid", 660.0, 10.0),
            job("centroid", 1200.0, 10.0),
            job("bottomup", 20_000.0, 300.0),
            FinishedJob { succeeded: false, ..job("centroid", 1.0, 9.0) },
        ];
        insta::assert_snapshot!(table(&jobs).join("\n"), @r"
        jobs  within  median error   median  kind
           1   100 %          10 %    5.6 h  training bottomup
           3    67 %           9 %   11 min  training centroid
           4    75 %          10 %   20 min  all
        1 more did not succeed, or had no estimate
        ");
    }
}
