//! The client's record of its jobs. Each is a file that only its owner can read, since it contains the
//! job's secret.

use super::display::Display;
use super::error::UnknownJob;
use super::output::Output;
use super::{ClientError, Job, Join};
use crate::config::Config;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::json_file;
use sleap_rtc_net::route::Route;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobType, NumberedEvent};
use sleap_rtc_protocol::progress::JobProgress;
use sleap_rtc_protocol::queue_report::QueueStatus;
use sleap_rtc_protocol::short_id::{self, NoSingleJob};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_protocol::transfer::BlobHash;
use sleap_rtc_signaling::client::Servers;
use sleap_rtc_trust::session::JobString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often a record is saved while only the number of events changes.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// The most characters of a host's name that are kept.
const HOST_CHARS: usize = 60;
/// The most characters of a refusal that are kept.
const WHY_CHARS: usize = 500;
/// How long an interrupted submission can be resumed by submitting the same package again.
const RESUME_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// A job that this user has submitted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The job string, which contains room, worker, job and secret.
    string: String,
    /// The signaling servers.
    #[serde(flatten)]
    servers: Servers,
    /// The worker's host, by its name in the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// The name for people.
    pub name: String,
    /// `training` or `inference`.
    pub job_type: JobType,
    /// When it was submitted, in seconds since 1970.
    pub submitted_s: u64,
    /// The place for its result, or the last place to which it was downloaded.
    output: PathBuf,
    /// The package of the submission.
    #[serde(default)]
    package: Option<BlobHash>,
    /// The command that submits the same job again, without credentials.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// The job's state when it was last seen from here.
    #[serde(default)]
    pub last_seen: LastSeen,
}

/// A job's state when it was last seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LastSeen {
    /// Its state.
    pub state: SeenState,
    /// The number of the last event that was shown.
    pub event: u64,
    /// How far a running job was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// When it was submitted, in seconds since 1970.
    pub at_s: u64,
    /// The route to its worker, such as "direct, 12 ms".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// The state of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum SeenState {
    /// The package was being sent.
    #[default]
    Submitted,
    /// It waited for a slot.
    Waiting {
        /// Its place in the line. None if the operator held it back.
        place: Option<u32>,
        /// In how many seconds it was expected to start.
        starts_in_s: Option<u64>,
    },
    /// The worker had the package.
    Running {
        /// The current trainer run, if one had started.
        run: Option<String>,
    },
    /// The job had finished.
    Over {
        /// How it ended.
        outcome: JobOutcome,
        /// Whether the result was downloaded.
        fetched: bool,
    },
    /// The worker did not take it.
    Refused {
        /// Why.
        why: String,
    },
    /// A state that only a newer program knows.
    #[serde(other)]
    Unknown,
}

impl SeenState {
    /// Whether nothing more happens to the job.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Over { .. } | Self::Refused { .. })
    }
}

impl LastSeen {
    fn event(&mut self, numbered: &NumberedEvent, progress: &JobProgress) {
        let NumberedEvent { seq, event, .. } = numbered;
        (self.event, self.at_s) = (*seq, now_s());
        self.progress = (progress.run > 0).then(|| progress.to_string());
        let running = |run: Option<&String>| SeenState::Running { run: run.cloned() };
        match (event, &self.state) {
            (JobEvent::Finished { outcome }, _) => {
                self.state = SeenState::Over { outcome: outcome.clone(), fetched: false };
            }
            (JobEvent::RunStarted { name }, _) => self.state = running(Some(name)),
            (_, SeenState::Submitted | SeenState::Waiting { .. }) => self.state = running(None),
            _ => {}
        }
    }
}

/// Keeps a job's record up to date while a client follows the job. Does nothing for jobs from other
/// machines.
pub(crate) struct RecordUpdater {
    kept: Option<(PathBuf, Record)>,
    saved: Instant,
    /// The route of the latest connection.
    route: Option<watch::Receiver<Option<Route>>>,
    /// Set while this is the client that submits the job.
    _submitting: Option<Submitting>,
}

/// Shows other clients that the client that submits a job is alive. Its file stays when it is unlocked: of two
/// clients, one might otherwise lock a file that the other has just removed.
pub(crate) struct Submitting {
    _lock: fs::File,
}

