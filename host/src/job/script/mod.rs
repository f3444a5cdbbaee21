//! Reads the scripts that SLEAP writes, without ever running them.
//!
//! A script is hostile text. It is split by the rules of shell words, and only what is understood
//! is kept: which config, which run name, a few harmless settings. [`super::command`] builds the
//! command anew from that.

mod track;
mod train;

use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::{PathError, RelPath};

/// The longest script that is read, in bytes.
pub const MAX_SCRIPT_BYTES: u64 = 64 * 1024;
/// The most trainer runs that one script may ask for.
const MAX_RUNS: usize = 32;

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

    /// What the package must hold for this run: files, or folders for models.
    pub fn needs(&self) -> Vec<&RelPath> {
        match self {
            Self::Train(run) => vec![&run.config],
            Self::TrainLegacy(run) => vec![&run.config, &run.labels],
            Self::Track(run) => std::iter::once(&run.data).chain(&run.models).collect(),
        }
    }
}

/// A training run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Train {
    /// The YAML config.
    pub config: RelPath,
    /// Name of the folder below `models/`: always one plain name.
    pub run_name: Option<String>,
    /// Settings that differ from the config.
    pub overrides: Vec<Override>,
}

/// A training run of SLEAP up to 1.4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainLegacy {
    /// The JSON config.
    pub config: RelPath,
    /// The labels.
    pub labels: RelPath,
}

/// An inference run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Labels or a video.
    pub data: RelPath,
    /// Folders of trained models, in order.
    pub models: Vec<RelPath>,
    /// Where the predictions go.
    pub output: RelPath,
    /// Further options, each from a fixed list.
    pub options: Vec<TrackOption>,
}

/// One setting of a config that the script changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The dotted name, from a fixed list.
    pub key: &'static str,
    /// The new value.
    pub value: OverrideValue,
}

/// What a setting may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverrideValue {
    /// A number or a plain word.
    Scalar(String),
    /// Files of the package.
    Paths(Vec<RelPath>),
}

/// One option of `sleap-nn track`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackOption {
    /// The long option, from a fixed list.
    pub name: &'static str,
    /// A number or a plain word, where the option takes one.
    pub value: Option<String>,
}

/// What a script asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Trainer runs, in order; at least one.
    pub runs: Vec<Run>,
    /// What was left out, in words.
    pub warnings: Vec<String>,
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
    #[error("{script}, line {line}: {fault}")]
    Line {
        /// The script's name.
        script: &'static str,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
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
    /// The run name is not one plain name.
    #[error("the run name {0:?} is refused: it must be one plain file name")]
    RunName(String),
    /// Something needed is not there.
    #[error("it names no {0}")]
    Missing(&'static str),
    /// The config is of a kind that this command does not take.
    #[error("the config {0:?} is refused: `--config-name` takes a YAML file")]
    Config(String),
}

/// Parses the text of a `train-script.sh` or `track-script.sh`.
pub fn parse(job_type: JobType, text: &str) -> Result<Script, ScriptError> {
    let script = job_type.script_name();
    let mut parsed = Script { runs: Vec::new(), warnings: Vec::new() };
    for (line, command) in logical_lines(text) {
        let at = |fault| ScriptError::Line { script, line, fault };
        let words = match shell_words::split(&command) {
            Ok(words) => words,
            Err(_) if names_trainer(job_type, &command) => return Err(at(LineFault::Quotes)),
            Err(_) => Vec::new(),
        };
        let Some((program, arguments)) = trainer(job_type, &words) else {
            let start: String = command.chars().take(60).collect();
            parsed.warnings.push(format!("{script}, line {line} is ignored: {start}"));
            continue;
        };
        if parsed.runs.len() == MAX_RUNS {
            return Err(ScriptError::TooMany { script });
        }
        let mut dropped = Vec::new();
        let run = match program {
            Program::Train => train::parse(arguments, &mut dropped),
            Program::LegacyTrain => train::parse_legacy(arguments, &mut dropped),
            Program::Track => track::parse(arguments, &mut dropped),
        }
        .map_err(at)?;
        parsed.warnings.extend(
            dropped.into_iter().map(|word| format!("{script}, line {line}: {word} is left out")),
        );
        parsed.runs.push(run);
    }
    if parsed.runs.is_empty() {
        return Err(ScriptError::NoTrainer { script, expected: expected(job_type) });
    }
    separate_run_names(&mut parsed.runs);
    Ok(parsed)
}

fn expected(job_type: JobType) -> &'static str {
    match job_type {
        JobType::Training => "`sleap-nn train`, `sleap-nn-train`, `sleap train`, `sleap-train`",
        JobType::Inference => "`sleap-nn track`, `sleap-nn-track`, `sleap track`, `sleap-track`",
    }
}

