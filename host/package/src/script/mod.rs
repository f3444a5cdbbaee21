//! Reads the scripts that SLEAP and people write, without ever running them.
//!
//! A script is hostile text. It is split into words as a shell does. Each command in it is either
//! understood, known to have no effect, or refused with its line. From what was understood, a job builds
//! the trainers' commands anew.

pub mod options;
mod paths;
mod program;
mod shell;
mod text;
mod track;
mod train;

pub use paths::{Folder, NamedPath, is_foreign};
pub use text::decode;
pub use track::Frames;
pub use train::{ListedJob, RUN_NAME, plain_name};

use program::Program;
use shell::{ShellCommand, Word, assignment};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::{PathError, RelPath};
use sleap_rtc_protocol::text::Printable;

/// The longest script to parse, in bytes.
pub const MAX_SCRIPT_BYTES: u64 = 64 * 1024;
/// The most trainer runs that one script may ask for.
const MAX_RUNS: usize = 32;
/// The most characters of a line that an error quotes.
const QUOTED_CHARS: usize = 200;

/// One of the scripts of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptFile {
    /// `train-script.sh`.
    Train,
    /// `inference-script.sh`, which runs after the training.
    Inference,
    /// `track-script.sh`.
    Track,
}

impl ScriptFile {
    /// Its name, at the top of the package.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train-script.sh",
            Self::Inference => "inference-script.sh",
            Self::Track => "track-script.sh",
        }
    }

    /// The script that a job of this type runs.
    pub const fn of(job_type: JobType) -> Self {
        match job_type {
            JobType::Training => Self::Train,
            JobType::Inference => Self::Track,
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Train => "`sleap-nn train`, `sleap-nn-train`, `sleap train`, `sleap-train`",
            Self::Inference | Self::Track => {
                "`sleap-nn track`, `sleap-nn predict`, `sleap track`, `sleap-track`"
            }
        }
    }
}

/// One run of a trainer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// Train one model from a YAML config.
    Train(Train),
    /// Train one model from a JSON config, as SLEAP exported up to 1.4.1.
    TrainLegacy(TrainLegacy),
    /// Predict with trained models.
    Track(Track),
}

impl Run {
    /// The name of this run in events: the config's stem, or `inference`.
    pub fn name(&self) -> String {
        match self {
            Self::Train(run) => stem(&run.config).to_owned(),
            Self::TrainLegacy(run) => stem(&run.config).to_owned(),
            Self::Track(_) => "inference".to_owned(),
        }
    }
}

/// A training run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Train {
    /// The YAML config.
    pub config: RelPath,
    /// The folder that the config's paths start from.
    pub folder: Folder,
    /// The name of the folder below `models/`: always one plain name.
    pub run_name: Option<String>,
    /// Settings that differ from the config.
    pub settings: Vec<ConfigOverride>,
    /// The files of the package that the config and the script name, once they have been looked for.
    pub files: Vec<RelPath>,
    /// `--prefix-map` and `--video-path-map`: the option, the old path, the new one.
    pub maps: Vec<(String, String, RelPath)>,
    /// Videos that the trainer would not find: the name in the labels, and the path for the
    /// trainer.
    pub videos: Vec<(String, String)>,
}

/// A training run of SLEAP up to 1.4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainLegacy {
    /// The JSON config.
    pub config: RelPath,
    /// The labels.
    pub labels: NamedPath,
    /// The name of the folder below `models/`, once it is known.
    pub run_name: Option<String>,
}

/// An inference run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Labels or a video.
    pub data: NamedPath,
    /// The path of the video to predict, if it is on one of the worker's mounts.
    pub mounted: Option<String>,
    /// Folders of trained models, in order.
    pub models: Vec<Model>,
    /// Where the predictions go.
    pub output: RelPath,
    /// Further options, each from a fixed list.
    pub options: Vec<TrackOption>,
}

