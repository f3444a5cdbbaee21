//! Honest ends over a good link, over a faulty one, and with a faulty disk.

use super::super::storage::PARTIAL;
use super::super::testing::{Fate, MemoryLink, counting, listing, noise, package, pair, write};
use super::super::{
    Accept, Hashes, Incoming, Limits, LinkError, Package, Progress, SizeAnswer, SizeQuestion,
    TransferError, receive, send,
};
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use sleap_rtc_protocol::frame::TransferFrame;
use sleap_rtc_protocol::transfer::{CHUNK_BYTES, MAX_PIECE_BYTES, Manifest};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const QUICK: Limits = Limits {
    max_bytes: 1 << 40,
    idle: Duration::from_millis(300),
    cache: None,
    pace: None,
    question: None,
};

async fn transfer(
    package: &Package,
    into: &Path,
    link: (MemoryLink, MemoryLink),
) -> (Result<(), TransferError>, Result<Manifest, TransferError>) {
    transfer_within(package, into, link, &QUICK).await
}

async fn transfer_within(
    package: &Package,
    into: &Path,
    (mut here, mut there): (MemoryLink, MemoryLink),
    limits: &Limits,
) -> (Result<(), TransferError>, Result<Manifest, TransferError>) {
    tokio::join!(async move { send(&mut here, package, limits, |_| {}).await }, async move {
        receive(&mut there, into, limits, |_| {}).await
    },)
}

#[tokio::test]
async fn files_arrive_with_their_modes_and_equal_ones_travel_once() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let long = noise(1, 3 * CHUNK_BYTES + 5);
    write(&from.path().join("run.sh"), b"#!/bin/sh\n", true);
    write(&from.path().join("a/long"), &long, false);
    write(&from.path().join("a/copy of long"), &long, true);
    write(&from.path().join("a/b/empty"), b"", false);
    write(&from.path().join("other empty"), b"", true);
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let (here, there) = pair();
    let (count, chunks) = std::sync::mpsc::channel();
    let here = here.with_fault(move |message| {
        if matches!(message, Incoming::Chunk(_)) {
            count.send(()).unwrap();
        }
        Fate::Arrive
    });
    let (sent, received) = transfer(&package, to.path(), (here, there)).await;
    sent.unwrap();
    assert_eq!(received.unwrap(), *package.manifest());
    assert_eq!(listing(to.path()), listing(from.path()));
    assert_eq!(chunks.iter().count(), 4 + 1);
}

#[tokio::test]
async fn an_empty_tree_is_a_transfer_too() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let (sent, received) = transfer(&package, &to.path().join("new"), pair()).await;
    sent.unwrap();
    assert!(received.unwrap().files().is_empty());
    assert!(to.path().join("new").is_dir());
}

#[tokio::test]
async fn what_is_there_and_right_is_not_sent_again() {
    let to = tempfile::tempdir().unwrap();
    write(&to.path().join("same"), b"same", false);
    write(&to.path().join("longer"), b"another length", false);
    write(&to.path().join("other"), b"wrong", false);
    let package = package(&[("same", b"same"), ("longer", b"length"), ("other", b"right")]);
    let (mut here, mut there) = pair();
    let mut last = Progress::default();
    let (sent, received) = tokio::join!(
        send(&mut here, &package, &QUICK, |progress| last = progress),
        receive(&mut there, to.path(), &QUICK, |_| {}),
    );
    sent.unwrap();
    received.unwrap();
    assert_eq!(last, Progress { done_bytes: 15, total_bytes: 15, already_there_bytes: 4 });
    assert_eq!(std::fs::read(to.path().join("longer")).unwrap(), b"length");
    assert_eq!(std::fs::read(to.path().join("other")).unwrap(), b"right");
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_was() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let size = 40 << 20;
    write(&from.path().join("labels.slp"), &noise(1, size), false);
    write(&from.path().join("small"), b"small", false);
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let half = {
        let mut left = size / 2 / CHUNK_BYTES;
        move |message: &Incoming| {
            left -= usize::from(left > 0 && matches!(message, Incoming::Chunk(_)));
            if left > 0 { Fate::Arrive } else { Fate::Cut }
        }
    };
    let (here, there) = pair();
    let (sent, received) = transfer(&package, to.path(), (here.with_fault(half), there)).await;
    assert!(sent.is_err() && received.is_err());
    let (here, there) = pair();
    let (here, bytes) = counting(here);
    let (sent, received) = transfer(&package, to.path(), (here, there)).await;
    sent.unwrap();
    received.unwrap();
    assert_eq!(listing(to.path()), listing(from.path()));
    let again = bytes.load(Ordering::Relaxed).saturating_sub(size / 2);
    println!("{again} of {size} bytes were sent twice");
    assert!(again <= 2 * MAX_PIECE_BYTES as usize, "{again}");
}

