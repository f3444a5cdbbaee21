//! Prints a line for each round, and a summary.

use crate::plan::{Executor, Fault, Plan, Verdict};
use crate::round::{Played, Recoveries};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The result of one round.
pub struct Line {
    plan: Plan,
    folder: PathBuf,
    skipped: Option<String>,
    pub played: Option<Played>,
    /// Every rule that the round has violated.
    pub broken: Vec<String>,
    pub took: Duration,
}

impl Line {
    pub fn begin(plan: &Plan, folder: PathBuf) -> Self {
        let (plan, took) = (plan.clone(), Duration::ZERO);
        Self { plan, folder, skipped: None, played: None, broken: Vec::new(), took }
    }

    pub fn skipped(plan: &Plan, why: String) -> Self {
        Self { skipped: Some(why), ..Self::begin(plan, PathBuf::new()) }
    }

    pub fn is_good(&self) -> bool {
        self.broken.is_empty()
    }

    fn print(&self) {
        let Plan { executor, seed, round, way, faults } = &self.plan;
        let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let (faults, took) = (faults.join(", then "), self.took.as_secs_f64());
        let how = match (&self.skipped, &self.played) {
            (Some(why), _) => format!("SKIPPED: {why}"),
            (None, Some(played)) => outcome(played),
            (None, None) => "no outcome".to_owned(),
        };
        let mark = if self.is_good() { "" } else { "FAILED " };
        println!("{mark}seed {seed} round {round:>3} ({way}): {faults} -> {how} ({took:.1} s)");
        for broken in &self.broken {
            println!("    {broken}");
        }
        if self.folder.exists() {
            println!("    folder and logs: {}", self.folder.display());
        }
        if !self.is_good() {
            let slurm = if *executor == Executor::Slurm { " --slurm" } else { "" };
            println!("    to repeat: cargo xtask torture{slurm} --seed {seed} --round {round}");
        }
    }
}

fn outcome(played: &Played) -> String {
    let Recoveries { after_kill, after_error, in_vain, resubmitted } = played.recoveries;
    let mut text = format!("{:?}", played.told).to_lowercase();
    if let Some(recovery) = played.recovery {
        text += &format!(", next sign of the job after {:.1} s", recovery.as_secs_f64());
    }
    let counts = [
        (after_kill, "returned after the kill"),
        (after_error, "returned after an error"),
        (in_vain, "failed again"),
        (resubmitted, "submitted again"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        text += &format!(", {what} {count}x");
    }
    for missed in &played.missed {
        text += &format!(", NOT DONE: {missed}");
    }
    text
}

/// All rounds so far.
pub struct Report {
    seed: u64,
    since: Instant,
    lines: Vec<Line>,
}

impl Report {
    pub fn begin(seed: u64) -> Self {
        Self { seed, since: Instant::now(), lines: Vec::new() }
    }

    pub fn add(&mut self, line: Line) {
        line.print();
        self.lines.push(line);
    }

    /// Prints the summary.
    pub fn finish(self) -> ExitCode {
        let failed = self.lines.iter().filter(|line| !line.is_good()).count();
        let skipped: Vec<&Line> = self.lines.iter().filter(|l| l.skipped.is_some()).collect();
        let played: Vec<&Played> = self.lines.iter().filter_map(|l| l.played.as_ref()).collect();
        let (passed, result) =
            (self.lines.len() - failed - skipped.len(), if failed == 0 { "ok" } else { "FAILED" });
        let (seed, took_s) = (self.seed, self.since.elapsed().as_secs());
        println!("\nseed {seed}: {} rounds in {took_s} s", self.lines.len());
        // In the form of a test runner's summary, which `cargo xtask test` reads.
        let skipped_count = skipped.len();
        println!(
            "test result: {result}. {passed} passed; {failed} failed; {skipped_count} ignored"
        );
        println!("  outcomes: {}", counted(played.iter().map(|played| said(played.told))));
        let all = |count: fn(&Recoveries) -> u32| {
            played.iter().map(|played| count(&played.recoveries)).sum::<u32>()
        };
        println!(
            "  the client's user returned {} times after a kill and {} times after an error; {} \
             further commands failed; {} jobs were submitted again",
            all(|r| r.after_kill),
            all(|r| r.after_error),
            all(|r| r.in_vain),
            all(|r| r.resubmitted),
        );
        let ways = self.lines.iter().filter(|line| line.played.is_some());
        println!("  ways: {}", counted(ways.map(|line| line.plan.way.to_string())));
        recovery_times(&played);
        let missed = played.iter().flat_map(|played| &played.missed);
        for (what, count) in tally(missed.map(|fault| fault.kind.to_string())) {
            println!("  not done, because the job had ended before: {what} {count}x");
        }
        for line in skipped {
            let faults: Vec<String> = line.plan.faults.iter().map(Fault::to_string).collect();
            println!("  skipped: round {}: {}", line.plan.round, faults.join(", then "));
        }
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn said(verdict: Verdict) -> String {
    format!("{verdict:?}").to_lowercase()
}

fn recovery_times(played: &[&Played]) {
    let mut times: Vec<Duration> = played.iter().filter_map(|played| played.recovery).collect();
    times.sort();
    if let (Some(longest), Some(median)) = (times.last(), times.get(times.len() / 2)) {
        let (median, longest) = (median.as_secs_f64(), longest.as_secs_f64());
        println!(
            "  from the end of the fault to the next sign of the job: median {median:.1} s, longest {longest:.1} s"
        );
    }
}

fn tally(words: impl Iterator<Item = String>) -> BTreeMap<String, u32> {
    words.fold(BTreeMap::new(), |mut counts, word| {
        *counts.entry(word).or_default() += 1;
        counts
    })
}

fn counted(words: impl Iterator<Item = String>) -> String {
    let counts = tally(words).into_iter().map(|(word, count)| format!("{count} {word}"));
    counts.collect::<Vec<_>>().join(", ")
}
