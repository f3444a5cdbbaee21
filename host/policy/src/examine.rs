//! Examines a plugin's file: what it contains, and how it handles built-in cases.
//!
//! For the tools of plugin authors. It uses the same loading, limits and checks as real jobs.
//! Everything here blocks.

pub use super::cases::Case;

use super::bindings::types::{Context, Property};
use super::component::{Compiled, Origin, Plugin};
use super::detached::{self, within};
use super::questions::order::OrderLine;
use super::questions::{Check, EstimateDuration, Question, Select};
use super::{
    CallLimits, Estimate, ExtensionPoint, Line, LocalTime, Placed, PluginConfig, PolicyConfig,
    Ranking, Selection, Verdict, cases, explain, facts, options, source,
};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::JobDescription;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The largest file of a plugin, in bytes.
pub const LARGEST_BYTES: u64 = source::FILE_BYTES;

/// Why a file cannot be examined.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The file cannot be read.
    #[error("cannot read the plugin {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a plugin.
    #[error("{} cannot be used: {why}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What its author should do.
        why: String,
    },
}

/// A plugin's file, read and compiled but not yet called.
pub struct PluginFile {
    /// The plugin's name.
    pub name: String,
    /// Where it was found.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// BLAKE3 of the file, in hex.
    pub hash: String,
    /// How long it took to compile, or to load from the cache.
    pub compiled_in: Duration,
    bytes: Vec<u8>,
    compiled: Compiled,
}

impl PluginFile {
    /// Reads and compiles `plugin`: a path, or a name in the plugin folder `dir`.
    ///
    /// # Errors
    /// Fails if the file does not exist or is not a component.
    pub fn open(plugin: &Path, dir: &Path) -> Result<Self, ExamineError> {
        Self::open_cached(&find(plugin, dir), None)
    }

    /// The built-in plugin for `point`.
    ///
    /// # Errors
    /// Never, unless the engine does not start.
    pub fn embedded(point: ExtensionPoint, cache: Option<&Path>) -> Result<Self, ExamineError> {
        let bytes = source::embedded_bytes(point).to_owned();
        Self::new(source::embedded_name(point).into(), bytes, Origin::Embedded, cache)
    }

    /// Like [`PluginFile::open`], with the cache of compiled plugins in the folder `cache`.
    ///
    /// # Errors
    ///
    /// As for [`PluginFile::open`].
    pub fn open_cached(path: &Path, cache: Option<&Path>) -> Result<Self, ExamineError> {
        let (path, cache) = (path.to_owned(), cache.map(Path::to_owned));
        let of = path.clone();
        let open = move || {
            let bytes = source::read(&of)
                .map_err(|source| ExamineError::Read { path: of.clone(), source })?;
            Self::new(of, bytes, Origin::File, cache.as_deref())
        };
        within(detached::LIMIT, open).unwrap_or_else(|| {
            let limit_s = detached::LIMIT.as_secs();
            let why = format!("reading and compiling it took longer than {limit_s} s");
            Err(ExamineError::Unusable { path, why })
        })
    }

