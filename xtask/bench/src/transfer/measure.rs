//! One row: each of its peers, again and again, in turn.

use super::files::{self, FileSet, Payload};
use super::meter::Cost;
use super::ours::{RESULT, Site, Transfer, Way};
use super::pairs::{Congestion, Pair, Paired};
use super::place::Place;
use super::plan::{Contender, Line, Over, Row, What};
use super::running::{Deadline, Missing};
use super::ssh::{Copied, Copier, Sshd};
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How a client ends that finds the worker busy.
const BUSY: &str = "exit status: 5";

/// One transfer.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub bytes: u64,
    pub took: Duration,
    pub connect: Duration,
    /// Above what the end costs when it transfers next to nothing.
    pub send: Cost,
    /// Likewise.
    pub receive: Cost,
}

/// What came of one line of a row: samples until it failed, and why it did.
#[derive(Debug, Default)]
pub struct Outcome {
    pub samples: Vec<Sample>,
    pub failure: Option<Failure>,
}

/// Why there are not all samples.
#[derive(Debug)]
pub enum Failure {
    /// Something is missing on this machine.
    NotRun(String),
    /// It went wrong, or took too long.
    Failed(String),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let text = format!("{error:#}");
        if error.is::<Missing>() { Self::NotRun(text) } else { Self::Failed(text) }
    }
}

/// What a job that transfers next to nothing costs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Idle {
    upload: [Cost; 2],
    download: [Cost; 2],
}

/// Where files are written.
#[derive(Debug)]
pub struct Folders {
    pub memory: std::path::PathBuf,
    pub disk: std::path::PathBuf,
}

impl Folders {
    fn of(&self, over: Over) -> &Path {
        if over == Over::Disk { &self.disk } else { &self.memory }
    }
}

/// Both ends of a row, ready.
pub struct Bench<'a> {
    pub row: Row,
    pub place: &'a Place,
    pub folder: tempfile::TempDir,
    pub idle: Option<Idle>,
}