impl Track {
    /// The value of an option that has one.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|option| option.name == name)?.value.as_deref()
    }

    /// Whether the option is set.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|option| option.name == name)
    }
}

/// A trained model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Model {
    /// A model in the package.
    Named(NamedPath),
    /// The model that an earlier run of this job makes, by the index of the run.
    Made(usize),
}

/// One setting of a config that the script changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigOverride {
    /// The dotted name.
    pub key: String,
    /// The new value.
    pub value: Value,
}

/// The new value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, which is quoted for Hydra.
    Text(String),
    /// A number, a YAML keyword, a list or a mapping, in Hydra's grammar.
    Bare(String),
    /// The setting is removed.
    Removed,
}

/// One option of the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackOption {
    /// The long option, from a fixed list.
    pub name: &'static str,
    /// Its value, if the option takes one.
    pub value: Option<String>,
}

/// What a script asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Trainer runs, in order; at least one.
    pub runs: Vec<Run>,
    /// Sentences about the parts that have no effect.
    pub remarks: Vec<String>,
}

/// Why a script is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// No line starts a trainer.
    #[error(
        "{script} has no line that starts a trainer (looked for {expected}); export the package \
         from SLEAP again"
    )]
    NoTrainer {
        /// The script's name.
        script: &'static str,
        /// What was looked for.
        expected: &'static str,
    },
    /// One of its lines is rejected.
    #[error("{script}, line {line}: {fault}; the line is: {text}")]
    Line {
        /// The script's name.
        script: &'static str,
        /// The number of the line, counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
        /// The line itself.
        text: String,
    },
    /// It is not text.
    #[error("{0} is UTF-16 that is cut short; save it as UTF-8")]
    Encoding(&'static str),
    /// It starts more trainers than any real script.
    #[error("{script} starts more than {MAX_RUNS} trainers")]
    TooMany {
        /// The script's name.
        script: &'static str,
    },
}

/// What is wrong with one line of a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Quotes do not match.
    #[error("its quotes do not match")]
    Quotes,
    /// A path leads out of the package.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A trainer would not read this path as a path.
    #[error("the path {0:?} is refused: it starts with a hyphen or contains a `$`")]
    Unsafe(String),
    /// It changes to a folder of another machine.
    #[error("`cd {0}` leaves the package; remove it")]
    Folder(String),
    /// The run name is not one plain name.
    #[error("the run name {0:?} is refused: it must be one plain file name")]
    RunName(String),
    /// Something that the command needs is missing.
    #[error("it names no {0}")]
    Missing(&'static str),
    /// The command does not take a config of this format.
    #[error("the config {0:?} is refused: `--config-name` takes a YAML file")]
    Config(String),
    /// Only a shell can do this.
    #[error(
        "`{0}` is refused: no shell runs the script, so write one command after the other, \
         without conditions, loops and pipes"
    )]
    Control(String),
    /// Only a shell could evaluate this.
    #[error("`{0}` is refused: no shell runs the script, so write what it stands for")]
    Opaque(String),
    /// It starts a program that is not a trainer.
    #[error(
        "`{0}` is refused: a worker runs trainers and nothing else; do it before you send the \
         package, and remove the line"
    )]
    Program(String),
    /// `timeout`, which would end the training.
    #[error("`timeout` is refused: a worker sets no time limit; stop the training instead")]
    TimeLimit,
    /// It starts a training in a script for predictions.
    #[error("it starts a training, and this script is for predictions only")]
    Training,
    /// The option is not known.
    #[error("the option `{0}` is not supported")]
    Option(String),
    /// The option does not take this value.
    #[error("the option `{option}` does not take {value:?}")]
    Value {
        /// The option.
        option: String,
        /// The value.
        value: String,
    },
    /// The setting must not be changed.
    #[error(
        "the setting `{0}` is refused: it is not a setting of the trainer, or contains a `${{…}}`"
    )]
    Setting(String),
    /// The line has an unexpected word.
    #[error("the word {0:?} is not understood")]
    Word(String),
}