    fn new(
        path: PathBuf,
        bytes: Vec<u8>,
        origin: Origin,
        cache: Option<&Path>,
    ) -> Result<Self, ExamineError> {
        let start = Instant::now();
        let cache = cache.and_then(source::open_cache);
        let name = options::name(&path);
        let compiled = Compiled::new(&name, &bytes, origin, cache.as_ref())
            .map_err(|why| ExamineError::Unusable { path: path.clone(), why })?;
        let compiled_in = start.elapsed();
        Ok(Self {
            name,
            size_bytes: bytes.len() as u64,
            hash: blake3::hash(&bytes).to_hex().to_string(),
            path,
            compiled_in,
            bytes,
            compiled,
        })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The names of its imports.
    pub fn imports(&self) -> &[String] {
        &self.compiled.imports
    }

    /// The names of its exports.
    pub fn exports(&self) -> &[String] {
        &self.compiled.exports
    }

    /// The WIT packages of its imports and exports, with their versions.
    pub fn packages(&self) -> Vec<String> {
        let names = self.imports().iter().chain(self.exports());
        let packages: BTreeSet<_> = names.filter_map(|name| package(name)).collect();
        packages.into_iter().collect()
    }

    /// The extension points that it exports.
    pub fn points(&self) -> Vec<ExtensionPoint> {
        let exported = |point: &_| self.exports().contains(&explain::export(*point));
        ExtensionPoint::ALL.into_iter().filter(exported).collect()
    }

    /// The error for a component that exports no extension point.
    pub fn exports_nothing(&self) -> ExamineError {
        let why = explain::no_extension_point(self.imports(), self.exports());
        ExamineError::Unusable { path: self.path.clone(), why }
    }

    /// Loads it at `point` as the host would, with the settings and limits of `config`.
    ///
    /// # Errors
    ///
    /// Fails if the plugin does not implement `point`. The message addresses its author.
    pub fn load(
        &self,
        point: ExtensionPoint,
        config: &PluginConfig,
    ) -> Result<Candidate, ExamineError> {
        let limits = CallLimits { timeout_ms: config.timeout_ms, memory_mib: config.memory_mib };
        let plugin = self
            .compiled
            .plugin(&self.name, point, limits)
            .map_err(|why| ExamineError::Unusable { path: self.path.clone(), why })?;
        let settings = facts::settings(&config.settings);
        Ok(Candidate { point, plugin, limits, settings, at: LocalTime::ORDINARY })
    }
}

/// The file for `plugin` on a command line: a path, or a name in the plugin folder `dir`.
pub fn find(plugin: &Path, dir: &Path) -> PathBuf {
    match plugin.is_file() {
        true => plugin.to_owned(),
        false => source::locate(&plugin.to_string_lossy(), dir),
    }
}

/// The files of the plugins that `config` names for `point`, without built-in ones.
pub fn configured(config: &PolicyConfig, point: ExtensionPoint) -> Vec<PathBuf> {
    let named = config.plugins(point).iter().filter_map(|plugin| plugin.plugin.as_deref());
    named.filter_map(|plugin| source::configured(point, plugin, &config.dir)).collect()
}

/// A room of `count` workers with full records, most of them free.
pub fn room(count: u64) -> Case {
    cases::crowd("a room", count)
}

/// A worker at which `count` jobs of ten users wait.
pub fn queue(count: u32) -> Case {
    cases::queue("a queue", count)
}

/// A plugin at one extension point, ready to be called.
pub struct Candidate {
    point: ExtensionPoint,
    plugin: Plugin,
    limits: CallLimits,
    settings: Vec<Property>,
    at: LocalTime,
}

/// The result of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How long the call took.
    pub took: Duration,
    /// The answer as text, or what is wrong.
    pub answer: Result<String, String>,
    /// Suggestions about what is allowed but could be better.
    pub remarks: Vec<String>,
}

impl Candidate {
    /// The same plugin, called at this local time.
    pub fn at(self, at: LocalTime) -> Self {
        Self { at, ..self }
    }

    /// The built-in cases for this extension point.
    pub fn cases(&self) -> Vec<Case> {
        cases::cases(self.point)
    }

    /// Calls the plugin with `case`, without a fallback to the built-in plugin.
    pub fn try_case(&self, case: &Case) -> Outcome {
        let mut remarks = Vec::new();
        let job = facts::job(&case.job);
        let context = self.context();
        let (took, answer) = match (self.point, case.workers.first().map(facts::worker)) {
            (ExtensionPoint::Selection, _) => {
                let workers: Vec<_> = case.workers.iter().map(facts::worker).collect();
                self.timed(&Select { context, job, workers }, |ranking| {
                    ranking_text(&ranking, case.workers.len(), &mut remarks)
                })
            }
            (ExtensionPoint::Compatibility, Some(worker)) => {
                self.timed(&Check { context, job, worker }, |verdict| verdict_text(&verdict))
            }
            (ExtensionPoint::Estimate, Some(worker)) => {
                self.timed(&EstimateDuration { context, job, worker }, estimate_text)
            }
            (ExtensionPoint::Queueing, Some(worker)) => self
                .timed(&OrderLine::new(context, worker, &case.line), |places| {
                    order_text(places.as_deref(), case.line.waiting.len(), &mut remarks)
                }),
            (_, None) => (Duration::ZERO, Err("the case has no worker".into())),
        };
        let limit_ms = self.limits.timeout_ms;
        if answer.is_ok() && took > Duration::from_millis(limit_ms) / 2 {
            remarks.push(format!(
                "took more than half of its {limit_ms} ms; a busy machine is slower"
            ));
        }
        Outcome { took, answer, remarks }
    }

