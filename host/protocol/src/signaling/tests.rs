//! Frames as other programs write them.

use super::*;
use serde_json::Map;

#[test]
fn the_three_shapes_of_an_error_are_read() {
    for (text, wanted) in [
        (r#"{"type":"error","reason":"worker_busy"}"#, "worker_busy"),
        (r#"{"type":"error","code":"NOT_IN_ROOM","message":"join first"}"#, "join first"),
        (r#"{"error":"bad token"}"#, "bad token"),
    ] {
        match ServerMessage::decode(text).unwrap() {
            ServerMessage::Error(error) => assert_eq!(error.text(), wanted),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_python_offer_is_for_a_new_job_in_legacy() {
    let text = r#"{"type":"offer","sender":"a","target":"b","sdp":"v=0"}"#;
    let ServerMessage::Offer(offer) = ServerMessage::decode(text).unwrap() else { panic!() };
    assert!(!offer.speaks_ours());
    assert_eq!(offer.purpose, None);
    assert!(!format!("{offer:?}").contains("v=0"));
}

#[test]
fn an_old_inference_client_registers_without_role_or_metadata() {
    let text = r#"{"type":"register","peer_id":"p","room_id":"r","token":"t","id_token":"i"}"#;
    let ClientMessage::Register(register) = serde_json::from_str(text).unwrap() else { panic!() };
    assert_eq!(register.role, Role::Peer);
    assert!(!format!("{register:?}").contains("\"t\""));
}

#[test]
fn a_partial_update_keeps_the_tags() {
    let mut metadata = Metadata { tags: vec!["sleap-rtc".into()], properties: Map::new() };
    let patch = serde_json::from_str(r#"{"properties":{"status":"busy"}}"#).unwrap();
    metadata.merge(patch);
    assert_eq!(metadata.tags, ["sleap-rtc"]);
    assert_eq!(metadata.properties["status"], "busy");
}

#[test]
fn unknown_frames_are_a_variant() {
    assert_eq!(ServerMessage::decode(r#"{"type":"sing","x":1}"#).unwrap(), ServerMessage::Unknown);
    assert!(ServerMessage::decode("[1").is_err());
}
