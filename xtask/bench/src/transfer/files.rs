//! The files to transfer: noise, which no compression makes smaller and which is the same in every run.

use anyhow::{Context, Result};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use sleap_rtc_transfer::{self as transfer, Limits};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How many bytes to write at a time.
const BLOCK: usize = 1 << 20;

/// The files of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSet {
    /// One file with this many bytes.
    One(u64),
    /// This many files, with this many bytes each.
    Many(u32, u64),
}

impl FileSet {
    /// The size of all files together, in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::One(bytes) => bytes,
            Self::Many(count, bytes) => u64::from(count) * bytes,
        }
    }
}

/// Files on disk.
#[derive(Debug)]
pub struct Payload {
    pub files: FileSet,
    /// The file, or a training package with the files.
    pub path: PathBuf,
    /// Two small trained models, for a job that carries one file.
    pub models: PathBuf,
}

impl Payload {
    /// Writes the files into `folder`, which must be empty.
    pub fn write(folder: &Path, files: FileSet) -> Result<Self> {
        let models = folder.join("tracking");
        unpack("track_topdown.zip", &models)?;
        let path = match files {
            FileSet::One(bytes) => {
                let path = folder.join("labels.slp");
                labels(&path, bytes)?;
                path
            }
            FileSet::Many(count, bytes) => {
                let package = training(folder)?;
                let images = package.join("images");
                fs::create_dir(&images)?;
                for number in 0..count {
                    let image = images.join(format!("{number:05}.raw"));
                    noise(&image, bytes, 2 + u64::from(number))?;
                }
                package
            }
        };
        Ok(Self { files, path, models: models.join("models") })
    }
}

/// A training package that SLEAP exported, as a folder below `folder`.
pub fn training(folder: &Path) -> Result<PathBuf> {
    let package = folder.join("package");
    unpack("train_single.zip", &package)?;
    Ok(package)
}

/// Labels of `bytes` of noise. They only begin like HDF5, of an unknown version.
pub fn labels(path: &Path, bytes: u64) -> Result<()> {
    noise(path, bytes, 1)?;
    Ok(File::options().write(true).open(path)?.write_all(support::SIGNATURE)?)
}

/// Writes `bytes` of noise, from a seed.
pub fn noise(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let (mut random, mut left) = (SmallRng::seed_from_u64(seed), bytes);
    let mut block = vec![0; BLOCK.min(bytes as usize)];
    while left > 0 {
        random.fill_bytes(&mut block);
        let some = left.min(BLOCK as u64);
        file.write_all(&block[..some as usize])?;
        left -= some;
    }
    Ok(())
}

fn unpack(fixture: &str, into: &Path) -> Result<()> {
    let zip = root().join("tests/fixtures").join(fixture);
    Ok(transfer::unpack(&zip, into, &Limits::default())?)
}

/// The workspace's folder.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}
