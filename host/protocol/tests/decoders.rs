//! Whatever a network brings, no decoder panics, and what it takes it gives back.

use proptest::prelude::*;
use sleap_rtc_protocol::frame::{self, ClientFrame, WorkerFrame};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::peer::{ClientText, WorkerText};
use sleap_rtc_protocol::session::{JobString, SessionString};
use sleap_rtc_protocol::signaling::{ClientMessage, ServerMessage};
use sleap_rtc_protocol::transfer::{BlobHash, Chunk, Packing};

/// Texts that are nearly right: fragments of real messages, glued at random.
fn fragments() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "FILE_META::",
        "a.zip",
        ":",
        "::",
        "12",
        "-1",
        "True",
        "END_OF_FILE",
        "TRAIN_JOB_ERROR::",
        "PROGRESS_REPORT::",
        "ZMQ_CTRL::",
        "{\"command\":\"stop\"}",
        "\r",
        "\n",
        "{",
        "}",
        "[",
        "]",
        "\"type\":",
        "\"offer\"",
        "\"error\"",
        "\"register\"",
        "\"frame\":",
        "\"submit\"",
        "\"event\"",
        "\"seq\":",
        "\"transfer\":",
        "\"manifest\"",
        "\"files\":",
        "null",
        "18446744073709551616",
        "1e999",
        ",",
        "\"sdp\":",
        "\"\"",
        "../",
        "C:\\",
        "sleap-session:",
        "e30=",
        "\u{202e}",
        "\0",
    ]);
    prop_oneof![
        prop::collection::vec(words, 0..16).prop_map(|words| words.concat()),
        any::<String>(),
        damaged(),
    ]
}

/// Real messages, one stretch of them replaced.
fn damaged() -> impl Strategy<Value = String> {
    let whole = prop::sample::select(vec![
        r#"{"type":"register","peer_id":"p","room_id":"r","token":"t","id_token":"i","role":"worker","metadata":{"tags":["a"],"properties":{"gpu_memory_mb":1}}}"#,
        r#"{"type":"discover_peers","from_peer_id":"p","filters":{"role":"worker","properties":{"gpu_memory_mb":{"$gte":8000}}}}"#,
        r#"{"type":"offer","sender":"a","target":"b","sdp":"v=0","protocols":["sleap-rtc/1"],"purpose":{"kind":"new-job"},"attempt":1}"#,
        r#"{"type":"peer_message","from_peer_id":"a","to_peer_id":"b","payload":{"app_message_type":"job_request","job_id":"j","job_type":"training","config":{"epochs":3},"requirements":{"min_gpu_memory_mb":1}}}"#,
        r#"{"type":"peer_list","to_peer_id":"a","peers":[{"peer_id":"b","role":"worker","metadata":{},"connected_at":1.5}],"count":1}"#,
        r#"{"frame":"transfer","transfer":"manifest","files":[{"path":"a/b","size":3,"blake3":"0000000000000000000000000000000000000000000000000000000000000000"}],"more":false}"#,
        r#"{"frame":"event","job":"j","seq":1,"at_ms":2,"event":"finished","outcome":{"outcome":"failed","exit_code":1,"message":"m"}}"#,
        r#"{"frame":"submit","spec":{"id":"j","secret":"s","name":"n","description":{"job_type":"training"}}}"#,
        "FILE_META::a.zip:12:False",
        r#"PROGRESS_REPORT::{"event":"epoch_end","logs":{"loss":0.1}}"#,
    ]);
    let stretch = (any::<prop::sample::Index>(), 0..12usize, ".{0,6}");
    (whole, stretch).prop_map(|(whole, (at, length, new))| {
        let start = at.index(whole.len());
        let end = (start + length).min(whole.len());
        // The messages are ASCII, so every index is the start of a character.
        format!("{}{new}{}", &whole[..start], &whole[end..])
    })
}

fn cases() -> ProptestConfig {
    // More by hand: PROPTEST_CASES=100000 cargo test -p sleap-rtc-protocol --test decoders
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(5000);
    ProptestConfig { cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn signaling_frames(text in fragments()) {
        let _ = ServerMessage::decode(&text);
        let _ = serde_json::from_str::<ClientMessage>(&text);
    }

    #[test]
    fn data_channel_frames(text in fragments()) {
        if let Ok(read) = frame::decode::<ClientFrame>(&text)
            && read != ClientFrame::Unknown
        {
            let again = frame::decode::<ClientFrame>(&frame::encode(&read).unwrap()).unwrap();
            prop_assert_eq!(again, read);
        }
        let _ = frame::decode::<WorkerFrame>(&text);
    }

    #[test]
    fn legacy_texts(text in fragments()) {
        if let read @ ClientText::FileMeta(_) = ClientText::decode(&text) {
            prop_assert_eq!(ClientText::decode(&read.encode()), read);
        }
        let read = WorkerText::decode(&text);
        if text.contains(['\n', '\r']) && !text.starts_with("PROGRESS_REPORT::") {
            prop_assert!(matches!(read, WorkerText::Log(_) | WorkerText::TrackLog(_)));
        }
    }

    #[test]
    fn session_strings(text in fragments()) {
        if let Ok(session) = text.parse::<SessionString>() {
            prop_assert_eq!(session.to_string().parse::<SessionString>().unwrap(), session);
        }
    }

    #[test]
    fn job_strings(text in fragments()) {
        if let Ok(job) = text.parse::<JobString>() {
            prop_assert_eq!(job.to_string().parse::<JobString>().unwrap(), job);
        }
    }

    #[test]
    fn paths_never_leave_their_folder(text in fragments()) {
        if let Ok(path) = RelPath::new(text) {
            let below = path.below(std::path::Path::new("/root"));
            prop_assert!(below.starts_with("/root") && below != std::path::Path::new("/root"));
            prop_assert!(!below.components().any(|c| c == std::path::Component::ParentDir));
        }
    }

    #[test]
    fn chunks(bytes in prop::collection::vec(any::<u8>(), 0..200), hash in any::<[u8; 32]>()) {
        let _ = Chunk::decode(&bytes);
        if !bytes.is_empty() {
            let packed_bytes = bytes.len() as u32;
            let (piece, packing) = (BlobHash(hash), Packing::Zstd);
            let chunk = Chunk { piece, packing, packed_bytes, offset: 0, payload: &bytes };
            let mut wire = Vec::new();
            chunk.encode(&mut wire);
            prop_assert_eq!(Chunk::decode(&wire), Some(chunk));
        }
    }
}
