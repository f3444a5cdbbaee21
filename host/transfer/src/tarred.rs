//! Tar files, compressed or not. They can be read only from front to back, so they are unpacked
//! first.

use bzip2::read::BzDecoder;
use flate2::read::GzDecoder;
use sleap_rtc_package::ArchiveError;
use sleap_rtc_package::names::{composed, is_os_junk};
use sleap_rtc_protocol::transfer::MAX_FILES;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use tar::{Archive, EntryType};
use tempfile::TempDir;

/// A tar may unpack to this many times its size, or to [`MIN_BOMB_BYTES`] if that is more.
const MAX_RATIO: u64 = 100;
/// The size to which any tar may unpack, in bytes.
const MIN_BOMB_BYTES: u64 = 64 << 20;
/// The offset of the magic number of a tar.
const MAGIC_AT: usize = 257;

/// How a tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TarFilter {
    Plain,
    Gzip,
    Bzip2,
    Zstd,
}

fn packing(path: &Path) -> io::Result<Option<TarFilter>> {
    let mut start = Vec::new();
    File::open(path)?.take(512).read_to_end(&mut start)?;
    Ok(match start.as_slice() {
        [0x1F, 0x8B, ..] => Some(TarFilter::Gzip),
        [b'B', b'Z', b'h', ..] => Some(TarFilter::Bzip2),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(TarFilter::Zstd),
        start if start.get(MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar")) => {
            Some(TarFilter::Plain)
        }
        _ => None,
    })
}

/// Whether `path` begins like a tar, or like a compressed one.
pub(crate) fn is_tar(path: &Path) -> io::Result<bool> {
    Ok(packing(path)?.is_some())
}

/// Unpacks a tar into a temporary folder, which is removed when the handle is dropped.
pub(crate) fn unpack(path: &Path) -> Result<TempDir, ArchiveError> {
    let unreadable = |cause| ArchiveError::read(path, cause);
    let file = File::open(path).map_err(unreadable)?;
    let tar_bytes = file.metadata().map_err(unreadable)?.len();
    let reader: Box<dyn Read> = match packing(path).map_err(unreadable)? {
        None | Some(TarFilter::Plain) => Box::new(file),
        Some(TarFilter::Gzip) => Box::new(GzDecoder::new(file)),
        Some(TarFilter::Bzip2) => Box::new(BzDecoder::new(file)),
        Some(TarFilter::Zstd) => {
            Box::new(zstd::stream::read::Decoder::new(file).map_err(unreadable)?)
        }
    };
    let folder = tempfile::Builder::new().prefix("sleap-rtc-package-").tempdir();
    let folder = folder.map_err(|cause| ArchiveError::read(&std::env::temp_dir(), cause))?;
    let damaged = |why: io::Error| ArchiveError::NotAZip {
        path: path.to_owned(),
        why: format!("it is a tar that cannot be unpacked: {why}"),
    };
    let mut left = MIN_BOMB_BYTES.max(tar_bytes.saturating_mul(MAX_RATIO));
    let mut archive = Archive::new(reader);
    for (count, entry) in archive.entries().map_err(damaged)?.enumerate() {
        if count == MAX_FILES {
            return Err(ArchiveError::TooMany);
        }
        write(&mut entry.map_err(damaged)?, folder.path(), &mut left).map_err(
            |error| match error {
                Refused::Entry(error) => error,
                Refused::Read(why) => damaged(why),
                Refused::Bomb => ArchiveError::Bomb { zip_bytes: tar_bytes, total_bytes: u64::MAX },
            },
        )?;
    }
    Ok(folder)
}

enum Refused {
    Entry(ArchiveError),
    Read(io::Error),
    Bomb,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

fn write<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    folder: &Path,
    left: &mut u64,
) -> Result<(), Refused> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let refused = |why: String| Refused::Entry(ArchiveError::Entry { entry: name.clone(), why });
    match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => {}
        EntryType::Directory | EntryType::XGlobalHeader => return Ok(()),
        _ => return Err(refused("it is neither a file nor a folder".to_owned())),
    }
    if is_os_junk(&name) || name.rsplit('/').next().is_some_and(|name| name.starts_with("._")) {
        return Ok(());
    }
    let mut inner = name.as_str();
    while let Some(rest) = inner.strip_prefix("./") {
        inner = rest;
    }
    let path = composed(inner).map_err(|error| refused(error.to_string()))?;
    *left = left.checked_sub(entry.size()).ok_or(Refused::Bomb)?;
    let place = path.below(folder);
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = File::create_new(&place)?;
    io::copy(entry, &mut file)?;
    Ok(())
}
