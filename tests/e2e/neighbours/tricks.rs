//! A worker that takes a job and then abuses its client. Each conversation ends by itself, soon, in words,
//! and without filling the client's memory or disk.

use super::StopAtEnd;
use super::hostile::{FalseWorker, Lure, runtime};
use crate::support::*;
use sleap_rtc_net::dialect::{DialectError, WorkerEnd};
use sleap_rtc_protocol::frame::{ClientFrame, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, NumberedEvent};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::transfer::{BlobHash, FileEntry};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// More than a client needs for any of these conversations.
const MAX_CLIENT_MIB: f64 = 160.0;
const TRANSFER_FAILED: i32 = 7;

#[derive(Debug, Clone, Copy)]
enum Trick {
    /// The result is said to have a petabyte.
    HugeClaim,
    /// The list of the result's files does not end.
    EndlessManifest,
    /// An event has a number far ahead.
    FarEvent,
    /// One event is sent again and again.
    RepeatedEvent,
    /// A line of the log does not end.
    EndlessLine,
}

/// The conversation of a worker that has taken a job.
struct Play {
    link: WorkerEnd,
    job: JobId,
    last: u64,
}

impl Play {
    async fn begin(mut link: WorkerEnd, trick: Trick) -> Result<(), DialectError> {
        let job = match link.recv().await? {
            ClientFrame::Submit { spec, .. } => spec.id,
            ClientFrame::Attach { job, .. } | ClientFrame::AttachByProof { job, .. } => job,
            other => panic!("the first frame is {other:?}"),
        };
        let accepted = WorkerFrame::Accepted {
            job: job.clone(),
            last_event: 0,
            outcome: None,
            has_package: true,
            outlook: None,
        };
        link.send(&accepted).await?;
        let mut play = Self { link, job, last: 0 };
        let done = play.perform(trick).await;
        match trick {
            // The client wants another connection, and the worker answers one offer at a time.
            Trick::FarEvent => {
                play.link.flush(SOON).await;
                play.link.close().await;
            }
            // The client closes it. What it has said last does not matter.
            _ => while play.link.recv_within(SOON).await.is_ok() {},
        }
        done
    }

    async fn perform(&mut self, trick: Trick) -> Result<(), DialectError> {
        self.tell(JobEvent::Staged { runs: vec!["a".into()] }).await?;
        match trick {
            Trick::FarEvent => {
                return self.event(u64::MAX, JobEvent::Log { text: "far\n".into() }).await;
            }
            Trick::RepeatedEvent => loop {
                self.event(1, JobEvent::Log { text: "again\n".into() }).await?;
            },
            Trick::EndlessLine => {
                for _ in 0..1000 {
                    self.tell(JobEvent::Log { text: "x".repeat(40_000) }).await?;
                }
            }
            Trick::HugeClaim | Trick::EndlessManifest => {}
        }
        self.tell(JobEvent::Finished { outcome: JobOutcome::Succeeded }).await?;
        while !matches!(self.link.recv().await?, ClientFrame::Fetch { .. }) {}
        match trick {
            Trick::HugeClaim => self.list(vec![entry("m/best.ckpt".into(), 1 << 50)], false).await,
            Trick::EndlessManifest => {
                for folder in 0_u64.. {
                    let name = |file| format!("d{folder}/{file}-{}", "x".repeat(200));
                    self.list((0..32).map(|file| entry(name(file), 1)).collect(), true).await?;
                }
                Ok(())
            }
            _ => self.list(Vec::new(), false).await,
        }
    }

    async fn tell(&mut self, event: JobEvent) -> Result<(), DialectError> {
        self.last += 1;
        self.event(self.last, event).await
    }

    async fn event(&mut self, seq: u64, event: JobEvent) -> Result<(), DialectError> {
        let event = NumberedEvent { seq, at_ms: 1, event };
        self.link.send(&WorkerFrame::Event { job: self.job.clone(), event }).await
    }

    async fn list(&mut self, files: Vec<FileEntry>, more: bool) -> Result<(), DialectError> {
        self.link.send(&WorkerFrame::Transfer(TransferFrame::Manifest { files, more })).await
    }
}

fn entry(path: String, size: u64) -> FileEntry {
    let path = RelPath::new(path).unwrap();
    FileEntry { path, size, blake3: BlobHash([7; 32]), executable: false }
}

/// Runs a client of a worker that plays `trick`. Returns its exit code and what it printed.
fn play(trick: Trick) -> (i32, String) {
    let site = Site::new();
    let server = site.server();
    let room = site.worker(&server);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        // Members prove who they are, so it is a room without members.
        let room = room.credentials().keyless();
        let mut false_worker = FalseWorker::join(&server, &room, Lure::Mute);
        let name = false_worker.peer_id().to_owned();
        let stop = &stop;
        scope.spawn(move || {
            let runtime = runtime();
            while !stop.load(Ordering::Relaxed) {
                let Some(frame) = false_worker.hear() else { continue };
                if frame["type"] == "offer" {
                    false_worker.talk(&frame, &runtime, async |link| {
                        let _ = Play::begin(link, trick).await;
                    });
                }
            }
        });
        let started = Instant::now();
        let client = site.client(&server).train(&fixture("train_single.zip"));
        let client = client.room(&room).arguments(&["--log", "--worker-id", &name]);
        let mut client = client.start();
        let mut peak_mib: f64 = 0.0;
        wait_for("the client's end", A_WHILE, || {
            peak_mib = peak_mib.max(memory_peak_mib(client.pid()).unwrap_or(0.0));
            client.try_wait()
        });
        let took = started.elapsed();
        println!("{trick:?}: {:.1} s, {peak_mib:.0} MiB", took.as_secs_f64());
        assert!(peak_mib < MAX_CLIENT_MIB, "{trick:?}: {peak_mib} MiB");
        assert!(took < Duration::from_secs(60), "{trick:?}: {took:?}");
        (client.wait(SOON), client.transcript())
    })
}

#[track_caller]
fn is_refused(trick: Trick, words: &str) {
    let (code, said) = play(trick);
    assert_eq!(code, TRANSFER_FAILED, "{said}");
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_result_of_a_petabyte_is_refused_by_its_list() {
    is_refused(Trick::HugeClaim, "too many pieces");
}

#[test]
fn a_list_of_files_without_an_end_is_cut_off() {
    is_refused(Trick::EndlessManifest, "no more than 100000 files");
}

#[test]
fn an_event_far_ahead_ends_the_conversation_after_a_few_reconnections() {
    is_refused(Trick::FarEvent, "also after reconnecting");
}

#[test]
fn an_event_that_is_repeated_without_an_end_ends_the_conversation() {
    is_refused(Trick::RepeatedEvent, "events that had arrived before");
}

#[test]
fn a_line_without_an_end_is_shown_in_part() {
    let (code, said) = play(Trick::EndlessLine);
    assert_eq!(code, 0, "{}", &said[said.len().saturating_sub(2000)..]);
    let longest = said.lines().map(str::len).max().unwrap();
    assert!(longest < 100_000, "{longest}");
}
