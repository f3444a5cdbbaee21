//! The connections of a signaling server that is a man in the middle.

use super::server::Plot;
use serde_json::{Value, json};
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_net::quic::{Endpoint, EndpointKey, EndpointOptions, Expected, Session};
use sleap_rtc_net::rtc::{self, Channel, Connection, Message, Offering, RtcOptions};
use sleap_rtc_protocol::signaling::{EndpointAddress, IceServers, Sdp};
use sleap_rtc_protocol::{DIALECT, PYTHON_CHANNEL_LABEL};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// The messages on connections that the server intercepts.
#[derive(Clone, Default)]
pub struct Overheard(Arc<Mutex<Vec<String>>>);

impl Overheard {
    pub fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn note(&self, from: &str, message: &Message) {
        let text = match message {
            Message::Text(text) => format!("{from}: {text}"),
            Message::Binary(bytes) => format!("{from}: {} bytes of content", bytes.len()),
        };
        self.0.lock().unwrap().push(text);
    }
}

/// The state of an offer until its answer arrives.
enum Pending {
    Webrtc { toward_client: Connection, answer: Sdp, toward_worker: Offering },
    Iroh { toward_client: Endpoint, expected: Expected, toward_worker: Endpoint, attempt: u64 },
    Diverted { wanted: Value },
}

/// One peer's signaling.
pub struct Middle {
    plot: Plot,
    overheard: Overheard,
    pending: Option<Pending>,
}

fn options() -> RtcOptions {
    let bind = vec![IpAddr::from([127, 0, 0, 1])];
    let ice = IceConfig { servers: Vec::new(), bind, ..IceConfig::default() };
    RtcOptions::new(&ice, &IceServers::default())
}

async fn endpoint() -> Endpoint {
    let bind = vec![IpAddr::from([127, 0, 0, 1])];
    Endpoint::bind(EndpointOptions::new(EndpointKey::fresh(), bind)).await.unwrap()
}

fn sdp(frame: &Value) -> Sdp {
    Sdp(frame["sdp"].as_str().unwrap().to_owned())
}

fn iroh(frame: &Value) -> EndpointAddress {
    serde_json::from_value(frame["iroh"].clone()).unwrap()
}

impl Middle {
    pub fn new(plot: Plot, overheard: Overheard) -> Self {
        Self { plot, overheard, pending: None }
    }

    /// The frames to the server, and the frames back to the peer.
    pub async fn said_by_peer(&mut self, mut frame: Value) -> (Option<Value>, Option<Value>) {
        if self.withholds(&frame) {
            return (None, None);
        }
        if let (Plot::SwapsRooms { room_id, token }, "register") =
            (&self.plot, frame["type"].as_str().unwrap())
        {
            frame["room_id"] = json!(room_id);
            frame["token"] = json!(token);
        }
        if frame["type"] != "offer" {
            return (Some(frame), None);
        }
        match &self.plot {
            Plot::Listens
            | Plot::RepeatsOffers
            | Plot::WithholdsNotes
            | Plot::SpoilsPackets(_)
            | Plot::SwapsRooms { .. } => {}
            Plot::SwapsFingerprints | Plot::SkipsTheProof => {
                let (toward_client, answer) = rtc::answer(&options(), &sdp(&frame)).await.unwrap();
                let (toward_worker, offer) = rtc::offer(&options()).await.unwrap();
                frame["sdp"] = json!(offer.0);
                frame.as_object_mut().unwrap().remove("iroh");
                self.pending = Some(Pending::Webrtc { toward_client, answer, toward_worker });
            }
            Plot::SwapsEndpoints => {
                let (toward_client, toward_worker) = (endpoint().await, endpoint().await);
                let attempt = attempt(&frame);
                let expected = toward_client.expect(&iroh(&frame), Some(attempt)).unwrap();
                frame["iroh"] = json!(toward_worker.address());
                self.pending =
                    Some(Pending::Iroh { toward_client, expected, toward_worker, attempt });
            }
            Plot::StripsMarks => MARKS.iter().for_each(|mark| strip(&mut frame, mark)),
            Plot::StripsMark(mark) => strip(&mut frame, mark),
            Plot::RenumbersOffers => frame["attempt"] = json!(attempt(&frame) + 1),
            Plot::PlaysWorker(words) => {
                let (connection, answer) = rtc::answer(&options(), &sdp(&frame)).await.unwrap();
                tokio::spawn(play(connection, words.clone(), self.overheard.clone()));
                let answer = json!({
                    "type": "answer", "sender": frame["target"], "target": frame["sender"],
                    "sdp": answer.0, "protocols": [DIALECT], "attempt": frame["attempt"],
                });
                return (None, Some(answer));
            }
            Plot::Diverts(other) => {
                let wanted = std::mem::replace(&mut frame["target"], json!(other));
                self.pending = Some(Pending::Diverted { wanted });
            }
        }
        (Some(frame), None)
    }