#[tokio::test]
async fn only_the_changed_part_of_a_long_file_travels() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut bytes = noise(1, 40 << 20);
    for folder in [&from, &to] {
        write(&folder.path().join("twice"), &bytes, false);
    }
    write(&from.path().join("again"), &bytes, true);
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let (here, there) = pair();
    let (here, sent_bytes) = counting(here);
    let (sent, received) = transfer(&package, to.path(), (here, there)).await;
    sent.unwrap();
    received.unwrap();
    assert_eq!(listing(to.path()), listing(from.path()));
    assert_eq!(sent_bytes.load(Ordering::Relaxed), 0);
    // The same pieces in another file: each is sent once.
    bytes.extend(bytes.clone());
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&from.path().join("double"), &bytes, false);
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let (here, there) = pair();
    let (here, sent_bytes) = counting(here);
    let (sent, received) = transfer(&package, to.path(), (here, there)).await;
    sent.unwrap();
    received.unwrap();
    assert_eq!(listing(to.path()), listing(from.path()));
    assert!(sent_bytes.load(Ordering::Relaxed) < 45 << 20);
}

/// Turns one bit in the payload of each of the first `times` chunks.
fn spoil(link: MemoryLink, mut times: usize) -> MemoryLink {
    link.with_fault(move |message| match message {
        Incoming::Chunk(chunk) if times > 0 => {
            times -= 1;
            Fate::Flip((chunk.len() - 1) * 8)
        }
        _ => Fate::Arrive,
    })
}

#[tokio::test]
async fn a_wrong_byte_is_asked_for_once_more_and_then_it_is_over() {
    let package = package(&[("a", b"first"), ("b", b"second")]);
    let to = tempfile::tempdir().unwrap();
    let (here, there) = pair();
    let (sent, received) = transfer(&package, to.path(), (spoil(here, 1), there)).await;
    sent.unwrap();
    received.unwrap();
    assert_eq!(listing(to.path())["a"].0, b"first");

    let to = tempfile::tempdir().unwrap();
    let (here, there) = pair();
    let (sent, received) = transfer(&package, to.path(), (spoil(here, 4), there)).await;
    let received = received.unwrap_err();
    assert!(matches!(&received, TransferError::WrongContent { path } if path == "a"));
    let TransferError::Aborted(reason) = sent.unwrap_err() else { panic!() };
    assert_eq!(reason, received.to_string());
    assert!(listing(to.path()).is_empty());
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_opened_is_named_on_both_sides() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&from.path().join("labels.slp"), &[1; 300_000], false);
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    write(&from.path().join("labels.slp"), &[1; 200_000], false);
    let (sent, received) = transfer(&package, to.path(), pair()).await;
    assert!(sent.unwrap_err().to_string().contains("\"labels.slp\" changed"));
    let TransferError::Aborted(reason) = received.unwrap_err() else { panic!() };
    assert!(reason.contains("\"labels.slp\" changed"), "{reason}");
    assert!(listing(to.path()).is_empty());
}

#[tokio::test]
async fn a_receiver_that_fails_says_why() {
    let big = package(&[("a", &[0; 100])]);
    let to = tempfile::tempdir().unwrap();
    let (mut here, mut there) = pair();
    let small = Limits { max_bytes: 99, ..QUICK };
    let (sent, received) = tokio::join!(
        send(&mut here, &big, &QUICK, |_| {}),
        receive(&mut there, to.path(), &small, |_| {}),
    );
    assert!(matches!(received, Err(TransferError::Manifest(_))));
    assert!(sent.unwrap_err().to_string().contains("more than the 99 bytes"));

    // In the middle of a stream that the sender is still sending.
    let long = noise(1, 100 * CHUNK_BYTES);
    let package = package(&[("a", &long[..7 * CHUNK_BYTES]), ("b", &long), ("way/file", b"x")]);
    std::fs::write(to.path().join("way"), b"in the").unwrap();
    std::fs::create_dir(to.path().join("a")).unwrap();
    let (sent, received) = transfer(&package, to.path(), pair()).await;
    assert!(matches!(received, Err(TransferError::Storage(_))));
    assert!(sent.unwrap_err().to_string().contains("a folder is in the way"));
}

