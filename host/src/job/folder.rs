//! What a job leaves on disk: `STATE_DIR/jobs/<job id>/`.
//!
//! ```text
//! job.json       what was asked for, by whom, and where the job stands (written beside, then renamed)
//! events.jsonl   everything that happened, numbered 1, 2, 3, … without a gap, one per line
//! log            what the trainers printed, byte for byte
//! files/         the package, and the trainers' working folder
//! results/       what goes back to the client
//! ```
//!
//! One process at a time writes events: the holder of [`EventLog`], which locks `events.jsonl`.
//! The kernel drops the lock with its holder, so a lock that can be had on a job that has begun
//! and not ended means that its process is gone: [`JobFolder::settle`] then writes the end.

use rustix::fs::{FlockOperation, Mode, flock};
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{
    BadTransition, JobEvent, JobOutcome, JobSpec, JobState, JobType, NumberedEvent,
};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const RECORD: &str = "job.json";
const EVENTS: &str = "events.jsonl";
/// No event is longer: how far back the last line of the events is looked for, in bytes.
const MAX_EVENT_BYTES: u64 = 1024 * 1024;
const MAX_RECORD_BYTES: u64 = 1024 * 1024;

/// Why a job's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The job is known already.
    #[error("there is a job {0} already")]
    Exists(JobId),
    /// Another process writes this job's events.
    #[error("the job in {0} is in use by another process")]
    Locked(PathBuf),
    /// What is on disk makes no sense.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The job is not where the caller thought.
    #[error(transparent)]
    State(#[from] BadTransition),
    /// The file system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// In words.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    move |source| FolderError::Io { doing, path: path.to_owned(), source }
}

/// What a job's folder says of the job, beside its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// What the client handed over, its secret included: the file is readable by its owner only.
    pub spec: JobSpec,
    /// Who submitted it.
    pub owner: PeerId,
    /// When, in milliseconds since 1970.
    pub created_ms: u64,
    /// Where it stands.
    pub state: JobState,
}

/// The folder of one job.
#[derive(Debug, Clone)]
pub struct JobFolder {
    path: PathBuf,
}

impl JobFolder {
    /// The folder in which jobs live.
    pub fn parent(state_dir: &Path) -> PathBuf {
        state_dir.join("jobs")
    }

    /// Makes the folder of a new job. Fails if there is one of that id.
    pub fn create(state_dir: &Path, spec: &JobSpec, owner: &PeerId) -> Result<Self, FolderError> {
        let parent = Self::parent(state_dir);
        let mut private = fs::DirBuilder::new();
        private.mode(0o700);
        private.recursive(true).create(&parent).map_err(io_error("make", &parent))?;
        let path = parent.join(spec.id.as_str());
        private.recursive(false).create(&path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => FolderError::Exists(spec.id.clone()),
            _ => FolderError::Io { doing: "make", path: path.clone(), source },
        })?;
        let folder = Self { path };
        for inner in [folder.files_dir(), folder.results_dir()] {
            private.create(&inner).map_err(io_error("make", &inner))?;
        }
        folder.write_record(&JobRecord {
            spec: spec.clone(),
            owner: owner.clone(),
            created_ms: now_ms(),
            state: JobState::Staging,
        })?;
        Ok(folder)
    }

    /// Opens the folder of a known job.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FolderError> {
        let folder = Self { path: path.into() };
        folder.record()?;
        Ok(folder)
    }

    /// All jobs below a state folder that can be read; the others are named in the log.
    pub fn all(state_dir: &Path) -> Result<Vec<Self>, FolderError> {
        let parent = Self::parent(state_dir);
        let entries = match fs::read_dir(&parent) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io_error("list", &parent))?,
        };
        let mut folders = Vec::new();
        for entry in entries.filter_map(Result::ok) {
            match Self::open(entry.path()) {
                Ok(folder) => folders.push(folder),
                Err(error) => tracing::warn!(%error, "a job's folder is left alone"),
            }
        }
        folders.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(folders)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the package goes.
    pub fn files_dir(&self) -> PathBuf {
        self.path.join("files")
    }

    /// Where the results are.
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

    /// What the folder says of the job.
    pub fn record(&self) -> Result<JobRecord, FolderError> {
        let path = self.path.join(RECORD);
        let file = File::open(&path).map_err(io_error("open", &path))?;
        serde_json::from_reader(BufReader::new(file.take(MAX_RECORD_BYTES)))
            .map_err(|e| FolderError::Damaged { path, why: e.to_string() })
    }

    /// Training or inference.
    pub fn job_type(&self) -> Result<JobType, FolderError> {
        Ok(self.record()?.spec.description.job_type)
    }

    /// Writes the record beside, then renames.
    fn write_record(&self, record: &JobRecord) -> Result<(), FolderError> {
        let path = self.path.join(RECORD);
        let json = serde_json::to_vec_pretty(record)
            .map_err(|e| FolderError::Damaged { path: path.clone(), why: e.to_string() })?;
        write_private(&path, &json)
    }

    /// Takes the right to write events; nobody else has it until the result is dropped.
    pub fn lock(&self) -> Result<EventLog, FolderError> {
        EventLog::open(self.clone())
    }

    /// How the job ended, if its events say so.
    pub fn outcome(&self) -> Result<Option<JobOutcome>, FolderError> {
        let path = self.events_path();
        let mut file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io_error("open", &path))?,
        };
        let (_, last) = last_event(&mut file, &path)?;
        Ok(match last.map(|numbered| numbered.event) {
            Some(JobEvent::Finished { outcome }) => Some(outcome),
            _ => None,
        })
    }

    /// Ends the job with `outcome`, unless it has ended; returns the outcome that stands. For a job
    /// that never began, and for one whose process is gone ([`JobOutcome::Interrupted`]).
    ///
    /// Fails with [`FolderError::Locked`] while the job's own process lives.
    pub fn settle(&self, outcome: JobOutcome) -> Result<JobOutcome, FolderError> {
        self.lock()?.finish(outcome)
    }
}

