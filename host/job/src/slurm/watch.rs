//! Follows all submitted jobs with one call at a time, and records the end of those whose process is gone.
//!
//! How a job ended is decided by its folder. Slurm forgets jobs after some minutes, may forget them in a crash,
//! and may run one on two nodes at once. So a job is ended from here only if Slurm says that it is over, or
//! does not know it, *and* its process has shown no life for some time.

use super::queue::{SlurmState, job_states};
use super::submit::cancel;
use crate::error::JobError;
use crate::events::EventLog;
use crate::folder::JobFolder;
use crate::place::Place;
use crate::shared_folder::{self, BEAT_EVERY};
use parking_lot::Mutex;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobState};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

/// How long a process may show no life after Slurm has said that its job is over.
const ENDED_PATIENCE: Duration = BEAT_EVERY.saturating_mul(3);
/// How long a job's process may take to end after its user has cancelled it, before Slurm ends it.
const CANCEL_PATIENCE: Duration = Duration::from_secs(60);

/// The times of the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchTimes {
    /// The time between two calls of `squeue`.
    pub ask_every: Duration,
    /// How long a job that Slurm does not know, or whose node has failed, may show no life before it counts as
    /// interrupted.
    pub lost_after: Duration,
}

impl Default for WatchTimes {
    fn default() -> Self {
        Self { ask_every: Duration::from_secs(10), lost_after: Duration::from_secs(300) }
    }
}

/// Follows the jobs that were handed over to Slurm.
#[derive(Debug)]
pub struct SlurmWatch {
    times: WatchTimes,
    jobs: Mutex<HashMap<JobId, WatchedJob>>,
    added: Notify,
}

/// A submitted job, and what the last calls of `squeue` showed.
#[derive(Debug, Clone)]
struct WatchedJob {
    folder: JobFolder,
    name: String,
    heartbeat: Heartbeat,
    /// Since when Slurm says that the job is over, or does not know it.
    over_since: Option<Instant>,
    /// Since when Slurm has a job that nobody wants.
    unwanted_since: Option<Instant>,
    /// The state that was last sent.
    sent: Option<SlurmState>,
}

/// The last sign of life of a job's process.
#[derive(Debug, Clone)]
struct Heartbeat {
    last: Option<String>,
    changed_at: Instant,
}

impl Heartbeat {
    fn new() -> Self {
        Self { last: None, changed_at: Instant::now() }
    }

    fn update(&mut self, now: Option<String>) {
        if now != self.last {
            *self = Self { last: now, changed_at: Instant::now() };
        }
    }
}

/// Whether a job has to be followed further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    Continue,
    Done,
}

impl SlurmWatch {
    /// A watch without jobs.
    pub fn new(times: WatchTimes) -> Self {
        Self { times, jobs: Mutex::default(), added: Notify::new() }
    }

    /// Follows a job that was submitted, by this worker or by an earlier one.
    pub fn add(&self, folder: &JobFolder) {
        let Ok(Place::Slurm(slurm)) = folder.place() else { return };
        let watched = WatchedJob {
            folder: folder.clone(),
            name: slurm.name,
            heartbeat: Heartbeat::new(),
            over_since: None,
            unwanted_since: None,
            sent: None,
        };
        self.jobs.lock().insert(folder.id().clone(), watched);
        self.added.notify_one();
    }

    /// Follows the jobs, and sends where each stands when that changes. Runs until it is dropped.
    pub async fn run(&self, changes: mpsc::Sender<(JobId, SlurmState)>) {
        let mut has_warned = false;
        loop {
            if self.jobs.lock().is_empty() {
                self.added.notified().await;
            }
            let names = self.jobs.lock().values().map(|job| job.name.clone()).collect::<Vec<_>>();
            match job_states(&names).await {
                Ok(answer) => {
                    has_warned = false;
                    self.apply_answer(&answer, &changes).await;
                }
                // Its controller may be away for a while; running jobs continue.
                Err(error) if !has_warned => {
                    has_warned = true;
                    tracing::warn!(error = %WithCauses(&error), "Slurm says nothing about its jobs");
                }
                Err(_) => {}
            }
            sleep(self.times.ask_every).await;
        }
    }

    /// Acts on an answer of `squeue`, and sends which states have changed.
    async fn apply_answer(
        &self,
        answer: &HashMap<String, SlurmState>,
        changes: &mpsc::Sender<(JobId, SlurmState)>,
    ) {
        let jobs = self.jobs.lock().clone();
        for (id, mut job) in jobs {
            let standing = answer.get(&job.name);
            let watch = job.follow(standing, self.times).await;
            if let Some(standing) = standing.filter(|now| job.sent.as_ref() != Some(*now)) {
                job.sent = Some(standing.clone());
                let _ = changes.send((id.clone(), standing.clone())).await;
            }
            let mut jobs = self.jobs.lock();
            match watch {
                Watch::Continue => _ = jobs.insert(id, job),
                Watch::Done => _ = jobs.remove(&id),
            }
        }
    }
}

