//! No decoder panics on any input, and every accepted input can be encoded and decoded again.

// A test that cannot create its inputs has failed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use hostile_input::{damaged, damaged_bytes, each};
use proptest::prelude::*;
use serde::Serialize;
use serde_json::Value;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::frame::{self, ClientFrame, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::python::{ClientText, WorkerText};
use sleap_rtc_protocol::signaling::{ClientMessage, ServerMessage};
use sleap_rtc_protocol::transfer::{
    BlobHash, CHUNK_BYTES, Chunk, Cuts, FileEntry, IncomingPiece, MAX_PIECE_BYTES, Manifest,
    Packing, Piece,
};

/// Each frame of signaling, in either direction.
const SIGNALING: &[&str] = &[
    r#"{"type":"register","peer_id":"p","room_id":"r","token":"t","id_token":"i","role":"worker","metadata":{"tags":["a"],"properties":{"gpu_memory_mb":1}}}"#,
    r#"{"type":"registered_auth","room_id":"r","token":"t","peer_id":"p","ice_servers":[{"urls":["turn:a"],"username":"u","credential":"c"}],"ice_lifetime_s":60}"#,
    r#"{"type":"discover_peers","from_peer_id":"p","filters":{"role":"worker","tags":["a"],"properties":{"gpu_memory_mb":{"$gte":8000},"status":{"$in":["available"]}}},"limit":3,"after":"b"}"#,
    r#"{"type":"peer_list","to_peer_id":"a","peers":[{"peer_id":"b","role":"worker","metadata":{"tags":["training-worker"],"properties":{"gpu_memory_mb":24564,"gpu_model":"A","status":"available","hostname":"h","max_concurrent_jobs":2,"slots_free":1,"supported_job_types":["training"],"supported_models":["base"],"gpus":[{"model":"A","memory_mib":24564}],"jobs":[{"owner":"p","since_ms":1,"progress":{"run":1,"runs":2,"epoch":3,"frames":[1,2]}}],"protocols":["sleap-rtc/1"]}},"connected_at":1.5}],"count":1,"next":"b"}"#,
    r#"{"type":"watch_peers","from_peer_id":"p","filters":{"tags":["a"]}}"#,
    r#"{"type":"watching","active":true}"#,
    r#"{"type":"peers_changed","peers":[{"peer_id":"b","role":"worker","metadata":{},"connected_at":1}],"left":["c"],"list_again":false}"#,
    r#"{"type":"unwatch_peers","from_peer_id":"p"}"#,
    r#"{"type":"get_ice_servers","from_peer_id":"p"}"#,
    r#"{"type":"ice_servers","ice_servers":[{"urls":"stun:a"}],"ice_lifetime_s":1}"#,
    r#"{"type":"update_metadata","peer_id":"p","metadata":{"tags":["a"],"properties":{"status":"busy"}}}"#,
    r#"{"type":"metadata_updated","peer_id":"p","metadata":{"tags":["a"],"properties":{"status":"busy"}}}"#,
    r#"{"type":"offer","sender":"a","target":"b","sdp":"v=0","protocols":["sleap-rtc/1"],"purpose":{"kind":"new-job"},"attempt":1}"#,
    r#"{"type":"answer","sender":"a","target":"b","sdp":"v=0","protocols":["sleap-rtc/1"],"attempt":1}"#,
    r#"{"type":"candidate","sender":"a","target":"b","candidate":{"candidate":"","sdpMid":"0"}}"#,
    r#"{"type":"peer_message","from_peer_id":"a","to_peer_id":"b","payload":{"app_message_type":"job_request","job_id":"j","job_type":"training","dataset_info":{"format":"slp","estimated_size_mb":1.5,"frame_count":9},"config":{"epochs":3,"model_type":"centroid"},"requirements":{"min_gpu_memory_mb":1}}}"#,
    r#"{"type":"peer_message","from_peer_id":"a","to_peer_id":"b","payload":{"app_message_type":"job_response","job_id":"j","accepted":false,"reason":"busy","estimated_start_time_sec":0,"estimated_duration_minutes":3,"worker_info":{"gpu_utilization":0.5}}}"#,
    r#"{"type":"peer_message","from_peer_id":"a","to_peer_id":"b","payload":{"app_message_type":"job_failed","job_id":"j","status":"failed","error":{"code":"x","message":"m","recoverable":false}}}"#,
    r#"{"type":"peer_message","from_peer_id":"a","to_peer_id":"b","payload":{"app_message_type":"worker_note","sealed":"AAAA"}}"#,
    r#"{"type":"error","sender":"a","target":"b","code":"c","reason":"worker_busy","message":"m","current_status":"busy","attempt":1}"#,
    r#"{"error":"Invalid token for room"}"#,
];

/// Frames of our own dialect, in either direction.
const FRAMES: &[&str] = &[
    r#"{"frame":"submit","spec":{"id":"j","secret":"s","name":"n","description":{"job_type":"training","model_types":["centroid"],"epochs":3,"frame_count":9,"requirements":{"min_gpu_memory_mb":1}}}}"#,
    r#"{"frame":"attach","job":"j","secret":"s","after":3}"#,
    r#"{"frame":"stop","all":true}"#,
    r#"{"frame":"cancel","reason":"r"}"#,
    r#"{"frame":"fetch","by":"shared-storage"}"#,
    r#"{"frame":"ping"}"#,
    r#"{"frame":"pong"}"#,
    r#"{"frame":"accepted","job":"j","last_event":2,"outcome":{"outcome":"succeeded"},"has_package":true}"#,
    r#"{"frame":"refused","refusal":{"code":"busy","message":"m"}}"#,
    r#"{"frame":"event","job":"j","seq":1,"at_ms":2,"event":"progress","message":{"event":"epoch_end","epoch":1,"logs":{"loss":0.1}}}"#,
    r#"{"frame":"event","job":"j","seq":1,"at_ms":2,"event":"finished","outcome":{"outcome":"failed","exit_code":1,"message":"m"}}"#,
    r#"{"frame":"transfer","transfer":"manifest","files":[{"path":"a/b","size":3,"blake3":"0000000000000000000000000000000000000000000000000000000000000000"},{"path":"c","size":3000000,"blake3":"1111111111111111111111111111111111111111111111111111111111111111","executable":true}],"more":false}"#,
    r#"{"frame":"transfer","transfer":"pieces","of":"1111111111111111111111111111111111111111111111111111111111111111","pieces":[{"blake3":"2222222222222222222222222222222222222222222222222222222222222222","bytes":2097152}],"more":false}"#,
    r#"{"frame":"transfer","transfer":"want","pieces":["1111111111111111111111111111111111111111111111111111111111111111"],"more":false}"#,
    r#"{"frame":"transfer","transfer":"verified","bytes":3}"#,
    r#"{"frame":"transfer","transfer":"abort","reason":"r"}"#,
];

/// Words of the Python programs, in either direction.
const PYTHON: &[&str] = &[
    "PACKAGE_TYPE::train",
    "OUTPUT_DIR::models",
    "FILE_META::a.zip:12:False",
    r"FILE_META::C:\lab\a.zip:12:True",
    "END_OF_FILE",
    "JOB_ID::job_x",
    "SHARED_INPUT_PATH::a/b.zip",
    "SHARED_STORAGE_JOB::start",
    r#"ZMQ_CTRL::{"command":"stop"}"#,
    "TRAIN_JOB_START::centroid",
    "TRAIN_JOB_ERROR::centroid::1",
    "INFERENCE_JOB_ERROR::inference::1",
    "TRACK_LOG:line",
    "PATH_VALIDATED::input",
    "JOB_COMPLETE::job_x::out",
    r#"PROGRESS_REPORT::{"event":"epoch_end","logs":{"loss":0.1}}"#,
    "\rEpoch 1: 50%",
];

fn texts(whole: &[&str]) -> impl Strategy<Value = String> + use<> {
    damaged(whole.iter().map(|&text| text.to_owned()).collect())
}

/// Whether two frames say the same. Reading a number with a fraction is exact to its last digits only.
fn is_same(a: &impl Serialize, b: &impl Serialize) -> bool {
    fn agree(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b))
            }
            (Value::Object(a), Value::Object(b)) => {
                let has = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| agree(a, b));
                a.len() == b.len() && a.iter().all(has)
            }
            (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
                let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                a == b || (a - b).abs() <= 1e-12 * a.abs().max(1e-290)
            }
            (a, b) => a == b,
        }
    }
    agree(&serde_json::to_value(a).unwrap(), &serde_json::to_value(b).unwrap())
}

