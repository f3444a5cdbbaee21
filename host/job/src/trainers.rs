//! Which trainer is installed here, which version it is, and whether it does what is asked of it.
//!
//! A program by the right name proves nothing: it may be a stub, lack what it imports, or be of an
//! age that takes other options. So each is asked for its help once, which is cheap to answer for
//! all that can answer.

use super::command::{CommandLine, Toolbox};
use super::reach::ReadScope;
use super::settings::RunnerSettings;
use super::version;
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::text::Printable;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Imports take many seconds on a cold disk.
const HELP_LIMIT: Duration = Duration::from_secs(120);
const MAX_WORDS_CHARS: usize = 300;
const MAX_REPORT_CHARS: usize = 64 * 1024;

/// What this machine can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trainers {
    /// sleap-nn's version, or SLEAP's.
    pub version: Option<String>,
    /// The program for trainings.
    pub training: Trainer,
    /// The program for predictions.
    pub inference: Trainer,
    /// How much both must be able to read, in a sandbox.
    pub scope: ReadScope,
}

/// The program for one kind of job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trainer {
    /// It does what is asked of it.
    Works(PathBuf),
    /// That of SLEAP 1.4.1, which takes JSON configs alone.
    Legacy(PathBuf),
    /// It is there and does not work.
    Broken(PathBuf, Complaint),
    /// There is none: what to do.
    Missing(String),
}

/// What a trainer said that does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Why, in words.
    pub words: String,
    /// Whether the sandbox may be the cause.
    pub is_denied: bool,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        match self.is_denied {
            true => f.write_str(
                "; the sandbox may lack what it needs: name it in `[worker] sandbox_read`, or set \
                 `sandbox = \"off\"`",
            ),
            false => Ok(()),
        }
    }
}

impl Trainer {
    /// What is wrong, if something is.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Works(_) | Self::Legacy(_) => None,
            Self::Broken(program, complaint) => {
                Some(format!("the trainer {} does not work: {complaint}", program.display()))
            }
            Self::Missing(words) => Some(words.clone()),
        }
    }

    /// The program, working or not.
    pub fn program(&self) -> Option<&Path> {
        match self {
            Self::Works(program) | Self::Legacy(program) | Self::Broken(program, _) => {
                Some(program)
            }
            Self::Missing(_) => None,
        }
    }
}

impl Trainers {
    /// Looks for trainers, and asks each for its help, as confined as jobs' trainers are.
    ///
    /// Where a trainer works only if it reads more than its list, so do jobs: of the scopes in which it
    /// works, the narrowest.
    pub async fn find(settings: &RunnerSettings) -> Self {
        let listed = Self::find_within(settings, ReadScope::Listed).await;
        if listed.failures() == (0, 0) || !settings.may_read_more() {
            return listed;
        }
        // At once: a job may wait for the answer.
        let (disk, home) = tokio::join!(
            Self::find_within(settings, ReadScope::Disk),
            Self::find_within(settings, ReadScope::Home),
        );
        let narrowest = |a: Self, b: Self| if b.failures() < a.failures() { b } else { a };
        narrowest(narrowest(listed, disk), home)
    }

    async fn find_within(settings: &RunnerSettings, scope: ReadScope) -> Self {
        let settings = &settings.clone().reading(scope);
        let toolbox = &settings.toolbox();
        let training = training(toolbox, settings).await;
        let inference = probe(toolbox, &["predict", "track"], settings).await;
        let program = training.program().or(inference.program());
        let version = match program {
            Some(program) => version::of(program, settings).await,
            None => None,
        };
        Self { version, training, inference, scope }
    }

    /// How many of the programs are denied something, and how many do not work for any reason.
    fn failures(&self) -> (usize, usize) {
        let programs = [&self.training, &self.inference].into_iter();
        let complaints: Vec<&Complaint> = programs
            .filter_map(|program| match program {
                Trainer::Broken(_, complaint) => Some(complaint),
                _ => None,
            })
            .collect();
        let denied = complaints.iter().filter(|complaint| complaint.is_denied).count();
        (denied, complaints.len())
    }

    /// The trainer for jobs of this kind.
    pub fn of(&self, job_type: JobType) -> &Trainer {
        match job_type {
            JobType::Training => &self.training,
            JobType::Inference => &self.inference,
        }
    }

    /// What is wrong, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> =
            [&self.training, &self.inference].into_iter().filter_map(Trainer::problem).collect();
        problems.dedup();
        problems
    }
}

/// SLEAP 1.4.1 has one program for all trainings, which takes other configs.
async fn training(toolbox: &Toolbox, settings: &RunnerSettings) -> Trainer {
    match (probe(toolbox, &["train"], settings).await, toolbox.sleap_train()) {
        (Trainer::Missing(_), Some(program)) => Trainer::Legacy(program),
        (found, _) => found,
    }
}

