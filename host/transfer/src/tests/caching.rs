//! Files that a worker received before are not sent again, but are verified again.

use super::super::testing::{Fate, counting, listing, noise, pair, write};
use super::super::{Cache, Hashes, Incoming, Limits, Package, receive, send};
use sleap_rtc_protocol::transfer::MAX_PIECE_BYTES;
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

    /// Sends the files of `from` to a new job. Returns how many bytes of content were sent.
    async fn submit(&mut self, from: &Path) -> usize {
        let package = Package::open_tree(from, &Hashes::none()).unwrap();
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
    // Changed in place, so the cache's hard link has the change too.
    std::fs::write(&used, &bytes).unwrap();
    assert!(worker.submit(from.path()).await > 0);
    assert_eq!(worker.submit(from.path()).await, 0);
}

#[tokio::test]
async fn whether_a_file_is_here_is_answered_to_those_alone_who_have_sent_it() {
    let mut worker = Worker::new(1 << 30);
    let cache = worker.limits.cache.clone().unwrap();
    let owner = |name: &str| Some(cache.of(name));
    let from = tempfile::tempdir().unwrap();
    write(&from.path().join("labels.slp"), &noise(1, 5 << 20), false);
    worker.limits.cache = owner("ada");
    assert!(worker.submit(from.path()).await > 5 << 20);
    assert_eq!(worker.submit(from.path()).await, 0);
    // Another owner sends all of it, and owns it from then on.
    worker.limits.cache = owner("bob");
    assert!(worker.submit(from.path()).await > 5 << 20);
    assert_eq!(worker.submit(from.path()).await, 0);
    assert!(worker.cached_bytes() <= 5 << 20, "it is kept once");
    // An abandoned transfer does not reveal it either.
    write(&from.path().join("labels.slp"), &noise(2, 8 << 20), false);
    worker.limits.cache = owner("ada");
    let lost = worker.disk.path().join("lost");
    half_of(from.path(), &lost, &worker.limits).await;
    worker.limits.cache.as_ref().unwrap().salvage(&lost);
    worker.limits.cache = owner("bob");
    assert!(worker.submit(from.path()).await > 8 << 20);
    worker.limits.cache = owner("ada");
    write(&from.path().join("labels.slp"), &noise(3, 8 << 20), false);
    let lost = worker.disk.path().join("lost again");
    half_of(from.path(), &lost, &worker.limits).await;
    worker.limits.cache.as_ref().unwrap().salvage(&lost);
    assert!(worker.submit(from.path()).await < 8 << 20);
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

/// Sends `from` to `to` until about half of it has arrived.
async fn half_of(from: &Path, to: &Path, limits: &Limits) {
    let package = Package::open_tree(from, &Hashes::none()).unwrap();
    let (here, mut there) = pair();
    let mut left = package.manifest().total_bytes() as usize / 2;
    let mut here = here.with_fault(move |message| {
        if let Incoming::Chunk(chunk) = message {
            left = left.saturating_sub(chunk.len());
        }
        if left > 0 { Fate::Arrive } else { Fate::Cut }
    });
    let (sent, received) = tokio::join!(
        send(&mut here, &package, limits, |_| {}),
        receive(&mut there, to, limits, |_| {}),
    );
    assert!(sent.is_err() && received.is_err());
}

#[tokio::test]
async fn what_a_lost_upload_had_verified_serves_the_next_job() {
    let mut worker = Worker::new(1 << 30);
    let from = tempfile::tempdir().unwrap();
    let size = 16 << 20;
    write(&from.path().join("a-script.sh"), b"first", true);
    write(&from.path().join("labels.slp"), &noise(1, size), false);
    write(&from.path().join("whole.slp"), &noise(2, 3 << 20), false);
    let (lost, unfinished) = (worker.disk.path().join("lost"), worker.disk.path().join("cache"));
    let unfinished = unfinished.join("unfinished");
    half_of(from.path(), &lost, &worker.limits).await;
    worker.limits.cache.as_ref().unwrap().salvage(&lost);
    assert!(!lost.exists());
    let before = listing(&unfinished).len();
    let again = worker.submit(from.path()).await.saturating_sub((size + (3 << 20)) / 2);
    println!("{again} of {size} bytes were sent twice");
    assert!(again <= 2 * MAX_PIECE_BYTES as usize);
    let left = std::fs::read_dir(&unfinished).unwrap().count();
    assert!(before > 0 && left == 0, "everything was taken: {before} files, {left} folders left");
}

#[tokio::test]
async fn small_files_of_a_lost_upload_are_not_sent_again() {
    let mut worker = Worker::new(1 << 30);
    let from = tempfile::tempdir().unwrap();
    for n in 0..1000_u32 {
        let content = noise(n.into(), 1000);
        write(&from.path().join(format!("{}/{n}", n % 10)), &content, n % 7 == 0);
    }
    let lost = worker.disk.path().join("lost");
    half_of(from.path(), &lost, &worker.limits).await;
    let arrived: u64 = listing(&lost)
        .iter()
        .filter(|(name, _)| !name.contains("journal"))
        .map(|(_, (bytes, _))| bytes.len() as u64)
        .sum();
    worker.limits.cache.as_ref().unwrap().salvage(&lost);
    let sent = worker.submit(from.path()).await as u64;
    println!("{arrived} of 1,000,000 bytes had arrived; {sent} were sent afterwards");
    // Each file also costs a few bytes of overhead.
    assert!(arrived > 400_000 && sent <= (1_000_000 - arrived) / 10 * 11);
}

#[tokio::test]
async fn another_package_takes_the_pieces_that_it_shares_with_a_lost_one() {
    let mut worker = Worker::new(1 << 30);
    let (from, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut labels = noise(1, 12 << 20);
    write(&from.path().join("labels.slp"), &labels, false);
    let lost = worker.disk.path().join("lost");
    half_of(from.path(), &lost, &worker.limits).await;
    worker.limits.cache.as_ref().unwrap().salvage(&lost);
    labels.extend(noise(2, 1 << 20));
    write(&other.path().join("labels.slp"), &labels, false);
    let sent = worker.submit(other.path()).await;
    println!("{sent} of {} bytes were sent", labels.len());
    assert!(sent < 10 << 20);
    // After a restart of the machine, existing content counts only once it is hashed again.
    let lost = worker.disk.path().join("lost");
    write(&from.path().join("labels.slp"), &noise(3, 12 << 20), false);
    half_of(from.path(), &lost, &worker.limits).await;
    let journal = lost.join(".sleap-rtc-partial/journal");
    let text = std::fs::read_to_string(&journal).unwrap();
    let (_, lines) = text.split_once('\n').unwrap();
    std::fs::write(&journal, format!("boot another\n{lines}")).unwrap();
    worker.limits.cache.as_ref().unwrap().salvage(&lost);
    let sent = worker.submit(from.path()).await;
    assert!(sent < 10 << 20, "{sent}");
}

#[tokio::test]
async fn what_was_given_up_counts_towards_the_limit() {
    let worker = Worker::new(5 << 20);
    let from = tempfile::tempdir().unwrap();
    let cache = worker.limits.cache.as_ref().unwrap();
    for seed in 1..3 {
        write(&from.path().join("labels.slp"), &noise(seed, 8 << 20), false);
        let lost = worker.disk.path().join(format!("lost-{seed}"));
        half_of(from.path(), &lost, &worker.limits).await;
        cache.salvage(&lost);
    }
    let kept = listing(&worker.disk.path().join("cache/unfinished"));
    let journals = kept.keys().filter(|name| name.ends_with("journal")).count();
    assert_eq!(journals, 1, "of two uploads of 4 MiB each, in 5 MiB");
    // Without verified content there is nothing to keep, and a folder in use is left alone.
    let empty = worker.disk.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    cache.salvage(&empty);
    assert!(empty.exists());
}

/// A cache with one file, and the folder of an abandoned transfer.
async fn used() -> (Worker, TempDir) {
    let mut worker = Worker::new(1 << 30);
    let from = tempfile::tempdir().unwrap();
    write(&from.path().join("labels.slp"), &noise(1, 3 << 20), false);
    worker.submit(from.path()).await;
    write(&from.path().join("labels.slp"), &noise(2, 8 << 20), false);
    let lost = worker.disk.path().join("lost");
    half_of(from.path(), &lost, &worker.limits).await;
    worker.limits.cache.take().unwrap().salvage(&lost);
    (worker, from)
}

#[tokio::test]
async fn a_cache_that_cannot_be_opened_now_is_left_as_it_is() {
    let (worker, _from) = used().await;
    let folder = worker.disk.path().join("cache");
    let (index, aside) = (folder.join("index.sqlite"), folder.join("aside"));
    std::fs::rename(&index, &aside).unwrap();
    std::fs::create_dir(&index).unwrap();
    Cache::open(&folder, 1 << 30).unwrap_err();
    std::fs::remove_dir(&index).unwrap();
    std::fs::rename(&aside, &index).unwrap();
    assert!(worker.cached_bytes() >= 3 << 20);
    Cache::open(&folder, 1 << 30).unwrap();
    assert!(worker.cached_bytes() >= 3 << 20);
}

#[tokio::test]
async fn a_damaged_index_costs_the_cached_files_and_no_unfinished_transfer() {
    let (worker, _from) = used().await;
    let folder = worker.disk.path().join("cache");
    std::fs::write(folder.join("index.sqlite"), noise(7, 8192)).unwrap();
    Cache::open(&folder, 1 << 30).unwrap();
    assert_eq!(worker.cached_bytes(), 0);
    let kept = listing(&folder.join("unfinished"));
    assert!(kept.keys().any(|name| name.ends_with("journal")), "{kept:?}");
}

#[test]
fn a_quota_is_not_said_to_be_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let said = |number| {
        let error = std::io::Error::from_raw_os_error(number);
        crate::free_space::full(folder.path(), 7, &error).to_string()
    };
    let (full, quota) = (28, 122);
    assert!(said(quota).contains("quota") && said(quota).contains("7 bytes"), "{}", said(quota));
    assert!(said(full).contains("too full"), "{}", said(full));
}
