//! The facts in a `.slp` file, which is HDF5.

use hdf5_reader::{BlockCacheStorage, FileStorage, Hdf5File, OpenOptions};
use sleap_rtc_protocol::job::ImageSize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

const MAX_READ_BYTES: usize = 4 * 1024 * 1024;
const MAX_HEADER_BYTES: usize = 4 * 1024 * 1024;
const MAX_VIDEOS: usize = 10_000;
const MAX_SIDE: u64 = 1 << 20;

/// What labels say, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Frames with labels.
    pub labelled_frames: Option<u64>,
    /// Frames of all videos.
    pub video_frames: Option<u64>,
    /// Size of the first video's frames.
    pub image: Option<ImageSize>,
}

impl Labels {
    /// Reads the file, a little at a time. Nothing if it is no HDF5.
    pub fn read(path: &Path) -> Option<Self> {
        // The reader checks what it reads; should it miss something, the file is as good as
        // unreadable, and that must not end a worker.
        catch_unwind(AssertUnwindSafe(|| read(path))).ok().flatten()
    }
}

fn read(path: &Path) -> Option<Labels> {
    let storage = BlockCacheStorage::with_defaults(Arc::new(FileStorage::open(path).ok()?));
    let options = OpenOptions::default()
        .with_max_chunk_bytes(MAX_READ_BYTES)
        .with_max_read_bytes(MAX_READ_BYTES)
        .with_max_object_header_bytes(MAX_HEADER_BYTES);
    let file = Hdf5File::from_storage_with_options(Arc::new(storage), options).ok()?;
    let labelled_frames =
        file.dataset("frames").ok().and_then(|frames| frames.shape().first().copied());
    let shapes = video_shapes(&file);
    let image = shapes.first().copied().flatten().and_then(|[_, height, width, channels]| {
        let side =
            |value: u64| u32::try_from(value).ok().filter(|_| value > 0 && value <= MAX_SIDE);
        Some(ImageSize { height: side(height)?, width: side(width)?, channels: side(channels)? })
    });
    let video_frames = shapes
        .iter()
        .map(|shape| shape.map(|[frames, ..]| frames))
        .reduce(|a, b| a?.checked_add(b?))
        .flatten();
    Some(Labels { labelled_frames, video_frames, image })
}

/// Frames, height, width and channels of each video, where its description has them.
fn video_shapes(file: &Hdf5File) -> Vec<Option<[u64; 4]>> {
    let videos = file.dataset("videos_json").and_then(|videos| videos.read_strings());
    let videos = videos.unwrap_or_default();
    let shape = |json: &String| {
        let video: serde_json::Value = serde_json::from_str(json).ok()?;
        let shape = video.get("backend")?.get("shape")?.as_array()?;
        let numbers: Vec<u64> = shape.iter().map_while(serde_json::Value::as_u64).collect();
        numbers.try_into().ok()
    };
    videos.iter().take(MAX_VIDEOS).map(shape).collect()
}
