//! The steps of a task, with their durations and counts of tests.

use anyhow::{Context, Result};
use std::{
    io::{BufRead, BufReader, Read, Write},
    ops::AddAssign,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Counts of tests. A step without tests counts as one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Tally {
    const ONE_PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    const ONE_FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    const ONE_SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    /// Parses the summary line of `cargo test` or nextest. Ignores the indented lines in which
    /// nextest repeats the output of single tests.
    fn from_line(line: &str) -> Option<Self> {
        let (_, counts) = match line.strip_prefix("test result: ") {
            Some(rest) => rest.split_once(". ")?,
            None => line.trim_start().strip_prefix("Summary [")?.split_once(" run: ")?,
        };
        let mut tally = Self::default();
        for part in counts.split([',', ';']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(word)) =
                (words.next().map(str::parse::<u64>), words.next())
            else {
                continue;
            };
            match (word, words.next()) {
                ("passed", _) => tally.passed += number,
                ("failed" | "timed", _) | ("exec", Some("failed")) => tally.failed += number,
                ("skipped" | "ignored", _) => tally.skipped += number,
                _ => {}
            }
        }
        Some(tally)
    }
}

/// The steps so far.
pub struct Steps {
    start: Instant,
    done: Vec<(String, Duration, Tally)>,
}

impl Steps {
    pub fn begin() -> Self {
        Self { start: Instant::now(), done: Vec::new() }
    }

    /// Runs a command as a step. A failure is counted, and the steps continue.
    pub fn command(&mut self, name: &str, command: &mut Command) {
        self.step(name, || counted(command));
    }

    /// Runs `work` as a step that counts as one check.
    pub fn check(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        self.step(name, || work().map(|()| Tally::ONE_PASSED));
    }

    /// Records that a step was left out, and why.
    pub fn skip(&mut self, name: &str, why: &str) {
        println!("\n==> {name}: not run ({why})");
        self.done.push((format!("{name} (not run)"), Duration::ZERO, Tally::ONE_SKIPPED));
    }

    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Tally>) {
        println!("\n==> {name}");
        let start = Instant::now();
        let tally = work().unwrap_or_else(|error| {
            eprintln!("error: {name}: {error:#}");
            Tally::ONE_FAILED
        });
        let took = start.elapsed();
        println!("<== {name}: {:.1} s", took.as_secs_f64());
        self.done.push((name.to_owned(), took, tally));
    }

    /// Waits for the steps that ran beside these, and appends them.
    pub fn join(&mut self, beside: thread::ScopedJoinHandle<'_, Self>) {
        match beside.join() {
            Ok(steps) => self.append(steps),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Adds the steps of another thread.
    pub fn append(&mut self, other: Self) {
        self.done.extend(other.done);
    }

    /// Whether anything has failed.
    pub fn failed(&self) -> bool {
        self.done.iter().any(|(_, _, tally)| tally.failed > 0)
    }

    /// Prints the duration of each step and, alone on the last line, the counts.
    pub fn finish(self) -> ExitCode {
        let mut sum = Tally::default();
        println!("\n{:>8}  step", "seconds");
        for (name, took, tally) in &self.done {
            let mark = if tally.failed > 0 { "  FAILED" } else { "" };
            println!("{:>8.1}  {name}{mark}", took.as_secs_f64());
            sum += *tally;
        }
        println!("{:>8.1}  all\n", self.start.elapsed().as_secs_f64());
        println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
        if sum.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Runs `command`, shows its output at once, and counts its tests. A command without tests counts
/// as one.
fn counted(command: &mut Command) -> Result<Tally> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| shown.clone())?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let follow_stderr = thread::spawn(move || stderr.map(|pipe| follow(pipe, std::io::stderr())));
    let mut lines = stdout.map_or_else(Vec::new, |pipe| follow(pipe, std::io::stdout()));
    lines.extend(follow_stderr.join().ok().flatten().unwrap_or_default());
    let status = child.wait()?;
    let mut tally = Tally::default();
    lines.iter().for_each(|found| tally += *found);
    if !status.success() && tally.failed == 0 {
        eprintln!("{shown} ended with {status}");
        tally += Tally::ONE_FAILED;
    } else if lines.is_empty() {
        tally = Tally::ONE_PASSED;
    }
    Ok(tally)
}

fn follow(pipe: impl Read, mut screen: impl Write) -> Vec<Tally> {
    let mut found = Vec::new();
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        let _ = screen.write_all(&line).and_then(|()| screen.write_all(b"\n"));
        found.extend(Tally::from_line(&String::from_utf8_lossy(&line)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let tally = |passed, failed, skipped| Some(Tally { passed, failed, skipped });
        for (line, wanted) in [
            (
                "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 1 filtered out; finished in 0.00s",
                tally(12, 0, 3),
            ),
            (
                "     Summary [  12.3s] 40 tests run: 38 passed (1 slow), 1 failed, 1 timed out, 5 skipped",
                tally(38, 2, 5),
            ),
            ("     Summary [   0.1s] 1 test run: 1 passed, 0 skipped", tally(1, 0, 0)),
            ("    test result: FAILED. 0 passed; 1 failed; 0 ignored", None),
            ("a log line with 3 passed", None),
        ] {
            assert_eq!(Tally::from_line(line), wanted, "{line}");
        }
    }
}
