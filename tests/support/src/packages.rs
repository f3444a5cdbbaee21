//! Packages: fixtures, and packages made from them.

use crate::Site;
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// The compression method of a stored member.
const STORED: CompressionMethod = CompressionMethod::Stored;

/// The first bytes of HDF5, of an unknown version. Programs ignore the rest of labels that they cannot
/// understand.
pub const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n\xff";

/// The folder of all tests.
pub fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder of the stand-in trainer.
pub fn stand_in() -> PathBuf {
    tests_folder().join("stand-in")
}

/// The folder of the independent Python peers.
pub fn python_peers() -> PathBuf {
    tests_folder().join("python")
}

/// A package that SLEAP exported: `train_single.zip` (one model), `train_topdown.zip` (two), or
/// `track_topdown.zip`.
pub fn fixture(name: &str) -> PathBuf {
    let path = tests_folder().join("fixtures").join(name);
    assert!(path.is_file(), "{} is missing", path.display());
    path
}

/// Unpacks a fixture into a new folder of the site.
pub fn unpacked(site: &Site, name: &str) -> PathBuf {
    let folder = site.folder(name.trim_end_matches(".zip"));
    ZipArchive::new(File::open(fixture(name)).unwrap()).unwrap().extract(&folder).unwrap();
    folder
}

/// The labels and the models of the tracking fixture.
pub fn labels_and_models(site: &Site) -> (PathBuf, Vec<PathBuf>) {
    let folder = unpacked(site, "track_topdown.zip");
    let models = ["centroid", "centered_instance"].map(|name| folder.join("models").join(name));
    (folder.join("two.pkg.slp"), models.to_vec())
}

/// Every file below `folder`, by its path relative to it, sorted.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = walk(folder).into_iter().map(|(path, _)| path).collect();
    files.sort();
    files.iter().map(|path| path.strip_prefix(folder).unwrap().to_owned()).collect()
}

/// The bytes in all files below `folder`. Files that disappear meanwhile count as empty.
pub fn bytes_below(folder: &Path) -> u64 {
    walk(folder).into_iter().map(|(_, length)| length).sum()
}

fn walk(folder: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => files.extend(walk(&entry.path())),
            Ok(metadata) => files.push((entry.path(), metadata.len())),
            Err(_) => {}
        }
    }
    files
}

/// A zip under construction.
pub struct Zip {
    path: PathBuf,
    writer: ZipWriter<File>,
}

impl Zip {
    /// An empty zip in a new folder of the site.
    pub fn new(site: &Site, name: &str) -> Self {
        let path = site.folder("zip").join(name);
        let writer = ZipWriter::new(File::create(&path).unwrap());
        Self { path, writer }
    }

    /// Adds a file with exactly this name, even a hostile one.
    pub fn file(mut self, name: &str, content: &[u8]) -> Self {
        self.writer.start_file(name, SimpleFileOptions::default()).unwrap();
        self.writer.write_all(content).unwrap();
        self
    }

    /// Adds `length` bytes of `source`, compressed or not.
    pub fn stream(mut self, name: &str, source: impl Read, length: u64, compressed: bool) -> Self {
        let method = if compressed { CompressionMethod::Deflated } else { STORED };
        let options = SimpleFileOptions::default().compression_method(method).large_file(true);
        self.writer.start_file(name, options).unwrap();
        io::copy(&mut source.take(length), &mut self.writer).unwrap();
        self
    }

    /// Adds the files of a fixture, below `top` (`""` for none), except those in `skip`.
    pub fn fixture(mut self, name: &str, top: &str, skip: &[&str]) -> Self {
        let mut archive = ZipArchive::new(File::open(fixture(name)).unwrap()).unwrap();
        for index in 0..archive.len() {
            let mut member = archive.by_index(index).unwrap();
            let (name, mut content) = (member.name().unwrap().into_owned(), Vec::new());
            if skip.contains(&name.as_str()) {
                continue;
            }
            member.read_to_end(&mut content).unwrap();
            self = self.file(&format!("{top}{name}"), &content);
        }
        self
    }

    /// Writes the zip, and returns its path.
    pub fn finish(self) -> PathBuf {
        self.writer.finish().unwrap();
        self.path
    }
}

/// Bytes that no compression makes smaller: quick to make, and the same in every run.
pub struct Noise(pub u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for chunk in buffer.chunks_mut(8) {
            // xorshift64
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
        Ok(buffer.len())
    }
}

/// A training package (one model) whose labels are `length` bytes of noise.
pub fn large_package(site: &Site, length: u64) -> PathBuf {
    let zip = Zip::new(site, "large.pkg.zip");
    let zip = zip.fixture("train_single.zip", "", &["one.pkg.slp"]);
    let labels = SIGNATURE.chain(Noise(0x9E37_79B9));
    zip.stream("one.pkg.slp", labels, length, false).finish()
}

/// A labels file of `length` bytes of noise.
pub fn large_labels(site: &Site, length: u64) -> PathBuf {
    let path = site.folder("labels").join("large.slp");
    let mut file = File::create(&path).unwrap();
    io::copy(&mut SIGNATURE.chain(Noise(0x1234_5678)).take(length), &mut file).unwrap();
    path
}
