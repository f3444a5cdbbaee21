//! The tables: medians, ratios, and goals with what became of them.

use super::measure::{Again, Failure, Outcome, Resumed, Sample};
use super::plan::{Line, Over, Row, What};
use std::collections::HashMap;
use std::fmt::Write;

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    rows: Vec<(Row, Rows)>,
}

/// What came of a row.
pub enum Rows {
    Lines(Vec<(Line, Outcome)>),
    Again(Vec<Again>),
    Resumed(Vec<Resumed>),
    /// Why there is nothing.
    NotRun(String),
}

/// A goal, what was measured, and whether it is met.
struct Goal {
    what: String,
    wanted: &'static str,
    measured: String,
    is_met: bool,
}

fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

impl Outcome {
    fn rate(&self) -> Option<f64> {
        self.median(|sample| sample.bytes as f64 / 1e6 / sample.took.as_secs_f64())
    }

    fn median(&self, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.samples.iter().map(figure))
    }

    fn connect_ms(&self) -> Option<f64> {
        self.median(|sample| sample.connect.as_secs_f64() * 1e3)
    }

    /// Seconds of CPU for each GB: sender, receiver.
    fn cpu(&self) -> Option<[f64; 2]> {
        let gb = |sample: &Sample| sample.bytes as f64 / 1e9;
        let send = self.median(|sample| sample.send.cpu.as_secs_f64() / gb(sample));
        let receive = self.median(|sample| sample.receive.cpu.as_secs_f64() / gb(sample));
        Some([send?, receive?])
    }

    fn memory_mib(&self) -> Option<[f64; 2]> {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let send = self.median(|sample| mib(sample.send.peak_bytes));
        let receive = self.median(|sample| mib(sample.receive.peak_bytes));
        Some([send?, receive?])
    }
}

impl Report {
    /// Adds a row.
    pub fn add(&mut self, row: Row, rows: Rows) {
        self.rows.push((row, rows));
    }

    /// Everything in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (row, rows) in &self.rows {
            // Writing into a string does not fail.
            let _ = write!(text, "### {}\n\n", row.title());
            text += &match rows {
                Rows::Lines(lines) => lines_table(row, lines),
                Rows::Again(all) => again_table(all),
                Rows::Resumed(all) => resumed_table(all),
                Rows::NotRun(why) => format!("Not run: {why}.\n"),
            };
            text.push('\n');
        }
        let _ = write!(text, "### Goals\n\n{}", goals_table(&self.goals()));
        text
    }

    fn line(&self, name: &str, line: Line) -> Option<&Outcome> {
        self.rows.iter().find(|(row, _)| row.name == name).and_then(|(_, rows)| match rows {
            Rows::Lines(lines) => {
                lines.iter().find(|(l, _)| *l == line).map(|(_, outcome)| outcome)
            }
            _ => None,
        })
    }

    /// How many times one line is another.
    fn ratio(&self, name: &str, line: Line, of: Line) -> Option<f64> {
        Some(self.line(name, line)?.rate()? / self.line(name, of)?.rate()?)
    }

    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let mut ratio = |name: &str, of: Line, least: f64, wanted| {
            let Some(ratio) = self.ratio(name, Line::Upload, of) else { return };
            let measured = if least > 2.0 { format!("{ratio:.1} times") } else { percent(ratio) };
            let what = format!("{name}: ours direct, package, beside {}", of.name());
            goals.push(Goal { what, wanted, measured, is_met: ratio >= least });
        };
        ratio("100mb", Line::Aiortc, 20.0, "20 times");
        ratio("1gb", Line::WebrtcUpload, 1.0, "100 %");
        ratio("20ms", Line::WebrtcUpload, 1.0, "100 %");
        ratio("80ms", Line::WebrtcUpload, 1.0, "100 %");
        ratio("1gbit", Line::WebrtcUpload, 1.1, "110 %");
        for name in ["20ms-lossy", "80ms-lossy", "1gbit-lossy"] {
            ratio(name, Line::TcpBbr, 0.8, "80 %");
        }
        let mut rate = |name: &str, line: Line, least: f64, wanted| {
            let Some(rate) = self.line(name, line).and_then(Outcome::rate) else { return };
            let (what, measured) = (format!("{name}: {}", line.name()), format!("{rate:.1} MB/s"));
            goals.push(Goal { what, wanted, measured, is_met: rate >= least });
        };
        rate("20ms-1%", Line::Upload, 8.0, "8 MB/s");
        rate("1gb", Line::RelayedUpload, 60.0, "60 MB/s");
        for (line, what) in [(Line::Upload, "package"), (Line::Download, "result")] {
            let Some([send, receive]) = self.line("1gb", line).and_then(Outcome::cpu) else {
                continue;
            };
            let measured = format!("{send:.1} / {receive:.1} s");
            let what = format!("1gb: CPU of a GB of ours, {what}, sender / receiver");
            goals.push(Goal { what, wanted: "< 2.5 s", measured, is_met: send.max(receive) < 2.5 });
        }
        if let Some(ms) = self.line("100mb", Line::Upload).and_then(Outcome::connect_ms) {
            let what = "100mb: from the offer to an open channel".to_owned();
            let measured = format!("{ms:.0} ms");
            goals.push(Goal { what, wanted: "< 300 ms", measured, is_met: ms < 300.0 });
        }
        goals.extend(self.rows.iter().filter_map(|(_, rows)| match rows {
            Rows::Again(all) => {
                let share = median(all.iter().map(|a| a.sent_bytes as f64 / a.bytes as f64))?;
                let what = "again: bytes of the second submission".to_owned();
                let measured = format!("{:.2} %", share * 100.0);
                Some(Goal { what, wanted: "< 1 %", measured, is_met: share < 0.01 })
            }
            _ => None,
        }));
        goals
    }
}

fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn two(values: Option<[f64; 2]>, digits: usize) -> String {
    values.map_or_else(
        || "–".to_owned(),
        |[send, receive]| format!("{send:.digits$} / {receive:.digits$}"),
    )
}

fn lines_table(row: &Row, lines: &[(Line, Outcome)]) -> String {
    let rates: HashMap<Line, f64> =
        lines.iter().filter_map(|(line, outcome)| Some((*line, outcome.rate()?))).collect();
    let mut text = String::from(
        "| | MB/s | of TCP BBR | times aiortc | connect, ms | CPU, s/GB: send / receive | MiB above idle: send / receive |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for (line, outcome) in lines {
        let rate = outcome.rate();
        let beside = |other| Some(rate? / rates.get(&other)?);
        let of_tcp = beside(Line::TcpBbr).map_or_else(|| "–".to_owned(), percent);
        let name = line.name();
        let times = shown(beside(Line::Aiortc), 1);
        let (connect, cpu) = (shown(outcome.connect_ms(), 0), two(outcome.cpu(), 2));
        let memory = two(outcome.memory_mib(), 0);
        let rate = match &outcome.failure {
            None => shown(rate, 1),
            Some(_) if rate.is_some() => format!("{}, then failed", shown(rate, 1)),
            Some(Failure::NotRun(_)) => "not run".to_owned(),
            Some(Failure::Failed(_)) => "failed".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {name} | {rate} | {of_tcp} | {times} | {connect} | {cpu} | {memory} |"
        );
    }
    for (line, outcome) in lines {
        if let Some(Failure::NotRun(failure) | Failure::Failed(failure)) = &outcome.failure {
            let _ = write!(text, "\n{}: {failure}.\n", line.name());
        }
    }
    let What::Transfer { aiortc_bytes, .. } = row.what else { return text };
    if lines.iter().any(|(line, _)| *line == Line::Aiortc) {
        let _ = write!(text, "\nWith aiortc: {} MB.\n", aiortc_bytes as f64 / 1e6);
    }
    if let Over::Link(mbit @ ..100_000, ..) = row.over {
        let most = f64::from(mbit) / 8.0;
        let _ = write!(text, "\nThe link itself carries {most:.1} MB/s, headers included.\n");
    }
    text
}

fn again_table(all: &[Again]) -> String {
    let figure = |figure: fn(&Again) -> f64| median(all.iter().map(figure)).unwrap_or(f64::NAN);
    let (bytes, lacking) = (figure(|a| a.bytes as f64), figure(|a| a.lacking_bytes as f64));
    let (sent, took) = (figure(|a| a.sent_bytes as f64), figure(|a| a.took.as_secs_f64()));
    format!(
        "| package, bytes | the worker lacks | on the wire, both ways | of the package | seconds |\n\
         |---|---|---|---|---|\n\
         | {bytes:.0} | {lacking:.0} | {sent:.0} | {:.3} % | {took:.3} |\n",
        sent / bytes * 100.0
    )
}

fn resumed_table(all: &[Resumed]) -> String {
    let figure = |figure: fn(&Resumed) -> f64| median(all.iter().map(figure)).unwrap_or(f64::NAN);
    let bytes = figure(|r| r.bytes as f64);
    let there = figure(|r| r.already_there_bytes as f64);
    let wire = median(all.iter().flat_map(|r| r.wire_bytes).map(|bytes| bytes as f64));
    let (took, waited) = (figure(|r| r.took.as_secs_f64()), figure(|r| r.waited.as_secs_f64()));
    format!(
        "| file, bytes | there when the second client came | sent by it | of the file | \
         on the wire by both, both ways | seconds, second transfer | seconds until it was accepted |\n\
         |---|---|---|---|---|---|---|\n\
         | {bytes:.0} | {there:.0} | {:.0} | {:.1} % | {} | {took:.2} | {waited:.1} |\n",
        bytes - there,
        (bytes - there) / bytes * 100.0,
        shown(wire, 0)
    )
}

fn goals_table(goals: &[Goal]) -> String {
    let mut text = String::from("| goal | wanted | measured | |\n|---|---|---|---|\n");
    for Goal { what, wanted, measured, is_met } in goals {
        let verdict = if *is_met { "met" } else { "**missed**" };
        let _ = writeln!(text, "| {what} | {wanted} | {measured} | {verdict} |");
    }
    text
}

/// The machine, in words.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |line| line.trim_start_matches(['\t', ' ', ':']));
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let buffers = read("/proc/sys/net/core/rmem_max");
    format!(
        "{model}, {cores} cores, Linux {}; load before the start {}; net.core.rmem_max {}",
        kernel.trim(),
        load.join(", "),
        buffers.trim()
    )
}
