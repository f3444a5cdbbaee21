//! What a job leaves on disk: `STATE_DIR/jobs/<job id>/`.
//!
//! ```text
//! expected.json  what the worker found in the package, and how long it expects the job to take
//! job.json       what was asked for, by whom, and the state of the job (replaced as a whole)
//! events.jsonl   everything that happened, numbered 1, 2, 3, … without a gap, one per line
//! log            what the trainers printed, byte for byte
//! files/         the package, and the trainers' working folder
//! results/       what goes back to the client
//! fetched        when the results were last fetched
//! ```
//!
//! One process at a time writes events: the one with the [`EventLog`], which locks `events.jsonl`. The kernel
//! releases the lock when that process ends. If the lock is free although the job has begun and not ended,
//! its process has died, and [`JobFolder::settle`] writes the last event.

use super::error::{JobError, damaged, io_error};
use super::events::{self, EventLog, EventReader};
use super::lease::REMOVED;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::file::{self, Readers};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{
    JobEvent, JobOutcome, JobRight, JobSpec, JobState, NumberedEvent, QueueEntry,
};
use sleap_rtc_trust::device::DeviceId;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const RECORD: &str = "job.json";
const EVENTS: &str = "events.jsonl";
const MAX_RECORD_BYTES: u64 = 1024 * 1024;

/// What a job's folder records about the job, besides its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// What the client submitted.
    pub spec: JobSpec,
    /// Who submitted it.
    pub owner: PeerId,
    /// The device from which it was submitted, if that has proven who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// When it was submitted, in milliseconds since 1970.
    pub created_ms: u64,
    /// Its state.
    pub state: JobState,
}

/// The folder of one job.
#[derive(Debug, Clone)]
pub struct JobFolder {
    path: PathBuf,
    spec: Arc<JobSpec>,
    owner: PeerId,
    device: Option<DeviceId>,
}

