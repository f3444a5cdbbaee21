//! Reads the scripts that SLEAP and people write, without ever running them.
//!
//! A script is hostile text. It is split by the rules of shell words, and each command in it is
//! either followed, known to be of no account, or refused with its line. A job builds
//! the trainers' commands anew from what was understood.

pub mod options;
mod place;
mod program;
mod shell;
mod text;
mod track;
mod train;

pub use place::{Folder, Place, is_foreign};
pub use text::decode;
pub use track::Frames;
pub use train::{ListedJob, RUN_NAME, plain_name};

use program::Program;
use shell::{Command, Word, assignment};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::{PathError, RelPath};

/// The longest script that is read, in bytes.
pub const MAX_SCRIPT_BYTES: u64 = 64 * 1024;
/// The most trainer runs that one script may ask for.
const MAX_RUNS: usize = 32;
/// How much of a line an error quotes, in characters.
const QUOTED_CHARS: usize = 200;

/// One of the scripts of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptFile {
    /// `train-script.sh`.
    Train,
    /// `inference-script.sh`, for after the training.
    Inference,
    /// `track-script.sh`.
    Track,
}

impl ScriptFile {
    /// Its name, at the package's top.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train-script.sh",
            Self::Inference => "inference-script.sh",
            Self::Track => "track-script.sh",
        }
    }

    /// The script that a job of this kind is made for.
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

/// One trainer process to come.
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
    /// The config's stem, or `inference`: how events name this run.
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
    /// From where the config's own paths are seen.
    pub folder: Folder,
    /// Name of the folder below `models/`: always one plain name.
    pub run_name: Option<String>,
    /// Settings that differ from the config.
    pub settings: Vec<Setting>,
    /// The files of the package that config and script name, where they have been looked for.
    pub files: Vec<RelPath>,
    /// `--prefix-map` and `--video-path-map`: the option, the old path, the new one.
    pub maps: Vec<(String, String, RelPath)>,
    /// Videos that the trainer would not find: the name in the labels, and where they are.
    pub videos: Vec<(String, String)>,
}

/// A training run of SLEAP up to 1.4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainLegacy {
    /// The JSON config.
    pub config: RelPath,
    /// The labels.
    pub labels: Place,
    /// Name of the folder below `models/`, where it is settled.
    pub run_name: Option<String>,
}

/// An inference run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Labels or a video.
    pub data: Place,
    /// Where the video to predict is, if it is on one of the worker's mounts.
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

    /// Whether an option is there.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|option| option.name == name)
    }
}

/// A trained model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Model {
    /// One of the package.
    Named(Place),
    /// The one that an earlier run of this job makes, by its place among them.
    Made(usize),
}

/// One setting of a config that the script changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The dotted name.
    pub key: String,
    /// The new value.
    pub value: Value,
}

/// What a setting may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, which Hydra gets in quotes.
    Text(String),
    /// A number, a word of YAML, a list or a mapping: Hydra's grammar as it stands.
    Bare(String),
    /// The setting is removed.
    Removed,
}

/// One option of the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackOption {
    /// The long option, from a fixed list.
    pub name: &'static str,
    /// Its value, where the option takes one.
    pub value: Option<String>,
}

/// What a script asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Trainer runs, in order; at least one.
    pub runs: Vec<Run>,
    /// What of it has no effect, in words.
    pub remarks: Vec<String>,
}

/// Why a script cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// Nothing in it starts a trainer.
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
    /// One of its lines cannot be followed.
    #[error("{script}, line {line}: {fault}; the line is: {text}")]
    Line {
        /// The script's name.
        script: &'static str,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
        /// The line itself.
        text: String,
    },
    /// Its text cannot be read.
    #[error("{0} is UTF-16 that is cut short; save it as UTF-8")]
    Encoding(&'static str),
    /// More runs than any honest script has.
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
    /// A path in it leaves the package.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A path that a trainer would not take as a path.
    #[error("the path {0:?} is refused: it starts with a hyphen or holds a `$`")]
    Unsafe(String),
    /// A folder of another machine.
    #[error("`cd {0}` leaves the package; remove it")]
    Folder(String),
    /// The run name is not one plain name.
    #[error("the run name {0:?} is refused: it must be one plain file name")]
    RunName(String),
    /// Something needed is not there.
    #[error("it names no {0}")]
    Missing(&'static str),
    /// The config is of a kind that this command does not take.
    #[error("the config {0:?} is refused: `--config-name` takes a YAML file")]
    Config(String),
    /// Something that only a shell can do.
    #[error(
        "`{0}` is refused: no shell runs the script, so write one command after the other, \
         without conditions, loops and pipes"
    )]
    Control(String),
    /// Something that only a shell could work out.
    #[error("`{0}` is refused: no shell runs the script, so write what it stands for")]
    Opaque(String),
    /// Neither a trainer nor something of no account.
    #[error(
        "`{0}` is refused: a worker runs trainers and nothing else; do it before you send the \
         package, and remove the line"
    )]
    Program(String),
    /// `timeout`, which would end the training.
    #[error("`timeout` is refused: a worker sets no time limit; stop the training instead")]
    TimeLimit,
    /// A training where only predictions are made.
    #[error("it starts a training, which this script cannot")]
    Training,
    /// An option that is not known.
    #[error("the option `{0}` is not supported")]
    Option(String),
    /// A value that the option does not take.
    #[error("the option `{option}` does not take {value:?}")]
    Value {
        /// The option.
        option: String,
        /// What follows it.
        value: String,
    },
    /// A setting that is not passed on.
    #[error("the setting `{0}` is refused: it is none of the trainer's, or holds a `${{…}}`")]
    Setting(String),
    /// One word too many.
    #[error("the word {0:?} is not understood")]
    Word(String),
}

