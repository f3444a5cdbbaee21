//! What a worker has received before is not sent again, and is never believed.

use super::super::testing::{Fate, counting, listing, noise, pair, write};
use super::super::{Cache, Incoming, Limits, Package, receive, send};
use sleap_rtc_protocol::transfer::{CHUNK_BYTES, MAX_PIECE_BYTES};
use std::path::Path;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

/// A worker's disk: a cache, and a folder for each job.
struct Worker {
    disk: TempDir,
    limits: Limits,
    jobs: usize,
}

impl Worker {
    fn new(cache_bytes: u64) -> Self {
        let disk = tempfile::tempdir().unwrap();
        let cache = Cache::open(&disk.path().join("cache"), cache_bytes).unwrap();
        Self { disk, limits: Limits { cache: Some(cache), ..Limits::default() }, jobs: 0 }
    }

    /// Sends the files of `from` to a new job; returns how many bytes of content travelled.
    async fn submit(&mut self, from: &Path) -> usize {
        let package = Package::open_tree(from).unwrap();
        let (here, mut there) = pair();
        let (mut here, bytes) = counting(here);
        self.jobs += 1;
        let into = self.disk.path().join(format!("job-{}", self.jobs));
        let (sent, received) = tokio::join!(
            send(&mut here, &package, &self.limits, |_| {}),
            receive(&mut there, &into, &self.limits, |_| {}),
        );
        sent.unwrap();
        received.unwrap();
        assert_eq!(listing(&into), listing(from));
        bytes.load(Ordering::Relaxed)
    }

    fn cached_bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.disk.path().join("cache/files")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }
}

#[tokio::test]
async fn a_package_with_another_yaml_costs_its_yaml_and_new_frames_cost_the_new_frames() {
    let mut worker = Worker::new(1 << 30);
    let from = tempfile::tempdir().unwrap();
    let mut labels = noise(1, 20 << 20);
    write(&from.path().join("labels.slp"), &labels, false);
    write(&from.path().join("config.yaml"), b"epochs: 10\n", false);
    assert!(worker.submit(from.path()).await > 20 << 20);
    write(&from.path().join("config.yaml"), b"epochs: 20\n", false);
    let changed_yaml = worker.submit(from.path()).await;
    labels.extend(noise(2, 1 << 20));
    write(&from.path().join("labels.slp"), &labels, false);
    let new_frames = worker.submit(from.path()).await;
    println!("of 20 MiB: {changed_yaml} bytes for a YAML, {new_frames} for 1 MiB of frames");
    assert!(changed_yaml < 200);
    assert!(new_frames < 4 << 20);
}

#[tokio::test]
async fn a_cached_file_that_its_job_changed_is_sent_again() {
    let mut worker = Worker::new(1 << 30);
    let from = tempfile::tempdir().unwrap();
    write(&from.path().join("labels.slp"), &noise(1, 5 << 20), false);
    worker.submit(from.path()).await;
    let used = worker.disk.path().join("job-1/labels.slp");
    let mut bytes = std::fs::read(&used).unwrap();
    bytes[100] ^= 1;
    // In place: the cache's name is for the same file.
    std::fs::write(&used, &bytes).unwrap();
    assert!(worker.submit(from.path()).await > 0);
    assert_eq!(worker.submit(from.path()).await, 0);
}

#[tokio::test]
async fn the_cache_keeps_to_its_limit_and_survives_a_restart() {
    let mut worker = Worker::new(10 << 20);
    let from = tempfile::tempdir().unwrap();
    for seed in 1..5 {
        write(&from.path().join("labels.slp"), &noise(seed, 4 << 20), false);
        worker.submit(from.path()).await;
        assert!(worker.cached_bytes() <= 10 << 20);
    }
    assert_eq!(worker.cached_bytes(), 8 << 20);
    write(&from.path().join("labels.slp"), &noise(9, 11 << 20), false);
    worker.submit(from.path()).await;
    assert_eq!(worker.cached_bytes(), 8 << 20, "one package does not push out everything");

    let folder = worker.disk.path().join("cache");
    write(&folder.join("files/stray"), b"stray", false);
    worker.limits.cache = None;
    worker.limits.cache = Some(Cache::open(&folder, 5 << 20).unwrap());
    assert_eq!(worker.cached_bytes(), 4 << 20);
    write(&from.path().join("labels.slp"), &noise(4, 4 << 20), false);
    assert_eq!(worker.submit(from.path()).await, 0);

    worker.limits.cache = None;
    std::fs::write(folder.join("index.sqlite"), noise(1, 10_000)).unwrap();
    worker.limits.cache = Some(Cache::open(&folder, 5 << 20).unwrap());
    assert_eq!(worker.cached_bytes(), 0);
    assert!(worker.submit(from.path()).await > 0);
}

#[tokio::test]
async fn what_a_lost_upload_had_verified_serves_the_next_job() {
    let mut worker = Worker::new(1 << 30);
    let from = tempfile::tempdir().unwrap();
    let size = 40 << 20;
    write(&from.path().join("labels.slp"), &noise(1, size), false);
    let package = Package::open_tree(from.path()).unwrap();
    let (here, mut there) = pair();
    let mut left = size / 2 / CHUNK_BYTES;
    let mut here = here.with_fault(move |message| {
        left -= usize::from(left > 0 && matches!(message, Incoming::Chunk(_)));
        if left > 0 { Fate::Arrive } else { Fate::Cut }
    });
    let lost = worker.disk.path().join("lost");
    let (sent, received) = tokio::join!(
        send(&mut here, &package, &worker.limits, |_| {}),
        receive(&mut there, &lost, &worker.limits, |_| {}),
    );
    assert!(sent.is_err() && received.is_err());
    worker.limits.cache.as_ref().unwrap().salvage(&lost);
    std::fs::remove_dir_all(&lost).unwrap();
    let again = worker.submit(from.path()).await.saturating_sub(size / 2);
    println!("{again} of {size} bytes were sent twice");
    assert!(again <= 2 * MAX_PIECE_BYTES as usize);
}
