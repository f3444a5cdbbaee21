//! Hostile members of a room.

use crate::support::*;
use serde_json::{Value, json};
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_net::dialect::{ClientEnd, WorkerEnd};
use sleap_rtc_net::rtc::{self, Connection, RtcOptions};
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::frame::{ClientFrame, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::ids::{JobId, JobSecret};
use sleap_rtc_protocol::job::{JobDescription, JobRight, JobSpec, JobType, Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::{IceServers, Sdp};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// Where the hostile peers are. Honest ones are at 127.0.0.1.
pub(crate) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The time between two attacks of a peer.
const PAUSE: Duration = Duration::from_secs(1);

/// What a hostile client does again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    /// It asks whether the worker takes a job, and ignores the acceptance.
    Asks,
    /// It offers connections for new jobs, and opens none.
    Offers,
    /// It offers 17 connections at once for jobs that do not exist.
    KnownJobs,
    /// It submits a job, and then sends meaningless frames.
    Trickles,
}

pub(crate) const ATTACKS: [Attack; 4] =
    [Attack::Asks, Attack::Offers, Attack::KnownJobs, Attack::Trickles];

/// One thread is enough for a peer.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn options() -> RtcOptions {
    let bind = vec![Ipv4Addr::LOCALHOST.into()];
    let config = IceConfig { servers: Vec::new(), bind, ..IceConfig::default() };
    RtcOptions::new(&config, &IceServers::default())
}

/// A hostile client.
pub(crate) struct Attacker {
    peer: Observer,
    worker: String,
    runtime: Runtime,
    number: u64,
}

impl Attacker {
    pub(crate) fn join(server: &TestServer, room: &Credentials, worker: &str) -> Self {
        let metadata = json!({"tags": ["sleap-rtc-client"], "properties": {}});
        let at = (room.room_id.as_str(), room.token.as_str());
        let peer = Observer::join_from(ELSEWHERE, "client", metadata, server.address(), at);
        Self { peer, worker: worker.to_owned(), runtime: runtime(), number: 0 }
    }

    /// Repeats `attack` until `stop` is set, or the server disconnects it.
    pub(crate) fn attack(mut self, attack: Attack, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let goes_on = match attack {
                Attack::Asks => self.ask(),
                Attack::Offers => self.offer(json!({"kind": "new-job"}), "v=0"),
                Attack::KnownJobs => (0..17).all(|_| {
                    let job = format!("job-{}", self.number);
                    self.offer(json!({"kind": "known-job", "job": job}), "v=0")
                }),
                Attack::Trickles => self.trickle(stop),
            };
            if !goes_on {
                return;
            }
            while self.peer.hear(PAUSE).is_some() {}
        }
    }

    fn ask(&mut self) -> bool {
        self.number += 1;
        let payload = json!({
            "app_message_type": "job_request", "job_id": format!("job-{}", self.number),
            "job_type": "training",
        });
        let (from, to) = (self.peer.peer_id().to_owned(), self.worker.clone());
        self.peer.try_send(&json!({
            "type": "peer_message", "from_peer_id": from, "to_peer_id": to, "payload": payload,
        }))
    }

    fn offer(&mut self, purpose: Value, sdp: &str) -> bool {
        self.number += 1;
        let (sender, target) = (self.peer.peer_id().to_owned(), self.worker.clone());
        self.peer.try_send(&json!({
            "type": "offer", "sender": sender, "target": target, "sdp": sdp,
            "protocols": [DIALECT], "purpose": purpose, "attempt": self.number,
        }))
    }

    fn trickle(&mut self, stop: &AtomicBool) -> bool {
        let (offering, sdp) = self.runtime.block_on(rtc::offer(&options())).unwrap();
        if !self.offer(json!({"kind": "new-job"}), &sdp.0) {
            return false;
        }
        let until = Instant::now() + Duration::from_secs(5);
        let answer = loop {
            match self.peer.hear(PAUSE) {
                Some(frame) if frame["type"] == "answer" => break frame,
                Some(frame) if frame["type"] == "error" => return true,
                _ if Instant::now() > until || stop.load(Ordering::Relaxed) => return true,
                _ => {}
            }
        };
        let Ok(sdp) = serde_json::from_value::<Sdp>(answer["sdp"].clone()) else { return true };
        self.runtime.block_on(async {
            let Ok((connection, _python)) = offering.accept(&sdp).await else { return };
            let Ok(channel) = connection.open_channel("native", DIALECT).await else { return };
            let link = ClientEnd::new(channel);
            let nothing = ClientFrame::Transfer(TransferFrame::Unknown);
            let mut sent =
                link.send(&ClientFrame::Submit { spec: Box::new(spec()), proof: None }).await;
            while sent.is_ok() && !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(PAUSE).await;
                sent = link.send(&nothing).await;
            }
            connection.close().await;
        });
        true
    }
}