    /// Ranks `workers` for `job`.
    ///
    /// # Errors
    /// Describes what the plugin did wrong.
    pub fn select(
        &self,
        job: &JobDescription,
        workers: &[WorkerFacts],
    ) -> Result<Selection, String> {
        let workers = workers.iter().map(facts::worker).collect();
        let context = self.context();
        let ranking = self.plugin.ask(&Select { context, job: facts::job(job), workers });
        let ranking = ranking.map_err(|failure| failure.to_string())?;
        Ok(Selection::new(self.plugin.name(), ranking))
    }

    /// Whether `worker` takes `job`, and the answer as text.
    ///
    /// # Errors
    /// Describes what the plugin did wrong.
    pub fn check(
        &self,
        job: &JobDescription,
        worker: &WorkerFacts,
    ) -> Result<(bool, String), String> {
        let (context, job, worker) = (self.context(), facts::job(job), facts::worker(worker));
        let verdict = self.plugin.ask(&Check { context, job, worker });
        let verdict = verdict.map_err(|failure| failure.to_string())?;
        Ok((verdict == Verdict::Yes, verdict_text(&verdict)))
    }

    /// How long `worker` needs for `job`, as text.
    ///
    /// # Errors
    /// Describes what the plugin did wrong.
    pub fn estimate(&self, job: &JobDescription, worker: &WorkerFacts) -> Result<String, String> {
        let (context, job, worker) = (self.context(), facts::job(job), facts::worker(worker));
        self.timed(&EstimateDuration { context, job, worker }, estimate_text).1
    }

    /// The order of the jobs that wait at `worker`, by their places in `line`; none if the plugin has no
    /// opinion.
    ///
    /// # Errors
    /// Describes what the plugin did wrong.
    pub fn order(&self, worker: &WorkerFacts, line: &Line) -> Result<Option<Vec<Placed>>, String> {
        let question = OrderLine::new(self.context(), facts::worker(worker), line);
        self.plugin.ask(&question).map_err(|failure| failure.to_string())
    }

    pub(crate) fn settings(&self) -> &[Property] {
        &self.settings
    }

    pub(crate) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    fn context(&self) -> Context {
        facts::context(None, &self.settings, self.at)
    }

    /// Calls the plugin. Returns the duration of the call alone, and the answer as text.
    fn timed<Q: Question>(
        &self,
        question: &Q,
        describe: impl FnOnce(Q::Answer) -> String,
    ) -> (Duration, Result<String, String>) {
        let start = Instant::now();
        let answer = self.plugin.ask(question);
        let took = start.elapsed();
        (took, answer.map(describe).map_err(|failure| failure.to_string()))
    }
}

/// `a:b/c@1.2.3` as `a:b@1.2.3`.
fn package(name: &str) -> Option<String> {
    let (package, rest) = name.split_once('/')?;
    Some(match rest.split_once('@') {
        Some((_, version)) => format!("{package}@{version}"),
        None => package.to_owned(),
    })
}

fn ranking_text(ranking: &Ranking, workers: usize, remarks: &mut Vec<String>) -> String {
    let (ranked, out) = (ranking.choices.len(), ranking.left_out.len());
    let silent = workers.saturating_sub(ranked + out);
    if silent > 0 {
        remarks.push(format!(
            "{silent} left out without a reason; list them in `left-out` so that users see why"
        ));
    }
    let choices = ranking.choices.iter().map(|choice| &choice.reason);
    let mut reasons = choices.chain(ranking.left_out.iter().map(|out| &out.reason));
    if reasons.any(|reason| reason.trim().is_empty()) {
        remarks.push("a reason is empty; users see it beside the worker".into());
    }
    match out + silent {
        0 => format!("ranks {ranked}"),
        out => format!("ranks {ranked}, leaves out {out}"),
    }
}

