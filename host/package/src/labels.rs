//! Reads facts from `.slp` files, which are HDF5.

use super::source::ReadSeek;
use hdf5_reader::{BlockCacheStorage, Datatype, Hdf5File, OpenOptions, Storage, StorageBuffer};
use parking_lot::Mutex;
use serde_json::Value;
use sleap_rtc_protocol::job::ImageSize;
use std::io::{self, Read, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const MAX_READ_BYTES: usize = 4 * 1024 * 1024;
const MAX_HEADER_BYTES: usize = 4 * 1024 * 1024;
const MAX_VIDEOS: usize = 10_000;
const MAX_SIDE: u64 = 1 << 20;

/// The first bytes of HDF5, at position 0, 512, 1024, 2048, … of a file.
const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";

/// Facts about labels, as far as they can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// The number of frames with labels.
    pub labelled_frames: Option<u64>,
    /// The number of instances in them.
    pub labelled_instances: Option<u64>,
    /// The number of instances that a user has placed. The others are predicted.
    pub user_instances: Option<u64>,
    /// The names of the first skeleton's nodes, in order.
    pub nodes: Option<Vec<String>>,
    /// The number of tracks.
    pub tracks: Option<u64>,
    /// The number of frames in all videos.
    pub video_frames: Option<u64>,
    /// The size of the first video's frames.
    pub image: Option<ImageSize>,
    /// The videos, if their list can be read.
    pub videos: Vec<Video>,
    /// Each labelled frame: the index of its video, and the frame's number in it. `None` if
    /// unknown.
    pub frames: Option<Vec<(usize, u64)>>,
}

/// One video of the labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Video {
    /// The paths of the video's file or of its pictures, as the labels name them.
    pub files: Vec<String>,
    /// Whether its pictures are in the labels' own file.
    pub is_embedded: bool,
    /// Frames, height, width and channels, if the labels contain them.
    pub shape: Option<[u64; 4]>,
    /// The numbers of the frames whose pictures are in the labels' own file, if known.
    pub frames: Option<Vec<u64>>,
    /// The group in the labels' file that holds its pictures.
    group: Option<u64>,
}

impl Video {
    /// Whether `file` is one of its files. Ignores the kind of path separators.
    pub fn names(&self, file: &str) -> bool {
        self.files.iter().any(|own| own == file || own.replace('\\', "/") == file)
    }
}

/// Whether `file` begins like HDF5.
pub fn is_hdf5(mut file: impl Read) -> bool {
    let mut start = Vec::new();
    if file.by_ref().take(8 * 1024).read_to_end(&mut start).is_err() {
        return false;
    }
    [0, 512, 1024, 2048, 4096].iter().any(|at| start[start.len().min(*at)..].starts_with(SIGNATURE))
}

/// The length of an HDF5 file and the one that its first block names, if the file is shorter than that.
pub(crate) fn missing_end(mut file: Box<dyn ReadSeek>) -> Option<(u64, u64)> {
    let length = file.seek(SeekFrom::End(0)).ok()?;
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut start = Vec::new();
    file.take(96).read_to_end(&mut start).ok()?;
    // Each address is as wide as the block says, and the end is the third or the second one.
    let block = start.strip_prefix(SIGNATURE)?;
    let (width_at, addresses_at) = match block.first()? {
        0 => (5, 16),
        1 => (5, 20),
        2 | 3 => (1, 4),
        _ => return None,
    };
    let width = block.get(width_at).filter(|width| matches!(width, 2 | 4 | 8))?;
    let at = addresses_at + 2 * usize::from(*width);
    let end = block.get(at..at + usize::from(*width))?;
    let end = end.iter().rev().fold(0_u64, |end, byte| (end << 8) | u64::from(*byte));
    (length < end && end < u64::MAX >> 1).then_some((length, end))
}

impl Labels {
    /// Reads the file in small parts. `None` if it is not HDF5.
    pub fn read(file: Box<dyn ReadSeek>) -> Option<Self> {
        // The reader checks its input. If it panics nevertheless, the file counts as unreadable,
        // and the worker continues.
        catch_unwind(AssertUnwindSafe(|| read(file))).ok().flatten()
    }
}

/// A file in the form that the HDF5 reader needs.
struct ReaderStorage {
    file: Mutex<Box<dyn ReadSeek>>,
    size: u64,
}

impl Storage for ReaderStorage {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_range(&self, offset: u64, length: usize) -> hdf5_reader::error::Result<StorageBuffer> {
        // A damaged file may claim any length, so memory grows only with what is really there.
        let mut bytes = Vec::new();
        let mut file = self.file.lock();
        file.seek(SeekFrom::Start(offset))?;
        file.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(StorageBuffer::from_vec(bytes))
    }
}

fn read(mut file: Box<dyn ReadSeek>) -> Option<Labels> {
    let size = file.seek(SeekFrom::End(0)).ok()?;
    let storage = ReaderStorage { file: Mutex::new(file), size };
    let storage = BlockCacheStorage::with_defaults(Arc::new(storage));
    let options = OpenOptions::default()
        .with_max_chunk_bytes(MAX_READ_BYTES)
        .with_max_read_bytes(MAX_READ_BYTES)
        .with_max_object_header_bytes(MAX_HEADER_BYTES);
    let file = Hdf5File::from_storage_with_options(Arc::new(storage), options).ok()?;
    let rows = |name| file.dataset(name).ok().and_then(|rows| rows.shape().first().copied());
    let (labelled_frames, labelled_instances) = (rows("frames"), rows("instances"));
    let videos = videos(&file);
    let shape = videos.first().and_then(|video| video.shape);
    let image = shape.and_then(|[_, height, width, channels]| {
        let side =
            |value: u64| u32::try_from(value).ok().filter(|_| value > 0 && value <= MAX_SIDE);
        Some(ImageSize { height: side(height)?, width: side(width)?, channels: side(channels)? })
    });
    let video_frames = videos
        .iter()
        .map(|video| video.shape.map(|[frames, ..]| frames))
        .reduce(|a, b| a?.checked_add(b?))
        .flatten();
    let frames = frames(&file, &videos);
    Some(Labels {
        labelled_frames,
        labelled_instances,
        user_instances: user_instances(&file),
        nodes: nodes(&file),
        tracks: rows("tracks_json"),
        video_frames,
        image,
        videos,
        frames,
    })
}

