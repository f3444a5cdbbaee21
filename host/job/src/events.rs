//! A job's numbered events on disk: one writer, any number of readers.
//!
//! Event n is line n. A line counts once its newline is written. Readers wait for the newline, and the next
//! writer after a crash removes an incomplete line.

use super::error::{JobError, damaged, io_error};
use super::folder::JobFolder;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::lock::{self, Locked};
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobState, NumberedEvent};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest event, in bytes.
const MAX_EVENT_BYTES: u64 = 1024 * 1024;

/// The exclusive right to write a job's events.
#[derive(Debug)]
pub struct EventLog {
    folder: JobFolder,
    file: File,
    seq: u64,
    bytes: u64,
    outcome: Option<JobOutcome>,
}

impl EventLog {
    pub(crate) fn open(folder: JobFolder) -> Result<Self, JobError> {
        let path = folder.events_path();
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let locked = match lock::exclusive(&file, &path) {
            // Without locks, the process id in the record shows whether the job runs.
            Ok(Locked::Unsupported) if folder.is_run_by_another() => {
                Err(ErrorKind::WouldBlock.into())
            }
            locked => locked,
        };
        locked.map_err(|error: io::Error| match error.kind() {
            ErrorKind::WouldBlock => JobError::Locked(folder.path().to_owned()),
            _ => io_error("lock", &path)(error),
        })?;
        // Nobody has read a line that a crash cut off, because readers wait for its end.
        let (bytes, last) = last_event(&mut file, &path)?;
        file.set_len(bytes).map_err(io_error("repair", &path))?;
        let seq = last.as_ref().map_or(0, |numbered| numbered.seq);
        let outcome = ending(last);
        Ok(Self { folder, file, seq, bytes, outcome })
    }

    /// The number of the last event, 0 if there is none.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Adds one event with one write. Adds nothing if that fails.
    pub fn append(&mut self, event: JobEvent) -> Result<u64, JobError> {
        let path = self.folder.events_path();
        let outcome = match &event {
            JobEvent::Finished { outcome } => Some(outcome.clone()),
            _ => None,
        };
        let numbered = NumberedEvent { seq: self.seq + 1, at_ms: now_ms(), event };
        let mut line = serde_json::to_vec(&numbered).map_err(|e| damaged(&path, e))?;
        line.push(b'\n');
        if let Err(source) = self.file.write_all(&line) {
            // Half a line would break the numbering of all further events.
            self.file.set_len(self.bytes).map_err(io_error("repair", &path))?;
            return Err(JobError::Io { doing: "write to", path, source });
        }
        self.bytes += line.len() as u64;
        self.seq += 1;
        self.outcome = outcome.or(self.outcome.take());
        Ok(self.seq)
    }

    /// The length of all events, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records that this process runs the job.
    pub fn begin(&mut self) -> Result<(), JobError> {
        self.advance(JobState::Running { pid: std::process::id() })
    }

    /// Writes the last event and the final state. Changes nothing if the job has ended already.
    pub fn finish(&mut self, outcome: JobOutcome) -> Result<JobOutcome, JobError> {
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

    /// Ends a job that never began, or whose process has died: ends its trainer, keeps what that saved, and
    /// finishes with `outcome`.
    pub(crate) fn settle(&mut self, outcome: JobOutcome) -> Result<JobOutcome, JobError> {
        super::orphans::end(&self.folder);
        self.finish(outcome)
    }

    fn advance(&mut self, to: JobState) -> Result<(), JobError> {
        let mut record = self.folder.record()?;
        record.state.advance(to)?;
        self.folder.write_record(&record)
    }
}

/// The length of all complete lines, and the last of them.
fn last_event(file: &mut File, path: &Path) -> Result<(u64, Option<NumberedEvent>), JobError> {
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
            _ => Err(damaged(path, "its last line is incomplete")),
        };
    };
    let line = tail[..end].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let event = serde_json::from_slice(line).map_err(|e| damaged(path, e))?;
    Ok((start + end as u64 + 1, Some(event)))
}

/// Reads events in order, while further ones are written.
#[derive(Debug)]
pub struct EventReader {
    lines: BufReader<File>,
    path: PathBuf,
    partial: Vec<u8>,
    /// How far the file has been read, in bytes.
    position: u64,
    skip: u64,
}

impl EventReader {
    /// Opens the events that come after number `after`.
    pub fn open(folder: &JobFolder, after: u64) -> Result<Self, JobError> {
        let path = folder.events_path();
        let lines = open_at(&path, 0)?;
        Ok(Self { lines, path, partial: Vec::new(), position: 0, skip: after })
    }

    /// Opens the file again, which shows new content on a network file system.
    pub(crate) fn reopen(&mut self) -> Result<(), JobError> {
        self.lines = open_at(&self.path, self.position)?;
        Ok(())
    }

    /// The next event, if it is there.
    pub fn read(&mut self) -> Result<Option<NumberedEvent>, JobError> {
        loop {
            let left = 2 * MAX_EVENT_BYTES - self.partial.len() as u64;
            let read = (&mut self.lines).take(left).read_until(b'\n', &mut self.partial);
            self.position += read.map_err(io_error("read", &self.path))? as u64;
            if self.partial.last() != Some(&b'\n') {
                return match self.partial.len() as u64 >= 2 * MAX_EVENT_BYTES {
                    true => Err(damaged(&self.path, "a line in it is too long")),
                    false => Ok(None),
                };
            }
            let line = std::mem::take(&mut self.partial);
            // Event n is line n, so the events that the caller has need no parsing.
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            return serde_json::from_slice(&line).map(Some).map_err(|e| damaged(&self.path, e));
        }
    }
}

