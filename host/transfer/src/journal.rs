//! The journal of what a receiver has verified, so that an interrupted transfer resumes.
//!
//! The receiver appends a line when it has written a piece of a long file, and when a file has got its
//! name. After the machine has restarted, the content is hashed again, because a power failure may
//! have lost data that was not synced.

use sleap_rtc_base::os;
use sleap_rtc_protocol::transfer::{BlobHash, Piece};
use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// The journal's name in the hidden folder.
pub(crate) const JOURNAL: &str = "journal";
/// The longest journal that is read, in bytes. Enough for 64 GiB in pieces of the minimum length,
/// twice.
const MAX_BYTES: u64 = 64 << 20;

/// A verified piece of an unfinished file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) piece: Piece,
    /// The offset in the file, in bytes.
    pub(crate) offset: u64,
}

/// The verified pieces of unfinished files, by the file's content and the piece's number.
pub(crate) type WrittenPieces = HashMap<BlobHash, HashMap<u32, Written>>;

/// The journal of one destination folder.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    pieces: WrittenPieces,
    placed: HashMap<FileStamp, BlobHash>,
    /// Whether all lines were written since the machine started.
    is_fresh: bool,
}

/// Identifies a file that has not changed since it was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileStamp {
    number: u64,
    size: u64,
    modified_ns: i128,
}

impl FileStamp {
    fn of(there: &Metadata) -> Self {
        let modified = there.modified().ok();
        let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let modified_ns = since.as_nanos().cast_signed();
        Self { number: os::file_number(there), size: there.len(), modified_ns }
    }
}

impl Journal {
    /// Opens or creates the journal at `path`. Fails with [`ErrorKind::WouldBlock`] if another
    /// transfer uses it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = os::without_links(&mut options).open(path)?;
        sleap_rtc_base::lock::exclusive(&file, path)?;
        let mut text = String::new();
        let read = (&mut file).take(MAX_BYTES).read_to_string(&mut text);
        if read.is_err_and(|error| error.kind() == ErrorKind::InvalidData) {
            text.clear();
        }
        let boot = format!("boot {}\n", boot());
        let mut journal =
            Self { file, pieces: HashMap::new(), placed: HashMap::new(), is_fresh: true };
        if text.is_empty() {
            journal.file.set_len(0)?;
            journal.file.write_all(boot.as_bytes())?;
        } else {
            journal.is_fresh = text.starts_with(&boot);
            // Remove a truncated last line, or the next line would be appended to it.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            journal.file.set_len(whole as u64)?;
            journal.file.seek(io::SeekFrom::End(0))?;
            text[..whole].lines().for_each(|line| _ = journal.read(line));
        }
        Ok(journal)
    }

    fn read(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        let (kind, content) = (words.next()?, words.next()?);
        let content = || BlobHash::try_from(content.to_owned()).ok();
        match kind {
            "piece" => {
                let number = words.next()?.parse().ok()?;
                let (offset, bytes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                let blake3 = BlobHash::try_from(words.next()?.to_owned()).ok()?;
                let written = Written { piece: Piece { blake3, bytes }, offset };
                self.pieces.entry(content()?).or_default().insert(number, written);
            }
            "placed" => {
                let mut number = || words.next()?.parse::<i128>().ok();
                let (file, size) = (number()?.try_into().ok()?, number()?.try_into().ok()?);
                let identity = FileStamp { number: file, size, modified_ns: number()? };
                self.placed.insert(identity, content()?);
            }
            _ => {}
        }
        Some(())
    }

    /// The pieces of unfinished files.
    pub(crate) fn pieces(&self) -> &WrittenPieces {
        &self.pieces
    }

    /// Whether its lines can be trusted without hashing the files again.
    pub(crate) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// The content of a file that has not changed since it was placed.
    pub(crate) fn content(&self, there: &Metadata) -> Option<BlobHash> {
        self.placed.get(&FileStamp::of(there)).copied().filter(|_| self.is_fresh)
    }

    /// Records that a piece has been written to an unfinished file.
    pub(crate) fn note_piece(
        &mut self,
        content: BlobHash,
        number: u32,
        written: Written,
    ) -> io::Result<()> {
        self.pieces.entry(content).or_default().insert(number, written);
        self.file.write_all(line(content, number, written).as_bytes())
    }

    /// Records that a complete file has got its name.
    pub(crate) fn note_placed(&mut self, content: BlobHash, there: &Metadata) -> io::Result<()> {
        let identity = FileStamp::of(there);
        self.placed.insert(identity, content);
        self.file.write_all(placed_line(content, identity).as_bytes())
    }

    /// Rewrites the journal with the pieces that were found on disk.
    pub(crate) fn restart(&mut self, pieces: WrittenPieces) -> io::Result<()> {
        self.file.set_len(0)?;
        if !self.is_fresh {
            self.placed.clear();
        }
        let mut text = format!("boot {}\n", boot());
        text.extend(self.placed.iter().map(|(identity, content)| placed_line(*content, *identity)));
        for (content, numbers) in &pieces {
            text.extend(numbers.iter().map(|(number, written)| line(*content, *number, *written)));
        }
        self.file.write_all(text.as_bytes())?;
        (self.pieces, self.is_fresh) = (pieces, true);
        Ok(())
    }

    /// Whether the journal lists anything that a later attempt could use.
    pub(crate) fn is_useful(&self) -> bool {
        !self.pieces.is_empty() || !self.placed.is_empty()
    }
}