#[test]
fn what_differs_is_not_the_same() {
    let same = |a: &str, b: &str| {
        let value = |text| serde_json::from_str::<Value>(text).unwrap();
        is_same(&value(a), &value(b))
    };
    assert!(same(r#"{"a":[0.1,1]}"#, r#"{"a":[0.10000000000000002,1]}"#));
    for (a, b) in
        [("0.1", "0.1001"), ("1", "2"), ("[1.5]", "[1.5,1.5]"), (r#"{"a":1}"#, r#"{"b":1}"#)]
    {
        assert!(!same(a, b), "{a} and {b}");
    }
}

/// The frames must be valid before they are damaged below.
#[test]
fn the_examples_are_whole() {
    for text in SIGNALING {
        let (server, client) = (ServerMessage::decode(text), serde_json::from_str(text));
        let server = server.is_ok_and(|read| read != ServerMessage::Unknown);
        let client = client.is_ok_and(|read: ClientMessage| read != ClientMessage::Unknown);
        assert!(server || client, "{text}");
    }
    for text in FRAMES {
        let client =
            frame::decode(text).is_ok_and(|read: ClientFrame| read != ClientFrame::Unknown);
        let worker =
            frame::decode(text).is_ok_and(|read: WorkerFrame| read != WorkerFrame::Unknown);
        assert!(client || worker, "{text}");
    }
    for text in PYTHON {
        let client = !matches!(ClientText::decode(text), ClientText::Other(_));
        let worker = !matches!(WorkerText::decode(text), WorkerText::Log(_));
        assert!(client || worker || text.starts_with('\r'), "{text}");
    }
}

#[test]
fn signaling_frames() {
    each("signaling frames", texts(SIGNALING), |text| {
        match ServerMessage::decode(&text) {
            // Parts of a list that any peer in the room may have written, as a client shows them.
            Ok(ServerMessage::PeerList { peers, .. }) => {
                for peer in &peers {
                    let facts = WorkerFacts::from_peer(peer);
                    let _ = facts.changing();
                    facts.jobs.iter().for_each(|job| drop(job.progress.to_string()));
                }
            }
            Ok(ServerMessage::Error(error)) => drop(error.text().to_owned()),
            _ => {}
        }
        if let Ok(read) = serde_json::from_str::<ClientMessage>(&text)
            && read != ClientMessage::Unknown
        {
            let again = serde_json::to_string(&read).unwrap();
            let again: ClientMessage = serde_json::from_str(&again).unwrap();
            prop_assert!(is_same(&again, &read), "{again:?} is not {read:?}");
        }
        Ok(())
    });
}

#[test]
fn data_channel_frames() {
    each("frames of our dialect", texts(FRAMES), |text| {
        if let Ok(read) = frame::decode::<ClientFrame>(&text)
            && read != ClientFrame::Unknown
        {
            let again = frame::decode::<ClientFrame>(&frame::encode(&read).unwrap()).unwrap();
            prop_assert!(is_same(&again, &read), "{again:?} is not {read:?}");
        }
        if let Ok(read) = frame::decode::<WorkerFrame>(&text)
            && read != WorkerFrame::Unknown
        {
            let again = frame::decode::<WorkerFrame>(&frame::encode(&read).unwrap()).unwrap();
            prop_assert!(is_same(&again, &read), "{again:?} is not {read:?}");
        }
        Ok(())
    });
}

#[test]
fn python_texts() {
    each("texts of the Python dialect", texts(PYTHON), |text| {
        if let read @ ClientText::FileMeta(_) = ClientText::decode(&text) {
            prop_assert_eq!(ClientText::decode(&read.encode()), read);
        }
        let read = WorkerText::decode(&text);
        if text.contains(['\n', '\r']) && !text.starts_with("PROGRESS_REPORT::") {
            prop_assert!(matches!(read, WorkerText::Log(_) | WorkerText::TrackLog(_)));
        }
        Ok(())
    });
}

#[test]
fn paths_never_leave_their_folder() {
    let whole = ["a/b/c.txt", "C:\\a\\b", "/etc/passwd", "a/../../b", "models/best.ckpt"];
    each("paths", texts(&whole), |text| {
        if let Ok(path) = RelPath::new(text) {
            let below = path.below(std::path::Path::new("/root"));
            prop_assert!(below.starts_with("/root") && below != std::path::Path::new("/root"));
            prop_assert!(!below.components().any(|c| c == std::path::Component::ParentDir));
        }
        Ok(())
    });
}

#[test]
fn chunks() {
    let whole = (any::<[u8; 32]>(), any::<bool>(), 1..3 * CHUNK_BYTES, any::<u32>());
    let whole = whole.prop_map(|(hash, packed, length, offset)| {
        let offset = offset as usize % length / CHUNK_BYTES * CHUNK_BYTES;
        let mut wire = Vec::new();
        let chunk = Chunk {
            piece: BlobHash(hash),
            packing: if packed { Packing::Zstd } else { Packing::Plain },
            packed_bytes: length as u32,
            offset: offset as u32,
            payload: &vec![7; CHUNK_BYTES.min(length - offset)],
        };
        chunk.encode(&mut wire);
        assert_eq!(Chunk::decode(&wire), Some(chunk));
        wire
    });
    each("chunks", damaged_bytes(whole), |bytes| {
        if let Some(chunk) = Chunk::decode(&bytes) {
            let mut again = Vec::new();
            chunk.encode(&mut again);
            prop_assert!(again == bytes);
            let mut piece = IncomingPiece::of(&chunk);
            let whole = piece.push(&chunk);
            prop_assert_eq!(whole, chunk.payload.len() == chunk.packed_bytes as usize);
            prop_assert!(piece.finish().1.len() <= MAX_PIECE_BYTES as usize);
        }
        Ok(())
    });
}

/// Lists of a few files with names, sizes and pieces that rarely match.
fn lists() -> impl Strategy<Value = (Vec<FileEntry>, Cuts)> {
    let name = prop::sample::select(vec!["a", "A", "a/b", "a/b/c", "a-b", "b", "é", "É", "b/a"]);
    let hash = || (0..3_u8).prop_map(|byte| BlobHash([byte; 32]));
    let edge = u64::from(MAX_PIECE_BYTES);
    let size = prop_oneof![Just(0), Just(edge), edge - 1..2 * edge, Just(u64::MAX), any::<u64>()];
    let entry = (name, hash(), size, any::<bool>()).prop_map(|(name, blake3, size, executable)| {
        FileEntry { path: RelPath::new(name).unwrap(), size, blake3, executable }
    });
    let bytes = prop_oneof![0..=MAX_PIECE_BYTES, any::<u32>()];
    let piece = (hash(), bytes).prop_map(|(blake3, bytes)| Piece { blake3, bytes });
    let cuts = prop::collection::hash_map(hash(), prop::collection::vec(piece, 0..4), 0..3);
    (prop::collection::vec(entry, 0..5), cuts)
}

#[test]
fn manifests() {
    const LIMIT_BYTES: u64 = 1 << 40;
    let from_frames = texts(FRAMES).prop_map(|text| match frame::decode(&text) {
        Ok(ClientFrame::Transfer(TransferFrame::Manifest { files, .. })) => (files, Cuts::new()),
        _ => (Vec::new(), Cuts::new()),
    });
    each("manifests", prop_oneof![from_frames, lists()], |(files, cuts)| {
        let Ok(manifest) = Manifest::new(files, cuts, LIMIT_BYTES) else { return Ok(()) };
        prop_assert!(manifest.total_bytes() <= LIMIT_BYTES);
        for file in manifest.files() {
            let pieces: u64 = manifest.pieces(file).map(|piece| u64::from(piece.bytes)).sum();
            prop_assert_eq!(pieces, file.size);
            let inside = |other: &FileEntry| {
                let (own, other) = (file.path.as_str(), other.path.as_str());
                let (own, other) = (own.to_lowercase(), other.to_lowercase());
                own.strip_prefix(&other).is_some_and(|rest| rest.starts_with('/'))
            };
            prop_assert!(!manifest.files().iter().any(inside), "a file is a folder as well");
        }
        Ok(())
    });
}