impl Submitting {
    /// `None` if another client is submitting the job.
    fn begin(jobs_dir: &Path, job: &JobId) -> Option<Self> {
        let path = jobs_dir.join(format!("{job}.lock"));
        let file = fs::File::options().create(true).append(true).open(&path).ok()?;
        sleap_rtc_base::lock::exclusive(&file, &path).ok()?;
        Some(Self { _lock: file })
    }
}

impl RecordUpdater {
    /// The record of `job`, if it was submitted from here.
    pub(crate) fn of(jobs_dir: &Path, job: &JobId) -> Self {
        let record = read(&jobs_dir.join(format!("{job}.json")));
        let kept = record.map(|record| (jobs_dir.to_owned(), record));
        Self { kept, saved: Instant::now(), route: None, _submitting: None }
    }

    /// Keeps no record, for a client that only looks at a job.
    pub(crate) fn nowhere() -> Self {
        Self { kept: None, saved: Instant::now(), route: None, _submitting: None }
    }

    /// The record, if the job was submitted from here.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.kept.as_ref().map(|(_, record)| record)
    }

    /// Sets the route of a new connection.
    pub(crate) fn connected(&mut self, route: watch::Receiver<Option<Route>>) {
        self.route = Some(route);
        self.save();
    }

    /// An event was shown.
    pub(crate) fn event(&mut self, numbered: &NumberedEvent, progress: &JobProgress) {
        let Some((_, record)) = &mut self.kept else { return };
        // Reattaching repeats old events; only new ones change the record.
        if numbered.seq <= record.last_seen.event {
            return;
        }
        let before = record.last_seen.state.clone();
        record.last_seen.event(numbered, progress);
        if record.last_seen.state != before || self.saved.elapsed() >= SAVE_EVERY {
            self.save();
        }
    }

    /// The job waits for a slot.
    pub(crate) fn waiting(&mut self, news: &QueueStatus) {
        let Some((_, record)) = &mut self.kept else { return };
        let state = SeenState::Waiting { place: news.place, starts_in_s: news.starts_in_s };
        record.last_seen.at_s = now_s();
        if record.last_seen.state != state {
            record.last_seen.state = state;
            self.save();
        }
    }

    /// The worker did not take the job.
    pub(crate) fn refused(&mut self, why: &ClientError) {
        let Some((_, record)) = &mut self.kept else { return };
        let why = Printable::line(&WithCauses(why).to_string(), WHY_CHARS).to_string();
        record.last_seen.at_s = now_s();
        record.last_seen.state = SeenState::Refused { why };
        self.save();
    }

    /// The result was downloaded to `place`.
    pub(crate) fn fetched(&mut self, place: &Path) {
        let Some((_, record)) = &mut self.kept else { return };
        record.output = absolute(place);
        record.last_seen.at_s = now_s();
        if let SeenState::Over { fetched, .. } = &mut record.last_seen.state {
            *fetched = true;
        }
        self.save();
    }

    fn save(&mut self) {
        let Some((jobs_dir, record)) = &mut self.kept else { return };
        self.saved = Instant::now();
        if let Some(route) = self.route.as_ref().and_then(|route| route.borrow().clone()) {
            record.last_seen.route = Some(route.to_string());
        }
        if let Err(error) = record.save(jobs_dir) {
            tracing::debug!(%error, "cannot update the job's record");
        }
    }
}

impl Drop for RecordUpdater {
    fn drop(&mut self) {
        self.save();
    }
}

impl Record {
    pub(crate) fn new(
        config: &Config,
        job_ref: &JobString,
        job: &Job,
        host: Option<String>,
    ) -> Self {
        let output = job.output.path();
        Self {
            string: job_ref.to_string(),
            servers: config.signaling.clone(),
            host: host.map(|host| Printable::line(&host, HOST_CHARS).to_string()),
            name: job.name.clone(),
            job_type: job.description.job_type,
            submitted_s: now_s(),
            output: absolute(output),
            package: Some(job.package.digest()),
            command: job.command.clone(),
            last_seen: LastSeen { at_s: now_s(), ..LastSeen::default() },
        }
    }

