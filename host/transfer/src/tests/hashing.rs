//! Files that were hashed before are not read again, unless they may have changed.

use super::super::hashes::FileRange;
use super::super::testing::{noise, write};
use super::super::{Hashes, Package};
use sleap_rtc_protocol::transfer::{BlobHash, Manifest, Piece};
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

const AT_ONCE: Duration = Duration::ZERO;

fn open(folder: &Path, hashes: &Hashes) -> Manifest {
    Package::open_tree(folder, hashes).unwrap().manifest().clone()
}

fn place(file: &Path) -> FileRange {
    FileRange::new(file, 0, &file.metadata().unwrap())
}

/// Stores a wrong content, to show whether a stored entry is used.
fn mark(hashes: &Hashes, file: &Path) -> BlobHash {
    let mark = BlobHash([7; 32]);
    hashes.note(&[(place(file), (mark, Vec::new()))], &[]);
    mark
}

#[test]
fn a_file_is_hashed_once_until_it_changes() {
    let work = tempfile::tempdir().unwrap();
    let (folder, index) = (work.path().join("package"), work.path().join("cache/hashes.sqlite"));
    let (small, long) = (folder.join("a.yaml"), folder.join("labels.slp"));
    write(&small, b"epochs: 10", false);
    write(&long, &noise(1, 5 << 20), false);
    let right = open(&folder, &Hashes::none());
    for _ in 0..2 {
        // The entry survives a restart of the program.
        assert_eq!(open(&folder, &Hashes::open(&index, AT_ONCE)), right);
    }
    let hashes = Hashes::open(&index, AT_ONCE);
    let pieces = right.cuts().values().next().unwrap().clone();
    assert_eq!(hashes.find(&place(&long), 5 << 20), Some((right.files()[1].blake3, pieces)));
    let marked = mark(&hashes, &small);
    assert_eq!(open(&folder, &hashes).files()[0].blake3, marked, "it was not read");

    let before = small.metadata().unwrap().modified().unwrap();
    write(&small, b"epochs: 20", false);
    File::options().write(true).open(&small).unwrap().set_modified(before).unwrap();
    let changed = open(&folder, &hashes);
    assert_eq!(changed, open(&folder, &Hashes::none()), "of the same size and date, yet another");
    assert_ne!(changed.files()[0].blake3, right.files()[0].blake3);
    // Another file under the same name.
    let marked = mark(&hashes, &small);
    fs::rename(&small, folder.join("aside")).unwrap();
    write(&small, b"epochs: 30", false);
    assert!(open(&folder, &hashes).files().iter().all(|file| file.blake3 != marked));
}

#[test]
fn a_file_that_was_written_just_now_is_not_noted() {
    let work = tempfile::tempdir().unwrap();
    let (folder, index) = (work.path().join("package"), work.path().join("hashes.sqlite"));
    write(&folder.join("fresh"), b"fresh", false);
    let hashes = Hashes::open(&index, Duration::from_secs(2));
    open(&folder, &hashes);
    assert_eq!(hashes.find(&place(&folder.join("fresh")), 5), None);
    // A file whose times are in the future is not stored either.
    let hashes = Hashes::open(&index, AT_ONCE);
    let later = std::time::SystemTime::now() + Duration::from_secs(1000);
    File::options().write(true).open(folder.join("fresh")).unwrap().set_modified(later).unwrap();
    open(&folder, &hashes);
    assert_eq!(hashes.find(&place(&folder.join("fresh")), 5), None);
}

#[test]
fn a_zip_is_read_once_as_well() {
    let work = tempfile::tempdir().unwrap();
    let (zip, index) = (work.path().join("p.zip"), work.path().join("hashes.sqlite"));
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/train_single.zip");
    fs::copy(&fixture, &zip).unwrap();
    let hashes = Hashes::open(&index, AT_ONCE);
    let manifest = |hashes: &Hashes| Package::open(&zip, hashes).unwrap().manifest().clone();
    let right = manifest(&Hashes::none());
    assert_eq!(manifest(&hashes), right);
    // Changes in the middle of the file go unnoticed while its times stay the same.
    let places = |hashes: &Hashes| {
        let index = rusqlite::Connection::open(&index).unwrap();
        let changed = index.execute("UPDATE file SET content = zeroblob(32)", []).unwrap();
        (changed, manifest(hashes))
    };
    let (noted, marked) = places(&hashes);
    assert_eq!(noted, right.files().len());
    assert!(marked.files().iter().all(|file| file.blake3 == BlobHash([0; 32])));
    // An entry for content that could not be sent as announced is not used again.
    Package::open(&zip, &hashes).unwrap().distrust();
    assert_eq!(manifest(&hashes), right);
}

#[test]
fn a_damaged_index_costs_nothing_but_time() {
    let work = tempfile::tempdir().unwrap();
    let (folder, index) = (work.path().join("package"), work.path().join("hashes.sqlite"));
    let long = folder.join("labels.slp");
    write(&long, &noise(1, 5 << 20), false);
    let right = open(&folder, &Hashes::none());
    fs::write(&index, noise(2, 10_000)).unwrap();
    for _ in 0..2 {
        assert_eq!(open(&folder, &Hashes::open(&index, AT_ONCE)), right);
    }
    let hashes = Hashes::open(&index, AT_ONCE);
    assert!(hashes.find(&place(&long), 5 << 20).is_some());
    for damage in ["UPDATE file SET pieces = x'0102'", "UPDATE file SET pieces = zeroblob(72)"] {
        rusqlite::Connection::open(&index).unwrap().execute(damage, []).unwrap();
        assert_eq!(open(&folder, &hashes), right, "{damage}");
    }
    // If no index can be created, there is none.
    fs::write(work.path().join("file"), "").unwrap();
    assert_eq!(open(&folder, &Hashes::open(&work.path().join("file/hashes"), AT_ONCE)), right);
}

#[test]
fn the_notes_keep_to_their_limit() {
    let work = tempfile::tempdir().unwrap();
    let hashes = Hashes::open_up_to(&work.path().join("hashes.sqlite"), AT_ONCE, 100_000);
    let pieces = vec![Piece { blake3: BlobHash([1; 32]), bytes: 9 }; 1000];
    let content = sleap_rtc_package::pieces::content(&pieces);
    let there = work.path().metadata().unwrap();
    let place = |number: u64| FileRange::new(work.path(), number, &there);
    for number in 0..5 {
        hashes.note(&[(place(number), (content, pieces.clone()))], &[]);
    }
    let left: Vec<u64> = (0..5).filter(|n| hashes.find(&place(*n), 9000).is_some()).collect();
    assert_eq!(left, [3, 4]);
}
