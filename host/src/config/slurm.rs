//! Which jobs Slurm gets, and how: `[worker] executor` and `[worker.slurm]`.

use super::values::{Time, time_within};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What runs a worker's jobs.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ExecutorConfig {
    /// The worker's own machine.
    #[default]
    Local,
    /// A Slurm cluster.
    Slurm,
}

/// `[worker.slurm]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SlurmConfig {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--qos`.
    pub qos: Option<String>,
    /// `--gres`.
    pub gres: Option<String>,
    /// The longest time that a job may run.
    pub time_limit: Option<Duration>,
    /// How many times its estimate a job gets.
    pub time_factor: Option<f64>,
    /// Further options of `sbatch`, with their values.
    pub options: Vec<(String, String)>,
    /// Lines of shell before a job starts.
    pub environment: Vec<String>,
    /// The time between two calls of `squeue`.
    pub ask_every: Duration,
    /// How long a job that Slurm has lost may show no life.
    pub lost_after: Duration,
}

/// `executor`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ExecutorName(pub(crate) ExecutorConfig);

impl TryFrom<String> for ExecutorName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "local" => Ok(Self(ExecutorConfig::Local)),
            "slurm" => Ok(Self(ExecutorConfig::Slurm)),
            _ => Err(format!("expects \"local\" or \"slurm\", not {text:?}")),
        }
    }
}

/// `[worker.slurm]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileSlurm {
    partition: Option<Word>,
    account: Option<Word>,
    qos: Option<Word>,
    gres: Option<Word>,
    time_limit: Option<Time>,
    #[serde(deserialize_with = "factor")]
    time_factor: Option<f64>,
    options: SbatchOptions,
    environment: Vec<ShellLine>,
    #[serde(deserialize_with = "time_within::<1, 3600, _>")]
    ask_every: Duration,
    #[serde(deserialize_with = "time_within::<10, 86_400, _>")]
    lost_after: Duration,
}

impl Default for FileSlurm {
    fn default() -> Self {
        Self {
            partition: None,
            account: None,
            qos: None,
            gres: None,
            time_limit: None,
            time_factor: None,
            options: SbatchOptions::default(),
            environment: Vec::new(),
            ask_every: Duration::from_secs(10),
            lost_after: Duration::from_secs(300),
        }
    }
}

impl From<FileSlurm> for SlurmConfig {
    fn from(file: FileSlurm) -> Self {
        let word = |word: Option<Word>| word.map(|Word(word)| word);
        Self {
            partition: word(file.partition),
            account: word(file.account),
            qos: word(file.qos),
            gres: word(file.gres),
            time_limit: file.time_limit.map(|Time(time)| time),
            time_factor: file.time_factor,
            options: file.options.0,
            environment: file.environment.into_iter().map(|ShellLine(line)| line).collect(),
            ask_every: file.ask_every,
            lost_after: file.lost_after,
        }
    }
}

impl Default for SlurmConfig {
    fn default() -> Self {
        FileSlurm::default().into()
    }
}

fn factor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let factor = f64::deserialize(deserializer)?;
    match (1.0..=100.0).contains(&factor) {
        true => Ok(Some(factor)),
        false => Err(D::Error::custom(format_args!("expects 1.0 to 100.0, not {factor}"))),
    }
}

/// A value of an option: one printable word.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Word(String);

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_word =
            !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace());
        if is_word { Ok(Self(text)) } else { Err(format!("expects a word, not {text:?}")) }
    }
}

/// A line of a shell script.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct ShellLine(String);

impl TryFrom<String> for ShellLine {
    type Error = String;

    fn try_from(line: String) -> Result<Self, String> {
        match line.chars().any(char::is_control) {
            true => Err(format!("expects one line for each element, not {line:?}")),
            false => Ok(Self(line)),
        }
    }
}

/// Options of `sbatch` from the list of those that may be set.
#[derive(Default)]
struct SbatchOptions(Vec<(String, String)>);

impl<'de> Deserialize<'de> for SbatchOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SbatchVisitor)
    }
}

struct SbatchVisitor;

impl<'de> Visitor<'de> for SbatchVisitor {
    type Value = SbatchOptions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of options of sbatch")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SbatchOptions, A::Error> {
        let map: BTreeMap<SbatchName, SbatchValue> =
            BTreeMap::deserialize(MapAccessDeserializer::new(map))?;
        let options = map.into_iter().map(|(SbatchName(name), SbatchValue(value))| (name, value));
        Ok(SbatchOptions(options.collect()))
    }
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct SbatchName(String);

impl TryFrom<String> for SbatchName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match SBATCH_OPTIONS.contains(&name.as_str()) {
            true => Ok(Self(name)),
            false => Err(format!(
                "is none of the options that may be set: {}",
                SBATCH_OPTIONS.join(", ")
            )),
        }
    }
}

struct SbatchValue(String);

impl<'de> Deserialize<'de> for SbatchValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl Visitor<'_> for ValueVisitor {
    type Value = SbatchValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word or a number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SbatchValue, E> {
        Word::try_from(text.to_owned()).map(|Word(word)| SbatchValue(word)).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<SbatchValue, E> {
        Ok(SbatchValue(number.to_string()))
    }
}

/// The further options of `sbatch` that an operator may set. Others would break what the worker relies on.
const SBATCH_OPTIONS: &[&str] = &[
    "comment",
    "constraint",
    "cpus-per-gpu",
    "cpus-per-task",
    "exclude",
    "gpus",
    "licenses",
    "mem",
    "mem-per-cpu",
    "mem-per-gpu",
    "nice",
    "nodelist",
    "prefer",
    "reservation",
    "tmp",
    "wckey",
];
