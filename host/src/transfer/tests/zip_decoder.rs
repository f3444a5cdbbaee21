//! Whatever zip a network brings, its reader neither panics nor writes outside, and takes no more
//! than the file is worth.

use super::super::{Hashes, Limits, Package, unpack};
use proptest::prelude::*;
use std::io::{Cursor, Write};
use std::path::Path;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

const LIMIT_BYTES: u64 = 1 << 20;

/// A zip of a few small files, deflated or stored, some in a folder.
fn whole() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::subsequence(vec!["a", "d/b", "d/e/c", "train-script.sh"], 0..4);
    (names, prop::collection::vec(any::<u8>(), 0..64), any::<bool>()).prop_map(
        |(names, bytes, deflated)| {
            let method = match deflated {
                true => CompressionMethod::Deflated,
                false => CompressionMethod::Stored,
            };
            let options = SimpleFileOptions::default().compression_method(method);
            let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
            for name in names {
                writer.start_file(name, options).unwrap();
                writer.write_all(&bytes).unwrap();
            }
            writer.finish().unwrap().into_inner()
        },
    )
}

/// Zips with some bytes replaced, or a stretch left out; and no zip at all.
fn zips() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let cut = (any::<prop::sample::Index>(), 0..8usize);
    let damaged = (whole(), changes, cut).prop_map(|(mut zip, changes, (at, length))| {
        for (at, byte) in changes {
            let at = at.index(zip.len());
            zip[at] = byte;
        }
        let start = at.index(zip.len());
        zip.drain(start..(start + length).min(zip.len()));
        zip
    });
    prop_oneof![8 => damaged, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// The most memory that this process has held so far.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn zips_of_any_kind() {
    // More by hand: PROPTEST_CASES=100000 cargo test -p sleap-rtc zips_of_any_kind
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(5000);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let work = tempfile::tempdir().unwrap();
    let (path, into) = (work.path().join("p.zip"), work.path().join("job/files"));
    let limits = Limits { max_bytes: LIMIT_BYTES, ..Limits::default() };
    let (before_kib, start) = (peak_kib(), std::time::Instant::now());
    proptest!(config, |(zip in zips())| {
        std::fs::write(&path, &zip).unwrap();
        let opened = Package::open(&path, &Hashes::none());
        let unpacked = unpack(&path, &into, &limits);
        prop_assert!(bytes_below(&into) <= LIMIT_BYTES);
        prop_assert!(opened.is_ok() || unpacked.is_err(), "unpacked what cannot be opened");
        let _ = std::fs::remove_dir_all(work.path().join("job"));
        let left: Vec<_> = std::fs::read_dir(work.path()).unwrap().flatten().collect();
        prop_assert_eq!(left.len(), 1);
    });
    let grown_kib = peak_kib() - before_kib;
    println!(
        "{cases} zips in {:.1} s, memory grew by {grown_kib} KiB",
        start.elapsed().as_secs_f64()
    );
    // What a zip of a few hundred bytes may cost does not depend on what it says of itself.
    assert!(grown_kib < 64 << 10, "memory grew by {grown_kib} KiB");
}