    /// Saves the record and prints the job's id. If the record cannot be saved, the job continues.
    pub(crate) fn announce(
        self,
        jobs_dir: &Path,
        submitting: Option<Submitting>,
        display: &mut Display,
    ) -> RecordUpdater {
        let saved = Instant::now();
        match (self.save(jobs_dir), self.job_string()) {
            (Ok(()), Ok(JobString { job, .. })) => {
                display.note(&format!("Job {job}: to reattach, run `sleap-rtc attach {job}`"));
                let submitting = submitting.or_else(|| Submitting::begin(jobs_dir, &job));
                let kept = Some((jobs_dir.to_owned(), self));
                RecordUpdater { kept, saved, route: None, _submitting: submitting }
            }
            (Err(error), _) => {
                tracing::warn!(%error, "cannot save the job's record, so `sleap-rtc jobs` will not list it");
                RecordUpdater { kept: None, saved, route: None, _submitting: submitting }
            }
            _ => RecordUpdater { kept: None, saved, route: None, _submitting: submitting },
        }
    }

    /// An interrupted submission of the same package with the same output to `join`, whose client is
    /// gone and whose worker does not have the whole package.
    pub(crate) fn interrupted(
        config: &Config,
        join: &Join,
        job: &Job,
    ) -> Option<(JobString, Submitting)> {
        let (jobs_dir, digest) = (&config.client.jobs_dir, job.package.digest());
        let fits = |record: &Self| {
            record.last_seen.state == SeenState::Submitted
                && record.package == Some(digest)
                && record.output == absolute(job.output.path())
                && record.servers.share_with(&config.signaling)
                && now_s().saturating_sub(record.submitted_s) < RESUME_WITHIN.as_secs()
        };
        let record = Self::all(jobs_dir).into_iter().find(fits)?;
        let job_ref = record.job_string().ok().filter(|job_ref| join.allows(job_ref))?;
        let submitting = Submitting::begin(jobs_dir, &job_ref.job)?;
        Some((job_ref, submitting))
    }

    fn save(&self, jobs_dir: &Path) -> io::Result<()> {
        let job = self.job_string().map_err(io::Error::other)?.job;
        json_file::save(&jobs_dir.join(format!("{job}.json")), self)
    }

    /// The records in `jobs_dir`, newest first; damaged ones are skipped.
    pub fn all(jobs_dir: &Path) -> Vec<Self> {
        let entries = fs::read_dir(jobs_dir).into_iter().flatten().flatten();
        let mut records: Vec<Self> = entries.filter_map(|entry| read(&entry.path())).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.submitted_s));
        records
    }

    /// The job string, with which another machine can access the job.
    pub fn string(&self) -> &str {
        &self.string
    }

    /// The parsed job string.
    pub fn job_string(&self) -> Result<JobString, ClientError> {
        self.string.parse().map_err(|_| damaged())
    }

    /// The servers that lead to the job: the configured ones and those through which it was submitted, if
    /// they are the same cluster, or else the latter alone.
    pub fn servers(&self, configured: &Servers) -> Servers {
        match self.servers.share_with(configured) {
            true => configured.and(&self.servers),
            false => self.servers.clone(),
        }
    }

    /// Whether the result was downloaded to `place` and is still there, as far as that can be seen without its
    /// worker.
    pub fn has_result_at(&self, place: &Path) -> bool {
        let is_fetched = matches!(self.last_seen.state, SeenState::Over { fetched: true, .. });
        is_fetched && absolute(place) == self.output && is_there(place)
    }

    /// Where the result should go.
    pub fn output(&self) -> Output {
        match self.job_type {
            JobType::Training => Output::Models(self.output.clone()),
            JobType::Inference => Output::Predictions(self.output.clone()),
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether `place` is a file, or a folder with something in it.
fn is_there(place: &Path) -> bool {
    place.is_file() || fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_some())
}

fn damaged() -> ClientError {
    UnknownJob::DamagedRecord.into()
}

fn read(path: &Path) -> Option<Record> {
    json_file::load(path).ok().flatten()
}

/// The record of the job whose id is `text` or, alone, begins with it.
pub fn find(jobs_dir: &Path, text: &str) -> Result<Record, ClientError> {
    let unknown = || UnknownJob::NotRecorded(text.to_owned());
    let files = fs::read_dir(jobs_dir).into_iter().flatten().flatten();
    let id =
        |file: fs::DirEntry| JobId::new(file.file_name().to_str()?.strip_suffix(".json")?).ok();
    let id = short_id::find(text, files.filter_map(id)).map_err(|error| match error {
        NoSingleJob::None => unknown(),
        jobs @ NoSingleJob::Several(_) => UnknownJob::NotSingle { text: text.to_owned(), jobs },
    })?;
    Ok(read(&jobs_dir.join(format!("{id}.json"))).ok_or_else(unknown)?)
}
