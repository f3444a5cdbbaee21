//! A trace: the workers of a room and the jobs that arrived, as lines of JSON.

use crate::LocalTime;
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::JobDescription;
use sleap_rtc_protocol::signaling::{Metadata, PeerInfo, Role};
use sleap_rtc_protocol::worker::WorkerStatus;
use std::fmt::Write as _;
use std::io::{self, BufRead, Read};

/// The longest line, in bytes.
const LINE_BYTES: u64 = 1 << 20;
/// The most workers and jobs of a trace.
const WORKERS: usize = 10_000;
const JOBS: usize = 1_000_000;
/// The most slots of a worker.
const SLOTS: usize = 256;
/// The longest time in a trace: ten years.
const LONGEST_S: f64 = 10.0 * 365.25 * 86_400.0;

/// Why a text is not a trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// A line is not part of a trace.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// There is nothing to simulate.
    #[error("it has no {0}")]
    Without(&'static str),
}

/// A room and what happened in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The local time at which the clock of the trace shows 0.
    pub start: LocalTime,
    /// The workers.
    pub workers: Vec<TraceWorker>,
    /// The jobs, in the order of their arrival.
    pub jobs: Vec<TraceJob>,
}

/// A worker of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceWorker {
    /// Its peer id.
    pub peer_id: PeerId,
    /// As its metadata in the room: `hostname`, `gpus`, `max_concurrent_jobs` and so on.
    pub metadata: Metadata,
    /// The GPUs of each slot, by their positions in `gpus`.
    pub slots: Vec<Vec<usize>>,
    /// How fast it is: a job takes its `duration_s` divided by this.
    pub speed: f64,
}

/// A job of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceJob {
    /// Its name in the results.
    pub id: String,
    /// When it arrived, in milliseconds since the start.
    pub at_ms: u64,
    /// How long it really takes on a worker of speed 1, in milliseconds.
    pub duration_ms: u64,
    /// What policies know about it.
    pub description: JobDescription,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TraceLine {
    Trace(HeadLine),
    Worker(WorkerLine),
    Job(JobLine),
}

#[derive(Serialize, Deserialize)]
struct HeadLine {
    /// The format's version.
    version: u32,
    start: String,
}

#[derive(Serialize, Deserialize)]
struct WorkerLine {
    peer_id: PeerId,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default)]
    properties: serde_json::Map<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slots: Option<Vec<Vec<usize>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    speed: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct JobLine {
    id: String,
    at_s: f64,
    duration_s: f64,
    #[serde(flatten)]
    description: JobDescription,
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    ///
    /// Names the first line that is not part of a trace.
    pub fn read(mut text: impl BufRead) -> Result<Self, TraceError> {
        let mut trace = Self { start: LocalTime::ORDINARY, workers: Vec::new(), jobs: Vec::new() };
        for line in 1.. {
            let mut bytes = Vec::new();
            if (&mut text).take(LINE_BYTES).read_until(b'\n', &mut bytes)? == 0 {
                break;
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let parsed = serde_json::from_slice(&bytes).map_err(|error| error.to_string());
            parsed
                .and_then(|parsed| trace.add(parsed))
                .map_err(|why| TraceError::Line { line, why })?;
        }
        match () {
            () if trace.workers.is_empty() => Err(TraceError::Without("workers")),
            () if trace.jobs.is_empty() => Err(TraceError::Without("jobs")),
            () => {
                trace.jobs.sort_by_key(|job| job.at_ms);
                Ok(trace)
            }
        }
    }

    fn add(&mut self, line: TraceLine) -> Result<(), String> {
        match line {
            TraceLine::Trace(HeadLine { version: 1, start }) => {
                self.start = start.parse().map_err(|why| format!("start: {why}"))?;
            }
            TraceLine::Trace(HeadLine { version, .. }) => {
                return Err(format!(
                    "version {version} is not known; this program reads version 1"
                ));
            }
            TraceLine::Worker(_) if self.workers.len() == WORKERS => {
                return Err(format!("there are more than {WORKERS} workers"));
            }
            TraceLine::Worker(line) => {
                if self.workers.iter().any(|worker| worker.peer_id == line.peer_id) {
                    return Err(format!("the worker {} is there twice", line.peer_id));
                }
                self.workers.push(TraceWorker::checked(line)?);
            }
            TraceLine::Job(_) if self.jobs.len() == JOBS => {
                return Err(format!("there are more than {JOBS} jobs"));
            }
            TraceLine::Job(JobLine { id, at_s, duration_s, description }) => {
                let (at_ms, duration_ms) = (ms("at_s", at_s)?, ms("duration_s", duration_s)?);
                self.jobs.push(TraceJob { id, at_ms, duration_ms, description });
            }
        }
        Ok(())
    }

    /// The text that [`Trace::read`] reads.
    ///
    /// # Errors
    ///
    /// Never, for a trace that was read or generated.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        let head = TraceLine::Trace(HeadLine { version: 1, start: self.start.to_string() });
        let workers = self.workers.iter().map(TraceWorker::line);
        let jobs = self.jobs.iter().map(TraceJob::line);
        let mut text = String::new();
        for line in std::iter::once(head).chain(workers).chain(jobs) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", serde_json::to_string(&line)?);
        }
        Ok(text)
    }
}

