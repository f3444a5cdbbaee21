//! Finds the installed trainer and its version, and checks that it works.
//!
//! A program of the right name proves nothing: it may be a stub, lack a module that it imports, or be
//! a version with other options. So each program is started once to print its help, which is quick.

use super::command::{CommandLine, TrainerSearch};
use super::grants::ReadScope;
use super::settings::{NoAnswer, RunnerSettings};
use super::version;
pub use super::version::TrainerVersion;
use sleap_rtc_base::bounded_wait::BoundedWait;
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::text::Printable;
use std::fmt;
use std::path::{Path, PathBuf};

const MAX_WORDS_CHARS: usize = 300;
const MAX_REPORT_CHARS: usize = 64 * 1024;

/// What this machine can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trainers {
    /// Their version.
    pub version: TrainerVersion,
    /// The program for trainings.
    pub training: Trainer,
    /// The program for predictions.
    pub inference: Trainer,
    /// The scope of files that both need to read in a sandbox.
    pub scope: ReadScope,
}

/// The program for one kind of job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trainer {
    /// The trainer works.
    Works(PathBuf),
    /// The trainer of SLEAP 1.4.1, which accepts only JSON configs.
    Legacy(PathBuf),
    /// The trainer exists but does not work.
    Broken(PathBuf, Complaint),
    /// No trainer is installed; the text says what to do.
    Missing(String),
}

/// The message of a trainer that does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Why, in words.
    pub words: String,
    /// What kind of failure it is.
    pub trouble: Trouble,
}

/// What is wrong with a trainer that does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It fails.
    Fails,
    /// It fails, and the sandbox may be the cause.
    Denied,
    /// It does not answer.
    Silent,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        match self.trouble {
            Trouble::Denied => f.write_str(
                "; the sandbox may lack what it needs: name it in `[worker] sandbox_read`, or set \
                 `sandbox = \"off\"`",
            ),
            Trouble::Fails | Trouble::Silent => Ok(()),
        }
    }
}

impl Trainer {
    /// What is wrong, in words, if anything is.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Works(_) | Self::Legacy(_) => None,
            Self::Broken(program, complaint) => {
                Some(format!("the trainer {} does not work: {complaint}", program.display()))
            }
            Self::Missing(words) => Some(words.clone()),
        }
    }

    fn is_silent(&self) -> bool {
        matches!(self, Self::Broken(_, complaint) if complaint.trouble == Trouble::Silent)
    }

    /// The program, whether or not it works.
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
    /// Finds trainers and makes each print its help, confined as in a job.
    ///
    /// If a trainer works only in a wider scope, jobs get the narrowest scope in which it works.
    pub async fn find(settings: &RunnerSettings, patience: BoundedWait) -> Self {
        let listed = Self::find_within(settings, ReadScope::Listed, patience).await;
        if listed.failures() == (0, 0) || listed.is_silent() || !settings.may_read_more() {
            return listed;
        }
        // Both at the same time, because a job may wait for the answer.
        let (disk, home) = tokio::join!(
            Self::find_within(settings, ReadScope::Disk, patience),
            Self::find_within(settings, ReadScope::Home, patience),
        );
        let narrowest = |a: Self, b: Self| if b.failures() < a.failures() { b } else { a };
        narrowest(narrowest(listed, disk), home)
    }

    async fn find_within(
        settings: &RunnerSettings,
        scope: ReadScope,
        patience: BoundedWait,
    ) -> Self {
        let settings = &settings.clone().reading(scope);
        let trainer_search = &settings.trainer_search();
        let (training, inference) = tokio::join!(
            training(trainer_search, settings, patience),
            probe(trainer_search, &["predict", "track"], settings, patience),
        );
        let program = training.program().or(inference.program());
        let version = match program {
            // A program that hangs is not waited for a second time.
            Some(program) if training.is_silent() || inference.is_silent() => {
                let installed = version::installed_version(program);
                installed.map_or(TrainerVersion::Unknown, TrainerVersion::Known)
            }
            Some(program) => version::of(program, settings, patience).await,
            None => TrainerVersion::Unknown,
        };
        Self { version, training, inference, scope }
    }

    fn is_silent(&self) -> bool {
        self.training.is_silent() || self.inference.is_silent()
    }

    /// The number of programs that the sandbox denies something, and of all that do not work.
    fn failures(&self) -> (usize, usize) {
        let programs = [&self.training, &self.inference].into_iter();
        let complaints: Vec<&Complaint> = programs
            .filter_map(|program| match program {
                Trainer::Broken(_, complaint) => Some(complaint),
                _ => None,
            })
            .collect();
        let is_denied = |complaint: &&&Complaint| complaint.trouble == Trouble::Denied;
        let denied = complaints.iter().filter(is_denied).count();
        (denied, complaints.len())
    }

    /// The trainer for jobs of this kind.
    pub fn of(&self, job_type: JobType) -> &Trainer {
        match job_type {
            JobType::Training => &self.training,
            JobType::Inference => &self.inference,
        }
    }

    /// What is wrong, one sentence for each problem.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> =
            [&self.training, &self.inference].into_iter().filter_map(Trainer::problem).collect();
        problems.dedup();
        problems
    }
}

