//! Puts recorded questions to another plugin, and finds where it decides otherwise.
//!
//! Everything here blocks.

use super::answers::{Placed, Ranking, Verdict};
use super::bindings::types::{Job, Worker};
use super::component::Failure;
use super::examine::{Candidate, ExamineError, PluginFile};
use super::questions::order::OrderLine;
use super::questions::{Check, EstimateDuration, Question, Select};
use super::record::{RecordLine, RecordedAnswer, older};
use super::{Estimate, ExtensionPoint, PluginConfig};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The longest line to read. Longer ones are never written.
const LINE_BYTES: u64 = 8 << 20;

/// Why a record cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("cannot read the record {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The record has none of the decisions that were asked for.
    #[error("{} has no decisions of {plugin}; it has those of {others}", .path.display())]
    NoneOf {
        /// The file.
        path: PathBuf,
        /// The plugin.
        plugin: String,
        /// The plugins in the record.
        others: String,
    },
    /// The record has no question that the plugin answers.
    #[error("{} has no decisions that {plugin} could make", .path.display())]
    NoneFor {
        /// The file.
        path: PathBuf,
        /// The plugin.
        plugin: String,
    },
    /// The plugin cannot be used.
    #[error(transparent)]
    Plugin(#[from] ExamineError),
}

/// How a decision differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DecisionChange {
    /// Another worker is first, or nobody, or somebody instead of nobody.
    First,
    /// The first worker is the same, and the order or the set of the others is not.
    Others,
    /// The worker refuses what it took.
    Refuses,
    /// The worker takes what it refused.
    Takes,
    /// It refuses as before, for other reasons.
    Reasons,
    /// Another duration.
    Duration,
    /// Another job starts next.
    Next,
    /// The same job starts next, and the others start in another order.
    Order,
    /// The plugin fails where the recorded one answered.
    Fails,
    /// The plugin answers where the recorded one failed.
    Answers,
}

impl DecisionChange {
    /// The words of a summary, after the number of decisions.
    pub fn text(self) -> &'static str {
        match self {
            Self::First => "another first worker",
            Self::Others => "the same first worker, others in another order",
            Self::Refuses => "refused instead of taken",
            Self::Takes => "taken instead of refused",
            Self::Reasons => "refused for other reasons",
            Self::Duration => "another duration",
            Self::Next => "another next job",
            Self::Order => "the same next job, others in another order",
            Self::Fails => "failed instead of answered",
            Self::Answers => "answered instead of failed",
        }
    }
}

/// A decision that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// When it was recorded, in milliseconds since 1970.
    pub at_ms: u64,
    /// What was asked.
    pub point: ExtensionPoint,
    /// The job, in a few words.
    pub job: String,
    /// The recorded answer.
    pub before: String,
    /// The new answer.
    pub after: String,
    /// The kind of difference.
    pub change: DecisionChange,
}

impl Difference {
    /// When it was recorded, as text in UTC.
    pub fn time(&self) -> String {
        let ms = i64::try_from(self.at_ms).ok();
        let at = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        at.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
    }
}

/// The outcome of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The decisions that were put to the plugin.
    pub decisions: usize,
    /// Those that differ, in the order of the record.
    pub differences: Vec<Difference>,
    /// Lines that are damaged, or of another version of this program.
    pub unreadable: usize,
}

impl Replayed {
    /// How many decisions changed in each way.
    pub fn changes(&self) -> BTreeMap<DecisionChange, usize> {
        let mut counted = BTreeMap::new();
        for difference in &self.differences {
            *counted.entry(difference.change).or_default() += 1;
        }
        counted
    }
}

/// The part of a line that tells whose decision it is.
#[derive(Deserialize)]
struct LineHead {
    point: String,
    plugin: String,
}

