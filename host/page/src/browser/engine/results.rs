//! Results that arrive: pieces are verified, kept by the browser, and put together.

use super::archive::{self, Known, Parts};
use super::messages::ResultFile;
use super::source;
use crate::window::Window;
use js_sys::Array;
use sleap_rtc_package::pieces::is_piece;
use sleap_rtc_protocol::frame::TransferFrame;
use sleap_rtc_protocol::lists::{IncomingLists, ListError, want_frames};
use sleap_rtc_protocol::transfer::{BlobHash, Chunk, IncomingPiece, Manifest, Packing, Piece};
use std::collections::HashMap;
use std::io::{Read, Write};
use wasm_bindgen::JsValue;
use web_sys::Blob;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// How much of a file is packed at once, in bytes.
const PACK_BYTES: u64 = 4 << 20;
/// The most pieces that may be incomplete. An honest worker finishes one before it begins the next.
const MAX_INCOMPLETE: usize = 16;

/// Why a result is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ResultFault {
    /// The lists make no sense.
    #[error(transparent)]
    List(#[from] ListError),
    /// What arrived is not what was listed.
    #[error("the worker sent file content that was not requested, or that arrived damaged")]
    Content,
    /// The browser does not keep it.
    #[error("the browser keeps no more: {0}")]
    Full(String),
}

/// A result.
pub struct ArrivingResult {
    lists: IncomingLists,
    manifest: Option<Manifest>,
    /// The pieces that are not there yet, and in how many places each of them is.
    wanted: HashMap<BlobHash, (Piece, u64)>,
    window: Window,
    incomplete: HashMap<BlobHash, IncomingPiece>,
    kept: HashMap<BlobHash, Blob>,
    /// How many pieces are on their way to the disk.
    leaving: usize,
    verified_bytes: u64,
}

impl ArrivingResult {
    /// A result of which the browser has `kept` these pieces, which were verified.
    pub fn new(kept: HashMap<BlobHash, Blob>) -> Self {
        Self {
            lists: IncomingLists::new(u64::MAX),
            manifest: None,
            wanted: HashMap::new(),
            window: Window::default(),
            incomplete: HashMap::new(),
            kept,
            leaving: 0,
            verified_bytes: 0,
        }
    }

    /// Takes a frame of the lists. Once they are complete, returns the size of everything in bytes.
    ///
    /// # Errors
    /// The lists make no sense.
    pub fn list(&mut self, frame: TransferFrame) -> Result<Option<u64>, ResultFault> {
        let Some(manifest) = self.lists.take(frame)? else { return Ok(None) };
        // A further connection lists everything anew.
        self.lists = IncomingLists::new(u64::MAX);
        self.wanted.clear();
        self.incomplete.clear();
        let (mut order, mut missing_bytes) = (Vec::new(), 0);
        for piece in manifest.files().iter().flat_map(|file| manifest.pieces(file)) {
            if self.kept.contains_key(&piece.blake3) {
                continue;
            }
            missing_bytes += u64::from(piece.bytes);
            let (_, places) = self.wanted.entry(piece.blake3).or_insert((piece, 0));
            *places += 1;
            if *places == 1 {
                order.push(piece);
            }
        }
        let total_bytes = manifest.total_bytes();
        self.manifest = Some(manifest);
        self.verified_bytes = total_bytes - missing_bytes;
        self.window = Window::new(order);
        Ok(Some(total_bytes))
    }

    /// The frames that request what may come next.
    pub fn next_wants(&mut self) -> Vec<TransferFrame> {
        want_frames(&self.window.request()).collect()
    }

    /// How much is there and verified, in bytes.
    pub fn verified_bytes(&self) -> u64 {
        self.verified_bytes
    }

    /// Whether everything is there.
    pub fn is_complete(&self) -> bool {
        self.manifest.is_some() && self.wanted.is_empty() && self.leaving == 0
    }

    /// A piece has reached the disk, unless the browser keeps no more there.
    pub fn has_left(&mut self, piece: BlobHash, on_disk: Option<Blob>) {
        self.leaving = self.leaving.saturating_sub(1);
        self.window.reached(&piece);
        self.kept.extend(on_disk.map(|blob| (piece, blob)));
    }