impl TraceWorker {
    /// A worker of a recorded room, with the slots that a worker has by itself: one for each GPU if their
    /// numbers agree, otherwise the GPUs are shared among the slots in turn.
    pub fn from_peer(peer: &PeerInfo) -> Self {
        let facts = WorkerFacts::from_peer(peer);
        let gpus = facts.accelerators.gpus.len();
        let count = usize::try_from(facts.slots).unwrap_or(SLOTS).clamp(1, SLOTS);
        let slots = (0..count).map(|slot| (slot..gpus).step_by(count).collect()).collect();
        let (peer_id, metadata) = (peer.peer_id.clone(), peer.metadata.clone());
        Self { peer_id, metadata, slots, speed: 1.0 }
    }

    fn checked(line: WorkerLine) -> Result<Self, String> {
        let WorkerLine { peer_id, tags, properties, slots, speed } = line;
        let metadata = Metadata { tags, properties };
        let peer = PeerInfo {
            peer_id,
            role: Role::Worker,
            metadata,
            connected_at: serde_json::Value::Null,
        };
        let worker = Self::from_peer(&peer);
        let gpus = worker.facts().accelerators.gpus.len();
        let slots = slots.unwrap_or_else(|| worker.slots.clone());
        if slots.is_empty() || slots.len() > SLOTS {
            return Err(format!("slots: expects 1 to {SLOTS} slots, not {}", slots.len()));
        }
        if let Some(gpu) = slots.iter().flatten().find(|gpu| **gpu >= gpus) {
            return Err(format!("slots: there is no GPU {gpu}, only {gpus}"));
        }
        let speed = speed.unwrap_or(1.0);
        if !(0.001..=1000.0).contains(&speed) {
            return Err(format!("speed: expects 0.001 to 1000, not {speed}"));
        }
        Ok(Self { slots, speed, ..worker })
    }

    /// Its name for people: the host's, or the peer id.
    pub fn name(&self) -> String {
        let hostname = self.metadata.properties.get("hostname").and_then(|name| name.as_str());
        hostname.unwrap_or(self.peer_id.as_str()).to_owned()
    }

    /// The models of its GPUs.
    pub fn gpu_names(&self) -> Vec<String> {
        self.facts().accelerators.gpus.into_iter().map(|gpu| gpu.model).collect()
    }

    /// What the room would know about it.
    pub(crate) fn facts(&self) -> WorkerFacts {
        let peer = PeerInfo {
            peer_id: self.peer_id.clone(),
            role: Role::Worker,
            metadata: self.metadata.clone(),
            connected_at: serde_json::Value::Null,
        };
        let mut facts = WorkerFacts::from_peer(&peer);
        facts.slots = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        if facts.status != WorkerStatus::Maintenance {
            facts.status = WorkerStatus::Available;
        }
        facts
    }