/// The right to write a job's events, and the place of the next one.
#[derive(Debug)]
pub struct EventLog {
    folder: JobFolder,
    file: File,
    seq: u64,
    bytes: u64,
    outcome: Option<JobOutcome>,
}

impl EventLog {
    fn open(folder: JobFolder) -> Result<Self, FolderError> {
        let path = folder.events_path();
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(FolderError::Locked(folder.path)),
            other => other.map_err(|e| io_error("lock", &path)(e.into()))?,
        }
        // A line that a crash cut off was never seen by anybody: readers wait for its end.
        let (bytes, last) = last_event(&mut file, &path)?;
        file.set_len(bytes).map_err(io_error("repair", &path))?;
        let seq = last.as_ref().map_or(0, |numbered| numbered.seq);
        let outcome = match last.map(|numbered| numbered.event) {
            Some(JobEvent::Finished { outcome }) => Some(outcome),
            _ => None,
        };
        Ok(Self { folder, file, seq, bytes, outcome })
    }

    /// Number of the last event, 0 for none.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Adds one event, in one write. On an error nothing is added.
    pub fn append(&mut self, event: JobEvent) -> Result<u64, FolderError> {
        let path = self.folder.events_path();
        let outcome = match &event {
            JobEvent::Finished { outcome } => Some(outcome.clone()),
            _ => None,
        };
        let numbered = NumberedEvent { seq: self.seq + 1, at_ms: now_ms(), event };
        let mut line = serde_json::to_vec(&numbered)
            .map_err(|e| FolderError::Damaged { path: path.clone(), why: e.to_string() })?;
        line.push(b'\n');
        if let Err(source) = self.file.write_all(&line) {
            // Half a line would break the numbering of all that follow.
            self.file.set_len(self.bytes).map_err(io_error("repair", &path))?;
            return Err(FolderError::Io { doing: "write to", path, source });
        }
        self.bytes += line.len() as u64;
        self.seq += 1;
        self.outcome = outcome.or(self.outcome.take());
        Ok(self.seq)
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes down that this process runs the job.
    pub fn begin(&mut self) -> Result<(), FolderError> {
        self.advance(JobState::Running { pid: std::process::id() })
    }

    /// Writes the last event and the final state; a job that has ended stays as it was.
    pub fn finish(&mut self, outcome: JobOutcome) -> Result<JobOutcome, FolderError> {
        let outcome = match &self.outcome {
            Some(earlier) => earlier.clone(),
            None => {
                self.append(JobEvent::Finished { outcome: outcome.clone() })?;
                outcome
            }
        };
        let path = self.folder.events_path();
        self.file.sync_data().map_err(io_error("flush", &path))?;
        if !matches!(self.folder.record()?.state, JobState::Finished(_)) {
            self.advance(JobState::Finished(outcome.clone()))?;
        }
        Ok(outcome)
    }

    fn advance(&mut self, to: JobState) -> Result<(), FolderError> {
        let mut record = self.folder.record()?;
        record.state.advance(to)?;
        self.folder.write_record(&record)
    }
}