/// How a job ended, if its events say so.
pub(crate) fn outcome(folder: &JobFolder) -> Result<Option<JobOutcome>, JobError> {
    Ok(ending(last(folder)?))
}

/// The last event, if there is one.
pub(crate) fn last(folder: &JobFolder) -> Result<Option<NumberedEvent>, JobError> {
    let path = folder.events_path();
    let mut file = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io_error("open", &path))?,
    };
    Ok(last_event(&mut file, &path)?.1)
}

fn ending(last: Option<NumberedEvent>) -> Option<JobOutcome> {
    match last?.event {
        JobEvent::Finished { outcome } => Some(outcome),
        _ => None,
    }
}

/// Opens a file for reading from `position`. A network file system shows new content only after another open.
pub(crate) fn open_at(path: &Path, position: u64) -> Result<BufReader<File>, JobError> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    file.seek(SeekFrom::Start(position)).map_err(io_error("read", path))?;
    Ok(BufReader::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::job_folder;
    use proptest::prelude::*;

    fn log(text: &str) -> JobEvent {
        JobEvent::Log { text: text.into() }
    }

    #[test]
    fn a_line_cut_off_by_a_crash_is_repaired() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
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
        let texts: Vec<_> = std::iter::from_fn(|| reader.read().unwrap()).collect();
        assert_eq!(texts.iter().map(|e| e.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(texts[1].event, log("three"));
    }

    #[test]
    fn one_process_writes_events_and_one_outcome_counts() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        let mut events = folder.lock().unwrap();
        events.begin().unwrap();
        assert!(matches!(folder.settle(JobOutcome::Interrupted), Err(JobError::Locked(_))));
        drop(events);
        assert_eq!(folder.settle(JobOutcome::Interrupted).unwrap(), JobOutcome::Interrupted);
        assert_eq!(folder.settle(JobOutcome::Cancelled).unwrap(), JobOutcome::Interrupted);
        let state = folder.record().unwrap().state;
        assert_eq!(state, JobState::Finished(JobOutcome::Interrupted));
        assert_eq!(folder.outcome().unwrap(), Some(JobOutcome::Interrupted));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Begin,
        Log,
        Finish(JobOutcome),
        /// From another process, which may settle the job at any time.
        Settle(JobOutcome),
        /// The writer dies in the middle of a line (true) or between two.
        Crash(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let outcome = || {
            prop::sample::select(vec![
                JobOutcome::Succeeded,
                JobOutcome::Cancelled,
                JobOutcome::Interrupted,
            ])
        };
        prop_oneof![
            Just(Step::Begin),
            Just(Step::Log),
            outcome().prop_map(Step::Finish),
            outcome().prop_map(Step::Settle),
            any::<bool>().prop_map(Step::Crash),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Writers write, settle and die in any order. In the end the job has exactly one last
        /// event, its record has the same outcome, and no number is missing.
        #[test]
        fn every_job_reaches_one_outcome(steps in prop::collection::vec(step(), 0..20)) {
            let state = tempfile::tempdir().unwrap();
            let folder = job_folder(state.path());
            let mut writer = Some(folder.lock().unwrap());
            for step in steps {
                match (step, &mut writer) {
                    (Step::Settle(outcome), Some(_)) => {
                        let refused = matches!(folder.settle(outcome), Err(JobError::Locked(_)));
                        prop_assert!(refused, "settled while its process lives");
                    }
                    (Step::Settle(outcome), None) => { folder.settle(outcome).unwrap(); }
                    (Step::Crash(amid), Some(_)) => {
                        writer = None;
                        let path = folder.events_path();
                        let mut file = OpenOptions::new().append(true).open(path).unwrap();
                        file.write_all(if amid { br#"{"seq":"# } else { b"" }).unwrap();
                    }
                    (Step::Begin, Some(writer)) => { let _ = writer.begin(); }
                    (Step::Log, Some(writer)) if writer.outcome.is_none() => {
                        writer.append(log("x")).unwrap();
                    }
                    (Step::Finish(outcome), Some(writer)) => { writer.finish(outcome).unwrap(); }
                    (_, _) => {}
                }
            }
            drop(writer);
            let outcome = folder.settle(JobOutcome::Interrupted).unwrap();
            prop_assert_eq!(folder.record().unwrap().state, JobState::Finished(outcome.clone()));
            let mut reader = EventReader::open(&folder, 0).unwrap();
            let events: Vec<_> = std::iter::from_fn(|| reader.read().unwrap()).collect();
            let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
            prop_assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
            let ends: Vec<_> = events.iter().filter_map(|e| ending(Some(e.clone()))).collect();
            prop_assert_eq!(ends, [outcome]);
        }
    }

    #[test]
    fn a_reader_waits_for_whole_lines() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        drop(folder.lock().unwrap());
        let mut reader = EventReader::open(&folder, 0).unwrap();
        assert_eq!(reader.read().unwrap(), None);
        let mut file = OpenOptions::new().append(true).open(folder.events_path()).unwrap();
        file.write_all(br#"{"seq":1,"at_ms":1,"#).unwrap();
        assert_eq!(reader.read().unwrap(), None);
        file.write_all(b"\"event\":\"log\",\"text\":\"x\"}\n").unwrap();
        assert_eq!(reader.read().unwrap().unwrap().event, log("x"));
    }
}