#[tokio::test]
async fn silence_ends_on_both_sides() {
    let to = tempfile::tempdir().unwrap();
    let (_mute, mut there) = pair();
    let received = receive(&mut there, to.path(), &QUICK, |_| {}).await;
    assert!(matches!(received, Err(TransferError::Silent(_))), "{received:?}");

    let (mut here, _deaf) = pair();
    let sent = send(&mut here, &package(&[("a", b"a")]), &QUICK, |_| {}).await;
    assert!(matches!(sent, Err(TransferError::Silent(_))), "{sent:?}");
}

#[tokio::test]
async fn a_session_that_ends_the_transfer_gives_its_reason() {
    struct Cancelled;
    impl super::super::Link for Cancelled {
        async fn send_control(&mut self, _: TransferFrame) -> Result<(), LinkError> {
            Ok(())
        }
        async fn next(&mut self, _: Accept) -> Result<Incoming, LinkError> {
            Err(LinkError::Interrupted("cancelled by the client".into()))
        }
        fn send_chunk(&self, _: BytesMut) -> BoxFuture<'static, Result<(), LinkError>> {
            unreachable!("a receiver sends no chunks")
        }
    }
    let to = tempfile::tempdir().unwrap();
    let received = receive(&mut Cancelled, to.path(), &QUICK, |_| {}).await;
    assert!(matches!(received, Err(TransferError::Interrupted(_))), "{received:?}");
}

#[test]
fn both_ends_may_run_in_tasks() {
    fn sendable<T: Send>(_: T) {}
    let (mut here, mut there) = pair();
    let package = package(&[]);
    sendable(send(&mut here, &package, &QUICK, |_| {}));
    sendable(receive(&mut there, Path::new("x"), &QUICK, |_| {}));
}

/// A tree with files of every relevant size.
fn random_tree(rng: &mut StdRng, folder: &Path) {
    for _ in 0..rng.random_range(0..12) {
        let depth = rng.random_range(1..4);
        let name = |rng: &mut StdRng| ["a", "b", "ä b", "x.y"][rng.random_range(0..4)];
        let path = (0..depth).fold(folder.to_owned(), |path, _| path.join(name(rng)));
        let size = match rng.random_range(0..4) {
            0 => 0,
            1 => rng.random_range(1..100),
            2 => CHUNK_BYTES * rng.random_range(1..3),
            _ => rng.random_range(1..3 * CHUNK_BYTES),
        };
        // Few contents, so that some files are equal.
        let bytes = vec![rng.random_range(0..3); size];
        let free = path.ancestors().skip(1).all(|folder| !folder.is_file()) && !path.exists();
        if free {
            write(&path, &bytes, rng.random());
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_arrives_as_it_was(seed: u64) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        random_tree(&mut StdRng::seed_from_u64(seed), from.path());
        let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
        let (sent, received) = block_on(transfer(&package, to.path(), pair()));
        prop_assert!(sent.is_ok(), "{sent:?}");
        prop_assert!(received.is_ok(), "{received:?}");
        prop_assert_eq!(listing(to.path()), listing(from.path()));
    }
}

/// A fault for a message, sometimes.
fn bad_day(mut rng: StdRng) -> impl FnMut(&Incoming) -> Fate + Send + 'static {
    move |_| match rng.random_range(0..100) {
        0..3 => Fate::Vanish,
        3..6 => Fate::Repeat,
        6..10 => Fate::Flip(rng.random_range(0..1 << 21)),
        10..13 => Fate::Wait,
        13 => Fate::Cut,
        _ => Fate::Arrive,
    }
}

/// How often a transfer is repeated over a faulty link before the link becomes a good one.
const TRIES: usize = 6;

/// Repeats a transfer until everything has arrived. Returns the number of attempts.
async fn over_a_bad_link(seed: u64) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    random_tree(&mut rng, from.path());
    if seed.is_multiple_of(8) {
        let length = MAX_PIECE_BYTES as usize + rng.random_range(1..3 << 20);
        write(&from.path().join("long"), &noise(seed, length), false);
    }
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let right = listing(from.path());
    for tried in 1.. {
        let (mut here, mut there) = pair();
        // On a busy machine even a good link is sometimes silent.
        let mut limits = Limits { idle: Duration::from_secs(30), ..QUICK };
        if tried <= TRIES {
            limits = QUICK;
            let (one, other) = (StdRng::from_rng(&mut rng), StdRng::from_rng(&mut rng));
            (here, there) = (here.with_fault(bad_day(one)), there.with_fault(bad_day(other)));
        }
        let link = (here, there);
        let (sent, received) = transfer_within(&package, to.path(), link, &limits).await;
        let mut arrived = listing(to.path());
        arrived.retain(|name, _| !name.starts_with(PARTIAL));
        for (name, content) in &arrived {
            assert_eq!(right.get(name), Some(content), "seed {seed}: {name} is wrong");
        }
        if received.is_ok() {
            assert!(arrived == right, "seed {seed}: complete without all files");
            assert!(!to.path().join(PARTIAL).exists(), "seed {seed}");
            return tried;
        }
        assert!(tried <= TRIES, "seed {seed}: {sent:?}, {received:?} over a good link");
    }
    0
}

