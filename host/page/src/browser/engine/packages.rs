//! Packages that are given, described and sent.

use super::messages::Opened;
use super::source::GivenFile;
use sleap_rtc_package::{
    ArchiveError, CheckError, Listing, MachineFacts, NotAPackage, PackageView, PieceLocation,
    PieceReader, START_BYTES, Source, check, describe, locations, pieces, recognize_files,
    recognize_start, unpack_in_memory,
};
use sleap_rtc_protocol::frame::TransferFrame;
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::lists::manifest_frames;
use sleap_rtc_protocol::transfer::BlobHash;
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use web_sys::File;

/// Why a package cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum PackageFault {
    /// It is something else.
    #[error(transparent)]
    NotAPackage(#[from] NotAPackage),
    /// Its files cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// No worker could run it.
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// An opened package.
pub struct GivenPackage {
    listing: Arc<Listing>,
    reader: PieceReader<Arc<Listing>>,
    locations: HashMap<BlobHash, PieceLocation>,
    sent: HashSet<BlobHash>,
}

impl GivenPackage {
    /// Lists, checks and describes the package in `file`.
    ///
    /// # Errors
    /// What cannot be a package, and what no worker could run.
    pub fn open(file: File) -> Result<(Self, Opened), PackageFault> {
        let name = file.name();
        let zip: Arc<dyn Source> = Arc::new(GivenFile::new(file.into()));
        let path = Path::new(&name);
        if let Some(what) = recognize_start(&start(&*zip, path)?, path) {
            return Err(what.into());
        }
        let listing = Listing::zip(&zip, path)?;
        let opened = describe_listing(&listing, path)?;
        let listing = Arc::new(listing);
        let reader = PieceReader::new(listing.clone());
        let (locations, sent) = (HashMap::new(), HashSet::new());
        Ok((Self { listing, reader, locations, sent }, opened))
    }

    /// Reads everything once, and returns the frames that list it. `read` is told how many bytes are
    /// behind it, now and then.
    ///
    /// # Errors
    /// Files that cannot be read, or are not what was listed.
    pub fn hash(&mut self, read: impl Fn(u64)) -> Result<Vec<TransferFrame>, ArchiveError> {
        let mut progress = Counter { bytes: 0, told_bytes: 0, tell: &read };
        let manifest = self.listing.manifest(|member| {
            let counted = Counted { inner: member.open()?, counter: &mut progress };
            pieces::cut(counted, member.size).map_err(|error| member.unreadable(error))
        })?;
        self.locations = locations(&manifest);
        Ok(manifest_frames(&manifest).collect())
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// The package has no such piece, or cannot be read.
    pub fn read(&mut self, piece: BlobHash) -> Result<Vec<u8>, ArchiveError> {
        let missing = || ArchiveError::Missing { path: piece.to_string() };
        let location = self.locations.get(&piece).ok_or_else(missing)?;
        let is_repeated = !self.sent.insert(piece);
        self.reader.read(location, is_repeated)
    }
}

/// How often progress is told, in bytes.
const TELL_BYTES: u64 = 8 << 20;

/// How much has been read.
struct Counter<'a> {
    bytes: u64,
    told_bytes: u64,
    tell: &'a dyn Fn(u64),
}

/// A reader that counts.
struct Counted<'a, 'b, R> {
    inner: R,
    counter: &'a mut Counter<'b>,
}

impl<R: Read> Read for Counted<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let counter = &mut *self.counter;
        counter.bytes += length as u64;
        if counter.bytes >= counter.told_bytes + TELL_BYTES {
            counter.told_bytes = counter.bytes;
            (counter.tell)(counter.bytes);
        }
        Ok(length)
    }
}

fn start(zip: &dyn Source, path: &Path) -> Result<Vec<u8>, ArchiveError> {
    let unreadable = |error| ArchiveError::read(path, error);
    let mut start = Vec::new();
    zip.open()
        .map_err(unreadable)?
        .take(START_BYTES)
        .read_to_end(&mut start)
        .map_err(unreadable)?;
    Ok(start)
}

fn describe_listing(listing: &Listing, path: &Path) -> Result<Opened, PackageFault> {
    let has = |job: JobType| listing.paths().any(|path| path.as_str() == job.script_name());
    let job_type = match (has(JobType::Training), has(JobType::Inference)) {
        (false, true) => JobType::Inference,
        _ => JobType::Training,
    };
    let view = PackageView::new(listing, unpack_in_memory);
    let checked = match check(&view, job_type, MachineFacts::default()) {
        Err(CheckError::NoScript(_)) => return Err(recognize_files(listing).into()),
        checked => checked?,
    };
    let description = describe(&view, job_type);
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let (name, files) = (name.unwrap_or_else(|| "package".into()), listing.members().len());
    Ok(Opened { name, description, remarks: checked.remarks, files })
}
