//! Zips for peers that exchange nothing else.

use super::copying::{self, Existing, Large, READ_BYTES};
use super::listing::{list_package, list_tree};
use super::storage::{self, failed};
use super::{Limits, Package, TransferError};
use sleap_rtc_package::Listing;
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::transfer::ManifestError;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter, result::ZipError};

/// Formats that are already compressed, or contain floating-point noise. Deflating them takes time
/// and saves little.
const STORED: [&str; 16] = [
    "ckpt", "pt", "pth", "slp", "h5", "hdf5", "zip", "gz", "npz", "png", "jpg", "jpeg", "mp4",
    "avi", "mov", "mkv",
];

/// Writes the files of a package (a zip, or a folder as SLEAP exports it) below `into`, and never
/// outside. Each file appears complete or not at all.
///
/// Blocks, like everything in this module.
pub fn unpack(package: &Path, into: &Path, limits: &Limits) -> Result<(), TransferError> {
    let source = list_package(package)?;
    if source.announced_bytes() > limits.max_bytes {
        return Err(ManifestError::TooLarge { limit_bytes: limits.max_bytes }.into());
    }
    copying::fill(into, &source, Large::Copy, Existing::Replace)
}

/// Like [`unpack`], for a package on storage that stays reachable. Creates links to large files of
/// a folder instead of copies.
pub fn link(package: &Path, into: &Path) -> Result<(), TransferError> {
    copying::fill(into, &list_package(package)?, Large::Link, Existing::Replace)
}

/// Packs the files of `folder`, in the order of their paths, into a zip at `zip`. Equal files give
/// equal zips.
pub fn pack(folder: &Path, zip: &Path) -> Result<(), TransferError> {
    write(&list_tree(folder)?, "", None, zip)
}

/// Packs the files of `package` into a zip at `zip`, below one folder `top`. One file may get a
/// different content.
pub fn pack_package(
    package: &Package,
    top: &str,
    instead: &(RelPath, Vec<u8>),
    zip: &Path,
) -> Result<(), TransferError> {
    write(package.listing(), &format!("{top}/"), Some(instead), zip)
}

fn write(
    source: &Listing,
    prefix: &str,
    instead: Option<&(RelPath, Vec<u8>)>,
    zip: &Path,
) -> Result<(), TransferError> {
    let folder = zip.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_owned();
    storage::create_folder(&folder)?;
    let beside = tempfile::Builder::new().prefix(".sleap-rtc-").tempfile_in(&folder);
    let beside = beside.map_err(failed("create a file in", &folder))?;
    let unwritable = |error: ZipError| match error {
        ZipError::Io(cause) => failed("write", zip)(cause),
        other => failed("write", zip)(std::io::Error::other(other)),
    };
    let mut writer = ZipWriter::new(std::io::BufWriter::new(beside));
    let mut buffer = vec![0; READ_BYTES];
    for member in source.members() {
        let options = options(member.path.file_name(), member.size, member.executable);
        writer.start_file(format!("{prefix}{}", member.path), options).map_err(unwritable)?;
        if let Some((_, content)) = instead.filter(|(path, _)| *path == member.path) {
            writer.write_all(content).map_err(failed("write", zip))?;
            continue;
        }
        let mut reader = member.open()?;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    writer.write_all(&buffer[..length]).map_err(failed("write", zip))?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(member.unreadable(error).into()),
            }
        }
    }
    let written = writer.finish().map_err(unwritable)?;
    let written = written.into_inner().map_err(|error| failed("write", zip)(error.into_error()))?;
    written.persist(zip).map_err(|error| failed("write", zip)(error.error))?;
    Ok(())
}

fn options(name: &str, size: u64, executable: bool) -> SimpleFileOptions {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let stored = extension.is_some_and(|extension| STORED.contains(&extension.as_str()));
    let (method, level) = match stored {
        true => (CompressionMethod::Stored, None),
        false => (CompressionMethod::Deflated, Some(1)),
    };
    SimpleFileOptions::default()
        .compression_method(method)
        .compression_level(level)
        .last_modified_time(DateTime::default())
        .unix_permissions(if executable { 0o755 } else { 0o644 })
        // Deflate may make a file slightly longer. Below this size the length still fits 32 bits.
        .large_file(size > u64::from(u32::MAX) - (1 << 24))
}