/// `TRANSFER_SEEDS=10000` is the longest run so far.
#[test]
fn over_a_bad_link_a_file_is_right_or_absent_and_in_the_end_all_are_there() {
    let seeds = std::env::var("TRANSFER_SEEDS").map_or(320, |seeds| seeds.parse().unwrap());
    let tries = block_on(async {
        use futures_util::StreamExt;
        let seeds = futures_util::stream::iter((0..seeds).map(over_a_bad_link));
        // Each transfer has two threads of its own for its files.
        seeds.buffer_unordered(80).collect::<Vec<usize>>().await
    });
    let at_once = tries.iter().filter(|tries| **tries == 1).count();
    let tried: usize = tries.iter().sum();
    println!("{seeds} seeds: {tried} tries, {at_once} arrived at the first");
    // Otherwise there were too many or too few faults to test anything.
    let share = at_once as f64 / tries.len() as f64;
    assert!((0.1..0.9).contains(&share), "{at_once} of {seeds} arrived at once");
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes 1 GB and takes seconds; run it alone"]
async fn half_a_gigabyte_with_flat_memory() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut random = vec![0; 250 << 20];
    StdRng::seed_from_u64(1).fill_bytes(&mut random);
    write(&from.path().join("zeros"), &vec![0; 250 << 20], false);
    write(&from.path().join("random"), &random, false);
    drop(random);
    let opening = Instant::now();
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    println!("hashed with {:.0} MB/s", 524.0 / opening.elapsed().as_secs_f64());
    let (idle_mib, mut peak_mib) = (resident_mib(), 0);
    let start = Instant::now();
    let (mut here, mut there) = pair();
    let (sent, received) = tokio::join!(
        send(&mut here, &package, &QUICK, |_| peak_mib = peak_mib.max(resident_mib())),
        receive(&mut there, to.path(), &QUICK, |_| {}),
    );
    sent.unwrap();
    received.unwrap();
    let rate = 524.0 / start.elapsed().as_secs_f64();
    println!("{rate:.0} MB/s, {idle_mib} MiB before, {peak_mib} MiB at most");
    assert!(peak_mib < idle_mib + 32);
    assert!(
        std::fs::read(to.path().join("random")).unwrap()
            == std::fs::read(from.path().join("random")).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement; run it alone"]
async fn ten_thousand_small_files() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for n in 0..10_000 {
        write(&from.path().join(format!("{}/{n}", n % 100)), format!("{n}").as_bytes(), false);
    }
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let start = Instant::now();
    let (sent, received) = transfer(&package, to.path(), pair()).await;
    sent.unwrap();
    received.unwrap();
    println!("{:.2} s for 10,000 files", start.elapsed().as_secs_f64());
    assert!(listing(to.path()) == listing(from.path()));
}

#[tokio::test]
async fn more_than_usual_is_received_only_if_somebody_agrees() {
    let work = tempfile::tempdir().unwrap();
    write(&work.path().join("from/best.ckpt"), &[7; 3000], false);
    let package = Package::open(&work.path().join("from"), &Hashes::none()).unwrap();
    let yes: fn(u64) -> SizeAnswer = |bytes| Box::pin(async move { bytes == 3000 });
    let no: fn(u64) -> SizeAnswer = |_| Box::pin(async { false });
    for (above_bytes, ask, arrives) in [(3000, no, true), (2999, yes, true), (2999, no, false)] {
        let limits = Limits { question: Some(SizeQuestion { above_bytes, ask }), ..QUICK };
        let to = work.path().join(format!("to-{above_bytes}-{arrives}"));
        let (mut here, mut there) = pair();
        let (_, received) = tokio::join!(
            send(&mut here, &package, &QUICK, |_| {}),
            receive(&mut there, &to, &limits, |_| {}),
        );
        match received {
            Ok(_) => assert!(arrives && to.join("best.ckpt").exists()),
            Err(error) => {
                assert!(!arrives, "{error}");
                let declined = TransferError::Declined { bytes: 3000, above_bytes: 2999 };
                assert_eq!(error.to_string(), declined.to_string());
                assert!(!to.join("best.ckpt").exists());
            }
        }
    }
}