enum Program {
    Train,
    LegacyTrain,
    Track,
}

/// Which trainer these words start, and with what.
fn trainer(job_type: JobType, words: &[String]) -> Option<(Program, &[String])> {
    let (first, rest) = words.split_first()?;
    let program = first.rsplit(['/', '\\']).next()?;
    let second = rest.first().map(String::as_str);
    let after = rest.get(1..).unwrap_or_default();
    match (job_type, program, second) {
        (JobType::Training, "sleap-nn" | "sleap", Some("train")) => Some((Program::Train, after)),
        (JobType::Training, "sleap-nn-train", _) => Some((Program::Train, rest)),
        (JobType::Training, "sleap-train", _) if rest.iter().any(|w| w == "--config-name") => {
            Some((Program::Train, rest))
        }
        (JobType::Training, "sleap-train", _) => Some((Program::LegacyTrain, rest)),
        (JobType::Inference, "sleap-nn" | "sleap", Some("track" | "predict")) => {
            Some((Program::Track, after))
        }
        (JobType::Inference, "sleap-nn-track" | "sleap-nn-predict", _)
        | (JobType::Inference, "sleap-track" | "sleap-predict", _) => Some((Program::Track, rest)),
        _ => None,
    }
}

/// Whether a line that cannot be split was meant to start a trainer.
fn names_trainer(job_type: JobType, command: &str) -> bool {
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    trainer(job_type, &words).is_some()
}

/// Lines without comments and blanks, continuations joined, each with the number it starts at.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, raw) in text.lines().enumerate() {
        let line = raw.trim();
        if open.is_none() && (line.is_empty() || line.starts_with('#')) {
            continue;
        }
        let (_, joined) = open.get_or_insert_with(|| (index + 1, String::new()));
        match line.strip_suffix('\\') {
            Some(part) => {
                joined.push_str(part);
                joined.push(' ');
            }
            None => {
                joined.push_str(line);
                lines.extend(open.take());
            }
        }
    }
    lines.extend(open);
    lines
}

/// Two runs of one name would write into one folder: the later ones get their config's name too.
fn separate_run_names(runs: &mut [Run]) {
    let mut seen = std::collections::HashSet::new();
    for (index, run) in runs.iter_mut().enumerate() {
        let Run::Train(train) = run else { continue };
        let Some(name) = &mut train.run_name else { continue };
        if !seen.insert(name.clone()) {
            *name = format!("{name}.{}", stem(&train.config));
            if !seen.insert(name.clone()) {
                *name = format!("{name}.{index}");
                seen.insert(name.clone());
            }
        }
    }
}

/// A file name without its last ending.
fn stem(path: &RelPath) -> &str {
    let name = path.file_name();
    name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem })
}

/// A path of the package that no trainer takes for an option or an interpolation.
fn package_path(text: &str) -> Result<RelPath, LineFault> {
    let text = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
    if text.starts_with('-') || text.contains('$') {
        return Err(LineFault::Unsafe(text.chars().take(120).collect()));
    }
    Ok(RelPath::new(text)?)
}

/// A number or a plain word.
fn is_plain(value: &str) -> bool {
    let number = value.parse::<f64>().is_ok();
    let word = |c: char| c.is_ascii_alphanumeric() || "_.,:+-".contains(c);
    !value.is_empty()
        && value.len() <= 128
        && (number || (!value.starts_with('-') && value.chars().all(word)))
}

#[cfg(test)]
mod tests;