/// Puts the decisions recorded in `path` to `plugin`: those of the plugin called `of` or, without it, those of
/// the plugin with the same name or, if there are none, all that it could make.
///
/// # Errors
///
/// Fails if the record cannot be read or has no such decisions, or if the plugin cannot be used.
pub fn replay(
    path: &Path,
    plugin: &PluginFile,
    config: &PluginConfig,
    of: Option<&str>,
) -> Result<Replayed, ReplayError> {
    let mut candidates = Vec::new();
    for point in plugin.points() {
        candidates.push((point, plugin.load(point, config)?));
    }
    if candidates.is_empty() {
        return Err(plugin.exports_nothing().into());
    }
    let names = names(path)?;
    let of = match of {
        Some(of) if !names.contains(of) => {
            let others = names.into_iter().collect::<Vec<_>>().join(", ");
            let others = if others.is_empty() { "no plugin".to_owned() } else { others };
            return Err(ReplayError::NoneOf {
                path: path.to_owned(),
                plugin: of.to_owned(),
                others,
            });
        }
        Some(of) => Some(of),
        None => Some(plugin.name.as_str()).filter(|name| names.contains(*name)),
    };
    let mut replayed = Replayed::default();
    each_line(path, |line| {
        let Ok(head) = serde_json::from_slice::<LineHead>(line) else {
            replayed.unreadable += 1;
            return;
        };
        if of.is_some_and(|of| of != head.plugin) {
            return;
        }
        let candidate = candidates.iter().find(|(point, _)| point.key() == head.point);
        let Some((point, candidate)) = candidate else { return };
        match again(*point, candidate, line) {
            None => replayed.unreadable += 1,
            Some(difference) => {
                replayed.decisions += 1;
                replayed.differences.extend(difference);
            }
        }
    })?;
    if replayed.decisions == 0 {
        let plugin = plugin.name.clone();
        return Err(ReplayError::NoneFor { path: path.to_owned(), plugin });
    }
    Ok(replayed)
}

/// The plugins whose decisions are in the record.
fn names(path: &Path) -> Result<BTreeSet<String>, ReplayError> {
    let mut names = BTreeSet::new();
    each_line(path, |line| {
        names.extend(serde_json::from_slice::<LineHead>(line).ok().map(|head| head.plugin));
    })?;
    Ok(names)
}

/// Reads the record at `path`, the older part first.
fn each_line(path: &Path, mut read: impl FnMut(&[u8])) -> Result<(), ReplayError> {
    let older = older(path);
    let parts = [older.as_path(), path];
    for part in parts.into_iter().filter(|part| *part == path || part.is_file()) {
        let failed = |source| ReplayError::Read { path: part.to_owned(), source };
        let mut file = BufReader::new(File::open(part).map_err(failed)?);
        loop {
            let mut line = Vec::new();
            let mut bounded = (&mut file).take(LINE_BYTES);
            if bounded.read_until(b'\n', &mut line).map_err(failed)? == 0 {
                break;
            }
            read(&line);
        }
    }
    Ok(())
}

/// Puts one recorded question to `candidate`. `None` if the line cannot be read.
fn again(point: ExtensionPoint, candidate: &Candidate, line: &[u8]) -> Option<Option<Difference>> {
    match point {
        ExtensionPoint::Selection => compared::<Select>(candidate, line),
        ExtensionPoint::Compatibility => compared::<Check>(candidate, line),
        ExtensionPoint::Estimate => compared::<EstimateDuration>(candidate, line),
        ExtensionPoint::Queueing => compared::<OrderLine>(candidate, line),
    }
}

/// A question whose answers can be compared.
trait Comparable: Question {
    /// What it is about, in a few words.
    fn subject(&self) -> String;

    /// How `after` differs from `before`.
    fn change(before: &Self::Answer, after: &Self::Answer) -> Option<DecisionChange>;

    /// An answer in a few words.
    fn text(&self, answer: &Self::Answer) -> String;
}

fn compared<Q: Comparable>(candidate: &Candidate, line: &[u8]) -> Option<Option<Difference>> {
    let line: RecordLine<Q, Q::Answer> = serde_json::from_slice(line).ok()?;
    let RecordLine { at_ms, mut question, answer, .. } = line;
    let new = candidate.ask(&mut question);
    let change = match (&answer, &new) {
        (RecordedAnswer::Said(before), Ok(after)) => Q::change(before, after),
        (RecordedAnswer::Said(_), Err(_)) => Some(DecisionChange::Fails),
        (RecordedAnswer::Failed(_), Ok(_)) => Some(DecisionChange::Answers),
        (RecordedAnswer::Failed(_), Err(_)) => None,
    };
    let failed = |failure: &dyn std::fmt::Display| format!("failed: {failure}");
    Some(change.map(|change| Difference {
        at_ms,
        point: Q::POINT,
        job: question.subject(),
        before: match &answer {
            RecordedAnswer::Said(answer) => question.text(answer),
            RecordedAnswer::Failed(why) => failed(why),
        },
        after: match &new {
            Ok(answer) => question.text(answer),
            Err(failure) => failed(failure),
        },
        change,
    }))
}

