//! Broken and hostile zips.

use super::super::testing::{fixture, listing};
use super::super::{Hashes, Limits, Package, unpack};
use sleap_rtc_base::error::WithCauses;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A zip with the given entries, each with a Unix mode.
fn zip(path: &Path, entries: &[(&str, u32, &[u8])], method: CompressionMethod) {
    let mut writer = ZipWriter::new(File::create(path).unwrap());
    for (name, mode, bytes) in entries {
        let options =
            SimpleFileOptions::default().compression_method(method).external_attributes(mode << 16);
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// Replaces each `from` in the file by `to`.
fn patch(path: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<_> =
        (0..=bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "nothing to patch");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    fs::write(path, bytes).unwrap();
}

/// The offset of the central directory's only entry.
fn central(bytes: &[u8]) -> usize {
    bytes.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap()
}

fn patch_central(path: &Path, offset: usize, to: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let at = central(&bytes) + offset;
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(path, bytes).unwrap();
}

/// Checks that both ways to use a zip refuse it with `why`, and that nothing is written outside the
/// destination.
fn refused(path: &Path, why: &str) {
    let parent = path.parent().unwrap();
    let before = listing(parent);
    let opened = Package::open(path, &Hashes::none()).unwrap_err().to_string();
    assert!(opened.contains(why), "{why:?} not in {opened:?}");
    let unpacked = unpack(path, &parent.join("job/files"), &Limits::default()).unwrap_err();
    assert!(unpacked.to_string().contains(why), "{why:?} not in {unpacked}");
    assert!(!parent.join("job/files/.sleap-rtc-partial").exists());
    let _ = fs::remove_dir_all(parent.join("job"));
    assert_eq!(listing(parent), before);
}

fn work() -> (tempfile::TempDir, PathBuf) {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("in/p.zip");
    fs::create_dir(work.path().join("in")).unwrap();
    (work, path)
}

#[test]
fn names_that_lead_elsewhere_are_refused_by_name() {
    let (_work, path) = work();
    for bad in ["../x", "/abs", "a/../../x", "..\\x", "a\\..\\..\\x", "a//b", "x\u{1}y"] {
        // Written under a harmless name of the same length, because a zip writer may refuse the
        // hostile one.
        let harmless = "q".repeat(bad.len());
        zip(
            &path,
            &[(&harmless, 0o100644, b"x"), ("ok", 0o100644, b"y")],
            CompressionMethod::Stored,
        );
        patch(&path, harmless.as_bytes(), bad.as_bytes());
        refused(&path, &format!("{bad:?}"));
    }
    let long = "d/".repeat(2048) + "x";
    zip(&path, &[(&long, 0o100644, b"x")], CompressionMethod::Stored);
    refused(&path, "4097 bytes");
}

#[test]
fn an_entry_that_is_not_a_file_is_refused() {
    let (_work, path) = work();
    for kind in [0o020666, 0o060666, 0o010666, 0o140777] {
        zip(&path, &[("odd", kind, b"/etc/passwd")], CompressionMethod::Stored);
        refused(&path, "is refused: it is neither");
    }
}

#[test]
fn links_in_a_zip_are_left_out_and_named() {
    let (_work, path) = work();
    let entries: [(&str, u32, &[u8]); 2] =
        [("wandb/latest-run", 0o120777, b"/etc/passwd"), ("train-script.sh", 0o100644, b"text")];
    zip(&path, &entries, CompressionMethod::Stored);
    assert_eq!(contents(&path), [("train-script.sh".to_owned(), b"text".to_vec())]);
    let package = Package::open(&path, &Hashes::none()).unwrap();
    let left_out: Vec<String> = package.left_out().iter().map(ToString::to_string).collect();
    assert_eq!(left_out, ["\"wandb/latest-run\" in the package is refused: it is a link"]);
}

#[test]
fn a_package_deep_in_the_folders_of_the_exporting_machine() {
    let (_work, path) = work();
    let script: (&str, u32, &[u8]) = ("C:/Users/ada/job/train-script.sh", 0o100644, b"text");
    zip(&path, &[script, ("C:/Users/ada/notes.txt", 0o100644, b"x")], CompressionMethod::Stored);
    assert_eq!(contents(&path), [("train-script.sh".to_owned(), b"text".to_vec())]);
    // Which of the two is meant, nobody knows.
    let other: (&str, u32, &[u8]) = ("C:/Users/bob/job/train-script.sh", 0o100644, b"text");
    zip(&path, &[script, other], CompressionMethod::Stored);
    let names: Vec<String> = contents(&path).into_iter().map(|(name, _)| name).collect();
    let both = ["C:/Users/ada/job/train-script.sh", "C:/Users/bob/job/train-script.sh"];
    assert_eq!(names, both);
}

#[test]
fn files_that_collide_are_refused() {
    let (_work, path) = work();
    for (one, other) in [("a/B", "A/b"), ("a", "a/b"), ("ä", "Ä")] {
        let entries: [(&str, u32, &[u8]); 2] = [(one, 0o100644, b"1"), (other, 0o100644, b"2")];
        zip(&path, &entries, CompressionMethod::Stored);
        refused(&path, "the package is rejected");
    }
    zip(&path, &[("one", 0o100644, b"1"), ("two", 0o100644, b"2")], CompressionMethod::Stored);
    patch(&path, b"two", b"one");
    refused(&path, "the same name");
}

#[test]
fn what_we_cannot_read_is_refused_with_advice() {
    let (_work, path) = work();
    let one: [(&str, u32, &[u8]); 1] = [("one", 0o100644, b"some text, some text, some text")];
    zip(&path, &one, CompressionMethod::Deflated);
    patch_central(&path, 8, &[1]);
    refused(&path, "without a password");
    zip(&path, &one, CompressionMethod::Deflated);
    patch_central(&path, 10, &[98]);
    refused(
        &path,
        "(PPMd, as 7-Zip writes it) is not supported; pack it with deflate, or give the",
    );
    fs::write(&path, b"").unwrap();
    refused(&path, "is not a zip file");
    fs::write(&path, [7; 5000]).unwrap();
    refused(&path, "is not a zip file");
}

#[test]
fn a_damaged_zip_is_named_as_such() {
    let (_work, path) = work();
    let whole = fs::read(fixture("train_single.zip")).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    refused(&path, "is not a zip file that can be read: its end is missing");
    fs::write(&path, b"\x89PNG\r\n\x1A\n or another file").unwrap();
    refused(&path, "it is neither a zip nor a tar");
    // A change of any byte of a stored file's content is noticed.
    zip(&path, &[("one", 0o100644, b"some text")], CompressionMethod::Stored);
    patch(&path, b"some text", b"some test");
    refused(&path, "\"one\" in the package is damaged: its checksum");
    // A gap in the middle of deflated content.
    let mut holed = whole.clone();
    let at = whole.windows(11).position(|name| name == b"one.pkg.slp").unwrap() + 11;
    holed[at + 100..at + 200].fill(0);
    fs::write(&path, holed).unwrap();
    refused(&path, "\"one.pkg.slp\" in the package is damaged");
}

#[test]
fn sizes_that_lie_are_found_out() {
    let (_work, path) = work();
    for (method, said, why) in [
        (CompressionMethod::Stored, 5u32, "more than it announces"),
        (CompressionMethod::Deflated, 5, "more than it announces"),
        (CompressionMethod::Deflated, 4000, "cut short"),
    ] {
        zip(&path, &[("one", 0o100644, &[b'a'; 1000])], method);
        patch_central(&path, 24, &said.to_le_bytes());
        refused(&path, why);
    }
    // Content that begins beyond the end of the file.
    zip(&path, &[("one", 0o100644, b"text")], CompressionMethod::Stored);
    patch_central(&path, 20, &1_000_000u32.to_le_bytes());
    patch_central(&path, 24, &1_000_000u32.to_le_bytes());
    refused(&path, "damaged");
}

#[test]
fn bombs_are_refused_and_honest_text_is_not() {
    let (work, path) = work();
    zip(&path, &[("bomb", 0o100644, &vec![0; 70 << 20])], CompressionMethod::Deflated);
    refused(&path, "100 times its size");
    // A zip that claims to be small is held to that.
    patch_central(&path, 24, &1000u32.to_le_bytes());
    refused(&path, "more than it announces");
    zip(&path, &[("text", 0o100644, &vec![b' '; 8 << 20])], CompressionMethod::Deflated);
    let into = work.path().join("into");
    unpack(&path, &into, &Limits::default()).unwrap();
    assert_eq!(fs::metadata(into.join("text")).unwrap().len(), 8 << 20);
    let small = Limits { max_bytes: 1 << 20, ..Limits::default() };
    let error = WithCauses(&unpack(&path, &into, &small).unwrap_err()).to_string();
    assert!(error.contains("1048576 bytes"), "{error}");
}

#[test]
fn a_list_of_files_without_end_is_not_read() {
    let (_work, path) = work();
    // Many long names: the list is large, not the content.
    let names: Vec<_> = (0..30_000).map(|n| format!("{n:0>1000}")).collect();
    let entries: Vec<(&str, u32, &[u8])> =
        names.iter().map(|name| (name.as_str(), 0o100644, &[][..])).collect();
    zip(&path, &entries, CompressionMethod::Stored);
    refused(&path, "more than the 100000 files");
}

/// The files of the zip at `path`.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let package = Package::open(path, &Hashes::none()).unwrap();
    let files = package.manifest().files().iter();
    files
        .map(|file| (file.path.to_string(), package.read_small(&file.path, 1 << 20).unwrap()))
        .collect()
}

#[test]
fn what_others_pack_with_is_read() {
    let (_work, path) = work();
    let text = (0..200).map(|n| format!("{n} ")).collect::<String>().into_bytes();
    let mut bzip2 = Vec::new();
    bzip2::read::BzEncoder::new(&text[..], bzip2::Compression::fast())
        .read_to_end(&mut bzip2)
        .unwrap();
    let mut deflate = Vec::new();
    flate2::read::DeflateEncoder::new(&text[..], flate2::Compression::fast())
        .read_to_end(&mut deflate)
        .unwrap();
    let zstd = zstd::encode_all(&text[..], 1).unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(&text);
    // Short matches are packed alike by Deflate and Deflate64.
    for (method, packed) in [(8u8, &deflate), (9, &deflate), (12, &bzip2), (93, &zstd)] {
        zip(&path, &[("one", 0o100644, packed)], CompressionMethod::Stored);
        patch_central(&path, 10, &[method]);
        patch_central(&path, 16, &crc.sum().to_le_bytes());
        patch_central(&path, 24, &(text.len() as u32).to_le_bytes());
        assert_eq!(contents(&path), [("one".to_owned(), text.clone())], "{method}");
        patch_central(&path, 16, &[0; 4]);
        refused(&path, "its checksum");
    }
    // The output of Python's zipfile for the same text with LZMA.
    let lzma = include_bytes!("lzma.bin");
    zip(&path, &[("one", 0o100644, lzma)], CompressionMethod::Stored);
    patch_central(&path, 10, &[14]);
    patch_central(&path, 16, &crc.sum().to_le_bytes());
    patch_central(&path, 24, &(text.len() as u32).to_le_bytes());
    assert_eq!(contents(&path), [("one".to_owned(), text.clone())]);
    let mut hungry = lzma.to_vec();
    hungry[5..9].fill(0xFF);
    zip(&path, &[("one", 0o100644, &hungry)], CompressionMethod::Stored);
    patch_central(&path, 10, &[14]);
    patch_central(&path, 24, &(text.len() as u32).to_le_bytes());
    refused(&path, "its window is too large");
}

#[test]
fn names_as_other_programs_write_them() {
    let (_work, path) = work();
    let entries: [(&str, u32, &[u8]); 5] = [
        ("job\\", 0, b""),
        ("job\\train-script.sh", 0, b"script"),
        ("job\\a\\Ma\u{308}use.slp", 0, b"labels"),
        ("./job/./b 12:30?.txt", 0o100644, b"b"),
        ("notes.txt", 0o100644, b"not of the job"),
    ];
    zip(&path, &entries, CompressionMethod::Stored);
    let names: Vec<String> = contents(&path).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["train-script.sh", "a/M\u{e4}use.slp", "b 12:30?.txt"]);
}

