//! Lists the files of a zip. The zip's records are checked here, and again while the files are read.

use super::ArchiveError;
use super::member::Member;
use super::names::{composed, is_os_junk};
use super::source::{ReadSeek, Source};
use super::zip_content::ZipContent;
use sleap_rtc_protocol::path::{PathError, RelPath};
use sleap_rtc_protocol::transfer::MAX_FILES;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use zip::read::ZipFile;
use zip::{ZipArchive, result::ZipError};

/// The most bytes of a zip's own records to read. This suffices for [`MAX_FILES`] with names of an
/// ordinary length, and bounds the memory that a hostile zip can take.
const MAX_RECORD_BYTES: u64 = 24 << 20;
/// The largest factor by which a zip may grow when it is unpacked, if it grows beyond
/// [`MIN_BOMB_BYTES`].
const MAX_RATIO: u64 = 100;
/// The unpacked size up to which any ratio is accepted, because small text files shrink well.
const MIN_BOMB_BYTES: u64 = 64 << 20;
/// The size from which macOS' Archive Utility writes zips that only macOS can read.
const MACOS_LIMIT_BYTES: u64 = 4 << 30;
/// How zips begin, also one part of several.
const MARK: &[u8] = b"PK";
/// The bits of a Unix mode for the type of a file.
const KIND_MASK: u32 = 0o170_000;

/// Lists the members of a zip, in the zip's order, and the links in it, which are left out. Errors
/// call it `name`.
pub(crate) fn list(
    zip: &Arc<dyn Source>,
    name: &Path,
) -> Result<(Vec<Member>, Vec<ArchiveError>), ArchiveError> {
    let unreadable = |cause| ArchiveError::read(name, cause);
    let mut reader = zip.open().map_err(unreadable)?;
    let mut start = Vec::new();
    reader.by_ref().take(MARK.len() as u64).read_to_end(&mut start).map_err(unreadable)?;
    let zip_bytes = reader.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let records = BoundedReader { inner: reader, left: MAX_RECORD_BYTES };
    let not_a_zip = |why: String| ArchiveError::NotAZip { path: name.to_owned(), why };
    let corrupt = |error: ZipError| match error {
        ZipError::Io(error) if error.kind() == ErrorKind::FileTooLarge => ArchiveError::TooMany,
        error if zip_bytes >= MACOS_LIMIT_BYTES => not_a_zip(format!(
            "{error} (macOS' Archive Utility writes zips of over 4 GB that only macOS reads: \
             give the unpacked folder)"
        )),
        ZipError::InvalidArchive(_) if start != MARK => ArchiveError::no_archive(name),
        ZipError::InvalidArchive(why) if why.contains("EOCD") => not_a_zip(
            "its end is missing, as when a copy or a download was cut off, or it is one part of \
             several"
                .to_owned(),
        ),
        error => not_a_zip(error.to_string()),
    };
    let mut archive = ZipArchive::new(records).map_err(corrupt)?;
    if archive.len() > MAX_FILES {
        return Err(ArchiveError::TooMany);
    }
    if archive.has_duplicate_names() {
        return Err(not_a_zip("two of its files have the same name".to_owned()));
    }
    let (mut members, mut left_out) = (Vec::with_capacity(archive.len()), Vec::new());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(corrupt)?;
        match member(zip, &entry)? {
            Entry::File(member) => members.push(*member),
            Entry::Link(error) => left_out.push(error),
            Entry::Nothing => {}
        }
    }
    check_ratio(&members, zip_bytes)?;
    Ok((members, left_out))
}

/// One entry of a zip.
enum Entry {
    File(Box<Member>),
    /// Weights & Biases and others leave links in the folders that people pack.
    Link(ArchiveError),
    /// A folder, or a file that operating systems leave in zips.
    Nothing,
}

fn member<R: Read>(zip: &Arc<dyn Source>, entry: &ZipFile<'_, R>) -> Result<Entry, ArchiveError> {
    let raw = String::from_utf8_lossy(entry.name_raw()).into_owned();
    let refused = |why: &str| ArchiveError::Entry { entry: raw.clone(), why: why.into() };
    let name = entry.name().map_err(|_| refused("its name cannot be read"))?;
    if is_os_junk(&name) {
        return Ok(Entry::Nothing);
    }
    let mode = entry.external_attributes() >> 16;
    let folder = name.ends_with(['/', '\\']);
    let Some(path) = place(&name).map_err(|error| refused(&error.to_string()))? else {
        return Ok(Entry::Nothing);
    };
    match mode & KIND_MASK {
        0o040_000 if folder => return Ok(Entry::Nothing),
        0 if folder => return Ok(Entry::Nothing),
        0 | 0o100_000 if !folder => {}
        0o120_000 => return Ok(Entry::Link(refused("it is a link"))),
        _ => return Err(refused("it is neither a file nor a folder")),
    }
    let content = ZipContent::of(entry).map_err(|why| refused(&why))?;
    let executable = mode & 0o100 != 0;
    Ok(Entry::File(Box::new(Member::in_zip(path, executable, zip.clone(), content))))
}

/// The path of an entry. `None` for the top folder itself. .NET and PowerShell wrote backslashes,
/// and other tools write `./` in front.
fn place(name: &str) -> Result<Option<RelPath>, PathError> {
    let name = name.replace('\\', "/");
    let inner = name.strip_suffix('/').unwrap_or(&name);
    match inner.split('/').all(|part| part == ".") {
        true => Ok(None),
        false => Ok(Some(composed(inner)?)),
    }
}

fn check_ratio(members: &[Member], zip_bytes: u64) -> Result<(), ArchiveError> {
    let total_bytes = members.iter().fold(0, |sum: u64, member| sum.saturating_add(member.size));
    let allowed = MIN_BOMB_BYTES.max(zip_bytes.saturating_mul(MAX_RATIO));
    if total_bytes > allowed {
        return Err(ArchiveError::Bomb { zip_bytes, total_bytes });
    }
    Ok(())
}

/// A reader that limits how many bytes are read.
struct BoundedReader {
    inner: Box<dyn ReadSeek>,
    left: u64,
}

impl Read for BoundedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let left = self.left.checked_sub(length as u64);
        // Once the limit is reached, every further read fails too.
        self.left = left.unwrap_or(0);
        left.map(|_| length).ok_or_else(|| ErrorKind::FileTooLarge.into())
    }
}

impl Seek for BoundedReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
