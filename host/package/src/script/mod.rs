//! Reads the scripts that SLEAP and people write, without ever running them.
//!
//! A script is hostile text. It is split into words as a shell does. Each command in it is either
//! understood, known to have no effect, or refused with its line. From what was understood, a job builds
//! the trainers' commands anew.

mod error;
pub mod options;
mod paths;
mod program;
mod reader;
mod shell;
mod text;
mod track;
mod train;
mod words;

pub use error::{LineFault, ScriptError};
pub use paths::{Folder, NamedPath, is_foreign};
pub use text::decode;
pub use track::Frames;
pub use train::{ListedJob, RUN_NAME, plain_name, quoted};

use reader::{Next, Reader};
use shell::Word;
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::RelPath;
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
            Self::Train(run) => stem(&run.config.path).to_owned(),
            Self::TrainLegacy(run) => stem(&run.config.path).to_owned(),
            Self::Track(_) => "inference".to_owned(),
        }
    }
}

/// A training run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Train {
    /// The YAML config.
    pub config: NamedPath,
    /// The folder that the config's paths start from.
    pub folder: Folder,
    /// The name of the folder below `models/`, once it is known. As it is written until then.
    pub run_name: Option<String>,
    /// Settings that differ from the config.
    pub settings: Vec<ConfigOverride>,
    /// The files of the package that the config and the script name, once they have been looked for.
    pub files: Vec<RelPath>,
    /// `--prefix-map` and `--video-path-map`.
    pub maps: Vec<PathMap>,
    /// Videos that the trainer would not find: the name in the labels, and the path for the
    /// trainer.
    pub videos: Vec<(String, String)>,
}

/// A path of the labels that a training replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathMap {
    /// `--prefix-map` or `--video-path-map`.
    pub option: String,
    /// The path in the labels.
    pub old: String,
    /// The path in the package.
    pub new: RelPath,
}

/// A training run of SLEAP up to 1.4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainLegacy {
    /// The JSON config.
    pub config: NamedPath,
    /// The labels.
    pub labels: NamedPath,
    /// The name of the folder below `models/`, once it is known.
    pub run_name: Option<String>,
    /// Further files that the config names, as they are written and in the package, once they have been
    /// looked for.
    pub files: Vec<(String, RelPath)>,
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
    let mut reader = Reader::new(file);
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
