//! Versions of this program from before keys, acted out with their recorded frames: an older client at a
//! current worker, and a current client at an older worker. `docs/security.md` says how they mix: a peer that
//! knows the room's whole token demands a proof; a peer that knows only the server's part is told what that
//! means.

use crate::support::*;
use serde_json::{Value, json};
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_net::rtc::{self, Message, RtcOptions};
use sleap_rtc_protocol::signaling::{IceServers, Sdp};
use sleap_rtc_protocol::{DIALECT, PYTHON_CHANNEL_LABEL};
use sleap_rtc_trust::session::SessionString;
use std::net::IpAddr;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;
use tokio::runtime::Runtime;

const SIGNALING: &str = include_str!("../../host/protocol/tests/recorded/client_messages.jsonl");
const CLIENT: &str = include_str!("../../host/protocol/tests/recorded/client_frames.jsonl");
const WORKER: &str = include_str!("../../host/protocol/tests/recorded/worker_frames.jsonl");
/// A worker's last word, so that a client of which it has heard enough ends.
const REFUSED: &str = r#"{"frame":"refused","refusal":{"code":"other","message":"that was all"}}"#;
/// What a client says of a token without a part for peers.
const TRUSTS_SERVER: &str = "whoever runs the signaling server could read and change what is sent";

/// The first recorded frame that begins like this.
fn recorded(frames: &'static str, start: &str) -> &'static str {
    frames.lines().find(|frame| frame.starts_with(start)).expect("it was recorded")
}

fn options() -> RtcOptions {
    let bind = vec![IpAddr::from([127, 0, 0, 1])];
    let ice = IceConfig { servers: Vec::new(), bind, ..IceConfig::default() };
    RtcOptions::new(&ice, &IceServers::default())
}

fn sdp(frame: &Value) -> Sdp {
    Sdp(frame["sdp"].as_str().unwrap().to_owned())
}

/// A recorded frame between these peers, with this description.
fn between(frame: &str, from: &str, to: &str, sdp: Sdp) -> Value {
    let mut frame: Value = serde_json::from_str(frame).unwrap();
    for (key, value) in [("sender", from), ("target", to), ("sdp", &sdp.0)] {
        frame[key] = json!(value);
    }
    frame
}

/// What a worker answers to the job of an older client, which knows the server's part of the token.
fn answer_to_older_client(server: &TestServer, worker: &TestWorker) -> String {
    let runtime = Runtime::new().unwrap();
    let mut client = Observer::join(server, worker.credentials());
    let (own, to) = (client.peer_id().to_owned(), worker.peer_id().to_owned());
    let (offering, description) = runtime.block_on(rtc::offer(&options())).unwrap();
    let offer = recorded(SIGNALING, r#"{"type":"offer""#);
    client.send(&between(offer, &own, &to, description));
    let answer = loop {
        let frame = client.hear(SOON).expect("an answer");
        match frame["type"].as_str() {
            Some("answer") => break frame,
            Some("error") => return frame.to_string(),
            _ => {}
        }
    };
    runtime.block_on(async {
        let (connection, _python) = offering.accept(&sdp(&answer)).await.unwrap();
        let channel = connection.open_channel(PYTHON_CHANNEL_LABEL, DIALECT).await.unwrap();
        let submission = recorded(CLIENT, r#"{"frame":"submit""#);
        channel.send_text(submission.to_owned()).await.unwrap();
        match channel.recv().await {
            Some(Message::Text(text)) => text,
            other => panic!("instead of an answer: {other:?}"),
        }
    })
}

#[test]
fn an_older_client_is_served_while_clients_without_keys_are() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server).ready();
    assert!(worker.log().contains("clients without keys are served"), "{}", worker.log());
    let answer = answer_to_older_client(&server, &worker);
    assert!(answer.contains(r#""frame":"accepted""#), "{answer}");
    let setup = TestWorker::setup(&site, "strict").config("python_clients = false\n");
    let strict = setup.start(&server);
    let answer = answer_to_older_client(&server, &strict);
    assert!(answer.contains("serves only clients that prove who they are"), "{answer}");
    assert!(strict.jobs().is_empty());
}

/// An older worker that answers the first offer, and says `words` to the client's first message. Returns what
/// it has been told.
fn older_worker(mut worker: Observer, words: &'static [&'static str]) -> JoinHandle<Vec<String>> {
    spawn(move || {
        let runtime = Runtime::new().unwrap();
        let offer = worker.receive("offer");
        runtime.block_on(async {
            let (connection, description) = rtc::answer(&options(), &sdp(&offer)).await.unwrap();
            let (own, to) = (worker.peer_id().to_owned(), offer["sender"].as_str().unwrap());
            let mut answer =
                between(recorded(SIGNALING, r#"{"type":"answer""#), &own, to, description);
            answer["attempt"] = offer["attempt"].clone();
            worker.send(&answer);
            let channel = loop {
                let channel = connection.next_channel().await.unwrap();
                if channel.protocol() == DIALECT {
                    break channel;
                }
            };
            let mut told = Vec::new();
            let mut words = words.iter();
            while let Ok(Some(message)) =
                tokio::time::timeout(Duration::from_secs(20), channel.recv()).await
            {
                told.push(match message {
                    Message::Text(text) => text,
                    Message::Binary(bytes) => format!("{} bytes", bytes.len()),
                });
                if let Some(words) = words.next() {
                    channel.send_text((*words).to_owned()).await.unwrap();
                }
            }
            told
        })
    })
}

#[test]
fn a_client_that_knows_the_whole_token_sends_nothing_to_an_older_worker() {
    let site = Site::new();
    let server = site.server();
    let credentials = site.worker(&server).credentials().clone();
    let worker = Observer::join_as_worker(&server, &credentials);
    let session: SessionString = credentials.session_string.parse().unwrap();
    let id = worker.peer_id().parse().unwrap();
    let session_string = SessionString { worker: id, device: None, ..session }.to_string();
    let accepted = recorded(WORKER, r#"{"frame":"accepted""#);
    let worker = older_worker(worker, Box::leak(Box::new([accepted])));
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let output = client.output();
    let ended = client.session(&Credentials { session_string, ..credentials }).run();
    ended.assert_code(9).assert_says(&["shows no key"]);
    assert!(!output.exists());
    let told = worker.join().unwrap();
    assert!(told.len() == 1 && told[0].contains(r#""frame":"hello""#), "{told:?}");
}

#[test]
fn a_client_that_knows_the_servers_part_alone_says_whom_it_trusts_and_is_served_by_an_older_worker()
{
    let site = Site::new();
    let server = site.server();
    let credentials = site.worker(&server).credentials().keyless();
    let worker = Observer::join_as_worker(&server, &credentials);
    let session: SessionString = credentials.session_string.parse().unwrap();
    let id = worker.peer_id().parse().unwrap();
    let session_string = SessionString { worker: id, ..session }.to_string();
    let worker = older_worker(worker, &[REFUSED]);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let ended = client.session(&Credentials { session_string, ..credentials }).run();
    ended.assert_code(5).assert_says(&[TRUSTS_SERVER, "that was all"]);
    let told = worker.join().unwrap();
    assert!(told[0].starts_with(r#"{"frame":"submit""#), "{told:?}");
}
