//! Frames that an earlier version of the program sent, one a line in `tests/recorded`.
//!
//! They come from the message types of commit 5d88363, one or more for each kind of message and with
//! every optional field. Today's decoders must understand them, and today's encoders must write the same
//! JSON, so that a peer of that version understands it. What has been retired since is ignored.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sleap_rtc_protocol::frame::{self, ClientFrame, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::signaling::{ClientMessage, ServerMessage};
use std::collections::BTreeSet;

/// Decodes each line and encodes it again.
#[track_caller]
fn check<T: Serialize>(recorded: &str, decode: impl Fn(&str) -> T) {
    for line in recorded.lines() {
        let encoded = serde_json::to_value(decode(line));
        assert_eq!(encoded.ok(), Some(parse::<Value>(line)), "{line}");
    }
}

/// Kinds of frames that were about further connections for chunks.
const RETIRED_FRAMES: [&str; 3] = ["open-lane", "lane", "lanes"];

/// Checks the frames of one direction. `is_unknown`: whether a decoded frame is ignored.
#[track_caller]
fn check_frames<F: Serialize + DeserializeOwned>(recorded: &str, is_unknown: impl Fn(&F) -> bool) {
    let (retired, current): (Vec<&str>, Vec<&str>) = recorded.lines().partition(|line| {
        let frame: Value = parse(line);
        [&frame["frame"], &frame["transfer"]]
            .iter()
            .any(|kind| kind.as_str().is_some_and(|kind| RETIRED_FRAMES.contains(&kind)))
    });
    let decode =
        |line: &str| -> F { frame::decode(line).unwrap_or_else(|error| panic!("{error}: {line}")) };
    assert!(!retired.is_empty() && retired.iter().all(|line| is_unknown(&decode(line))));
    for line in current {
        assert!(!is_unknown(&decode(line)), "{line}");
        let encoded = serde_json::to_value(decode(line));
        assert_eq!(encoded.ok(), Some(without_acknowledgements(parse(line))), "{line}");
    }
}

/// The frame without the optional keys by which receivers acknowledged chunks.
fn without_acknowledgements(mut frame: Value) -> Value {
    let keys: &[&str] = match frame["transfer"].as_str() {
        Some("want") => &["tells"],
        Some("verified") => &["pieces", "chunks"],
        _ => &[],
    };
    if let Some(frame) = frame.as_object_mut() {
        frame.retain(|key, _| !keys.contains(&key.as_str()));
    }
    frame
}

/// Decodes with serde alone, as the signaling server does.
fn parse<T: DeserializeOwned>(line: &str) -> T {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The words at `path` on all lines.
fn words(recorded: &str, path: &[&str]) -> Vec<String> {
    let word = |line: &str| {
        let frame: Value = parse(line);
        let value = path.iter().try_fold(&frame, |value, key| value.get(key))?;
        value.as_str().map(str::to_owned)
    };
    let words: BTreeSet<String> = recorded.lines().filter_map(word).collect();
    words.into_iter().collect()
}

const CLIENT_FRAMES: &str = include_str!("recorded/client_frames.jsonl");
const WORKER_FRAMES: &str = include_str!("recorded/worker_frames.jsonl");
const CLIENT_MESSAGES: &str = include_str!("recorded/client_messages.jsonl");
const SERVER_MESSAGES: &str = include_str!("recorded/server_messages.jsonl");

#[test]
fn frames_of_an_earlier_client() {
    check_frames(CLIENT_FRAMES, |frame: &ClientFrame| {
        use ClientFrame::{Transfer, Unknown};
        matches!(frame, Unknown | Transfer(TransferFrame::Unknown))
    });
}

#[test]
fn frames_of_an_earlier_worker() {
    check_frames(WORKER_FRAMES, |frame: &WorkerFrame| {
        use WorkerFrame::{Transfer, Unknown};
        matches!(frame, Unknown | Transfer(TransferFrame::Unknown))
    });
}

#[test]
fn messages_of_an_earlier_peer_to_the_signaling_server() {
    check(CLIENT_MESSAGES, |line| {
        let message: ClientMessage = parse(line);
        assert_ne!(message, ClientMessage::Unknown, "{line}");
        message
    });
}

#[test]
fn messages_of_an_earlier_signaling_server() {
    check(SERVER_MESSAGES, |line| {
        let message = ServerMessage::decode(line).unwrap();
        assert_ne!(message, ServerMessage::Unknown, "{line}");
        message
    });
}

#[test]
fn every_kind_of_message_is_recorded() {
    let client = ["attach", "cancel", "fetch", "open-lane", "ping", "stop", "submit", "transfer"];
    assert_eq!(words(CLIENT_FRAMES, &["frame"]), client);
    let worker = ["accepted", "event", "lane", "pong", "refused", "transfer"];
    assert_eq!(words(WORKER_FRAMES, &["frame"]), worker);
    let transfer = ["abort", "complete", "lanes", "manifest", "pieces", "verified", "want"];
    for frames in [CLIENT_FRAMES, WORKER_FRAMES] {
        assert_eq!(words(frames, &["transfer"]), transfer);
    }
    let events = ["finished", "log", "progress", "run-ended", "run-started", "staged"];
    assert_eq!(words(WORKER_FRAMES, &["event"]), events);
    let to_server = [
        "answer",
        "candidate",
        "discover_peers",
        "error",
        "get_ice_servers",
        "offer",
        "peer_message",
        "register",
        "unwatch_peers",
        "update_metadata",
        "watch_peers",
    ];
    assert_eq!(words(CLIENT_MESSAGES, &["type"]), to_server);
    let from_server = [
        "answer",
        "candidate",
        "error",
        "ice_servers",
        "metadata_updated",
        "offer",
        "peer_list",
        "peer_message",
        "peers_changed",
        "registered_auth",
        "watching",
    ];
    assert_eq!(words(SERVER_MESSAGES, &["type"]), from_server);
    let application = [
        "job_assignment",
        "job_cancel",
        "job_cancelled",
        "job_complete",
        "job_failed",
        "job_request",
        "job_response",
        "job_status",
    ];
    for messages in [CLIENT_MESSAGES, SERVER_MESSAGES] {
        let recorded = words(messages, &["payload", "app_message_type"]);
        assert_eq!(recorded, application);
    }
}