/// SLEAP 1.4.1 has another program for trainings, which accepts other configs.
async fn training(
    trainer_search: &TrainerSearch,
    settings: &RunnerSettings,
    patience: BoundedWait,
) -> Trainer {
    let found = probe(trainer_search, &["train"], settings, patience).await;
    match (found, trainer_search.sleap_train()) {
        (Trainer::Missing(_), Some(program)) => Trainer::Legacy(program),
        (found, _) => found,
    }
}

/// The program for the first of these verbs that it knows.
async fn probe(
    trainer_search: &TrainerSearch,
    verbs: &[&str],
    settings: &RunnerSettings,
    patience: BoundedWait,
) -> Trainer {
    let mut last = Trainer::Missing(String::new());
    for verb in verbs {
        let question = match trainer_search.find_command(verb) {
            Ok(found) => found,
            Err(error) => {
                last = Trainer::Missing(error.to_string());
                continue;
            }
        };
        let program = question.program.clone();
        last = match ask_for_help(question, settings, patience).await {
            Ok(()) => return Trainer::Works(program),
            Err(complaint) => Trainer::Broken(program, complaint),
        };
        if last.is_silent() {
            break;
        }
    }
    last
}

async fn ask_for_help(
    mut question: CommandLine,
    settings: &RunnerSettings,
    patience: BoundedWait,
) -> Result<(), Complaint> {
    question.arguments.push("--help".to_owned());
    let output = settings.answer(&question, patience).await.map_err(|error| Complaint {
        words: error.to_string(),
        trouble: match error {
            NoAnswer::Silent { .. } => Trouble::Silent,
            NoAnswer::Failed(_) => Trouble::Fails,
        },
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    // A trainer that rejects the question understands command lines, so it works.
    let unknown = |line: &str| line.contains("No such option") && line.contains("--help");
    if output.status.success() || said.lines().any(unknown) || stumbles(&said, &question.program) {
        return Ok(());
    }
    let words = last_words(&said, &String::from_utf8_lossy(&output.stdout));
    let trouble = match settings.is_confined() && is_denied(&said) {
        true => Trouble::Denied,
        false => Trouble::Fails,
    };
    Err(Complaint { words, trouble })
}

/// Whether a wrapper script around the trainer fails in its own code rather than because a module or a file
/// is missing. It may parse its arguments and not expect `--help`, which jobs never pass, so this failure
/// proves nothing.
fn stumbles(said: &str, program: &Path) -> bool {
    const WANTS: [&str; 5] =
        ["ModuleNotFoundError", "ImportError", "OSError", "FileNotFoundError", "PermissionError"];
    let frame = said.lines().rev().find_map(|line| line.trim_start().strip_prefix("File \""));
    let is_own = frame.and_then(|rest| rest.split('"').next()) == program.to_str();
    is_own && !WANTS.iter().any(|error| said.contains(error))
}

/// Whether a program complains that the sandbox denied it something.
fn is_denied(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    ["permission denied", "operation not permitted", "not permitted"]
        .iter()
        .any(|words| said.contains(words))
}

/// What sleap-nn reports about its environment, for example PyTorch and CUDA. Older versions report
/// nothing. The error says that the program does not answer.
pub async fn system_report(
    settings: &RunnerSettings,
    patience: BoundedWait,
) -> Result<Option<String>, String> {
    let Ok(question) = settings.trainer_search().find_command("system") else {
        return Ok(None);
    };
    let output = match settings.answer(&question, patience).await {
        Ok(output) => output,
        Err(silent @ NoAnswer::Silent { .. }) => return Err(silent.to_string()),
        Err(NoAnswer::Failed(_)) => return Ok(None),
    };
    let report = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success().then(|| report.chars().take(MAX_REPORT_CHARS).collect()))
}

/// The last line with content.
fn last_words(stderr: &str, stdout: &str) -> String {
    let says = |line: &&str| line.chars().any(char::is_alphanumeric);
    let line = stderr.lines().rev().find(says).or_else(|| stdout.lines().rev().find(says));
    let line = line.unwrap_or("it fails without a message").trim_matches(['│', '╭', '╰', '─', ' ']);
    Printable::line(line, MAX_WORDS_CHARS).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    const PATIENCE: BoundedWait = BoundedWait { limit: Duration::from_secs(4), announce: |_| {} };

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
        let settings = RunnerSettings { search_path, trainer, ..RunnerSettings::default() };
        Trainers::find(&settings, PATIENCE).await
    }

    const WORKS: &str = "[ \"$1\" = --version ] && echo 'sleap-nn 0.3.5'; exit 0";

    #[tokio::test]
    async fn every_trainer_is_found_with_its_version() {
        for name in ["sleap-nn", "sleap"] {
            let found = found(&[(name, WORKS)], None).await;
            assert_eq!(found.version.known(), Some("0.3.5"), "{name}");
            assert_eq!(found.problems(), [""; 0], "{name}");
        }
        let legacy = found(&[("sleap-train", "exit 1")], None).await;
        assert!(matches!(legacy.training, Trainer::Legacy(_)));
        assert!(matches!(legacy.inference, Trainer::Missing(_)));
        let named = found(&[("wrap", WORKS), ("sleap-nn", "exit 1")], Some("wrap run sleap-nn"));
        assert_eq!(named.await.problems(), [""; 0]);
    }

    #[tokio::test]
    async fn broken_trainers_are_detected() {
        let no_option = "echo 'Error: No such option: --config-name' >&2; exit 2";
        let no_torch = "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1";
        for (script, words) in
            [(no_option, "--config-name"), (no_torch, "'torch'"), ("exit 3", "without a message")]
        {
            let problems = found(&[("sleap", script)], None).await.problems();
            assert!(problems[0].contains(words), "{problems:?}");
        }
        let none = found(&[], None).await.problems();
        assert!(none.len() == 1 && none[0].contains("uv tool install"), "{none:?}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_waited_for_once_and_named() {
        let start = Instant::now();
        let mute = found(&[("sleap-nn", "/bin/sleep 600")], None).await;
        let problem = &mute.problems()[0];
        assert!(problem.contains("sleap-nn train --help` does not answer within 4 s"), "{problem}");
        assert!(start.elapsed() < PATIENCE.limit * 2);
        let late =
            found(&[("sleap-nn", "[ \"$1\" = --version ] && /bin/sleep 600; exit 0")], None).await;
        assert_eq!(late.problems(), [""; 0]);
        assert!(
            matches!(&late.version, TrainerVersion::Silent(words) if words.contains("--version`"))
        );
    }

    #[tokio::test]
    async fn a_wrapper_that_goes_on_after_the_help_has_answered() {
        let version = "[ \"$1\" = --version ] && { echo 'sleap-nn 0.3.5'; exit 0; }";
        let tidies_up = format!("{version}; echo ' Usage: sleap-nn train'; /bin/sleep 600");
        let found = found(&[("sleap-nn", tidies_up.as_str())], None).await;
        assert_eq!((found.problems(), found.version.known()), (Vec::new(), Some("0.3.5")));
    }

    #[tokio::test]
    async fn a_front_that_stumbles_over_the_question_counts_as_working() {
        let stumble =
            "printf 'Traceback:\\n  File \"%s\", line 3\\nValueError: no config\\n' $0 >&2; exit 1";
        assert_eq!(found(&[("sleap-nn", stumble)], None).await.problems(), [""; 0]);
        let elsewhere = stumble.replace("$0", "/lib/torch.py");
        let lacks = stumble.replace("ValueError", "ModuleNotFoundError");
        for broken in [elsewhere, lacks] {
            let found = found(&[("sleap-nn", broken.as_str())], None).await;
            assert_eq!(found.problems().len(), 1, "{found:?}");
        }
    }

    #[tokio::test]
    async fn older_versions_name_predictions_differently() {
        let old =
            "[ \"$1\" = predict ] && { echo \"No such command 'predict'\" >&2; exit 2; }; exit 0";
        let found = found(&[("sleap-nn", old)], None).await;
        assert!(matches!(found.inference, Trainer::Works(_)), "{found:?}");
    }
}
