//! A disk that runs full on either side ends a transfer with an error that says how much space is
//! missing. Once there is room, the transfer resumes.

use crate::reconnect::Desk;
use crate::resume::{job_of, verified_bytes, wait_verified};
use crate::support::disk::{Disk, own_mounts};
use crate::support::*;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const BYTES: u64 = 40_000_000;
/// Room for the package, for the result, and a little more.
const DISK_MIB: u64 = 110;
const TRANSFER_FAILED: i32 = 7;

/// Whether this machine can mount disks for the test. Prints why not.
fn disks() -> bool {
    match own_mounts() {
        Ok(()) => true,
        Err(error) => {
            println!("not run: no mounts of our own here ({error}); they need root");
            false
        }
    }
}

/// How much of a package or result existed before, as the client printed it.
fn already(said: &str) -> &str {
    let (_, rest) =
        said.split_once("of which ").unwrap_or_else(|| panic!("nothing was there:\n{said}"));
    rest.lines().next().unwrap()
}

#[test]
fn of_the_worker() {
    if !disks() {
        return;
    }
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker");
    let disk = Disk::mount(&setup.home().join("state"), DISK_MIB);
    let worker = setup.start(&server);
    let (labels, models) = (large_labels(&site, BYTES), labels_and_models(&site).1);
    let desk = Desk::new(&site, &server);
    let client = || desk.client().track(&labels, &models).session(worker.credentials());

    // Too little room at the start.
    disk.take_mib(90);
    client().run().assert_code(TRANSFER_FAILED).assert_says(&["too full", "make room for", "more"]);
    worker.wait_idle(&site, &server);
    disk.empty();

    // No room left in the middle. Slow enough that the disk is full before everything is there.
    let mut broken = client().arguments(&["--bwlimit", "20MB/s"]).start();
    wait_verified("the upload", &worker.state_dir(), BYTES / 4);
    disk.fill();
    assert_eq!(broken.wait(A_WHILE), TRANSFER_FAILED, "{}", broken.transcript());
    let said = broken.stderr();
    assert!(said.contains("too full") && said.contains("make room for"), "{said}");
    // It takes no jobs until there is room.
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_status(worker.peer_id(), "maintenance", SOON);
    let verified = verified_bytes(&worker.state_dir());
    assert!(verified >= BYTES / 4, "{verified} bytes are kept");

    // No room even for the job's folder.
    client().run().assert_says(&["too full", "make room for"]);
    disk.empty();
    observer.wait_status(worker.peer_id(), "available", SOON);
    let last = client();
    let predictions = last.predictions();
    let done = last.run();
    done.assert_code(0);
    println!(
        "{} MB were there when the disk was full; afterwards: {}",
        verified / 1_000_000,
        already(&done.stderr)
    );
    assert!(std::fs::read(&predictions).unwrap() == std::fs::read(&labels).unwrap());
    assert_eq!(verified_bytes(&worker.state_dir()), 0, "what was kept is used up");
}

#[test]
fn a_failed_job_that_filled_the_disk_makes_room_for_the_next() {
    if !disks() {
        return;
    }
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_FAIL_EPOCH", "1");
    let state = setup.home().join("state");
    let disk = Disk::mount(&state, DISK_MIB);
    let worker = setup.start(&server);
    let package = fixture("train_single.zip");
    let client = || site.client(&server).train(&package).session(worker.credentials());
    client().run().assert_code(6);
    worker.wait_idle(&site, &server);
    // As the job's trainer could have done.
    let files = std::fs::read_dir(state.join("jobs")).unwrap().next().unwrap().unwrap();
    let hole = files.path().join("files/hole");
    std::fs::write(&hole, vec![0; (DISK_MIB as usize - 3) << 20]).unwrap();
    wait_for("room", SOON, || (!hole.exists()).then_some(()));
    worker.wait_idle(&site, &server);
    client().run().assert_code(6);
    drop(disk);
}