/// Parses the text of a script.
pub fn parse(file: ScriptFile, text: &str) -> Result<Script, ScriptError> {
    parse_listed(file, text, &[])
}

/// Parses the text of a script whose package lists these trainings, too.
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
            Next::GoOn if reader.script.runs.len() > MAX_RUNS => {
                return Err(ScriptError::TooMany { script: file.name() });
            }
            Next::GoOn => {}
            Next::End => break,
        }
    }
    if reader.script.runs.is_empty() {
        let (script, expected) = (file.name(), file.expected());
        return Err(ScriptError::NoTrainer { script, expected });
    }
    Ok(reader.script)
}

/// Whether the script has a command after this one.
enum Next {
    GoOn,
    End,
}

/// Goes through a script's commands.
struct Reader {
    file: ScriptFile,
    /// Where `cd` has led to.
    folder: Folder,
    script: Script,
}

/// Commands that prepare, show or wait, and change nothing that a trainer does here.
const OF_NO_ACCOUNT: &[&str] = &[
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
/// Programs that keep environments, and what of theirs only prepares one.
const ENVIRONMENTS: &[&str] = &["conda", "mamba", "micromamba", "pixi", "poetry", "uv"];
const PREPARES: &[&str] =
    &["activate", "add", "deactivate", "info", "install", "list", "pip", "sync", "venv"];

impl Reader {
    fn take(&mut self, command: &Command) -> Result<Next, LineFault> {
        let words = &command.words;
        if let Some(found) = program::find(words)? {
            if !found.before.is_empty() {
                self.remark(command, format!("`{}` is passed over", joined(found.before)));
            }
            if let Some(file) = &command.writes_to {
                self.remark(command, format!("what is printed is in the job's log, not in {file}"));
            }
            let run = self.run(command, &found)?;
            self.script.runs.push(run);
            return Ok(Next::GoOn);
        }
        let name = program::base_name(&words[0].text);
        match name {
            "cd" | "pushd" => self.enter(words)?,
            "exit" | "return" => return Ok(Next::End),
            _ if words.iter().all(|word| assignment(&word.text).is_some()) => {}
            "sleap-nn" | "sleap" if words.get(1).is_some_and(|word| shows(&word.text)) => {
                self.pass_over(command);
            }
            _ if is_of_no_account(name, words) && command.writes_to.is_none() => {
                self.pass_over(command);
            }
            _ => return Err(LineFault::Program(joined(words))),
        }
        Ok(Next::GoOn)
    }

    fn run(
        &mut self,
        command: &Command,
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

    fn pass_over(&mut self, command: &Command) {
        self.remark(command, format!("`{}` is passed over", joined(&command.words)));
    }

    fn remark(&mut self, command: &Command, what: String) {
        self.script.remarks.push(format!("{}, line {}: {what}", self.file.name(), command.line));
    }

    /// `cd DIR`. The folder in which the script lies is the package's top.
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

fn is_of_no_account(name: &str, words: &[Word]) -> bool {
    let second = words.get(1).map_or("", |word| word.text.as_str());
    OF_NO_ACCOUNT.contains(&name) || ENVIRONMENTS.contains(&name) && PREPARES.contains(&second)
}

/// Words of `sleap-nn` that only show something.
fn shows(word: &str) -> bool {
    matches!(word, "--version" | "--help" | "-h" | "-v" | "doctor" | "diagnostic" | "system")
}

/// The arguments of a trainer, one after the other.
struct Words<'a> {
    words: &'a [Word],
    /// From where paths are seen.
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

    /// A path of the package that no trainer takes for an option or an interpolation.
    fn place(&self, text: &str) -> Result<Place, LineFault> {
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
    text.chars().filter(|c| !c.is_control()).take(QUOTED_CHARS).collect()
}

/// Line `number` of `text`, counted from 1, with the lines that go on with it.
fn quoted_line(text: &str, number: usize) -> String {
    let mut quoted = String::new();
    for line in text.lines().skip(number.saturating_sub(1)).take(8) {
        let (part, goes_on) = match line.trim().strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line.trim(), false),
        };
        quoted.push_str(part);
        if !goes_on {
            break;
        }
    }
    shortened(&quoted)
}

/// A file name without its last ending.
pub(super) fn stem(path: &RelPath) -> &str {
    let name = path.file_name();
    name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem })
}

#[cfg(test)]
mod tests;
