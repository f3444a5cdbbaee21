//! The table of figures, with goals and the figures that were reported for the original Python server.

use super::process::Cores;
use std::fmt;

struct Figure {
    what: String,
    value: String,
    goal: &'static str,
    python: &'static str,
}

/// The figures, in the order of the measurements.
pub struct Table {
    rows: Vec<Figure>,
    machine: String,
}

impl Table {
    /// An empty table for this machine.
    pub fn new(cores: Cores) -> Self {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
        let model =
            model.map_or("unknown processor", |line| line.trim_start_matches(['\t', ' ', ':']));
        let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
        let machine =
            format!("{model}, {count} cores; {}; load before the start {load}", cores.describe());
        Self { rows: Vec::new(), machine }
    }

    /// Adds a row, and prints it at once.
    pub fn add(
        &mut self,
        what: impl Into<String>,
        value: impl Into<String>,
        goal: &'static str,
        python: &'static str,
    ) {
        let row = Figure { what: what.into(), value: value.into(), goal, python };
        eprintln!("{}: {}", row.what, row.value);
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Machine: {}\n", self.machine)?;
        writeln!(f, "| what | measured | goal | Python server, as reported |\n|---|---|---|---|")?;
        for Figure { what, value, goal, python } in &self.rows {
            writeln!(f, "| {what} | {value} | {goal} | {python} |")?;
        }
        Ok(())
    }
}
