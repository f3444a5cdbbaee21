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
fn a_python_offer_is_for_a_new_job_in_the_python_dialect() {
    let text = r#"{"type":"offer","sender":"a","target":"b","sdp":"v=0"}"#;
    let ServerMessage::Offer(offer) = ServerMessage::decode(text).unwrap() else { panic!() };
    assert!(!offer.speaks_native());
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

#[test]
fn a_question_that_makes_no_sense_is_still_a_question() {
    let read = |text: &str| match ServerMessage::decode(text) {
        Ok(ServerMessage::Unreadable(asked)) => Some((asked.sender.to_string(), asked.question)),
        _ => None,
    };
    let job = |job_id: &str| Some(("p".into(), Question::JobRequest { job_id: job_id.into() }));
    let offer = |attempt| Some(("p".into(), Question::Offer { attempt }));
    for (text, wanted) in [
        (r#"{"app_message_type":"job_request","job_id":"j","job_type":"dance"}"#, job("j")),
        (r#"{"app_message_type":"job_request","job_id":7,"job_type":"training"}"#, job("")),
        (r#"{"app_message_type":"job_cancel"}"#, None),
        (r#"{"app_message_type":"job_request","job_id":"j","job_type":"training"}"#, None),
    ] {
        let frame = format!(
            r#"{{"type":"peer_message","from_peer_id":"p","to_peer_id":"me","payload":{text}}}"#
        );
        assert_eq!(read(&frame), wanted, "{text}");
    }
    assert_eq!(read(r#"{"type":"offer","sender":"p","target":"me","attempt":3}"#), offer(Some(3)));
    assert_eq!(read(r#"{"type":"offer","sender":"p","target":"me","sdp":7}"#), offer(None));
    assert_eq!(read(r#"{"type":"offer","target":"me","sdp":7}"#), None);
    assert_eq!(read(r#"{"type":"answer","sender":"p","target":"me","sdp":7}"#), None);
}