fn line(content: BlobHash, number: u32, written: Written) -> String {
    let Written { piece: Piece { blake3, bytes }, offset } = written;
    format!("piece {content} {number} {offset} {bytes} {blake3}\n")
}

fn placed_line(content: BlobHash, identity: FileStamp) -> String {
    let FileStamp { number, size, modified_ns } = identity;
    format!("placed {content} {number} {size} {modified_ns}\n")
}

/// An identifier that changes whenever the machine restarts.
fn boot() -> String {
    // Without an identifier, content that an earlier process wrote is always hashed again.
    os::boot_id().unwrap_or_else(|| format!("process {}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: BlobHash = BlobHash([7; 32]);
    const WRITTEN: Written =
        Written { piece: Piece { blake3: BlobHash([8; 32]), bytes: 5 }, offset: 9 };

    fn numbers(journal: &Journal) -> Vec<u32> {
        let mut numbers: Vec<u32> = journal.pieces()[&CONTENT].keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn what_was_noted_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let placed = folder.path().join("placed");
        std::fs::write(&placed, b"content").unwrap();
        let there = placed.metadata().unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert!(!journal.is_useful());
        journal.note_piece(CONTENT, 3, WRITTEN).unwrap();
        journal.note_placed(CONTENT, &there).unwrap();
        let other = Journal::open(&path).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::WouldBlock);
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert!(journal.is_fresh() && journal.is_useful());
        assert_eq!(journal.pieces()[&CONTENT], HashMap::from([(3, WRITTEN)]));
        assert_eq!(journal.content(&there), Some(CONTENT));
        std::fs::write(&placed, b"changed").unwrap();
        std::fs::File::open(&placed).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(journal.content(&placed.metadata().unwrap()), None);
    }

    #[test]
    fn a_journal_of_before_a_restart_is_not_relied_upon_and_damage_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (four, five) = (line(CONTENT, 4, WRITTEN), line(CONTENT, 5, WRITTEN));
        let text = format!("boot another\n{four}nonsense\npiece x 1 2 3\n{}", five.trim_end());
        std::fs::write(&path, text).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert!(!journal.is_fresh());
        assert_eq!(numbers(&journal), [4]);
        journal.note_piece(CONTENT, 6, WRITTEN).unwrap();
        drop(journal);
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(numbers(&journal), [4, 6]);
        let found = HashMap::from([(CONTENT, HashMap::from([(6, WRITTEN)]))]);
        journal.restart(found).unwrap();
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert!(journal.is_fresh());
        assert_eq!(numbers(&journal), [6]);
        drop(journal);
        std::fs::write(&path, [0xff; 100]).unwrap();
        assert!(!Journal::open(&path).unwrap().is_useful());
    }
}