/// Length of all whole lines, and the last of them.
fn last_event(file: &mut File, path: &Path) -> Result<(u64, Option<NumberedEvent>), FolderError> {
    let read = |file: &mut File| -> io::Result<(u64, Vec<u8>)> {
        let length = file.seek(SeekFrom::End(0))?;
        let start = length.saturating_sub(2 * MAX_EVENT_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        file.take(2 * MAX_EVENT_BYTES).read_to_end(&mut tail)?;
        Ok((start, tail))
    };
    let (start, tail) = read(file).map_err(io_error("read", path))?;
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else {
        return match start {
            0 => Ok((0, None)),
            _ => Err(damaged(path, "its last line has no end")),
        };
    };
    let line = tail[..end].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let event = serde_json::from_slice(line).map_err(|e| damaged(path, &e.to_string()))?;
    Ok((start + end as u64 + 1, Some(event)))
}

fn damaged(path: &Path, why: &str) -> FolderError {
    FolderError::Damaged { path: path.to_owned(), why: why.to_owned() }
}

/// Reads events in order while others are written.
#[derive(Debug)]
pub struct EventReader {
    lines: BufReader<File>,
    path: PathBuf,
    partial: Vec<u8>,
    skip: u64,
}

impl EventReader {
    /// Opens the events that come after number `after`.
    pub fn open(folder: &JobFolder, after: u64) -> Result<Self, FolderError> {
        let path = folder.events_path();
        let file = File::open(&path).map_err(io_error("open", &path))?;
        Ok(Self { lines: BufReader::new(file), path, partial: Vec::new(), skip: after })
    }

    /// The next event, or nothing yet.
    pub fn next(&mut self) -> Result<Option<NumberedEvent>, FolderError> {
        loop {
            let left = 2 * MAX_EVENT_BYTES - self.partial.len() as u64;
            let read = (&mut self.lines).take(left).read_until(b'\n', &mut self.partial);
            read.map_err(io_error("read", &self.path))?;
            if self.partial.last() != Some(&b'\n') {
                return match self.partial.len() as u64 >= 2 * MAX_EVENT_BYTES {
                    true => Err(damaged(&self.path, "a line in it has no end")),
                    false => Ok(None),
                };
            }
            let line = std::mem::take(&mut self.partial);
            // Events are numbered by their lines, so what the caller has is passed over unread.
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            return serde_json::from_slice(&line)
                .map(Some)
                .map_err(|e| damaged(&self.path, &e.to_string()));
        }
    }
}

/// Writes a file that only its owner can read: beside first, then renamed.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(Mode::RUSR.union(Mode::WUSR).bits())
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&beside, path)
    };
    write().map_err(io_error("write", path))
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::spec;

    fn folder(state: &Path) -> JobFolder {
        let owner = PeerId::new("someone").unwrap();
        JobFolder::create(state, &spec(JobType::Training), &owner).unwrap()
    }

    fn log(text: &str) -> JobEvent {
        JobEvent::Log { text: text.into() }
    }

    #[test]
    fn a_job_is_made_once_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        let made = folder(state.path());
        let again = JobFolder::create(
            state.path(),
            &made.record().unwrap().spec,
            &PeerId::new("x").unwrap(),
        );
        assert!(matches!(again, Err(FolderError::Exists(_))));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(made.path()), 0o700);
        assert_eq!(mode(&made.path().join(RECORD)), 0o600);
        assert_eq!(JobFolder::all(state.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_line_cut_off_by_a_crash_is_repaired() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder(state.path());
        let mut events = folder.lock().unwrap();
        events.append(log("one")).unwrap();
        events.append(log("two")).unwrap();
        drop(events);
        let mut file = OpenOptions::new().append(true).open(folder.events_path()).unwrap();
        file.write_all(br#"{"seq":3,"at_ms":1,"ev"#).unwrap();
        drop(file);
        let mut events = folder.lock().unwrap();
        assert_eq!(events.append(log("three")).unwrap(), 3);
        let mut reader = EventReader::open(&folder, 1).unwrap();
        let texts: Vec<_> = std::iter::from_fn(|| reader.next().unwrap()).collect();
        assert_eq!(texts.iter().map(|e| e.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(texts[1].event, log("three"));
    }

    #[test]
    fn one_writer_at_a_time_and_one_end() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder(state.path());
        let mut events = folder.lock().unwrap();
        events.begin().unwrap();
        assert!(matches!(folder.settle(JobOutcome::Interrupted), Err(FolderError::Locked(_))));
        drop(events);
        assert_eq!(folder.settle(JobOutcome::Interrupted).unwrap(), JobOutcome::Interrupted);
        assert_eq!(folder.settle(JobOutcome::Cancelled).unwrap(), JobOutcome::Interrupted);
        let state = folder.record().unwrap().state;
        assert_eq!(state, JobState::Finished(JobOutcome::Interrupted));
        assert_eq!(folder.outcome().unwrap(), Some(JobOutcome::Interrupted));
    }

    #[test]
    fn a_reader_waits_for_whole_lines() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder(state.path());
        drop(folder.lock().unwrap());
        let mut reader = EventReader::open(&folder, 0).unwrap();
        assert_eq!(reader.next().unwrap(), None);
        let mut file = OpenOptions::new().append(true).open(folder.events_path()).unwrap();
        file.write_all(br#"{"seq":1,"at_ms":1,"#).unwrap();
        assert_eq!(reader.next().unwrap(), None);
        file.write_all(b"\"event\":\"log\",\"text\":\"x\"}\n").unwrap();
        assert_eq!(reader.next().unwrap().unwrap().event, log("x"));
    }
}