/// Parses the text of a script.
pub fn parse(file: ScriptFile, text: &str) -> Result<Script, ScriptError> {
    parse_listed(file, text, &[])
}

/// Parses the text of a script whose package also lists these trainings.
pub fn parse_listed(
    file: ScriptFile,
    text: &str,
    listed: &[ListedJob],
) -> Result<Script, ScriptError> {
    let mut reader = Reader {
        file,
        folder: Folder::default(),
        script: Script { runs: Vec::new(), remarks: Vec::new() },
    };
    for command in shell::commands(file, &train::quote_legacy_names(text, listed))? {
        let line = command.line;
        let at = |fault| {
            let text = quoted_line(text, line);
            ScriptError::Line { script: file.name(), line, fault, text }
        };
        match reader.take(&command).map_err(at)? {
            Next::Continue if reader.script.runs.len() > MAX_RUNS => {
                return Err(ScriptError::TooMany { script: file.name() });
            }
            Next::Continue => {}
            Next::End => break,
        }
    }
    if reader.script.runs.is_empty() {
        let (script, expected) = (file.name(), file.expected());
        return Err(ScriptError::NoTrainer { script, expected });
    }
    Ok(reader.script)
}

/// Whether the script continues after a command.
enum Next {
    Continue,
    End,
}

/// Reads a script's commands, one after the other.
struct Reader {
    file: ScriptFile,
    /// The current folder, which `cd` changes.
    folder: Folder,
    script: Script,
}

/// Commands that prepare, print or wait, and have no effect on a trainer here.
const WITHOUT_EFFECT: &[&str] = &[
    ":",
    ".",
    "cat",
    "date",
    "deactivate",
    "df",
    "echo",
    "export",
    "free",
    "hostname",
    "ls",
    "mkdir",
    "ml",
    "module",
    "nvidia-smi",
    "pip",
    "printenv",
    "printf",
    "pwd",
    "set",
    "shopt",
    "sleep",
    "source",
    "trap",
    "true",
    "ulimit",
    "umask",
    "uname",
    "unset",
    "wait",
    "which",
    "whoami",
];
/// Programs that manage environments, and their commands that only prepare one.
const ENVIRONMENTS: &[&str] = &["conda", "mamba", "micromamba", "pixi", "poetry", "uv"];
const PREPARES: &[&str] =
    &["activate", "add", "deactivate", "info", "install", "list", "pip", "sync", "venv"];

impl Reader {
    fn take(&mut self, command: &ShellCommand) -> Result<Next, LineFault> {
        let words = &command.words;
        if let Some(found) = program::find(words)? {
            if !found.before.is_empty() {
                self.remark(command, format!("`{}` is ignored", joined(found.before)));
            }
            if let Some(file) = &command.writes_to {
                self.remark(command, format!("the output goes to the job's log, not to {file}"));
            }
            let run = self.run(command, &found)?;
            self.script.runs.push(run);
            return Ok(Next::Continue);
        }
        let name = program::base_name(&words[0].text);
        match name {
            "cd" | "pushd" => self.enter(words)?,
            "exit" | "return" => return Ok(Next::End),
            _ if words.iter().all(|word| assignment(&word.text).is_some()) => {}
            "sleap-nn" | "sleap" if words.get(1).is_some_and(|word| shows(&word.text)) => {
                self.ignore(command);
            }
            _ if is_without_effect(name, words) && command.writes_to.is_none() => {
                self.ignore(command);
            }
            _ => return Err(LineFault::Program(joined(words))),
        }
        Ok(Next::Continue)
    }

