//! A hostile sender, receiver or disk.

use super::super::storage::{PARTIAL, confined};
use super::super::testing::{listing, package, pair, rel, write};
use super::super::{Incoming, Limits, TransferError, receive, send};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_package::pieces::content;
use sleap_rtc_protocol::frame::{self, ClientFrame, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::transfer::{
    BlobHash, Chunk, FileEntry, MAX_PIECE_BYTES, MIN_PIECE_BYTES, Packing, Piece,
};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

// Cases with a message fail at once; the silent ones wait in parallel.
const QUICK: Limits = Limits {
    max_bytes: 1 << 30,
    idle: Duration::from_secs(2),
    cache: None,
    pace: None,
    question: None,
};

fn entry(path: &str, bytes: &[u8]) -> FileEntry {
    let blake3 = BlobHash(*blake3::hash(bytes).as_bytes());
    FileEntry { path: rel(path), size: bytes.len() as u64, blake3, executable: false }
}

fn manifest(files: &[FileEntry]) -> Incoming {
    Incoming::Control(TransferFrame::Manifest { files: files.to_vec(), more: false })
}

/// All of `of` in one chunk, with these bytes instead.
fn chunk_with(of: &[u8], payload: &[u8]) -> Incoming {
    let mut frame = Vec::new();
    let piece = BlobHash(*blake3::hash(of).as_bytes());
    let packed_bytes = payload.len() as u32;
    Chunk { piece, packing: Packing::Plain, packed_bytes, offset: 0, payload }.encode(&mut frame);
    Incoming::Chunk(frame.into())
}

fn chunk(of: &[u8]) -> Incoming {
    chunk_with(of, of)
}

fn pieces(of: BlobHash, bytes: &[u32], more: bool) -> Incoming {
    let piece = |bytes: &u32| Piece { blake3: BlobHash([1; 32]), bytes: *bytes };
    let pieces = bytes.iter().map(piece).collect();
    Incoming::Control(TransferFrame::Pieces { of, pieces, more })
}

/// The error of a receiver with the folder `job/files` after `messages`. Checks that nothing
/// appears outside the folder, and that no partial files stay in it.
async fn told(work: &Path, messages: Vec<Incoming>) -> Result<(), TransferError> {
    told_within(work, messages, &QUICK).await
}

async fn told_within(
    work: &Path,
    messages: Vec<Incoming>,
    limits: &Limits,
) -> Result<(), TransferError> {
    let files = work.join("job/files");
    let outside = |work: &Path| {
        let mut all = listing(work);
        all.retain(|name, _| !name.starts_with("job/files/"));
        all
    };
    let before = outside(work);
    let (mut here, mut there) = pair();
    let talk = async {
        for message in messages {
            if here.put(message).await.is_err() {
                break;
            }
        }
        here
    };
    let receiving = async {
        let received = receive(&mut there, &files, limits, |_| {}).await;
        drop(there);
        received
    };
    let (_here, received) = tokio::join!(talk, receiving);
    assert_eq!(outside(work), before);
    let all = listing(work);
    let mut hidden = all.keys().filter(|name| name.contains(PARTIAL));
    assert!(hidden.all(|name| name.ends_with("/journal")), "nothing else is worth keeping");
    received.map(|_| ())
}

#[tokio::test]
async fn chunks_and_lists_that_do_not_belong_are_refused() {
    let a = b"some content".as_slice();
    let lie = |size, blake3| FileEntry { size, blake3, ..entry("a", a) };
    let empty = BlobHash(*blake3::hash(b"").as_bytes());
    let long = FileEntry { size: u64::from(MAX_PIECE_BYTES) + 9, ..entry("a", a) };
    let hash = long.blake3;
    let listed =
        |lists: Vec<Incoming>| [vec![manifest(std::slice::from_ref(&long))], lists].concat();
    let tiny = vec![1; 512];
    let cases: Vec<(&str, Vec<Incoming>)> = vec![
        ("not requested", vec![manifest(&[entry("a", a)]), chunk(b"other")]),
        ("longer than announced", vec![manifest(&[entry("a", a)]), chunk_with(a, &[0; 13])]),
        (
            "arrived damaged twice",
            vec![manifest(&[entry("a", a)]), chunk_with(a, b"some"), chunk_with(a, b"some")],
        ),
        ("is malformed", vec![manifest(&[entry("a", a)]), Incoming::Chunk(vec![9; 50].into())]),
        ("file content arrived before its list", listed(vec![chunk(a)])),
        ("pieces of an unknown file", listed(vec![pieces(BlobHash([9; 32]), &[1], false)])),
        ("too many pieces, or none", listed(vec![pieces(hash, &[], false)])),
        ("too many pieces", listed(vec![pieces(hash, &tiny, true), pieces(hash, &tiny, true)])),
        ("do not make up the file", listed(vec![pieces(hash, &[9, MAX_PIECE_BYTES], false)])),
        (
            "do not make up the file",
            listed(vec![pieces(hash, &[MIN_PIECE_BYTES, MIN_PIECE_BYTES], false)]),
        ),
        ("does not match its pieces", listed(vec![pieces(hash, &[MAX_PIECE_BYTES, 9], false)])),
        ("only a receiver sends", vec![manifest(&[entry("a", a)]), manifest(&[])]),
        ("file content arrived before its list", vec![chunk(a)]),
        ("does not begin with the list", vec![Incoming::Control(TransferFrame::Complete)]),
        ("collide", vec![manifest(&[entry("a/x", a), entry("a/x", a)])]),
        ("collide", vec![manifest(&[entry("a/x", a), entry("A/X", a)])]),
        ("collide", vec![manifest(&[entry("Ä", a), entry("ä", a)])]),
        ("both as a file and as a folder", vec![manifest(&[entry("A", a), entry("a/x", a)])]),
        ("both as a file and as a folder", vec![manifest(&[entry("a", a), entry("a/x", a)])]),
        ("add up to more", vec![manifest(&[lie(u64::MAX, empty), entry("b", a)])]),
        (
            "same hash and different sizes",
            vec![manifest(&[entry("b", a), lie(3, entry("a", a).blake3)])],
        ),
        ("does not match its size", vec![manifest(&[lie(0, entry("a", a).blake3)])]),
        ("does not match its size", vec![manifest(&[lie(7, empty)])]),
        ("the receiver's staging folder", vec![manifest(&[entry(&format!("{PARTIAL}/x"), a)])]),
        // A long s, which is an S in upper case.
        (
            "the receiver's staging folder",
            vec![manifest(&[entry(".\u{17f}leap-RTC-partial/x", a)])],
        ),
        (
            "a part of the list of files is empty",
            vec![Incoming::Control(TransferFrame::Manifest { files: vec![], more: true })],
        ),
        (
            "aborted the transfer: no no",
            vec![Incoming::Control(TransferFrame::Abort { reason: "no\nno".into() })],
        ),
        ("sent nothing", vec![manifest(&[entry("a", a), entry("b", b"b")]), chunk(b"b")]),
    ];
    // A client's package at a worker, and a worker's result at a client.
    let results = Limits { idle: QUICK.idle, ..Limits::results() };
    let cases = cases.iter().flat_map(|case| [QUICK, results.clone()].map(|limits| (case, limits)));
    let all = cases.map(async |((why, messages), limits)| {
        let work = tempfile::tempdir().unwrap();
        write(&work.path().join("job/spec"), b"", false);
        let told = told_within(work.path(), messages.clone(), &limits).await;
        let error = WithCauses(&told.unwrap_err()).to_string();
        assert!(error.contains(why), "{why:?} not in {error:?}");
        let mut left = listing(&work.path().join("job"));
        if left.remove("files/b").is_some() {
            left.remove(&format!("files/{PARTIAL}/journal")).unwrap();
        }
        assert!(left.len() == 1, "{why}");
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn newer_frames_are_passed_over() {
    let work = tempfile::tempdir().unwrap();
    let newer = || Incoming::Control(TransferFrame::Unknown);
    let messages = vec![newer(), manifest(&[entry("a", b"abc")]), newer(), chunk(b"abc")];
    told(work.path(), messages).await.unwrap();
    assert_eq!(std::fs::read(work.path().join("job/files/a")).unwrap(), b"abc");
}

#[tokio::test]
async fn a_million_files_are_too_many() {
    let work = tempfile::tempdir().unwrap();
    let frame = |n: usize| {
        let files = (0..32).map(|m| entry(&format!("f{n}-{m}"), b"")).collect();
        Incoming::Control(TransferFrame::Manifest { files, more: true })
    };
    let messages = (0..1_000_000 / 32).map(frame).take(4000).collect();
    let error = WithCauses(&told(work.path(), messages).await.unwrap_err()).to_string();
    assert!(error.contains("more than 100000 files"), "{error}");
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_said_so_before_anything_is_sent() {
    let work = tempfile::tempdir().unwrap();
    let (mut here, mut there) = pair();
    let most = vec![MAX_PIECE_BYTES; 1 << 20];
    let size = u64::from(MAX_PIECE_BYTES) << 20;
    let all = vec![Piece { blake3: BlobHash([1; 32]), bytes: MAX_PIECE_BYTES }; 1 << 20];
    let blake3 = content(&all);
    let limits = Limits { max_bytes: u64::MAX, ..Limits::default() };
    let talk = async {
        here.put(manifest(&[FileEntry { size, blake3, ..entry("a", b"x") }])).await.unwrap();
        here.put(pieces(blake3, &most, false)).await.unwrap();
        here
    };
    let folder = work.path().join("d");
    let (_here, received) = tokio::join!(talk, receive(&mut there, &folder, &limits, |_| {}));
    let error = received.unwrap_err().to_string();
    assert!(error.contains("too full: 2199023255552 bytes"), "{error}");
    assert!(listing(work.path()).is_empty());
}

/// A list of one file, with this path in JSON and further fields, as a client or a worker would
/// send it.
fn list(path: &str, more: &str) -> String {
    let blake3 = "0".repeat(64);
    format!(
        r#"{{"frame":"transfer","transfer":"manifest","more":false,"files":[
        {{"path":"{path}","size":1,"blake3":"{blake3}"{more}}}]}}"#
    )
}

#[test]
fn paths_that_lead_elsewhere_do_not_even_parse() {
    let (deep, long) = ("a/".repeat(2048) + "a", "a".repeat(4096));
    let longer = "a".repeat(256);
    let bad = [
        "",
        ".",
        "..",
        "../x",
        "/etc/x",
        "//x",
        "a/../../x",
        "a/./x",
        "a//x",
        "a/",
        "a\\\\b",
        "..\\\\x",
        "a\\u0000b",
        "a\\nb",
        "\\ud800",
        &deep,
        &long,
        &longer,
    ];
    for bad in bad {
        let text = list(bad, "");
        assert!(frame::decode::<ClientFrame>(&text).is_err(), "{bad}");
        assert!(frame::decode::<WorkerFrame>(&text).is_err(), "{bad}");
    }
    let good = list("fine", "");
    assert!(matches!(frame::decode(&good), Ok(ClientFrame::Transfer(_))), "{good}");
    assert!(matches!(frame::decode(&good), Ok(WorkerFrame::Transfer(_))), "{good}");
}

#[test]
fn a_manifest_has_no_words_for_links_devices_and_other_modes() {
    let TransferFrame::Manifest { files, .. } = plain(&list("fine", "")) else { panic!() };
    for more in [
        r#","link":"/etc/passwd""#,
        r#","kind":"symlink","target":"../../x""#,
        r#","kind":"device","major":1,"minor":3"#,
        r#","mode":2541"#,
        r#","owner":"root","setuid":true"#,
    ] {
        let TransferFrame::Manifest { files: these, .. } = plain(&list("fine", more)) else {
            panic!()
        };
        assert_eq!(these, files, "{more} means something");
    }
    for wrong in [r#","size":2"#, r#","executable":"yes""#] {
        assert!(frame::decode::<ClientFrame>(&list("fine", wrong)).is_err(), "{wrong}");
    }
    let negative = list("fine", "").replace(r#""size":1"#, r#""size":-1"#);
    assert!(frame::decode::<ClientFrame>(&negative).is_err());
    let short = list("fine", "").replace(&"0".repeat(64), "00");
    assert!(frame::decode::<ClientFrame>(&short).is_err());
}

fn plain(text: &str) -> TransferFrame {
    match frame::decode(text) {
        Ok(ClientFrame::Transfer(frame)) => frame,
        other => panic!("{text} is {other:?}"),
    }
}

#[tokio::test]
async fn pipes_and_devices_on_the_disk_are_neither_read_nor_written() {
    let work = tempfile::tempdir().unwrap();
    let files = work.path().join("job/files");
    std::fs::create_dir_all(&files).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    for name in ["pipe", "folder"] {
        let at = files.join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }
    let received = async |messages: Vec<Incoming>| {
        let (mut here, mut there) = pair();
        for message in messages {
            here.put(message).await.unwrap();
        }
        receive(&mut there, &files, &QUICK, |_| {}).await
    };
    // It replaces the pipe, and does not write into it.
    received(vec![manifest(&[entry("pipe", b"abc")]), chunk(b"abc")]).await.unwrap();
    assert!(files.join("pipe").symlink_metadata().unwrap().is_file());
    let below = vec![manifest(&[entry("folder/x", b"abc")]), chunk(b"abc")];
    let error = received(below).await.unwrap_err().to_string();
    assert!(error.contains("a file is in the way"), "{error}");
}

#[tokio::test]
async fn links_on_the_disk_are_not_written_through() {
    let work = tempfile::tempdir().unwrap();
    let files = work.path().join("job/files");
    std::fs::create_dir_all(&files).unwrap();
    write(&work.path().join("outside/kept"), b"kept", false);
    symlink("../../outside", files.join("folder")).unwrap();
    symlink("../../outside/kept", files.join("file")).unwrap();
    let through = vec![manifest(&[entry("folder/x", b"abc")]), chunk(b"abc")];
    let error = told(work.path(), through).await.unwrap_err().to_string();
    assert!(error.contains("a symbolic link is in the way"), "{error}");
    // It replaces the link, and does not write through it, even if the target has the right
    // content.
    let over = vec![manifest(&[entry("file", b"kept")]), chunk(b"kept")];
    told(work.path(), over).await.unwrap();
    assert!(files.join("file").symlink_metadata().unwrap().is_file());
    symlink("/tmp", files.join(PARTIAL)).unwrap();
    let (mut here, mut there) = pair();
    here.put(manifest(&[entry("x", b"abc")])).await.unwrap();
    let error = receive(&mut there, &files, &QUICK, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("in the way"), "{error}");
}

#[test]
fn a_shared_root_holds_what_is_below_it() {
    let work = tempfile::tempdir().unwrap();
    let (root, outside) = (work.path().join("root"), work.path().join("outside"));
    write(&root.join("lab/p.zip"), b"", false);
    write(&outside.join("secret"), b"", false);
    symlink("lab", root.join("alias")).unwrap();
    symlink("../outside", root.join("out")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    let real = root.canonicalize().unwrap();
    for (path, place) in [
        ("lab/p.zip", "lab/p.zip"),
        ("alias/p.zip", "lab/p.zip"),
        ("lab/new/models", "lab/new/models"),
        ("alias/new", "lab/new"),
    ] {
        assert_eq!(confined(&root, &rel(path)).unwrap(), real.join(place), "{path}");
    }
    for path in ["out", "out/secret", "out/new/file", "dangling", "dangling/x", "lab/p.zip/x"] {
        assert!(confined(&root, &rel(path)).is_err(), "{path}");
    }
    assert!(confined(&work.path().join("gone"), &rel("x")).is_err());
}

#[tokio::test]
async fn a_receiver_cannot_make_the_sender_work_for_nothing() {
    let blob = entry("a", b"abc").blake3;
    let want = |pieces: &[BlobHash]| {
        Incoming::Control(TransferFrame::Want { pieces: pieces.to_vec(), more: false })
    };
    let cases = [
        ("does not exist", vec![want(&[BlobHash([0; 32])])]),
        ("does not exist", vec![want(&[blob; 5])]),
        ("file content", vec![chunk(b"abc")]),
        ("list of files", vec![manifest(&[])]),
        (
            "aborted the transfer: full",
            vec![Incoming::Control(TransferFrame::Abort { reason: "full".into() })],
        ),
    ];
    for (why, messages) in cases {
        let (mut here, mut there) = pair();
        for message in messages {
            there.put(message).await.unwrap();
        }
        let package = package(&[("a", b"abc")]);
        let error = send(&mut here, &package, &QUICK, |_| {}).await.unwrap_err();
        assert!(error.to_string().contains(why), "{why:?} not in {error}");
    }
}
