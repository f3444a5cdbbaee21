//! No decoder panics on any pasted or received input, and every accepted input can be encoded and
//! decoded again.

// Inputs that a test cannot make are its own mistake.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use base64::{Engine, engine::general_purpose::URL_SAFE};
use hostile_input::{damaged, each};
use proptest::prelude::*;
use sleap_rtc_protocol::ids::Token;
use sleap_rtc_trust::certificate::{Certificate, MemberRole, Subject};
use sleap_rtc_trust::credential::{PeerPart, RoomToken};
use sleap_rtc_trust::device::DeviceKey;
use sleap_rtc_trust::handshake::{
    Binding, ClientHandshake, ClientMessage, ConnectionKind, Identity, Scene, WorkerHandshake,
    WorkerMessage,
};
use sleap_rtc_trust::removal::{JobsLeft, Removal, RemovalNote, Removals};
use sleap_rtc_trust::sealed_note::NoteRoute;
use sleap_rtc_trust::session::{JobString, SessionString};

fn texts(whole: &[&str]) -> impl Strategy<Value = String> + use<> {
    damaged(whole.iter().map(|&text| text.to_owned()).collect())
}

/// The texts that people paste: damaged as text, and damaged in what the text holds.
fn pasted(prefix: &'static str, json: String) -> impl Strategy<Value = String> {
    let whole = format!("{prefix}{}", URL_SAFE.encode(&json));
    let inside = texts(&[&json]).prop_map(move |json| format!("{prefix}{}", URL_SAFE.encode(json)));
    prop_oneof![damaged(vec![whole]), inside]
}

fn token() -> RoomToken {
    RoomToken::new(Token::new("0f1e2d").unwrap(), PeerPart::from_random([9; 48])).unwrap()
}

/// The part of a client's token that stays between peers.
fn peer_part() -> String {
    token().for_clients().reveal().split_once('.').unwrap().1.to_owned()
}

#[test]
fn tokens() {
    let tokens = [token(), token().for_clients(), token().for_members()];
    let whole = tokens.map(|token| (*token.reveal()).clone());
    each("tokens", texts(&[&whole[0], &whole[1], &whole[2], "0f1e2d"]), |text| {
        if let Ok(token) = text.parse::<RoomToken>() {
            prop_assert_eq!((*token.reveal()).clone(), text);
        }
        Ok(())
    });
}

#[test]
fn session_strings() {
    let device = DeviceKey::from_bytes([1; 32]).id();
    let part = peer_part();
    let json = format!(
        r#"{{"r": "ab12cd34", "t": "0f1e2d", "p": "worker-1", "k": "{part}", "d": "{device}"}}"#
    );
    each("session strings", pasted("sleap-session:", json), |text| {
        if let Ok(session) = text.parse::<SessionString>() {
            prop_assert_eq!(session.to_string().parse::<SessionString>().unwrap(), session);
        }
        Ok(())
    });
}

#[test]
fn job_strings() {
    let json = r#"{"r": "ab12cd34", "t": "0f1e2d", "p": "worker-1", "j": "job-1", "s": "secret"}"#;
    each("job strings", pasted("sleap-job:", json.to_owned()), |text| {
        if let Ok(job) = text.parse::<JobString>() {
            prop_assert_eq!(job.to_string().parse::<JobString>().unwrap(), job);
        }
        Ok(())
    });
}

#[test]
fn certificates() {
    let device = DeviceKey::from_bytes([1; 32]).id();
    let subject = Subject::new(device, MemberRole::Worker, "gpu2", 1_000);
    let whole = Certificate::issue(&DeviceKey::from_bytes([2; 32]), subject).to_string();
    each("certificates", texts(&[&whole]), |text| {
        if let Ok(certificate) = text.parse::<Certificate>() {
            prop_assert_eq!(certificate.to_string(), text);
        }
        Ok(())
    });
}

fn note() -> RemovalNote {
    let device = DeviceKey::from_bytes([3; 32]).id();
    let removal = Removal { at_s: 1_000, token_number: 1, jobs: JobsLeft::Cancel, device };
    let authority = PeerPart::from_random([9; 48]).authority_key().unwrap().clone();
    RemovalNote::issue(&authority, removal)
}

#[test]
fn notes_about_removals() {
    each("notes about removals", texts(&[&note().to_string()]), |text| {
        if let Ok(note) = text.parse::<RemovalNote>() {
            prop_assert_eq!(note.to_string(), text);
        }
        Ok(())
    });
}

#[test]
fn notes_between_workers() {
    let (room, key) = ("room".parse().unwrap(), DeviceKey::from_bytes([1; 32]));
    let (from, to) = ("a".parse().unwrap(), "b".parse().unwrap());
    let route = NoteRoute { room: &room, from: &from, to: &to };
    let whole = route.seal(&key, [3; 12], b"what one worker tells another").unwrap();
    each("notes between workers", texts(&[&whole]), |text| {
        prop_assert_eq!(route.open(&key, &text).is_some(), text == whole);
        Ok(())
    });
}

#[test]
fn messages_of_the_handshake() {
    let room = PeerPart::from_random([9; 48]);
    let client = Identity::new(DeviceKey::from_bytes([1; 32]), room.for_clients(), None);
    let removals = Removals::of(&room.authority(), &[note()]);
    let client = client.knowing(removals.clone());
    let worker =
        Identity::worker(DeviceKey::from_bytes([2; 32]), room, "gpu2", 1_000).knowing(removals);
    let binding = Binding { transport: ConnectionKind::Iroh, client: [3; 32], worker: [4; 32] };
    let id = |text: &str| text.parse().unwrap();
    let scene = Scene::new(&"room".parse().unwrap(), 1, &id("c"), &id("w"), binding);
    let (asking, hello) = ClientHandshake::begin(client, scene.clone(), [5; 32]);
    let (_, answer) = WorkerHandshake::answer(worker, scene, &hello, [6; 32]);
    let (proof, _) = asking.conclude(&answer, 1_000).unwrap();
    let whole = [
        ClientMessage::Hello(hello).encode(),
        WorkerMessage::Hello(answer).encode(),
        ClientMessage::Proof(proof).encode(),
    ];
    each("messages of the handshake", texts(&[&whole[0], &whole[1], &whole[2]]), |text| {
        if let Some(message) = ClientMessage::decode(&text) {
            prop_assert_eq!(ClientMessage::decode(&message.encode()), Some(message));
        }
        if let Some(message) = WorkerMessage::decode(&text) {
            prop_assert_eq!(WorkerMessage::decode(&message.encode()), Some(message));
        }
        Ok(())
    });
}