    /// Takes a chunk. If it has completed a piece, returns that, which should leave the memory.
    ///
    /// # Errors
    /// It was not requested, or the piece is damaged.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<Option<(BlobHash, Blob)>, ResultFault> {
        let chunk = Chunk::decode(bytes).ok_or(ResultFault::Content)?;
        let (piece, places) = *self.wanted.get(&chunk.piece).ok_or(ResultFault::Content)?;
        if !self.window.is_requested(&chunk.piece) {
            return Err(ResultFault::Content);
        }
        let count = self.incomplete.len();
        let new = || IncomingPiece::of(&chunk);
        let incomplete = self.incomplete.entry(chunk.piece).or_insert_with(new);
        if count > MAX_INCOMPLETE {
            return Err(ResultFault::Content);
        }
        if !incomplete.push(&chunk) {
            return Ok(None);
        }
        let arrived = self.incomplete.remove(&chunk.piece).ok_or(ResultFault::Content)?;
        let (packing, bytes) = arrived.finish();
        let bytes = unpack(piece, packing, bytes).ok_or(ResultFault::Content)?;
        let blob = archive::blob(&bytes).map_err(full)?;
        self.kept.insert(piece.blake3, blob.clone());
        self.wanted.remove(&piece.blake3);
        self.verified_bytes += places * u64::from(piece.bytes);
        self.leaving += 1;
        Ok(Some((piece.blake3, blob)))
    }

    /// The files, once all are complete: what they are called, and what is in them.
    ///
    /// # Errors
    /// The browser does not keep so much.
    pub fn files(&self) -> Result<Vec<(ResultFile, Blob)>, ResultFault> {
        let Some(manifest) = &self.manifest else { return Ok(Vec::new()) };
        let files = manifest.files().iter().map(|file| {
            let parts = Array::new();
            for piece in manifest.pieces(file) {
                parts.push(self.kept.get(&piece.blake3).ok_or(ResultFault::Content)?);
            }
            let blob = Blob::new_with_blob_sequence(&parts).map_err(full)?;
            let (path, bytes) = (file.path.to_string(), file.size);
            Ok((ResultFile { path, bytes }, blob))
        });
        files.collect()
    }

    /// All files in one zip. Models do not get smaller, so nothing is compressed.
    ///
    /// # Errors
    /// The browser does not keep so much.
    pub fn zip(&self) -> Result<Blob, ResultFault> {
        let broken = |error: &dyn std::error::Error| ResultFault::Full(error.to_string());
        let known = Known::default();
        let mut writer = ZipWriter::new(Parts::new(known.clone()));
        for (file, blob) in self.files()? {
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .large_file(file.bytes > u64::from(u32::MAX) - (1 << 24));
            writer.start_file(file.path, options).map_err(|error| broken(&error))?;
            let mut at = 0;
            while at < file.bytes {
                let end = file.bytes.min(at + PACK_BYTES);
                let part = blob.slice_with_f64_and_f64(at as f64, end as f64).map_err(full)?;
                let bytes = source::read(&part).map_err(full)?;
                known.replace(Some(part));
                writer.write_all(&bytes).map_err(|error| broken(&error))?;
                at = end;
            }
        }
        let parts = writer.finish().map_err(|error| broken(&error))?;
        parts.into_blob().map_err(full)
    }
}

fn full(error: JsValue) -> ResultFault {
    ResultFault::Full(format!("{error:?}"))
}

/// The bytes of `piece`, as they were sent. Nothing if they do not match its hash.
fn unpack(piece: Piece, packing: Packing, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let bytes = match packing {
        Packing::Plain => bytes,
        Packing::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(&bytes[..]).ok()?;
            let mut unpacked = Vec::with_capacity(piece.bytes as usize);
            decoder.take(u64::from(piece.bytes) + 1).read_to_end(&mut unpacked).ok()?;
            unpacked
        }
    };
    is_piece(piece, &bytes).then_some(bytes)
}