impl WatchedJob {
    /// Acts on what Slurm says: `None` if it does not know the job.
    async fn follow(&mut self, standing: Option<&SlurmState>, times: WatchTimes) -> Watch {
        let state = match self.folder.record() {
            Ok(record) => record.state,
            // Its folder has been removed.
            Err(error) if error.is_not_found() => return Watch::Done,
            Err(error) => {
                tracing::warn!(job = %self.folder.id(), error = %WithCauses(&error), "cannot read the job's record; trying again");
                return Watch::Continue;
            }
        };
        // Slurm may have put a job back that has begun once.
        let is_pending = matches!(standing, Some(SlurmState::Pending { .. }));
        let is_live = is_pending || matches!(standing, Some(SlurmState::Active));
        if let JobState::Finished(_) = state {
            if !is_live {
                return Watch::Done;
            }
            self.end_unwanted(is_pending).await;
            return Watch::Continue;
        }
        if is_live {
            self.over_since = None;
            if shared_folder::is_cancelled(&self.folder) {
                self.end_unwanted(is_pending).await;
            }
            return Watch::Continue;
        }
        self.record_end(standing, times).unwrap_or_else(|error| {
            tracing::warn!(job = %self.folder.id(), error = %WithCauses(&error), "cannot record the end of the job");
            Watch::Continue
        })
    }

    /// Has Slurm end a job that nobody wants any more: at once if it waits, and after some time if it should
    /// end by itself.
    async fn end_unwanted(&mut self, is_pending: bool) {
        let since = *self.unwanted_since.get_or_insert_with(Instant::now);
        let may_end_itself = !is_pending && shared_folder::heartbeat(&self.folder).is_some();
        if may_end_itself && since.elapsed() < CANCEL_PATIENCE {
            return;
        }
        if let Err(error) = cancel(&self.name).await {
            tracing::warn!(job = %self.folder.id(), error = %WithCauses(&error), "Slurm does not end the job");
        }
    }

    /// Records the end of a job that is over as far as Slurm knows, if it never began or its process shows
    /// no life.
    fn record_end(
        &mut self,
        standing: Option<&SlurmState>,
        times: WatchTimes,
    ) -> Result<Watch, JobError> {
        let since = *self.over_since.get_or_insert_with(Instant::now);
        self.heartbeat.update(shared_folder::heartbeat(&self.folder));
        let silent_for = self.heartbeat.changed_at.max(since).elapsed();
        let over = match standing {
            Some(SlurmState::Over(state)) => Some(state.as_str()),
            _ => None,
        };
        let patience = match over {
            // The node may be cut off only from Slurm.
            None | Some("NODE_FAIL") => times.lost_after,
            Some(_) => ENDED_PATIENCE,
        };
        let (is_silent, slurm_state) = (silent_for >= patience, over.unwrap_or("unknown to Slurm"));
        // A job that Slurm knows as over and that never began will not begin.
        if over.is_some() || is_silent {
            let ended = self.end_if_never_begun(slurm_state)?;
            if ended == Watch::Done {
                return Ok(ended);
            }
        }
        match is_silent {
            true => self.end_silent(slurm_state),
            false => Ok(Watch::Continue),
        }
    }

    /// Ends a job whose process has not claimed it, and no longer can.
    fn end_if_never_begun(&self, slurm_state: &str) -> Result<Watch, JobError> {
        if !shared_folder::claim(&self.folder)? {
            return Ok(Watch::Continue);
        }
        let message = format!(
            "Slurm ended the job before it began ({slurm_state}); its messages are in {}",
            self.folder.path().join("run-job.log").display()
        );
        let failed = JobOutcome::Failed { exit_code: None, message };
        EventLog::open(self.folder.clone())?.settle(self.or_cancelled(failed))?;
        Ok(Watch::Done)
    }

    /// Ends a job whose process shows no life.
    fn end_silent(&self, slurm_state: &str) -> Result<Watch, JobError> {
        tracing::warn!(job = %self.folder.id(), state = slurm_state, "the job's process is gone");
        let mut events = EventLog::open(self.folder.clone())?;
        let text =
            format!("[sleap-rtc] the job's process is gone; its state in Slurm: {slurm_state}\n");
        events.append(JobEvent::Log { text })?;
        events.settle(self.or_cancelled(JobOutcome::Interrupted))?;
        Ok(Watch::Done)
    }

    /// `outcome`, unless the user has cancelled the job.
    fn or_cancelled(&self, outcome: JobOutcome) -> JobOutcome {
        let is_cancelled = shared_folder::is_cancelled(&self.folder);
        if is_cancelled { JobOutcome::Cancelled } else { outcome }
    }
}