#[test]
fn tars_are_packages_too() {
    let (_work, path) = work();
    let write = |path: &Path, entries: &[(&str, tar::EntryType)]| {
        let packed = flate2::write::GzEncoder::new(File::create(path).unwrap(), Default::default());
        let mut tar = tar::Builder::new(packed);
        for (name, kind) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            if *kind == tar::EntryType::Link {
                header.set_link_name("./job/train-script.sh").unwrap();
            }
            header.set_size(if kind.is_file() { 4 } else { 0 });
            header.set_entry_type(*kind);
            header.set_cksum();
            tar.append(&header, &b"text"[..if kind.is_file() { 4 } else { 0 }]).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
    };
    let file = tar::EntryType::Regular;
    let names = [("./job/", tar::EntryType::Directory), ("./job/./train-script.sh", file)];
    write(&path, &names);
    assert_eq!(contents(&path), [("train-script.sh".to_owned(), b"text".to_vec())]);
    let second = [names[1], ("job/copy", tar::EntryType::Link), ("l", tar::EntryType::Symlink)];
    write(&path, &second);
    let text = b"text".to_vec();
    let both = [("copy".to_owned(), text.clone()), ("train-script.sh".to_owned(), text)];
    assert_eq!(contents(&path), both);
    let package = Package::open(&path, &Hashes::none()).unwrap();
    assert!(package.left_out()[0].to_string().contains("\"l\" in the package is refused"));
    // As `cat` and bgzip make it: one gzip after the other.
    let whole = fs::read(&path).unwrap();
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&whole[..]).read_to_end(&mut tar).unwrap();
    let member = |part: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        packed.write_all(part).unwrap();
        packed.finish().unwrap()
    };
    fs::write(&path, [member(&tar[..700]), member(&tar[700..])].concat()).unwrap();
    assert_eq!(contents(&path), both);
    for (name, kind, why) in [
        ("../x", file, "it leads out of its folder"),
        ("/x", file, "it is absolute"),
        ("pipe", tar::EntryType::Fifo, "neither a file nor a folder"),
    ] {
        write(&path, &[("ok", file), (name, kind)]);
        refused(&path, why);
    }
    fs::write(&path, b"\x1F\x8Bnot gzip").unwrap();
    refused(&path, "neither a zip nor a tar");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    packed.write_all(b"PK\x03\x04 a zip, or anything else of some length").unwrap();
    fs::write(&path, packed.finish().unwrap()).unwrap();
    refused(&path, "if it is compressed, unpack it first");
}