impl Candidate {
    /// Puts `question` with the candidate's own settings.
    fn ask<Q: Question>(&self, question: &mut Q) -> Result<Q::Answer, Failure> {
        question.context().settings = self.settings().to_vec();
        self.plugin().ask(question)
    }
}

fn job_text(job: &Job) -> String {
    let kind = super::facts::word(&job.job_type);
    match &job.user {
        Some(user) => format!("{user}, {kind}"),
        None => kind.to_owned(),
    }
}

fn worker_name(worker: &Worker) -> &str {
    worker.hostname.as_deref().unwrap_or(&worker.peer_id)
}

impl Comparable for Select {
    fn subject(&self) -> String {
        job_text(&self.job)
    }

    fn change(before: &Ranking, after: &Ranking) -> Option<DecisionChange> {
        let order = |ranking: &Ranking| -> Vec<usize> {
            ranking.choices.iter().map(|choice| choice.index).collect()
        };
        let (before, after) = (order(before), order(after));
        match before == after {
            true => None,
            false if before.first() == after.first() => Some(DecisionChange::Others),
            false => Some(DecisionChange::First),
        }
    }

    fn text(&self, ranking: &Ranking) -> String {
        let workers = ranking.choices.iter().filter_map(|choice| self.workers.get(choice.index));
        let names: Vec<&str> = workers.map(worker_name).collect();
        match names.is_empty() {
            true => "nobody".to_owned(),
            false => names.join(" > "),
        }
    }
}

impl Comparable for Check {
    fn subject(&self) -> String {
        job_text(&self.job)
    }

    fn change(before: &Verdict, after: &Verdict) -> Option<DecisionChange> {
        match (before, after) {
            (Verdict::Yes, Verdict::Yes) => None,
            (Verdict::Yes, Verdict::No(_)) => Some(DecisionChange::Refuses),
            (Verdict::No(_), Verdict::Yes) => Some(DecisionChange::Takes),
            (Verdict::No(before), Verdict::No(after)) => {
                let codes = |reasons: &[sleap_rtc_protocol::job::Reason]| -> BTreeSet<String> {
                    reasons.iter().map(|reason| reason.code.clone()).collect()
                };
                (codes(before) != codes(after)).then_some(DecisionChange::Reasons)
            }
        }
    }

    fn text(&self, verdict: &Verdict) -> String {
        match verdict {
            Verdict::Yes => "yes".to_owned(),
            Verdict::No(reasons) => {
                let said: Vec<&str> =
                    reasons.iter().map(|reason| reason.message.as_str()).collect();
                format!("no: {}", said.join("; "))
            }
        }
    }
}

impl Comparable for EstimateDuration {
    fn subject(&self) -> String {
        job_text(&self.job)
    }

    fn change(before: &Option<Estimate>, after: &Option<Estimate>) -> Option<DecisionChange> {
        (before != after).then_some(DecisionChange::Duration)
    }

    fn text(&self, estimate: &Option<Estimate>) -> String {
        estimate.map_or_else(
            || "cannot tell".to_owned(),
            |Estimate { minutes, low, high, .. }| {
                format!("{minutes:.1} min ({low:.1} to {high:.1})")
            },
        )
    }
}

impl Comparable for OrderLine {
    fn subject(&self) -> String {
        match self.waiting.len() {
            1 => "1 job waits".to_owned(),
            jobs => format!("{jobs} jobs wait"),
        }
    }

    fn change(before: &Option<Vec<Placed>>, after: &Option<Vec<Placed>>) -> Option<DecisionChange> {
        let order = |places: &Option<Vec<Placed>>| -> Option<Vec<usize>> {
            Some(places.as_ref()?.iter().map(|place| place.index).collect())
        };
        let (before, after) = (order(before), order(after));
        let first = |order: &Option<Vec<usize>>| order.as_ref()?.first().copied();
        match before == after {
            true => None,
            false if first(&before) == first(&after) => Some(DecisionChange::Order),
            false => Some(DecisionChange::Next),
        }
    }

    fn text(&self, places: &Option<Vec<Placed>>) -> String {
        let Some(places) = places else { return "no opinion".to_owned() };
        let jobs = places.iter().filter_map(|place| self.waiting.get(place.index));
        let names: Vec<String> = jobs.map(|job| format!("{} {}", job.user, job.id)).collect();
        names.join(" > ")
    }
}