    /// A frame as often as the server delivers it.
    pub fn repeated(&self, frame: Option<Value>) -> Vec<Value> {
        let copies = frame.iter().any(|frame| frame["type"] == "offer");
        let again = frame.clone().filter(|_| copies && self.plot == Plot::RepeatsOffers);
        frame.into_iter().chain(again).collect()
    }

    fn withholds(&self, frame: &Value) -> bool {
        let is_note = frame["payload"]["app_message_type"] == "worker_note";
        is_note && self.plot == Plot::WithholdsNotes
    }

    /// What the peer gets instead of what the server sends it.
    pub async fn said_by_server(&mut self, mut frame: Value) -> Option<Value> {
        if self.withholds(&frame) {
            return None;
        }
        if frame["type"] != "answer" {
            return Some(frame);
        }
        match &self.plot {
            Plot::StripsMarks => MARKS.iter().for_each(|mark| strip(&mut frame, mark)),
            Plot::StripsMark(mark) => strip(&mut frame, mark),
            Plot::RenumbersOffers => frame["attempt"] = json!(attempt(&frame) - 1),
            _ => {}
        }
        match self.pending.take() {
            None => {}
            Some(Pending::Diverted { wanted }) => frame["sender"] = wanted,
            Some(Pending::Webrtc { toward_client, answer, toward_worker }) => {
                let theirs = std::mem::replace(&mut frame["sdp"], json!(answer.0));
                frame.as_object_mut().unwrap().remove("iroh");
                let theirs = Sdp(theirs.as_str().unwrap().to_owned());
                let (overheard, skips) = (self.overheard.clone(), self.plot == Plot::SkipsTheProof);
                tokio::spawn(async move {
                    let (worker, _python) = toward_worker.accept(&theirs).await.unwrap();
                    let to_worker =
                        worker.open_channel(PYTHON_CHANNEL_LABEL, DIALECT).await.unwrap();
                    if skips {
                        to_worker.send_text(SUBMISSION.to_owned()).await.unwrap();
                        let answer = to_worker.recv().await.unwrap();
                        return overheard.note("worker", &answer);
                    }
                    let to_client = conversation(&toward_client).await;
                    pass_on(&to_client, &to_worker, &overheard).await;
                });
            }
            Some(Pending::Iroh { toward_client, expected, toward_worker, attempt }) => {
                let worker = iroh(&frame);
                frame["iroh"] = json!(toward_client.address());
                let overheard = self.overheard.clone();
                tokio::spawn(async move {
                    let to_client = expected.session().await.unwrap();
                    let to_worker = toward_worker.call(&worker, attempt, LIMIT).await.unwrap();
                    let to_worker = to_worker.session().await.unwrap();
                    pass_on_sessions(&to_client, &to_worker, &overheard).await;
                    drop(toward_client);
                });
            }
        }
        Some(frame)
    }
}

/// A job that an older client submits.
const SUBMISSION: &str = r#"{"frame":"submit","spec":{"id":"evil","secret":"s","name":"n","description":{"job_type":"training","model_types":[],"requirements":{}}}}"#;

/// The keys of offers and answers that only our own programs send.
pub const MARKS: [&str; 4] = ["protocols", "iroh", "purpose", "attempt"];

fn strip(frame: &mut Value, mark: &str) {
    frame.as_object_mut().unwrap().remove(mark);
}

fn attempt(frame: &Value) -> u64 {
    frame["attempt"].as_u64().unwrap()
}

/// The channel on which a client begins its conversation.
async fn conversation(connection: &Connection) -> Channel {
    loop {
        let channel = connection.next_channel().await.unwrap();
        if channel.protocol() == DIALECT {
            return channel;
        }
    }
}

async fn play(connection: Connection, words: String, overheard: Overheard) {
    let channel = conversation(&connection).await;
    let hello = channel.recv().await.unwrap();
    overheard.note("client", &hello);
    channel.send_text(words).await.unwrap();
    while let Some(message) = channel.recv().await {
        overheard.note("client", &message);
    }
}

async fn pass_on(client: &Channel, worker: &Channel, overheard: &Overheard) {
    loop {
        let (message, to) = tokio::select! {
            message = client.recv() => (message.inspect(|m| overheard.note("client", m)), worker),
            message = worker.recv() => (message.inspect(|m| overheard.note("worker", m)), client),
        };
        let sent = match message {
            Some(Message::Text(text)) => to.send_text(text).await,
            Some(Message::Binary(bytes)) => to.send_binary(bytes.as_ref().into()).await,
            None => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn pass_on_sessions(client: &Session, worker: &Session, overheard: &Overheard) {
    loop {
        let (text, from, to) = tokio::select! {
            text = client.recv() => (text, "client", worker),
            text = worker.recv() => (text, "worker", client),
        };
        let Some(text) = text else { return };
        overheard.note(from, &Message::Text(text.clone()));
        if to.send(&text).await.is_err() {
            return;
        }
    }
}
