//! Packages that are given, described and sent.

use super::messages::Opened;
use super::source::GivenFile;
use crate::browser::parcel::{Item, Parcel, Recipe};
use sleap_rtc_package::names::composed;
use sleap_rtc_package::prediction::{
    ModelPlaces, NotData, Prediction, model_files, packaged_name, unusable_data,
};
use sleap_rtc_package::{
    ArchiveError, CheckError, Listing, MachineFacts, Member, NotAPackage, PackageView,
    PieceLocation, PieceReader, START_BYTES, Source, check, describe, leave_out_results, locations,
    pieces, recognize_files, recognize_start, unpack_in_memory,
};
use sleap_rtc_protocol::frame::TransferFrame;
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::lists::manifest_frames;
use sleap_rtc_protocol::path::{PathError, RelPath};
use sleap_rtc_protocol::transfer::{BlobHash, CHUNK_BYTES, CHUNK_HEADER_BYTES, Chunk, Packing};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

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
    /// There is nothing to predict in.
    #[error(transparent)]
    Data(#[from] NotData),
    /// A file cannot have its name in a package.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// An opened package.
pub struct GivenPackage {
    listing: Arc<Listing>,
    reader: PieceReader<Arc<Listing>>,
    locations: HashMap<BlobHash, PieceLocation>,
    sent: HashSet<BlobHash>,
}

impl GivenPackage {
    /// Lists, checks and describes what was given.
    ///
    /// # Errors
    /// What cannot be a package, and what no worker could run.
    pub fn open(parcel: Parcel) -> Result<(Self, Opened), PackageFault> {
        let name = parcel.name().to_owned();
        let path = Path::new(&name);
        let mut listing = match parcel.recipe {
            Recipe::Zip => zip(parcel.items, path)?,
            Recipe::Folder => folder(parcel.items, path)?,
            Recipe::Prediction { options } => prediction(parcel.items, options, path)?,
        };
        let opened = describe_listing(&mut listing, path)?;
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

    /// Reads a piece, and returns the messages for it, one after the other.
    ///
    /// # Errors
    /// The package has no such piece, or cannot be read.
    pub fn messages(&mut self, piece: BlobHash) -> Result<Vec<u8>, ArchiveError> {
        let missing = || ArchiveError::Missing { path: piece.to_string() };
        let location = self.locations.get(&piece).ok_or_else(missing)?;
        let is_repeated = !self.sent.insert(piece);
        let bytes = self.reader.read(location, is_repeated)?;
        let count = bytes.len().div_ceil(CHUNK_BYTES);
        let mut messages = Vec::with_capacity(bytes.len() + count * CHUNK_HEADER_BYTES);
        for (number, payload) in bytes.chunks(CHUNK_BYTES).enumerate() {
            let (packing, packed_bytes) = (Packing::Plain, bytes.len() as u32);
            let offset = (number * CHUNK_BYTES) as u32;
            Chunk { piece, packing, packed_bytes, offset, payload }.encode(&mut messages);
        }
        Ok(messages)
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

fn start(source: &dyn Source, path: &Path) -> Result<Vec<u8>, ArchiveError> {
    let unreadable = |error| ArchiveError::read(path, error);
    let mut start = Vec::new();
    let file = source.open().map_err(unreadable)?;
    file.take(START_BYTES).read_to_end(&mut start).map_err(unreadable)?;
    Ok(start)
}

fn zip(items: Vec<Item>, path: &Path) -> Result<Listing, PackageFault> {
    let empty = || ArchiveError::Empty { path: path.to_owned() };
    let only = items.into_iter().next().ok_or_else(empty)?;
    let zip: Arc<dyn Source> = Arc::new(GivenFile::new(only.content));
    match recognize_start(&start(&*zip, path)?, path) {
        Some(what) => Err(what.into()),
        None => Ok(Listing::zip(&zip, path)?),
    }
}

/// Leaves out files of names that no package may have, as the command line does.
fn folder(items: Vec<Item>, path: &Path) -> Result<Listing, PackageFault> {
    let (mut members, mut left_out) = (Vec::new(), Vec::new());
    for item in items {
        match composed(&item.path) {
            Ok(at) => members.push(member(at, item)),
            Err(why) => {
                left_out.push(ArchiveError::Entry { entry: item.path, why: why.to_string() });
            }
        }
    }
    members.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Listing::package(members, left_out, path)?)
}

/// The data and the files beside it are at the top; a model keeps the name of its folder.
fn prediction(
    items: Vec<Item>,
    options: Vec<String>,
    path: &Path,
) -> Result<Listing, PackageFault> {
    let (data, models) = Item::by_folder(items);
    let mut members = data
        .into_iter()
        .map(|item| Ok(member(packaged_name(Path::new(&item.path), "labels.slp")?, item)))
        .collect::<Result<Vec<_>, PackageFault>>()?;
    let data = members.first().ok_or_else(|| ArchiveError::Empty { path: path.to_owned() })?;
    if let Some(is) = unusable_data(&start(data.source(), path)?, path) {
        return Err(NotData { data: path.to_owned(), is }.into());
    }
    let data = data.path.to_string();
    let (mut places, mut placed) = (ModelPlaces::default(), Vec::new());
    for (folder, files) in models {
        let place = places.place(Path::new(&folder))?;
        members.extend(model(&folder, files, &place)?);
        placed.push(place);
    }
    let prediction = Prediction { data, models: placed, options, ..Prediction::default() };
    members.push(prediction.script()?);
    Ok(Listing::new(members, Vec::new())?)
}

/// The files of a model that are sent.
fn model(folder: &str, files: Vec<Item>, place: &RelPath) -> Result<Vec<Member>, PackageFault> {
    let wanted = model_files(folder, files.iter().map(|item| item.name().to_owned()).collect())?;
    let sent = files.into_iter().filter(|item| wanted.iter().any(|name| name == item.name()));
    sent.map(|item| Ok(member(RelPath::new(format!("{place}/{}", item.name()))?, item))).collect()
}

fn member(path: RelPath, item: Item) -> Member {
    let size = item.content.size() as u64;
    Member::new(path, size, false, Arc::new(GivenFile::new(item.content)))
}

fn describe_listing(listing: &mut Listing, path: &Path) -> Result<Opened, PackageFault> {
    let has = |job: JobType| listing.paths().any(|path| path.as_str() == job.script_name());
    let job_type = match (has(JobType::Training), has(JobType::Inference)) {
        (false, true) => JobType::Inference,
        _ => JobType::Training,
    };
    let checked =
        check(&PackageView::new(listing, unpack_in_memory), job_type, MachineFacts::default());
    let checked = match checked {
        Err(CheckError::NoScript(_)) => return Err(recognize_files(listing).into()),
        checked => checked?,
    };
    let mut remarks = checked.remarks.clone();
    remarks.extend(listing.left_out().iter().map(|error| format!("left out: {error}")));
    if job_type == JobType::Training {
        let results = leave_out_results(listing, &checked).into_iter();
        remarks.extend(results.map(|folder| format!("left out: {folder}, an earlier model")));
    }
    let description = describe(&PackageView::new(listing, unpack_in_memory), job_type);
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let (name, files) = (name.unwrap_or_else(|| "package".into()), listing.members().len());
    Ok(Opened { name, description, remarks, files })
}