impl JobFolder {
    /// Creates the folder of a new job, which `owner` has submitted from `device`. Fails if there is a job
    /// with that id.
    pub fn create(
        state_dir: &Path,
        spec: &JobSpec,
        owner: &PeerId,
        device: Option<DeviceId>,
    ) -> Result<Self, JobError> {
        let parent = parent(state_dir);
        let mut private = fs::DirBuilder::new();
        private.mode(0o700);
        sleap_rtc_base::folder::private(&parent).map_err(io_error("create", &parent))?;
        let path = parent.join(spec.id.as_str());
        private.create(&path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => JobError::Exists(spec.id.clone()),
            _ => JobError::Io { doing: "create", path: path.clone(), source },
        })?;
        let folder = Self { path, spec: Arc::new(spec.clone()), owner: owner.clone(), device };
        let filled = folder.fill(&private);
        if filled.is_err() {
            // Half a folder would keep its job from being submitted again.
            folder.discard();
        }
        filled.map(|()| folder)
    }

    /// Writes what the folder of a new job contains.
    fn fill(&self, private: &fs::DirBuilder) -> Result<(), JobError> {
        for inner in [self.files_dir(), self.results_dir()] {
            private.create(&inner).map_err(io_error("create", &inner))?;
        }
        self.write_record(&JobRecord {
            spec: self.spec.as_ref().clone(),
            owner: self.owner.clone(),
            device: self.device,
            created_ms: now_ms(),
            state: JobState::Staging,
        })
    }

    /// Opens the folder of a known job.
    pub fn open(state_dir: &Path, job: &JobId) -> Result<Self, JobError> {
        Self::at(parent(state_dir).join(job.as_str()))
    }

    /// Opens a job's folder by its path.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self, JobError> {
        let path = path.into();
        let record = read_record(&path)?;
        let JobRecord { spec, owner, device, .. } = record;
        Ok(Self { path, spec: Arc::new(spec), owner, device })
    }

    /// All jobs that can be read, by id. The log names the others.
    pub fn all(state_dir: &Path) -> Vec<Self> {
        let entries = fs::read_dir(parent(state_dir)).into_iter().flatten();
        let going = |name: std::ffi::OsString| name.to_string_lossy().starts_with(REMOVED);
        let entries = entries.filter_map(Result::ok).filter(|entry| !going(entry.file_name()));
        let paths = entries.map(|entry| entry.path());
        let open = |path| {
            Self::at(path)
                .inspect_err(|error| tracing::warn!(error = %WithCauses(&error), "cannot read the folder of a job; it is ignored"))
                .ok()
        };
        let mut folders: Vec<Self> = paths.filter_map(open).collect();
        folders.sort_by(|a, b| a.path.cmp(&b.path));
        folders
    }

    /// Lets the job wait for a slot, or changes what its folder says about that. Its package is complete.
    ///
    /// Fails with [`JobError::Locked`] or [`JobError::State`] if the job has begun.
    pub fn queue(&self, entry: QueueEntry) -> Result<(), JobError> {
        let _events = self.lock()?;
        let mut record = self.record()?;
        record.state.advance(JobState::Queued(entry))?;
        self.write_record(&record)
    }

    /// When the job's process began, in milliseconds since 1970. `None` if it has not.
    pub fn started_ms(&self) -> Option<u64> {
        let first = EventReader::open(self, 0).ok()?.read().ok()??;
        (!matches!(first.event, JobEvent::Finished { .. })).then_some(first.at_ms)
    }

    /// The process that runs the job, if it runs on this machine.
    pub fn process_id(&self) -> Option<u32> {
        match self.record().ok()?.state {
            JobState::Running { pid } if !self.is_elsewhere() => Some(pid),
            _ => None,
        }
    }

    /// Whether another process that runs this job is alive.
    pub(crate) fn is_run_by_another(&self) -> bool {
        let Ok(JobState::Running { pid }) = self.record().map(|record| record.state) else {
            return false;
        };
        let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        pid != std::process::id() && command.split(|byte| *byte == 0).any(|word| word == b"run-job")
    }

    /// Removes the folder of a job that has not begun.
    pub fn discard(&self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(folder = %self.path.display(), error = %WithCauses(&error), "cannot remove the folder of a job");
        }
    }

    /// The job's id.
    pub fn id(&self) -> &JobId {
        &self.spec.id
    }

    /// What the client submitted.
    pub fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// Who submitted the job.
    pub fn owner(&self) -> &PeerId {
        &self.owner
    }

    /// The device from which it was submitted, if that has proven who it is.
    pub fn device(&self) -> Option<&DeviceId> {
        self.device.as_ref()
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the package.
    pub fn files_dir(&self) -> PathBuf {
        self.path.join("files")
    }

    /// The folder of the results.
    pub fn results_dir(&self) -> PathBuf {
        self.path.join("results")
    }

    /// What the trainers printed, byte for byte.
    pub fn log_path(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The numbered events.
    pub fn events_path(&self) -> PathBuf {
        self.path.join(EVENTS)
    }

    /// What the folder records about the job now.
    pub fn record(&self) -> Result<JobRecord, JobError> {
        read_record(&self.path)
    }

    /// Keeps `right` instead of what the record has, if the job is over: nobody else writes it then.
    pub fn keep_right(&self, right: JobRight) -> Result<(), JobError> {
        let mut record = self.record()?;
        if !matches!(record.state, JobState::Finished(_)) {
            return Ok(());
        }
        record.spec.right = right;
        self.write_record(&record)
    }

    /// Writes the record beside, then renames.
    pub(crate) fn write_record(&self, record: &JobRecord) -> Result<(), JobError> {
        let path = self.path.join(RECORD);
        let json = serde_json::to_vec_pretty(record).map_err(|e| damaged(&path, e))?;
        write_private(&path, &json)
    }

    /// How the job ended, if its events say so.
    pub fn outcome(&self) -> Result<Option<JobOutcome>, JobError> {
        events::outcome(self)
    }

    /// The newest event, if there is one.
    pub fn last_event(&self) -> Result<Option<NumberedEvent>, JobError> {
        events::last(self)
    }

    /// Takes the exclusive right to write events, until the result is dropped.
    ///
    /// Always fails with [`JobError::Locked`] if the job's process may be on another machine, which a lock does
    /// not reach.
    pub fn lock(&self) -> Result<EventLog, JobError> {
        match self.is_elsewhere() {
            true => Err(JobError::Locked(self.path.clone())),
            false => EventLog::open(self.clone()),
        }
    }

    /// Ends the job with `outcome`, unless it has ended already. Returns the final outcome. Use it
    /// for a job that never began, and for one whose process has died
    /// ([`JobOutcome::Interrupted`]).
    ///
    /// Fails with [`JobError::Locked`] while the job's own process is alive.
    pub fn settle(&self, outcome: JobOutcome) -> Result<JobOutcome, JobError> {
        self.lock()?.settle(outcome)
    }
}

/// The folder of all jobs.
pub(crate) fn parent(state_dir: &Path) -> PathBuf {
    state_dir.join("jobs")
}

fn read_record(folder: &Path) -> Result<JobRecord, JobError> {
    let path = folder.join(RECORD);
    let file = File::open(&path).map_err(io_error("open", &path))?;
    serde_json::from_reader(BufReader::new(file.take(MAX_RECORD_BYTES)))
        .map_err(|e| damaged(&path, e))
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), JobError> {
    file::replace(path, bytes, Readers::Owner).map_err(io_error("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::job_folder;

    #[test]
    fn a_job_folder_is_created_once_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        let made = job_folder(state.path());
        let again = JobFolder::create(state.path(), made.spec(), &PeerId::new("x").unwrap(), None);
        assert!(matches!(again, Err(JobError::Exists(_))));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(made.path()), 0o700);
        assert_eq!(mode(&made.path().join(RECORD)), 0o600);
        assert_eq!(JobFolder::open(state.path(), made.id()).unwrap().owner().as_str(), "someone");
        assert_eq!(JobFolder::all(state.path()).len(), 1);
    }

    #[test]
    fn a_queued_job_that_is_withdrawn_has_one_event() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        folder.queue(QueueEntry::default()).unwrap();
        folder.settle(JobOutcome::Cancelled).unwrap();
        assert_eq!(folder.outcome().unwrap(), Some(JobOutcome::Cancelled));
        assert_eq!((folder.last_event().unwrap().unwrap().seq, folder.started_ms()), (1, None));
    }
}
