//! For any zip from the network, the reader neither panics nor writes outside its folder, and uses
//! no more resources than the file's size justifies.

use super::super::{Hashes, Limits, Package, unpack};
use hostile_input::{damaged_bytes, each, folder};
use proptest::prelude::*;
use std::io::{Cursor, Write};
use std::path::Path;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

const LIMIT_BYTES: u64 = 1 << 20;

/// A zip with a few small files, deflated or stored, some of them in a folder.
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

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

#[test]
fn zips_of_any_kind() {
    let work = folder();
    let (path, into) = (work.path().join("p.zip"), work.path().join("job/files"));
    let limits = Limits { max_bytes: LIMIT_BYTES, ..Limits::default() };
    each("zips", damaged_bytes(whole()), |zip| {
        std::fs::write(&path, &zip).unwrap();
        let opened = Package::open(&path, &Hashes::none());
        let unpacked = unpack(&path, &into, &limits);
        prop_assert!(bytes_below(&into) <= LIMIT_BYTES);
        prop_assert!(opened.is_ok() || unpacked.is_err(), "unpacked what cannot be opened");
        let _ = std::fs::remove_dir_all(work.path().join("job"));
        let left: Vec<_> = std::fs::read_dir(work.path()).unwrap().flatten().collect();
        prop_assert_eq!(left.len(), 1);
        Ok(())
    });
}
