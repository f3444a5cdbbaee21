//! What finished jobs took on this worker, kept from one start to the next. The policies estimate from it.

use super::{WorkerContext, delivery};
use crate::blocking::blocking;
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, params};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::sqlite::{self, OpenError, Schema};
use sleap_rtc_job::{Expected, JobFolder};
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::JobState;
use sleap_rtc_protocol::workload::{FinishedJob, FinishedRun};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{debug, warn};

const FILE: &str = "history.sqlite";
/// The most jobs to keep, the newest.
const MAX_JOBS: usize = 2000;
/// A record of one job is shorter.
const MAX_RECORD_BYTES: usize = 64 * 1024;

const SCHEMA: Schema = Schema {
    version: 1,
    tables: "CREATE TABLE IF NOT EXISTS job (
                 id TEXT PRIMARY KEY,
                 ended_ms INTEGER NOT NULL,
                 record TEXT NOT NULL
             ) STRICT;",
};

/// The finished jobs of a worker.
pub(crate) struct History {
    /// `None` if the file cannot be used.
    file: Mutex<Option<Connection>>,
    /// The same jobs by when they ended.
    jobs: RwLock<BTreeMap<(u64, JobId), FinishedJob>>,
}

/// Why the records of finished jobs cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the records of finished jobs in {}", .path.display())]
pub(crate) struct HistoryError {
    path: PathBuf,
    source: OpenError,
}

/// The finished jobs of the worker with this state folder, in the order of their ends. The worker may be
/// running.
#[cfg_attr(not(feature = "client"), expect(dead_code, reason = "`estimates` reads them"))]
pub(crate) fn read(state_dir: &Path) -> Result<Vec<FinishedJob>, HistoryError> {
    let path = state_dir.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let jobs = SCHEMA.open(&path).and_then(|file| Ok(load(&file)?));
    match jobs {
        Ok(jobs) => Ok(jobs.into_values().collect()),
        Err(source) => Err(HistoryError { path, source }),
    }
}

fn load(file: &Connection) -> rusqlite::Result<BTreeMap<(u64, JobId), FinishedJob>> {
    let mut rows =
        file.prepare("SELECT ended_ms, id, record FROM job ORDER BY ended_ms DESC LIMIT ?1")?;
    let rows = rows.query_map([MAX_JOBS as i64], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    let mut jobs = BTreeMap::new();
    for row in rows {
        let (ended_ms, id, record) = row?;
        // A record of a newer program that cannot be read is passed over.
        if let (Ok(id), Ok(job)) = (JobId::new(id), serde_json::from_str(&record)) {
            jobs.insert((ended_ms.cast_unsigned(), id), job);
        }
    }
    Ok(jobs)
}

impl History {
    /// Opens the records in `state_dir`, or begins new ones. If the file cannot be used, what is recorded is
    /// forgotten at the end of the worker.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let open = || {
            let file = SCHEMA.open(&path)?;
            let jobs = load(&file)?;
            Ok::<_, OpenError>((file, jobs))
        };
        let opened = open().or_else(|error| {
            if error.is_of_the_file() {
                warn!(error = %WithCauses(&error), file = %path.display(), "the records of finished jobs are damaged; starting with an empty file");
                let _ = sqlite::remove(&path);
            }
            open()
        });
        match opened {
            Ok((file, jobs)) => Self { file: Mutex::new(Some(file)), jobs: RwLock::new(jobs) },
            Err(error) => {
                warn!(error = %WithCauses(&error), file = %path.display(), "cannot keep records of finished jobs: estimates will not improve");
                Self { file: Mutex::new(None), jobs: RwLock::default() }
            }
        }
    }

    /// All runs, the newest last.
    pub(crate) fn runs(&self) -> Vec<FinishedRun> {
        self.jobs.read().values().flat_map(|job| job.runs.iter().cloned()).collect()
    }

    /// Whether the job has its record.
    fn has(&self, id: &JobId) -> bool {
        self.jobs.read().keys().any(|(_, known)| known == id)
    }

    /// Records a job, once. Blocks.
    pub(crate) fn record(&self, id: &JobId, ended_ms: u64, job: FinishedJob) {
        if self.has(id) {
            return;
        }
        if let Some(file) = &*self.file.lock()
            && let Err(error) = write(file, id, ended_ms, &job)
        {
            warn!(%id, error = %WithCauses(&error), "cannot record what a job took");
        }
        let mut jobs = self.jobs.write();
        jobs.insert((ended_ms, id.clone()), job);
        while jobs.len() > MAX_JOBS {
            jobs.pop_first();
        }
    }
}

fn write(file: &Connection, id: &JobId, ended_ms: u64, job: &FinishedJob) -> rusqlite::Result<()> {
    let record = serde_json::to_string(job)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    if record.len() > MAX_RECORD_BYTES {
        debug!(%id, "the description of a job is too long to be recorded");
        return Ok(());
    }
    file.execute(
        "INSERT OR IGNORE INTO job (id, ended_ms, record) VALUES (?1, ?2, ?3)",
        params![id.as_str(), ended_ms.cast_signed(), record],
    )?;
    file.execute(
        "DELETE FROM job WHERE id NOT IN (SELECT id FROM job ORDER BY ended_ms DESC LIMIT ?1)",
        [MAX_JOBS as i64],
    )?;
    Ok(())
}

/// Records the jobs that ended while no worker was there, has the operator's command run for them, and copies
/// their results to the shared storage.
pub(crate) async fn catch_up(context: Arc<WorkerContext>) {
    let caught_up = context.clone();
    if let Err(error) = blocking(move || record_all(&caught_up)).await {
        warn!(%error, "cannot record the jobs that ended while the worker was away");
    }
    let state_dir = context.state_dir.clone();
    for folder in blocking(move || undelivered(&state_dir)).await.unwrap_or_default() {
        if let Err(error) = delivery::deliver(&context, &folder).await {
            warn!(job = %folder.id(), %error, "cannot copy the results to the shared storage");
        }
    }
}

fn record_all(context: &WorkerContext) {
    for folder in JobFolder::all(&context.state_dir) {
        if !context.history.has(folder.id()) {
            record_ended(context, &folder);
        }
    }
}

/// The jobs that have ended, and whose results belong on the shared storage but are not there.
fn undelivered(state_dir: &Path) -> Vec<JobFolder> {
    let mut folders = JobFolder::all(state_dir);
    folders.retain(|folder| {
        let has_ended = || matches!(folder.record().map(|it| it.state), Ok(JobState::Finished(_)));
        folder.spec().shared.is_some() && folder.fetched_ms().is_none() && has_ended()
    });
    folders
}

fn record_ended(context: &WorkerContext, folder: &JobFolder) {
    let Ok(JobState::Finished(outcome)) = folder.record().map(|record| record.state) else {
        return;
    };
    let (known, expected) = (Expected::read(folder).is_some(), Expected::of(folder));
    let timed = folder.timer(Vec::new()).map(|timer| expected.finished(folder, &timer, &[]));
    match timed {
        Ok(Some(job)) => {
            let last = folder.last_event().ok().flatten();
            let took_s = Some(job.took_s);
            context.history.record(folder.id(), last.map_or_else(now_ms, |last| last.at_ms), job);
            // Jobs of older versions ended long ago.
            if known {
                context.job_ends.report(
                    folder,
                    outcome,
                    took_s,
                    context.facts().peer_id.to_string(),
                );
            }
        }
        // It never began.
        Ok(None) => {}
        Err(error) => {
            debug!(job = %folder.id(), error = %WithCauses(&error), "cannot record what a job took")
        }
    }
}