/// The program for one of these verbs, the first that it knows.
async fn probe(toolbox: &Toolbox, verbs: &[&str], settings: &RunnerSettings) -> Trainer {
    let mut last = Trainer::Missing(String::new());
    for verb in verbs {
        let (program, arguments) = match toolbox.find_command(verb) {
            Ok(found) => found,
            Err(error) => {
                last = Trainer::Missing(error.to_string());
                continue;
            }
        };
        let question = CommandLine { program: program.clone(), arguments };
        last = match ask_for_help(question, settings).await {
            Ok(()) => return Trainer::Works(program),
            Err(complaint) => Trainer::Broken(program, complaint),
        };
    }
    last
}

async fn ask_for_help(
    mut question: CommandLine,
    settings: &RunnerSettings,
) -> Result<(), Complaint> {
    question.arguments.push("--help".to_owned());
    let mute = |words| Complaint { words, is_denied: false };
    let output =
        settings.answer(&question, HELP_LIMIT).await.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => {
                mute(format!("it gives no answer within {} s", HELP_LIMIT.as_secs()))
            }
            _ => mute(format!("it cannot be started: {error}")),
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    // Who only does not know this question has answered it.
    let unknown = |line: &str| line.contains("No such option") && line.contains("--help");
    if output.status.success() || said.lines().any(unknown) {
        return Ok(());
    }
    let words = last_words(&said, &String::from_utf8_lossy(&output.stdout));
    Err(Complaint { words, is_denied: settings.is_confined() && is_denied(&said) })
}

/// Whether a program complains that something is out of its reach.
fn is_denied(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    ["permission denied", "operation not permitted", "not permitted"]
        .iter()
        .any(|words| said.contains(words))
}

/// What sleap-nn reports of its own surroundings, PyTorch and CUDA among them; nothing from versions
/// that do not.
pub async fn system_report(settings: &RunnerSettings) -> Option<String> {
    let (program, arguments) = settings.toolbox().find_command("system").ok()?;
    let question = CommandLine { program, arguments };
    let output = settings.answer(&question, HELP_LIMIT).await.ok()?;
    let report = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| report.chars().take(MAX_REPORT_CHARS).collect())
}

/// The last line that says something.
fn last_words(stderr: &str, stdout: &str) -> String {
    let says = |line: &&str| line.chars().any(char::is_alphanumeric);
    let line = stderr.lines().rev().find(says).or_else(|| stdout.lines().rev().find(says));
    let line = line.unwrap_or("it fails without a word").trim_matches(['│', '╭', '╰', '─', ' ']);
    Printable::line(line, MAX_WORDS_CHARS).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    async fn found(programs: &[(&str, &str)], trainer: Option<&str>) -> Trainers {
        let folder = tempfile::tempdir().unwrap();
        for (name, script) in programs {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, mode).unwrap();
        }
        let trainer = trainer.map(|words| words.split(' ').map(str::to_owned).collect());
        let search_path = Some(folder.path().to_str().unwrap().to_owned());
        Trainers::find(&RunnerSettings { search_path, trainer, ..RunnerSettings::default() }).await
    }

    const WORKS: &str = "[ \"$1\" = --version ] && echo 'sleap-nn 0.3.5'; exit 0";

    #[tokio::test]
    async fn each_of_the_programs_is_found_with_its_version() {
        for name in ["sleap-nn", "sleap"] {
            let found = found(&[(name, WORKS)], None).await;
            assert_eq!(found.version.as_deref(), Some("0.3.5"), "{name}");
            assert_eq!(found.problems(), [""; 0], "{name}");
        }
        let legacy = found(&[("sleap-train", "exit 1")], None).await;
        assert!(matches!(legacy.training, Trainer::Legacy(_)));
        assert!(matches!(legacy.inference, Trainer::Missing(_)));
        let named = found(&[("wrap", WORKS), ("sleap-nn", "exit 1")], Some("wrap run sleap-nn"));
        assert_eq!(named.await.problems(), [""; 0]);
    }

    #[tokio::test]
    async fn one_that_does_not_work_is_found_out() {
        let no_option = "echo 'Error: No such option: --config-name' >&2; exit 2";
        let no_torch = "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1";
        for (script, words) in
            [(no_option, "--config-name"), (no_torch, "'torch'"), ("exit 3", "without a word")]
        {
            let problems = found(&[("sleap", script)], None).await.problems();
            assert!(problems[0].contains(words), "{problems:?}");
        }
        let none = found(&[], None).await.problems();
        assert!(none.len() == 1 && none[0].contains("uv tool install"), "{none:?}");
    }

    #[tokio::test]
    async fn predictions_of_older_versions_have_another_name() {
        let old =
            "[ \"$1\" = predict ] && { echo \"No such command 'predict'\" >&2; exit 2; }; exit 0";
        let found = found(&[("sleap-nn", old)], None).await;
        assert!(matches!(found.inference, Trainer::Works(_)), "{found:?}");
    }
}