#[test]
fn of_the_client() {
    if !disks() {
        return;
    }
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (labels, models) = (large_labels(&site, BYTES), labels_and_models(&site).1);
    let desk = Desk::new(&site, &server);
    // Slow enough that the disk is full before everything is there.
    let client = desk.client().track(&labels, &models).session(worker.credentials());
    let client = client.arguments(&["--bwlimit", "20MB/s"]);
    let (home, predictions) = (client.home().to_owned(), client.predictions());
    let disk = Disk::mount(&home, DISK_MIB);

    // No room left in the middle.
    let mut client = client.start();
    wait_verified("the download", &home, BYTES / 4);
    disk.fill();
    assert_eq!(client.wait(A_WHILE), TRANSFER_FAILED, "{}", client.transcript());
    let said = client.stderr();
    assert!(said.contains("too full") && said.contains("make room for"), "{said}");
    let verified = verified_bytes(&home);
    assert!(verified >= BYTES / 4, "{verified} bytes are kept");

    // Still too little room.
    let fetch = || desk.client().arguments(&["fetch", &job_of(&said)]);
    fetch().run().assert_code(TRANSFER_FAILED).assert_says(&["too full", "make room for"]);
    disk.empty();
    let done = fetch().run();
    done.assert_code(0);
    println!(
        "{} MB were there when the disk was full; afterwards: {}",
        verified / 1_000_000,
        already(&done.stderr)
    );
    assert!(std::fs::read(&predictions).unwrap() == std::fs::read(&labels).unwrap());
}

#[test]
fn a_file_system_without_room_for_files_is_named() {
    if !disks() {
        return;
    }
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client = site.client(&server).train_to(&fixture("train_single.zip"), "out/models");
    let _disk = Disk::with_files(&client.home().join("out"), 64, 5);
    let ended = client.session(worker.credentials()).run();
    ended.assert_code(TRANSFER_FAILED).assert_says(&["no inodes left", "df -i"]);
}

/// Mounts btrfs with a quota of `mib` MiB at `at`. `false` if this machine cannot.
fn mount_with_quota(image: &Path, at: &Path, mib: u64) -> bool {
    fs::create_dir_all(at).unwrap();
    File::create(image).unwrap().set_len(1 << 30).unwrap();
    let (image, at) = (image.to_str().unwrap(), at.to_str().unwrap());
    let limit = format!("{mib}M");
    let steps: [&[&str]; 4] = [
        &["mkfs.btrfs", "-q", image],
        &["mount", "-o", "loop", image, at],
        &["btrfs", "quota", "enable", at],
        &["btrfs", "qgroup", "limit", &limit, at],
    ];
    steps.iter().all(|words| {
        let done = Command::new(words[0]).args(&words[1..]).output();
        let is_done = done.is_ok_and(|output| output.status.success());
        if !is_done {
            println!("not run: this machine cannot {}", words.join(" "));
        }
        is_done
    })
}

#[test]
fn a_quota_of_the_file_system_is_named_and_leaves_the_worker_alive() {
    if !disks() {
        return;
    }
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker");
    let state = setup.home().join("state");
    if !mount_with_quota(&site.path().join("btrfs.img"), &state, DISK_MIB) {
        return;
    }
    let worker = setup.start(&server);
    let (labels, models) = (large_labels(&site, BYTES), labels_and_models(&site).1);
    for number in 0..3 {
        // Another file than before, so that all of it is written again.
        File::options().append(true).open(&labels).unwrap().write_all(&[number]).unwrap();
        let client = || site.client(&server).track(&labels, &models).session(worker.credentials());
        let ended = client().run();
        // The first package and its result fit; what comes later may not.
        let is_full = number > 0 && ended.code == TRANSFER_FAILED;
        assert!(ended.code == 0 || is_full, "{}", ended.text());
        assert!(!is_full || ended.stderr.contains("quota"), "{}", ended.stderr);
        worker.wait_idle(&site, &server);
    }
}

/// A training package with a file of 55 MB that no other package has.
fn package_with_own_file(site: &Site, seed: u64) -> PathBuf {
    let zip = Zip::new(site, "own.pkg.zip").fixture("train_single.zip", "", &[]);
    zip.stream("own.bin", Noise(seed), 55_000_000, false).finish()
}

#[test]
fn a_cache_gives_way_where_a_quota_is_used_up() {
    if !disks() {
        return;
    }
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").config("keep_results_bytes = \"1 MiB\"\n");
    let state = setup.home().join("state");
    if !mount_with_quota(&site.path().join("btrfs.img"), &state, DISK_MIB) {
        return;
    }
    let worker = setup.start(&server);
    let train = |worker: &TestWorker, seed| {
        let package = package_with_own_file(&site, seed);
        site.client(&server).train(&package).session(worker.credentials()).run()
    };
    train(&worker, 1).assert_code(0);
    // Started again, it removes the job. Then only the cache has the package.
    let worker = worker.start_again("");
    wait_for("an end to the job", SOON, || {
        (bytes_below(&state.join("jobs")) < 5_000_000).then_some(())
    });
    assert!(bytes_below(&state.join("cache")) > 50_000_000);
    train(&worker, 2).assert_code(0);
}