    fn line(&self) -> TraceLine {
        TraceLine::Worker(WorkerLine {
            peer_id: self.peer_id.clone(),
            tags: self.metadata.tags.clone(),
            properties: self.metadata.properties.clone(),
            slots: Some(self.slots.clone()),
            speed: (self.speed != 1.0).then_some(self.speed),
        })
    }
}

impl TraceJob {
    fn line(&self) -> TraceLine {
        TraceLine::Job(JobLine {
            id: self.id.clone(),
            at_s: self.at_ms as f64 / 1000.0,
            duration_s: self.duration_ms as f64 / 1000.0,
            description: self.description.clone(),
        })
    }
}

/// Seconds as milliseconds.
fn ms(key: &str, seconds: f64) -> Result<u64, String> {
    match (0.0..=LONGEST_S).contains(&seconds) {
        true => Ok((seconds * 1000.0).round() as u64),
        false => Err(format!("{key}: expects seconds from 0 to {LONGEST_S}, not {seconds}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = r#"{"trace":{"version":1,"start":"2026-01-12T08:00"}}
{"worker":{"peer_id":"w1","properties":{"gpus":[{"model":"A","memory_mib":8192},{"model":"B","memory_mib":24576}],"max_concurrent_jobs":2}}}
{"worker":{"peer_id":"w2","properties":{"owner":"ada"},"speed":2.0}}

{"job":{"id":"late","at_s":10.5,"duration_s":60.0,"job_type":"inference","user":"bob"}}
{"job":{"id":"early","at_s":2.0,"duration_s":0.25,"job_type":"training","epochs":100}}
"#;

    #[test]
    fn it_is_read_and_written() {
        let trace = Trace::read(TRACE.as_bytes()).unwrap();
        assert_eq!(trace.start.to_string(), "2026-01-12T08:00");
        assert_eq!(trace.workers[0].slots, [vec![0], vec![1]]);
        assert_eq!((trace.workers[1].slots.clone(), trace.workers[1].speed), (vec![vec![]], 2.0));
        let jobs: Vec<_> = trace.jobs.iter().map(|job| (job.id.as_str(), job.at_ms)).collect();
        assert_eq!(jobs, [("early", 2000), ("late", 10_500)]);
        assert_eq!(trace.jobs[0].duration_ms, 250);
        let again = Trace::read(trace.to_text().unwrap().as_bytes()).unwrap();
        assert_eq!(again, trace);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let worker =
            r#"{"worker":{"peer_id":"w","properties":{"gpus":[{"model":"A","memory_mib":1}]}"#;
        let job = r#"{"job":{"id":"j","job_type":"training""#;
        let cases = [
            (String::new(), "it has no workers"),
            (format!("{worker}}}}}"), "it has no jobs"),
            ("\n\nworker".into(), "line 3: expected value"),
            (r#"{"trace":{"version":2,"start":"x"}}"#.into(), "line 1: version 2 is not known"),
            (r#"{"trace":{"version":1,"start":"noon"}}"#.into(), "start: expects a date"),
            (format!("{worker}}}}}\n{worker}}}}}"), "line 2: the worker w is there twice"),
            (format!(r#"{worker},"slots":[[1]]}}}}"#), "there is no GPU 1, only 1"),
            (format!(r#"{worker},"slots":[]}}}}"#), "expects 1 to 256 slots, not 0"),
            (format!(r#"{worker},"speed":0}}}}"#), "speed: expects 0.001 to 1000, not 0"),
            (format!(r#"{job},"at_s":-1,"duration_s":1}}}}"#), "at_s: expects seconds from 0"),
            (format!(r#"{job},"at_s":1,"duration_s":1e300}}}}"#), "duration_s: expects seconds"),
            (format!(r#"{job},"at_s":1}}}}"#), "missing field `duration_s`"),
        ];
        for (text, expected) in cases {
            let said = Trace::read(text.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\{\\}\\[\\]\":,a-z0-9_ \n.-]{0,300}") {
            let _ = Trace::read(text.as_bytes());
        }
    }
}
