//! How long it takes to decide which parts of a very large file are still to be sent. Run it alone:
//! `cargo test -p sleap-rtc-transfer -- --ignored --nocapture ten_gigabytes` (15 GB of disk, or half
//! as much again as `TRANSFER_GIGABYTES` says).

use super::super::testing::{Fate, MemoryLink, noise, pair};
use super::super::{Cache, Hashes, Incoming, Limits, Package, receive, send};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const DECIDE: Duration = Duration::from_secs(2);

/// Sends until `stop` bytes of content have left. Returns how long the receiver took to decide.
async fn until(package: &Package, to: &Path, limits: &Limits, mut stop: usize) -> Duration {
    let (here, mut there): (MemoryLink, MemoryLink) = pair();
    let mut here = here.with_fault(move |message| match message {
        Incoming::Chunk(_) if stop == 0 => Fate::Cut,
        Incoming::Chunk(chunk) => {
            stop = stop.saturating_sub(chunk.len());
            Fate::Arrive
        }
        _ => Fate::Arrive,
    });
    let (begun, mut decided) = (Instant::now(), None);
    let sending = Limits::default();
    let (_, _) = tokio::join!(
        send(&mut here, package, &sending, |_| {}),
        receive(&mut there, to, limits, |_| {
            decided.get_or_insert_with(|| begun.elapsed());
        }),
    );
    decided.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes 15 GB and takes minutes; run it alone"]
async fn ten_gigabytes_are_decided_upon_within_two_seconds() {
    let gigabytes: usize =
        std::env::var("TRANSFER_GIGABYTES").map_or(10, |number| number.parse().unwrap());
    let work = tempfile::tempdir().unwrap();
    let (from, one, other) =
        (work.path().join("from"), work.path().join("one"), work.path().join("other"));
    std::fs::create_dir(&from).unwrap();
    let mut labels = File::create(from.join("labels.slp")).unwrap();
    let mut block = noise(1, 10_000_000);
    for number in 0..gigabytes as u64 * 100 {
        // No two pieces are the same.
        for at in (0..block.len() - 8).step_by(100_000) {
            block[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        labels.write_all(&block).unwrap();
    }
    drop(labels);
    let index = work.path().join("hashes.sqlite");
    let open = || {
        let begun = Instant::now();
        // As after a restart of the program.
        let hashes = Hashes::open(&index, Duration::ZERO);
        (Package::open_tree(&from, &hashes).unwrap(), begun.elapsed())
    };
    let ((package, first), (_, second)) = (open(), open());
    println!("{gigabytes} GB hashed in {first:.1?}; known the second time within {second:.3?}");
    let cache = Cache::open(&work.path().join("cache"), 50 << 30).unwrap();
    let limits = Limits { cache: Some(cache.clone()), ..Limits::default() };
    let half = gigabytes * 500_000_000;
    let fresh = until(&package, &one, &limits, half).await;
    let again = until(&package, &one, &limits, 0).await;
    cache.salvage(&one);
    let elsewhere = until(&package, &other, &limits, 0).await;
    println!(
        "receiver: nothing there {fresh:.3?}, half of it there {again:.3?}, half of it given up by \
         another job {elsewhere:.3?}"
    );
    for took in [second, again, elsewhere] {
        assert!(took < DECIDE, "it took {took:?} to decide");
    }
}