    fn run(
        &mut self,
        command: &ShellCommand,
        found: &program::FoundProgram<'_>,
    ) -> Result<Run, LineFault> {
        let mut words = Words { words: found.arguments, folder: &self.folder, remarks: Vec::new() };
        let run = match found.program {
            Program::Track => track::parse(&mut words)?,
            _ if self.file != ScriptFile::Train => return Err(LineFault::Training),
            Program::Train => train::parse(&mut words)?,
            Program::LegacyTrain => train::parse_legacy(&mut words)?,
        };
        for remark in words.remarks {
            self.remark(command, remark);
        }
        Ok(run)
    }

    fn ignore(&mut self, command: &ShellCommand) {
        self.remark(command, format!("`{}` is ignored", joined(&command.words)));
    }

    fn remark(&mut self, command: &ShellCommand, what: String) {
        self.script.remarks.push(format!("{}, line {}: {what}", self.file.name(), command.line));
    }

    /// `cd DIR`. The script's own folder is the top of the package.
    fn enter(&mut self, words: &[Word]) -> Result<(), LineFault> {
        let to = words[1..].iter().find(|word| word.text != "--");
        let Some(to) = to else { return Err(LineFault::Folder(String::new())) };
        let own = ["dirname", "${0%/*}", "$SLURM_SUBMIT_DIR", "$PBS_O_WORKDIR"];
        self.folder = match &to.opaque {
            None => self.folder.enter(&to.text)?,
            Some(written) if own.iter().any(|own| written.contains(own)) => Folder::default(),
            Some(written) => return Err(LineFault::Opaque(shortened(written))),
        };
        Ok(())
    }
}

fn is_without_effect(name: &str, words: &[Word]) -> bool {
    let second = words.get(1).map_or("", |word| word.text.as_str());
    WITHOUT_EFFECT.contains(&name) || ENVIRONMENTS.contains(&name) && PREPARES.contains(&second)
}

/// Commands of `sleap-nn` that only print something.
fn shows(word: &str) -> bool {
    matches!(word, "--version" | "--help" | "-h" | "-v" | "doctor" | "diagnostic" | "system")
}

/// The arguments of a trainer, one after the other.
struct Words<'a> {
    words: &'a [Word],
    /// The folder that paths start from.
    folder: &'a Folder,
    remarks: Vec<String>,
}

impl Words<'_> {
    fn next(&mut self) -> Result<Option<String>, LineFault> {
        let Some((word, rest)) = self.words.split_first() else { return Ok(None) };
        self.words = rest;
        match &word.opaque {
            None => Ok(Some(word.text.clone())),
            Some(written) => Err(LineFault::Opaque(shortened(written))),
        }
    }

    fn needed(&mut self, what: &'static str) -> Result<String, LineFault> {
        self.next()?.ok_or(LineFault::Missing(what))
    }

    fn peek(&self) -> Option<&str> {
        self.words.first().map(|word| word.text.as_str())
    }

    /// A path in the package that a trainer can mistake neither for an option nor for an
    /// interpolation.
    fn place(&self, text: &str) -> Result<NamedPath, LineFault> {
        if text.starts_with('-') || text.contains("${") {
            return Err(LineFault::Unsafe(shortened(text)));
        }
        Ok(self.folder.place(text)?)
    }

    fn remark(&mut self, what: String) {
        self.remarks.push(what);
    }
}

fn joined(words: &[Word]) -> String {
    shortened(&words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "))
}

fn shortened(text: &str) -> String {
    Printable::line(text, QUOTED_CHARS).into()
}

/// Line `number` of `text`, counted from 1, with its continuation lines.
fn quoted_line(text: &str, number: usize) -> String {
    let mut quoted = String::new();
    for line in text.lines().skip(number.saturating_sub(1)).take(8) {
        let (part, continues) = match line.trim().strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line.trim(), false),
        };
        quoted.push_str(part);
        if !continues {
            break;
        }
    }
    shortened(&quoted)
}

/// A file name without its last ending.
pub(crate) fn stem(path: &RelPath) -> &str {
    let name = path.file_name();
    name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem })
}

#[cfg(test)]
mod tests;