impl<'a> Bench<'a> {
    pub fn new(row: Row, place: &'a Place, folders: &Folders) -> Result<Self> {
        let folder = folders.of(row.over);
        let folder = tempfile::Builder::new().prefix("bench-transfer-").tempdir_in(folder);
        Ok(Self { row, place, folder: folder?, idle: None })
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.row.limit)
    }

    /// Every peer's lines, with what failed among them.
    pub fn transfers(&mut self, peers: &[Contender], repeat: u32) -> Result<Vec<(Line, Outcome)>> {
        let What::Transfer { files, aiortc_bytes, .. } = self.row.what else {
            return Ok(Vec::new());
        };
        let payload = Payload::write(&self.sub("payload")?, files)?;
        let mut outcomes: HashMap<Line, Outcome> = HashMap::new();
        for _ in 0..repeat {
            for peer in peers {
                let lines = peer.lines();
                let outcome = outcomes.entry(lines[0]).or_default();
                if outcome.failure.is_some() {
                    continue;
                }
                match self.one(*peer, &payload, aiortc_bytes) {
                    Ok(samples) => {
                        for (line, sample) in lines.iter().zip(samples) {
                            outcomes.entry(*line).or_default().samples.push(sample);
                            let rate = sample.bytes as f64 / sample.took.as_secs_f64() / 1e6;
                            eprintln!("  {}: {rate:.1} MB/s", line.name());
                        }
                    }
                    Err(error) => {
                        eprintln!("  {}: {error:#}", lines[0].name());
                        outcome.failure = Some(error.into());
                    }
                }
            }
        }
        let lines = peers.iter().flat_map(|peer| peer.lines());
        Ok(lines.filter_map(|line| Some((*line, outcomes.remove(line)?))).collect())
    }

    fn one(
        &mut self,
        peer: Contender,
        payload: &Payload,
        aiortc_bytes: u64,
    ) -> Result<Vec<Sample>> {
        let bytes = payload.files.bytes();
        let pair = |pair: Pair, bytes| {
            let paired = pair.run(self.place, bytes, self.deadline())?;
            Ok(vec![paired_sample(paired, bytes)])
        };
        match peer {
            Contender::TcpCubic => pair(Pair::Tcp(Congestion::Cubic), bytes),
            Contender::TcpBbr => pair(Pair::Tcp(Congestion::Bbr), bytes),
            Contender::Aiortc => pair(Pair::Aiortc, aiortc_bytes),
            Contender::ToAiortc => pair(Pair::ToAiortc, aiortc_bytes),
            Contender::FromAiortc => pair(Pair::FromAiortc, aiortc_bytes),
            Contender::Scp => self.copy(Copier::Scp, payload),
            Contender::Rsync => self.copy(Copier::Rsync, payload),
            Contender::Ours => self.ours(payload, Way::Direct),
            Contender::Relayed => {
                let _without_udp = self.place.without_udp()?;
                self.ours(payload, Way::Relayed)
            }
            Contender::Webrtc => self.ours(payload, Way::Webrtc),
        }
    }

    fn copy(&self, copier: Copier, payload: &Payload) -> Result<Vec<Sample>> {
        let mut server = Sshd::start(self.place, self.folder.path())?;
        let Copied { took, connect, send, receive } =
            server.copy(copier, payload, self.deadline())?;
        Ok(vec![Sample { bytes: payload.files.bytes(), took, connect, send, receive }])
    }

    fn ours(&mut self, payload: &Payload, way: Way) -> Result<Vec<Sample>> {
        let idle = self.idle(way)?;
        let mut site = Site::start(self.place, self.folder.path(), way)?;
        let job = site.job(payload, self.deadline())?;
        let sample = |transfer: Transfer, idle: [Cost; 2]| Sample {
            bytes: transfer.bytes,
            took: transfer.took,
            connect: job.connect,
            send: transfer.send.above(idle[0]),
            receive: transfer.receive.above(idle[1]),
        };
        let upload = sample(job.upload, idle.upload);
        eprintln!("  (reading and hashing first: {:.2} s)", job.prepare.as_secs_f64());
        if matches!(payload.files, FileSet::Many(..)) {
            // The result of a training is small.
            return Ok(vec![upload]);
        }
        Ok(vec![upload, sample(job.download, idle.download)])
    }

    /// What a job of one kilobyte costs, once for each row: a client's start, a worker's policies.
    fn idle(&mut self, way: Way) -> Result<Idle> {
        if let Some(idle) = self.idle {
            return Ok(idle);
        }
        let payload = Payload::write(&self.sub("idle")?, FileSet::One(1_000))?;
        let mut site = Site::start(self.place, self.folder.path(), way)?;
        let job = site.job(&payload, self.deadline()).context("an idle job")?;
        let costs = |transfer: Transfer| [transfer.send, transfer.receive];
        let idle = Idle { upload: costs(job.upload), download: costs(job.download) };
        Ok(*self.idle.insert(idle))
    }

    fn sub(&self, name: &str) -> Result<std::path::PathBuf> {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// A package, and the same with one line changed: what the second took on the wire, both ways,
    /// and of what.
    pub fn again(&mut self, repeat: u32) -> Result<Vec<Again>> {
        let What::Again { bytes } = self.row.what else { return Ok(Vec::new()) };
        let package = files::training(self.folder.path())?;
        files::labels(&package.join("one.pkg.slp"), bytes)?;
        let config = package.join("single_instance.yaml");
        let before = fs::read_to_string(&config)?;
        let mut all = Vec::new();
        for _ in 0..repeat {
            fs::write(&config, &before)?;
            let mut site = Site::start(self.place, self.folder.path(), Way::Direct)?;
            site.job_of(&package, None, RESULT, self.deadline())?;
            let after = before.replace("\n  seed: 0\n", "\n  seed: 1\n");
            ensure!(after != before, "the package has no seed to change");
            fs::write(&config, after)?;
            let again = site.job_of(&package, None, "again", self.deadline())?.upload;
            let lacking_bytes = again.bytes - again.already_there_bytes;
            let sent_bytes = again.wire_bytes.unwrap_or(lacking_bytes);
            all.push(Again { bytes: again.bytes, lacking_bytes, sent_bytes, took: again.took });
        }
        Ok(all)
    }

    /// A client killed when half is there, and another that sends the same.
    pub fn resume(&mut self, repeat: u32) -> Result<Vec<Resumed>> {
        let What::Resume { bytes } = self.row.what else { return Ok(Vec::new()) };
        let payload = Payload::write(&self.sub("payload")?, FileSet::One(bytes))?;
        let mut all = Vec::new();
        for _ in 0..repeat {
            all.push(self.resume_once(&payload)?);
        }
        Ok(all)
    }

    fn resume_once(&mut self, payload: &Payload) -> Result<Resumed> {
        let deadline = self.deadline();
        let mut site = Site::start(self.place, self.folder.path(), Way::Direct)?;
        let jobs = site.worker_jobs();
        let before = self.place.wire_bytes();
        let mut first = site.client(&payload.path, Some(&payload.models), RESULT)?;
        let half = payload.files.bytes() / 2;
        while allocated_bytes(&jobs) < half {
            ensure!(!deadline.is_over(), "half of it did not arrive in time");
            std::thread::sleep(Duration::from_millis(5));
        }
        first.kill();
        let killed = Instant::now();
        let wired = self.place.wire_bytes().zip(before).map(|(after, before)| after - before);
        let (job, waited) = loop {
            let waited = killed.elapsed();
            match site.job(payload, deadline) {
                Ok(job) => break (job, waited),
                // The slot is still held for the first client.
                Err(error) if error.to_string().contains(BUSY) => {}
                Err(error) => return Err(error),
            }
            ensure!(!deadline.is_over(), "the worker took no second client in time");
            std::thread::sleep(Duration::from_millis(200));
        };
        let upload = job.upload;
        Ok(Resumed {
            bytes: upload.bytes,
            already_there_bytes: upload.already_there_bytes,
            wire_bytes: wired.zip(upload.wire_bytes).map(|(first, second)| first + second),
            took: upload.took,
            waited,
        })
    }
}

/// A second submission.
#[derive(Debug, Clone, Copy)]
pub struct Again {
    pub bytes: u64,
    /// What the worker did not have.
    pub lacking_bytes: u64,
    /// On the wire, both ways; or the former, where nobody counts.
    pub sent_bytes: u64,
    pub took: Duration,
}

/// A resumed one.
#[derive(Debug, Clone, Copy)]
pub struct Resumed {
    pub bytes: u64,
    /// What the second client did not have to send.
    pub already_there_bytes: u64,
    /// What both clients' transfers took on the wire, both ways.
    pub wire_bytes: Option<u64>,
    /// The second transfer.
    pub took: Duration,
    /// From the kill to the second client that was accepted.
    pub waited: Duration,
}

fn paired_sample(paired: Paired, bytes: u64) -> Sample {
    let Paired { took, connect, send, receive } = paired;
    Sample { bytes, took, connect, send, receive }
}

/// What the files below `folder` take.
fn allocated_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(there) if there.is_dir() => allocated_bytes(&entry.path()),
        Ok(there) => there.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}
