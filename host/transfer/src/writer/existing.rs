//! Finds the content that a receiver already has when a transfer begins: in its destination, in
//! abandoned transfers, and in the cache.

use super::{PiecePlace, RequestedPiece, Writer};
use crate::contents::whole;
use crate::journal::{JOURNAL, Written, WrittenPieces};
use crate::salvage::{AbandonedTransfer, Taken};
use crate::storage::{self, StorageError, failed};
use crate::{Cache, TransferError};
use sleap_rtc_protocol::transfer::BlobHash;
use std::collections::HashMap;
use std::path::PathBuf;

impl Writer {
    /// Finds content that already exists, and lists the missing pieces.
    pub(crate) fn find_existing(&mut self) -> Result<(), TransferError> {
        let mut abandoned = self.cache.as_ref().map(Cache::abandoned).unwrap_or_default();
        self.adopt(&mut abandoned)?;
        self.prepare()?;
        self.check_space()?;
        self.take_from_cache(&abandoned)
    }

    /// Takes over content that abandoned transfers had verified.
    fn adopt(&mut self, abandoned: &mut [AbandonedTransfer]) -> Result<(), StorageError> {
        let Self { staging, journal, manifest, contents, .. } = self;
        if abandoned.is_empty() {
            return Ok(());
        }
        for content in contents {
            let partial = staging.partial(&content.blake3.to_string());
            if partial.exists() {
                continue;
            }
            let mut found = abandoned.iter_mut();
            let found = match found.find_map(|other| other.take(content.blake3, &partial)) {
                Some(Taken::Pieces(pieces)) => pieces,
                Some(Taken::Whole) => whole(manifest, &manifest.files()[content.files[0]]),
                None => continue,
            };
            for (number, written) in found {
                let noted = journal.note_piece(content.blake3, number, written);
                noted.map_err(failed("write", &staging.partial(JOURNAL)))?;
            }
            staging.set_persistent(true);
        }
        Ok(())
    }

    /// Takes pieces that arrived with earlier jobs from the cache.
    fn take_from_cache(&mut self, abandoned: &[AbandonedTransfer]) -> Result<(), TransferError> {
        let Some(cache) = self.cache.clone() else { return Ok(()) };
        for hash in self.wants() {
            let Some(piece) = self.pieces.get(&hash).map(|wanted| wanted.piece) else { continue };
            let in_abandoned = || abandoned.iter().find_map(|other| other.read(piece));
            if let Some(bytes) = cache.read(piece).or_else(in_abandoned) {
                self.write_everywhere(hash, &bytes)?;
            }
        }
        Ok(())
    }

    /// Finds existing content, and lists the missing pieces.
    fn prepare(&mut self) -> Result<(), TransferError> {
        let mut kept = WrittenPieces::new();
        for index in 0..self.contents.len() {
            if self.copy_existing(index)? {
                continue;
            }
            let content = &self.contents[index];
            let file = &self.manifest.files()[content.files[0]];
            let there = self.verified_pieces(content.blake3)?;
            let mut offset = 0;
            let mut missing = 0;
            let copies = content.files.len() as u64;
            for (number, piece) in (0..).zip(self.manifest.pieces(file)) {
                let place = PiecePlace { content: index, number, offset };
                offset += u64::from(piece.bytes);
                if there.contains_key(&number) {
                    self.done_bytes += u64::from(piece.bytes) * copies;
                    continue;
                }
                missing += 1;
                let new = || RequestedPiece { piece, places: Vec::new(), retried: false };
                let wanted = self.pieces.entry(piece.blake3).or_insert_with(new);
                if wanted.piece != piece {
                    return Err(TransferError::Protocol(
                        "two pieces have the same hash and different sizes",
                    ));
                }
                wanted.places.push(place);
            }
            kept.insert(content.blake3, there);
            self.contents[index].missing_pieces = missing;
            if missing == 0 {
                self.publish_content(index)?;
            }
        }
        self.missing_pieces = self.pieces.len();
        // The journal may list pieces of files that no longer exist. Forget those, or they would count
        // as written when the file is created anew.
        let is_right = |(content, said): (&BlobHash, &HashMap<u32, Written>)| {
            kept.get(content).is_none_or(|kept| kept.len() == said.len())
        };
        if !self.journal.is_fresh() || !self.journal.pieces().iter().all(is_right) {
            let path = self.staging.partial(JOURNAL);
            self.journal.restart(kept).map_err(failed("write", &path))?;
        }
        Ok(())
    }

    /// Skips files that exist under their final name with the right content, and copies them to
    /// their other names. Returns whether this content is complete.
    fn copy_existing(&mut self, index: usize) -> Result<bool, TransferError> {
        let Self { staging, journal, manifest, contents, .. } = self;
        let content = &mut contents[index];
        let mut found: Option<PathBuf> = None;
        content.files.retain(|file| {
            let entry = &manifest.files()[*file];
            let known = |there: &std::fs::Metadata| journal.content(there) == Some(entry.blake3);
            let there = storage::holds(staging.root(), manifest, entry, known);
            if there {
                self.done_bytes += entry.size;
                found.get_or_insert_with(|| entry.path.below(staging.root()));
            }
            !there
        });
        let (Some(found), false) = (&found, content.files.is_empty()) else {
            return Ok(found.is_some());
        };
        let copies = std::mem::take(&mut content.files);
        self.done_bytes += copies.iter().map(|file| manifest.files()[*file].size).sum::<u64>();
        self.copy(found, &copies)?;
        Ok(true)
    }

    /// The pieces of a content that its unfinished file contains.
    fn verified_pieces(&self, content: BlobHash) -> Result<HashMap<u32, Written>, StorageError> {
        let said = self.journal.pieces().get(&content);
        let name = content.to_string();
        let Some(said) = said.filter(|_| self.staging.partial(&name).exists()) else {
            return Ok(HashMap::new());
        };
        let mut said = said.clone();
        if !self.journal.is_fresh() {
            let file = self.staging.open(&name)?;
            said.retain(|_, written| file.holds(written.piece, written.offset));
        }
        Ok(said)
    }
}
