//! Zip files as lists of files.
//!
//! What a zip says of itself is checked when it is listed, and held to while its members are read:
//! a member yields exactly the bytes that were announced, or an error.

use super::archive::{ArchiveError, MAX_MEMBERS, composed, is_os_junk};
use super::listing::{Content, Member};
use bzip2::bufread::BzDecoder;
use deflate64::Deflate64Decoder;
use flate2::{Crc, bufread::DeflateDecoder};
use lzma_rust2::LzmaReader;
use sleap_rtc_protocol::path::{PathError, RelPath};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive, result::ZipError};

/// How many bytes of a zip's own records are read: enough for [`MAX_MEMBERS`] with names of an
/// ordinary length, and a bound on the memory that a hostile zip can take.
const MAX_RECORD_BYTES: u64 = 24 << 20;
/// A zip may unpack to this many times its size, …
const MAX_RATIO: u64 = 100;
/// … or to so many bytes, whichever is more: small text files shrink well.
const FREE_OF_RATIO_BYTES: u64 = 64 << 20;
const BUFFER_BYTES: usize = 64 * 1024;
/// LZMA's memory: as much as 7-Zip takes at its usual levels.
const MAX_WINDOW_BYTES: u32 = 64 << 20;
/// From here on macOS' Archive Utility writes zips that only macOS reads.
const MACOS_LIMIT_BYTES: u64 = 4 << 30;
/// The bits of a Unix mode that say what kind of thing it is.
const KIND_MASK: u32 = 0o170_000;

/// Where a member's bytes are, and what they should be.
#[derive(Debug, Clone)]
pub(super) struct ZipContent {
    start: u64,
    packed_bytes: u64,
    size: u64,
    crc32: u32,
    packing: ZipMethod,
}

/// How a member is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ZipMethod {
    Stored,
    Deflate,
    Deflate64,
    Bzip2,
    Lzma,
    Zstd,
}

impl ZipContent {
    /// Where in the zip it begins, in bytes.
    pub(super) fn start(&self) -> u64 {
        self.start
    }
}

/// Lists the members of the zip at `path`, in the zip's order.
pub(super) fn list(path: &Path) -> Result<(Arc<File>, Vec<Member>), ArchiveError> {
    let unreadable = |cause| ArchiveError::read(path, cause);
    let file = Arc::new(File::open(path).map_err(unreadable)?);
    let zip_bytes = file.metadata().map_err(unreadable)?.len();
    let records = Records { file: file.clone(), size: zip_bytes, at: 0, left: MAX_RECORD_BYTES };
    let corrupt = |error: ZipError| match error {
        ZipError::Io(error) if error.kind() == ErrorKind::FileTooLarge => ArchiveError::TooMany,
        error if zip_bytes >= MACOS_LIMIT_BYTES => ArchiveError::NotAZip {
            path: path.to_owned(),
            why: format!(
                "{error} (macOS' Archive Utility writes zips of over 4 GB that only macOS reads: \
                 give the unpacked folder)"
            ),
        },
        error => ArchiveError::NotAZip { path: path.to_owned(), why: error.to_string() },
    };
    let mut archive = ZipArchive::new(records).map_err(corrupt)?;
    if archive.len() > MAX_MEMBERS {
        return Err(ArchiveError::TooMany);
    }
    if archive.has_duplicate_names() {
        let why = "two of its files have the same name".to_owned();
        return Err(ArchiveError::NotAZip { path: path.to_owned(), why });
    }
    let mut members = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(corrupt)?;
        members.extend(member(&entry)?);
    }
    check_ratio(&members, zip_bytes)?;
    Ok((file, members))
}

/// One entry of the zip; `None` for a folder and for what systems leave in zips.
fn member<R: Read>(entry: &ZipFile<'_, R>) -> Result<Option<Member>, ArchiveError> {
    let raw = String::from_utf8_lossy(entry.name_raw()).into_owned();
    let refused = |why: &str| ArchiveError::Entry { entry: raw.clone(), why: why.into() };
    let name = entry.name().map_err(|_| refused("its name cannot be read"))?;
    if is_os_junk(&name) {
        return Ok(None);
    }
    let mode = entry.external_attributes() >> 16;
    let folder = name.ends_with(['/', '\\']);
    let Some(path) = place(&name).map_err(|error| refused(&error.to_string()))? else {
        return Ok(None);
    };
    match mode & KIND_MASK {
        0o040_000 if folder => return Ok(None),
        0 if folder => return Ok(None),
        0 | 0o100_000 if !folder => {}
        _ => return Err(refused("it is neither a file nor a folder")),
    }
    if entry.encrypted() {
        return Err(refused("it is encrypted; export the package without a password"));
    }
    let packing = packing(entry.compression()).map_err(|why| refused(&why))?;
    let start = entry.data_start().ok_or_else(|| refused("its content cannot be found"))?;
    let content = ZipContent {
        start,
        packed_bytes: entry.compressed_size(),
        size: entry.size(),
        crc32: entry.crc32(),
        packing,
    };
    let executable = mode & 0o100 != 0;
    Ok(Some(Member { path, size: entry.size(), executable, content: Content::Zip(content) }))
}

/// Where an entry of this name belongs; nothing for the top folder itself. .NET and PowerShell wrote
/// backslashes, others `./` in front.
fn place(name: &str) -> Result<Option<RelPath>, PathError> {
    let name = name.replace('\\', "/");
    let mut rest = name.as_str();
    while let Some(inner) = rest.strip_prefix("./") {
        rest = inner;
    }
    match rest.strip_suffix('/').unwrap_or(rest) {
        "" | "." if rest != name || name == "." => Ok(None),
        inner => Ok(Some(composed(inner)?)),
    }
}

