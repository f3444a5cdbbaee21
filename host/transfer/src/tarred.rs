//! Tar files, compressed or not. They can be read only from front to back, so they are unpacked
//! first.

use bzip2::read::BzDecoder;
use flate2::read::MultiGzDecoder;
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
        start if sleap_rtc_package::is_tar(start) => Some(TarFilter::Plain),
        _ => None,
    })
}

/// Whether `path` begins like a tar, or like a compressed one.
pub(crate) fn is_tar(path: &Path) -> io::Result<bool> {
    Ok(packing(path)?.is_some())
}

/// Unpacks a tar into a temporary folder, which is removed when the handle is dropped. Also returns an
/// error for each link in the tar, which is left out.
pub(crate) fn unpack(path: &Path) -> Result<(TempDir, Vec<ArchiveError>), ArchiveError> {
    let unreadable = |cause| ArchiveError::read(path, cause);
    let file = File::open(path).map_err(unreadable)?;
    let tar_bytes = file.metadata().map_err(unreadable)?.len();
    let reader: Box<dyn Read> = match packing(path).map_err(unreadable)? {
        None | Some(TarFilter::Plain) => Box::new(file),
        Some(TarFilter::Gzip) => Box::new(MultiGzDecoder::new(file)),
        Some(TarFilter::Bzip2) => Box::new(BzDecoder::new(file)),
        Some(TarFilter::Zstd) => {
            Box::new(zstd::stream::read::Decoder::new(file).map_err(unreadable)?)
        }
    };
    let folder = tempfile::Builder::new().prefix("sleap-rtc-package-").tempdir();
    let folder = folder.map_err(|cause| ArchiveError::read(&std::env::temp_dir(), cause))?;
    let damaged = |count: usize, why: io::Error| match count {
        // The reason would quote what is in the file.
        0 => ArchiveError::no_archive(path),
        _ => ArchiveError::NotAZip {
            path: path.to_owned(),
            why: format!("it is a tar that cannot be unpacked: {why}"),
        },
    };
    let mut left = MIN_BOMB_BYTES.max(tar_bytes.saturating_mul(MAX_RATIO));
    let (mut archive, mut left_out) = (Archive::new(reader), Vec::new());
    for (count, entry) in archive.entries().map_err(|why| damaged(0, why))?.enumerate() {
        if count == MAX_FILES {
            return Err(ArchiveError::TooMany);
        }
        let mut entry = entry.map_err(|why| damaged(count, why))?;
        match write(&mut entry, folder.path(), &mut left) {
            Ok(()) => {}
            Err(Refused::Link(error)) => left_out.push(error),
            Err(Refused::Entry(error)) => return Err(error),
            Err(Refused::Read(why)) => return Err(damaged(count, why)),
            Err(Refused::Bomb) => {
                let (zip_bytes, total_bytes) = (tar_bytes, u64::MAX);
                return Err(ArchiveError::Bomb { zip_bytes, total_bytes });
            }
        }
    }
    Ok((folder, left_out))
}

enum Refused {
    Entry(ArchiveError),
    Link(ArchiveError),
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
    let odd = |why: String| ArchiveError::Entry { entry: name.clone(), why };
    let refused = |why: String| Refused::Entry(odd(why));
    let kind = entry.header().entry_type();
    match kind {
        // Sparse files read like others.
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Link => {}
        EntryType::Directory | EntryType::XGlobalHeader => return Ok(()),
        EntryType::Symlink => return Err(Refused::Link(odd("it is a link".to_owned()))),
        _ => return Err(refused("it is neither a file nor a folder".to_owned())),
    }
    if is_os_junk(&name) || name.rsplit('/').next().is_some_and(|name| name.starts_with("._")) {
        return Ok(());
    }
    let placed = |name: &str| composed(name).map_err(|error| refused(error.to_string()));
    let path = placed(&name)?;
    *left = left.checked_sub(entry.size()).ok_or(Refused::Bomb)?;
    let place = path.below(folder);
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    if kind == EntryType::Link {
        // The second name of a file that came before. Nothing but files and folders is unpacked, so
        // the other name leads to a file below the folder.
        let other = entry.link_name_bytes().unwrap_or_default();
        let other = placed(&String::from_utf8_lossy(&other))?;
        return Ok(fs::hard_link(other.below(folder), &place)?);
    }
    let mut file = File::create_new(&place)?;
    io::copy(entry, &mut file)?;
    Ok(())
}
