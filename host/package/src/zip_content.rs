//! Finds and unpacks the content of a zip's members.
//!
//! Reading a member yields exactly the bytes that the zip announces, or an error.

use super::source::ReadSeek;
use bzip2::bufread::BzDecoder;
use deflate64::Deflate64Decoder;
use flate2::{Crc, bufread::DeflateDecoder};
use lzma_rust2::LzmaReader;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use zip::CompressionMethod;
use zip::read::ZipFile;

const BUFFER_BYTES: usize = 64 * 1024;
/// The most memory for LZMA's window. 7-Zip's usual levels need no more.
const MAX_WINDOW_BYTES: u32 = 64 << 20;

/// The place and the announced properties of a member's bytes.
#[derive(Debug, Clone)]
pub(crate) struct ZipContent {
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
    /// The decoder is a C library, which is not built for browsers.
    #[cfg(not(target_family = "wasm"))]
    Zstd,
}

impl ZipContent {
    /// Finds the content of `entry`. The error is a reason in words.
    pub(crate) fn of<R: Read>(entry: &ZipFile<'_, R>) -> Result<Self, String> {
        if entry.encrypted() {
            return Err("it is encrypted; export the package without a password".to_owned());
        }
        Ok(Self {
            packing: packing(entry.compression())?,
            start: entry.data_start().ok_or("its content cannot be found")?,
            packed_bytes: entry.compressed_size(),
            size: entry.size(),
            crc32: entry.crc32(),
        })
    }

    /// The position at which the content begins in the zip, in bytes.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The unpacked length, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

/// How the content is packed. Errors use the names that common programs show for such zips.
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
        #[cfg(not(target_family = "wasm"))]
        93 => return Ok(ZipMethod::Zstd),
        #[cfg(target_family = "wasm")]
        93 => " (Zstandard)",
        1 | 6 => " (that of PKZIP 1)",
        95 => " (XZ, as 7-Zip writes it)",
        98 => " (PPMd, as 7-Zip writes it)",
        _ => "",
    };
    Err(format!(
        "its compression{name} is not supported; pack it with deflate, or give the unpacked folder"
    ))
}

/// Opens a member of the zip in `zip` for reading.
pub(crate) fn open(mut zip: Box<dyn ReadSeek>, content: &ZipContent) -> Box<dyn Read + Send> {
    if let Err(error) = zip.seek(SeekFrom::Start(content.start)) {
        return Box::new(FailingReader(error.kind()));
    }
    let packed = BufReader::with_capacity(BUFFER_BYTES, zip.take(content.packed_bytes));
    match content.packing {
        ZipMethod::Stored => Box::new(Verified::new(packed, content)),
        ZipMethod::Deflate => Box::new(Verified::new(DeflateDecoder::new(packed), content)),
        ZipMethod::Deflate64 => {
            Box::new(Verified::new(Deflate64Decoder::with_buffer(packed), content))
        }
        ZipMethod::Bzip2 => Box::new(Verified::new(BzDecoder::new(packed), content)),
        ZipMethod::Lzma => {
            Box::new(Verified::new(Lzma::Packed(Some(packed), content.size), content))
        }
        #[cfg(not(target_family = "wasm"))]
        ZipMethod::Zstd => match zstd::stream::read::Decoder::with_buffer(packed) {
            Ok(decoder) => Box::new(Verified::new(decoder, content)),
            Err(error) => Box::new(FailingReader(error.kind())),
        },
    }
}

/// Opens a member that is stored as it is, for reading at any position.
pub(crate) fn open_in_place(
    zip: Box<dyn ReadSeek>,
    content: &ZipContent,
) -> Option<Box<dyn ReadSeek>> {
    let is_plain = content.packing == ZipMethod::Stored && content.packed_bytes == content.size;
    is_plain.then(|| {
        Box::new(Section { inner: zip, start: content.start, size: content.size, at: 0 }) as _
    })
}

/// An error that occurs before the first byte can be read.
struct FailingReader(ErrorKind);

impl Read for FailingReader {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
}

/// An LZMA decoder. Its settings precede the compressed bytes.
enum Lzma<R> {
    Packed(Option<R>, u64),
    Open(Box<LzmaReader<R>>),
}

impl<R: Read> Read for Lzma<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::Packed(packed, size) = self {
            let mut packed = packed.take().ok_or(ErrorKind::InvalidData)?;
            // Two bytes of a version, two bytes with the length of the settings (always five), and
            // the settings.
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

/// A part of a file, as a reader of its own.
struct Section {
    inner: Box<dyn ReadSeek>,
    start: u64,
    size: u64,
    at: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(self.at);
        let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        self.inner.seek(SeekFrom::Start(self.start.saturating_add(self.at)))?;
        let length = self.inner.read(&mut buffer[..length])?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Section {
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
struct Verified<R> {
    inner: R,
    left: u64,
    crc: Crc,
    crc32: u32,
}

impl<R: Read> Verified<R> {
    fn new(inner: R, content: &ZipContent) -> Self {
        Self { inner, left: content.size, crc: Crc::new(), crc32: content.crc32 }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let corrupt = |why: &str| io::Error::new(ErrorKind::InvalidData, why);
        let length = self.inner.read(buffer)?;
        self.left = (self.left.checked_sub(length as u64))
            .ok_or_else(|| corrupt("it contains more than it announces"))?;
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