/// How the numbers of the format's description are called by those who make such zips.
fn packing(method: CompressionMethod) -> Result<ZipMethod, String> {
    #[expect(deprecated, reason = "the only way to see which method is not supported")]
    let number = match method {
        CompressionMethod::Stored => 0,
        CompressionMethod::Deflated => 8,
        CompressionMethod::Unsupported(number) => number,
        _ => u16::MAX,
    };
    let name = match number {
        0 => return Ok(ZipMethod::Stored),
        8 => return Ok(ZipMethod::Deflate),
        9 => return Ok(ZipMethod::Deflate64),
        12 => return Ok(ZipMethod::Bzip2),
        14 => return Ok(ZipMethod::Lzma),
        93 => return Ok(ZipMethod::Zstd),
        1 | 6 => " (that of PKZIP 1)",
        95 => " (XZ, as 7-Zip writes it)",
        98 => " (PPMd, as 7-Zip writes it)",
        _ => "",
    };
    Err(format!(
        "its compression{name} is not supported; pack it with deflate, or give the unpacked folder"
    ))
}

fn check_ratio(members: &[Member], zip_bytes: u64) -> Result<(), ArchiveError> {
    let total_bytes = members.iter().fold(0, |sum: u64, member| sum.saturating_add(member.size));
    let allowed = FREE_OF_RATIO_BYTES.max(zip_bytes.saturating_mul(MAX_RATIO));
    if total_bytes > allowed {
        return Err(ArchiveError::Bomb { zip_bytes, total_bytes });
    }
    Ok(())
}

/// Opens a member for reading.
pub(super) fn open(file: &Arc<File>, content: &ZipContent) -> Box<dyn Read + Send> {
    let packed = Records { file: file.clone(), size: u64::MAX, at: content.start, left: u64::MAX };
    let packed = BufReader::with_capacity(BUFFER_BYTES, packed.take(content.packed_bytes));
    match content.packing {
        ZipMethod::Stored => Box::new(Checked::new(packed, content)),
        ZipMethod::Deflate => Box::new(Checked::new(DeflateDecoder::new(packed), content)),
        ZipMethod::Deflate64 => {
            Box::new(Checked::new(Deflate64Decoder::with_buffer(packed), content))
        }
        ZipMethod::Bzip2 => Box::new(Checked::new(BzDecoder::new(packed), content)),
        ZipMethod::Lzma => {
            Box::new(Checked::new(Lzma::Packed(Some(packed), content.size), content))
        }
        ZipMethod::Zstd => match zstd::stream::read::Decoder::with_buffer(packed) {
            Ok(decoder) => Box::new(Checked::new(decoder, content)),
            Err(error) => Box::new(Broken(error.kind())),
        },
    }
}

/// What cannot even be begun.
struct Broken(ErrorKind);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
}

/// LZMA, whose settings stand before its bytes.
enum Lzma<R> {
    Packed(Option<R>, u64),
    Open(Box<LzmaReader<R>>),
}

impl<R: Read> Read for Lzma<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::Packed(packed, size) = self {
            let mut packed = packed.take().ok_or(ErrorKind::InvalidData)?;
            // Two bytes of a version, two of a length that is always five, and those five.
            let mut head = [0; 9];
            packed.read_exact(&mut head)?;
            let [.., properties, a, b, c, d] = head;
            let window = u32::from_le_bytes([a, b, c, d]);
            if window > MAX_WINDOW_BYTES {
                return Err(io::Error::new(ErrorKind::InvalidData, "its window is too large"));
            }
            let reader = LzmaReader::new_with_props(packed, *size, properties, window, None);
            *self = Self::Open(Box::new(reader.map_err(|_| ErrorKind::InvalidData)?));
        }
        match self {
            Self::Open(reader) => reader.read(buffer),
            Self::Packed(..) => Err(ErrorKind::InvalidData.into()),
        }
    }
}

/// A position in a shared file, with a bound on what is read.
struct Records {
    file: Arc<File>,
    size: u64,
    at: u64,
    left: u64,
}

impl Read for Records {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.at += length as u64;
        let left = self.left.checked_sub(length as u64);
        // Stays empty: whoever tries again fails again.
        self.left = left.unwrap_or(0);
        left.map(|_| length).ok_or_else(|| ErrorKind::FileTooLarge.into())
    }
}

impl Seek for Records {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Yields exactly the announced bytes, or an error.
struct Checked<R> {
    inner: R,
    left: u64,
    crc: Crc,
    crc32: u32,
}

impl<R: Read> Checked<R> {
    fn new(inner: R, content: &ZipContent) -> Self {
        Self { inner, left: content.size, crc: Crc::new(), crc32: content.crc32 }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let corrupt = |why: &str| io::Error::new(ErrorKind::InvalidData, why);
        let length = self.inner.read(buffer)?;
        self.left = (self.left.checked_sub(length as u64))
            .ok_or_else(|| corrupt("it holds more than it announces"))?;
        self.crc.update(&buffer[..length]);
        if length == 0 && !buffer.is_empty() {
            if self.left > 0 {
                return Err(corrupt("it is cut short"));
            }
            if self.crc.sum() != self.crc32 {
                return Err(corrupt("its checksum is wrong"));
            }
        }
        Ok(length)
    }
}