fn order_text(places: Option<&[Placed]>, jobs: usize, remarks: &mut Vec<String>) -> String {
    let Some(places) = places else { return "no opinion".to_owned() };
    if places.iter().any(|place| place.reason.trim().is_empty()) {
        remarks.push("a reason is empty; users see it beside the job's place".into());
    }
    match jobs.saturating_sub(places.len()) {
        0 => format!("orders {}", places.len()),
        out => format!("orders {}, leaves out {out}", places.len()),
    }
}

fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Yes => "yes".into(),
        Verdict::No(reasons) => {
            let reasons: Vec<_> = reasons
                .iter()
                .map(|reason| format!("{} ({})", reason.message, reason.code))
                .collect();
            format!("no: {}", reasons.join("; "))
        }
    }
}

fn estimate_text(estimate: Option<Estimate>) -> String {
    match estimate {
        None => "cannot tell".into(),
        Some(Estimate { minutes, low, high, confidence }) => format!(
            "{minutes:.1} minutes, {:.0} % between {low:.1} and {high:.1}",
            confidence * 100.0
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LeftOut, OnFailure, Ranked};

    fn open(file: &str) -> PluginFile {
        PluginFile::open(&test_guests::dir().join(file), Path::new("/nonexistent")).unwrap()
    }

    #[test]
    fn a_file_is_known_by_what_it_imports_and_exports() {
        let file = open("custom-policy.wasm");
        assert_eq!(file.points(), [ExtensionPoint::Selection]);
        assert_eq!(file.packages(), ["sleap-rtc:policy@0.1.0"]);
        assert_eq!(file.hash.len(), 64);
        assert_eq!(open("hostile-guest.wasm").points(), ExtensionPoint::ALL);
        assert_eq!(package("a:b/c@1.2.3").as_deref(), Some("a:b@1.2.3"));
        assert_eq!((package("a:b/c").as_deref(), package("run")), (Some("a:b"), None));
    }

    #[test]
    fn a_name_is_looked_for_in_the_plugin_folder() {
        let file = PluginFile::open(Path::new("custom-policy"), test_guests::dir()).unwrap();
        assert_eq!(file.name, "custom-policy");
        assert!(PluginFile::open(Path::new("absent"), test_guests::dir()).is_err());
    }

    #[test]
    fn shortcomings_are_reported() {
        let ranking = Ranking {
            choices: vec![Ranked { index: 0, score: 1.0, reason: " ".into() }],
            left_out: vec![LeftOut { index: 1, reason: "busy".into() }],
        };
        let mut remarks = Vec::new();
        assert_eq!(ranking_text(&ranking, 3, &mut remarks), "ranks 1, leaves out 2");
        assert_eq!(remarks.len(), 2);
    }

    #[test]
    fn the_built_in_plugins_handle_every_case() {
        for point in ExtensionPoint::ALL {
            let plugin = source::load_embedded(point, None).unwrap();
            let (limits, settings) = (CallLimits::EMBEDDED, Vec::new());
            let at = LocalTime::ORDINARY;
            let candidate = Candidate { point, plugin, limits, settings, at };
            for case in candidate.cases() {
                let outcome = candidate.try_case(&case);
                println!("{} {}: {outcome:?}", point.key(), case.name);
                assert!(outcome.answer.is_ok() && outcome.remarks.is_empty(), "{}", case.name);
            }
        }
    }

    #[test]
    fn a_plugin_that_misbehaves_fails_its_cases() {
        let mut config = PluginConfig::new(OnFailure::Refuse);
        config.settings.insert("do".into(), "panic".into());
        for point in ExtensionPoint::ALL {
            let candidate = open("hostile-guest.wasm").load(point, &config).unwrap();
            for case in candidate.cases() {
                let failure = candidate.try_case(&case).answer.unwrap_err();
                assert!(failure.starts_with("it panicked"), "{}: {failure}", case.name);
            }
        }
    }
}