fn spec() -> JobSpec {
    JobSpec {
        id: JobId::from_random(rand::random()),
        right: JobRight::Secret { secret: JobSecret::from_random(rand::random()) },
        name: "labels".into(),
        description: JobDescription::unknown(JobType::Training),
        shared: None,
        skips_inference: false,
        cache_owner: None,
    }
}

/// What a false worker does with job requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lure {
    /// It never answers.
    Silence,
    /// It accepts, and does not answer the offer.
    Mute,
    /// It accepts, connects, and refuses the job once it knows it.
    Refuse,
}

/// A member that registers as the best worker of the room.
pub(crate) struct FalseWorker {
    peer: Observer,
    lure: Lure,
}

impl FalseWorker {
    pub(crate) fn join(server: &TestServer, room: &Credentials, lure: Lure) -> Self {
        let gpu = json!({"model": "NVIDIA A100 80GB PCIe", "memory_mib": 81_920,
            "memory_free_mib": 81_000, "utilization": 0.0});
        let metadata = json!({"tags": ["sleap-rtc", "training-worker"], "properties": {
            "status": "available", "hostname": "best", "protocols": [DIALECT], "gpus": [gpu],
            "gpu_memory_mb": 81_920, "gpu_model": "NVIDIA A100 80GB PCIe", "slots_free": 1,
            "max_concurrent_jobs": 1, "sleap_version": "0.3.5",
        }});
        let at = (room.room_id.as_str(), room.token.as_str());
        let peer = Observer::join_from(ELSEWHERE, "worker", metadata, server.address(), at);
        Self { peer, lure }
    }

    /// Answers until `stop` is set. Returns how often it was asked.
    pub(crate) fn serve(mut self, stop: &AtomicBool, asked: &AtomicU32) {
        let runtime = runtime();
        while !stop.load(Ordering::Relaxed) {
            let Some(frame) = self.peer.hear(Duration::from_millis(200)) else { continue };
            let is_question = frame["payload"]["app_message_type"] == "job_request";
            asked.fetch_add(u32::from(is_question), Ordering::Relaxed);
            match (self.lure, is_question, frame["type"] == "offer") {
                (Lure::Silence, ..) => {}
                (_, true, _) => self.say_yes(&frame),
                (Lure::Refuse, _, true) => self.talk(&frame, &runtime, refuse),
                _ => {}
            }
        }
    }

    fn say_yes(&mut self, question: &Value) {
        let payload = json!({
            "app_message_type": "job_response", "job_id": question["payload"]["job_id"],
            "accepted": true,
        });
        let (from, to) = (self.peer.peer_id().to_owned(), &question["from_peer_id"]);
        self.peer.try_send(&json!({
            "type": "peer_message", "from_peer_id": from, "to_peer_id": to, "payload": payload,
        }));
    }

    pub(crate) fn peer_id(&self) -> &str {
        self.peer.peer_id()
    }

    /// The next frame, if one arrives soon.
    pub(crate) fn hear(&mut self) -> Option<Value> {
        self.peer.hear(Duration::from_millis(200))
    }

    /// Answers an offer, and has the `conversation` over the channel that the client opens.
    pub(crate) fn talk(
        &mut self,
        offer: &Value,
        runtime: &Runtime,
        conversation: impl AsyncFnOnce(WorkerEnd),
    ) {
        let sdp: Sdp = serde_json::from_value(offer["sdp"].clone()).unwrap();
        let Ok((connection, sdp)) = runtime.block_on(rtc::answer(&options(), &sdp)) else { return };
        let (sender, target) = (self.peer.peer_id().to_owned(), &offer["sender"]);
        self.peer.try_send(&json!({
            "type": "answer", "sender": sender, "target": target, "sdp": sdp,
            "protocols": [DIALECT], "attempt": offer["attempt"],
        }));
        runtime.block_on(async {
            if let Ok(Some(link)) = tokio::time::timeout(SOON, opened(connection)).await {
                let _ = tokio::time::timeout(A_WHILE, conversation(link)).await;
            }
        });
    }
}

/// The conversation's channel.
async fn opened(connection: Connection) -> Option<WorkerEnd> {
    loop {
        let channel = connection.next_channel().await?;
        if channel.protocol() == DIALECT {
            return Some(WorkerEnd::on_channel(connection, channel));
        }
    }
}

/// Reads the job, and refuses it.
async fn refuse(mut link: WorkerEnd) {
    let _ = link.recv().await;
    let refusal = Refusal::new(RefusalCode::Busy, "sorry, no");
    let _ = link.send(&WorkerFrame::Refused { refusal }).await;
    link.flush(SOON).await;
    link.close().await;
}
