//! Whatever messages the other side of a transfer sends, in any order, each end finishes at once,
//! writes nothing outside its folder, and keeps nothing unverified.

use super::super::testing::{listing, package, rel};
use super::super::{Accept, Incoming, Limits, Link, LinkError, TransferError, receive, send};
use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use hostile_input::{damaged_bytes, each, folder};
use proptest::prelude::*;
use sleap_rtc_protocol::frame::TransferFrame;
use sleap_rtc_protocol::transfer::{BlobHash, Chunk, FileEntry, MAX_PIECE_BYTES, Packing, Piece};
use std::collections::VecDeque;

/// The content of the honest files in these tests.
const CONTENTS: [&[u8]; 3] = [b"", b"some content", b"other content"];

/// Sends the given messages, then disconnects. Accepts everything that is sent to it.
struct Script(VecDeque<Incoming>);

impl Link for Script {
    async fn send_control(&mut self, _: TransferFrame) -> Result<(), LinkError> {
        Ok(())
    }

    async fn next(&mut self, accept: Accept) -> Result<Incoming, LinkError> {
        let takes_chunks = accept == Accept::ControlAndChunks;
        let heard = |said: &Incoming| takes_chunks || !matches!(said, Incoming::Chunk(_));
        let next = self.0.iter().position(heard).and_then(|place| self.0.remove(place));
        next.ok_or_else(|| LinkError::Lost("over".into()))
    }

    fn send_chunk(&self, _: BytesMut) -> BoxFuture<'static, Result<(), LinkError>> {
        future::ready(Ok(())).boxed()
    }
}

fn hash(bytes: &[u8]) -> BlobHash {
    BlobHash(*blake3::hash(bytes).as_bytes())
}

fn hashes() -> impl Strategy<Value = BlobHash> {
    let known = prop::sample::select(CONTENTS.to_vec()).prop_map(hash);
    prop_oneof![9 => known, 1 => any::<[u8; 32]>().prop_map(BlobHash)]
}

fn entries() -> impl Strategy<Value = FileEntry> {
    let names = vec!["a", "A", "b", "d/e", "d", "d/e/f", ".sleap-rtc-partial/journal"];
    let name = prop::sample::select(names);
    let honest = (name.clone(), prop::sample::select(CONTENTS.to_vec()), any::<bool>()).prop_map(
        |(name, bytes, executable)| {
            let (path, blake3) = (rel(name), hash(bytes));
            FileEntry { path, size: bytes.len() as u64, blake3, executable }
        },
    );
    let size = prop_oneof![0..20_u64, Just(u64::from(MAX_PIECE_BYTES) + 9), any::<u64>()];
    let lying = (name, hashes(), size).prop_map(|(name, blake3, size)| FileEntry {
        path: rel(name),
        size,
        blake3,
        executable: false,
    });
    prop_oneof![6 => honest, 1 => lying]
}

fn chunks() -> impl Strategy<Value = Incoming> {
    let packed = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
    // Claims to be one of the files, but unpacks to two megabytes.
    let bomb = packed(&vec![0; MAX_PIECE_BYTES as usize]);
    let payload = move |bytes: &'static [u8], kind: u8| match kind {
        0..4 => (Packing::Plain, bytes.to_vec()),
        4..8 => (Packing::Zstd, packed(bytes)),
        8 => (Packing::Zstd, bytes.to_vec()),
        _ => (Packing::Zstd, bomb.clone()),
    };
    let whole = (prop::sample::select(CONTENTS.to_vec()), 0..10_u8).prop_map(move |(of, kind)| {
        let (packing, payload) = payload(of, kind);
        let (piece, packed_bytes) = (hash(of), payload.len() as u32);
        let mut wire = Vec::new();
        Chunk { piece, packing, packed_bytes, offset: 0, payload: &payload }.encode(&mut wire);
        wire
    });
    prop_oneof![2 => whole.clone(), 1 => damaged_bytes(whole)]
        .prop_map(|wire| Incoming::Chunk(wire.into()))
}

fn controls() -> impl Strategy<Value = Incoming> {
    let piece = (hashes(), prop_oneof![0..=MAX_PIECE_BYTES, any::<u32>()])
        .prop_map(|(blake3, bytes)| Piece { blake3, bytes });
    let files = prop::collection::vec(entries(), 0..4);
    let manifest = (files, prop::bool::weighted(0.1))
        .prop_map(|(files, more)| TransferFrame::Manifest { files, more });
    let pieces = (hashes(), prop::collection::vec(piece, 0..3), any::<bool>())
        .prop_map(|(of, pieces, more)| TransferFrame::Pieces { of, pieces, more });
    let want = (prop::collection::vec(hashes(), 0..3), any::<bool>())
        .prop_map(|(pieces, more)| TransferFrame::Want { pieces, more });
    let others = prop_oneof![
        any::<u64>().prop_map(|bytes| TransferFrame::Verified { bytes }),
        Just(TransferFrame::Complete),
        Just(TransferFrame::Unknown),
        ".{0,9}".prop_map(|reason| TransferFrame::Abort { reason }),
    ];
    prop_oneof![8 => manifest, 1 => pieces, 3 => want, 2 => others].prop_map(Incoming::Control)
}

fn is_no_bug(ended: &Result<(), TransferError>) -> Result<(), TestCaseError> {
    prop_assert!(!matches!(ended, Err(TransferError::Thread)), "a thread has panicked");
    Ok(())
}

#[test]
fn what_a_receiver_hears() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let whole = std::cell::Cell::new(0_u32);
    let first = prop_oneof![9 => controls(), 1 => chunks()];
    let later = prop::collection::vec(prop_oneof![1 => controls(), 4 => chunks()], 0..6);
    each("streams to a receiver", (first, later), |(first, later)| {
        let work = folder();
        let files = work.path().join("job/files");
        let mut link = Script([vec![first], later].concat().into());
        let received =
            runtime.block_on(receive(&mut link, &files, &Limits::default(), |_| {})).map(drop);
        is_no_bug(&received)?;
        whole.set(whole.get() + u32::from(received.is_ok()));
        for (name, (bytes, _)) in listing(work.path()) {
            prop_assert!(name.starts_with("job/files/"), "{name}");
            let verified = CONTENTS.contains(&bytes.as_slice());
            prop_assert!(verified || received.is_err() && name.contains("partial"), "{name}");
        }
        Ok(())
    });
    println!("{} of them were whole", whole.get());
}

#[test]
fn what_a_sender_hears() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let package = package(&[("a", CONTENTS[1]), ("d/e", CONTENTS[2]), ("empty", CONTENTS[0])]);
    let heard = prop::collection::vec(prop_oneof![6 => controls(), 1 => chunks()], 0..6);
    each("streams to a sender", heard, |heard| {
        let mut link = Script(heard.into());
        let sent = runtime.block_on(send(&mut link, &package, &Limits::default(), |_| {}));
        is_no_bug(&sent)
    });
}