fn videos(file: &Hdf5File) -> Vec<Video> {
    let videos = file.dataset("videos_json").and_then(|videos| videos.read_strings());
    let mut videos: Vec<Video> =
        videos.unwrap_or_default().iter().take(MAX_VIDEOS).map(|json| video(json)).collect();
    for video in videos.iter_mut().filter(|video| video.is_embedded) {
        video.frames = video.group.and_then(|group| numbers(file, group));
    }
    videos
}

/// The numbers of the frames whose pictures are in a group of the file.
fn numbers(file: &Hdf5File, group: u64) -> Option<Vec<u64>> {
    let numbers = file.dataset(&format!("video{group}/frame_numbers")).ok()?;
    let Datatype::FixedPoint { size: 8, .. } = numbers.dtype() else { return None };
    let bytes = numbers.read_native_bytes().ok()?;
    let (numbers, []) = bytes.as_chunks::<8>() else { return None };
    Some(numbers.iter().map(|number| u64::from_ne_bytes(*number)).collect())
}

fn video(json: &str) -> Video {
    let json: Value = serde_json::from_str(json).unwrap_or_default();
    let backend = json.get("backend").unwrap_or(&json);
    let text = |from: &Value, key: &str| from.get(key).and_then(Value::as_str).map(str::to_owned);
    let shape = backend.get("shape").and_then(Value::as_array).and_then(|shape| {
        let numbers: Vec<u64> = shape.iter().map_while(Value::as_u64).collect();
        numbers.try_into().ok()
    });
    let many = [backend, &json].into_iter().find_map(|from| {
        let list = from.get("filenames").or_else(|| from.get("filename"))?.as_array()?;
        Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>())
    });
    let own = text(backend, "filename");
    let one = || own.clone().or_else(|| text(&json, "filename")).into_iter().collect();
    let flag = backend.get("has_embedded_images").and_then(Value::as_bool);
    let is_embedded = own.as_deref() == Some(".") || flag == Some(true);
    let dataset = text(backend, "dataset").unwrap_or_default();
    let group = dataset.strip_prefix("video").and_then(|rest| rest.split('/').next()?.parse().ok());
    Video { files: many.unwrap_or_else(one), is_embedded, shape, group, frames: None }
}

/// The nodes of the first skeleton, which are numbers of those of all skeletons.
fn nodes(file: &Hdf5File) -> Option<Vec<String>> {
    let json = file.group("metadata").ok()?.attribute("json").ok()?.read_string().ok()?;
    let json: Value = serde_json::from_str(&json).ok()?;
    let all = json.get("nodes")?.as_array()?;
    let own = json.get("skeletons")?.get(0)?.get("nodes")?.as_array()?;
    let name = |node: &Value| {
        let number = usize::try_from(node.get("id")?.as_u64()?).ok()?;
        all.get(number)?.get("name")?.as_str().map(str::to_owned)
    };
    own.iter().map(name).collect()
}

/// The number of instances of the kind that users place.
fn user_instances(file: &Hdf5File) -> Option<u64> {
    const BY_USER: u8 = 0;
    let instances = file.dataset("instances").ok()?;
    let Datatype::Compound { size, fields } = instances.dtype() else { return None };
    let field = fields.iter().find(|field| field.name == "instance_type")?;
    let Datatype::FixedPoint { size: 1, .. } = field.datatype else { return None };
    let (at, size) = (field.byte_offset as usize, *size as usize);
    if at >= size {
        return None;
    }
    let bytes = instances.read_native_bytes().ok()?;
    u64::try_from(bytes.chunks_exact(size).filter(|row| row[at] == BY_USER).count()).ok()
}

/// The labelled frames. A frame of an embedded video refers to the video by its group in the file.
fn frames(file: &Hdf5File, videos: &[Video]) -> Option<Vec<(usize, u64)>> {
    let frames = file.dataset("frames").ok()?;
    let Datatype::Compound { size, fields } = frames.dtype() else { return None };
    let place = |name: &str| {
        let field = fields.iter().find(|field| field.name == name)?;
        let Datatype::FixedPoint { size, .. } = field.datatype else { return None };
        Some((field.byte_offset as usize, usize::from(size)))
    };
    let (video, number) = (place("video")?, place("frame_idx")?);
    let bytes = frames.read_native_bytes().ok()?;
    let read = |row: &[u8], (at, size): (usize, usize)| {
        let field = row.get(at..at + size)?;
        match field.len() {
            4 => Some(u64::from(u32::from_ne_bytes(field.try_into().ok()?))),
            8 => Some(u64::from_ne_bytes(field.try_into().ok()?)),
            _ => None,
        }
    };
    let index = |id: u64| {
        let embedded = videos.iter().position(|video| video.is_embedded && video.group == Some(id));
        embedded.or_else(|| usize::try_from(id).ok())
    };
    if *size == 0 {
        return None;
    }
    let rows = bytes.chunks_exact(*size as usize);
    rows.map(|row| Some((index(read(row, video)?)?, read(row, number)?))).collect()
}
