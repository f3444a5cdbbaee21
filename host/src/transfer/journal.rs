//! What a receiver has verified, on disk, so that a transfer goes on where it was.
//!
//! A line is appended when a piece has been written, and another when a long file has its name. The
//! lines count as long as the machine has not been restarted: what was written before a power cut may
//! have been lost from the disk's cache, and is hashed again.

use sleap_rtc_protocol::transfer::BlobHash;
use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The longest journal that is read: 64 GiB in the shortest pieces, twice.
const MAX_BYTES: u64 = 64 << 20;

/// The lines of one receiver's folder.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    pieces: HashMap<BlobHash, HashSet<u32>>,
    placed: HashSet<(BlobHash, Identity)>,
    /// Whether all of it was written since the machine started.
    is_fresh: bool,
}

/// What tells a file that nobody touched since it was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    inode: u64,
    size: u64,
    modified_ns: i128,
}

impl Identity {
    fn of(there: &Metadata) -> Self {
        let modified_ns =
            i128::from(there.mtime()) * 1_000_000_000 + i128::from(there.mtime_nsec());
        Self { inode: there.ino(), size: there.size(), modified_ns }
    }
}

impl Journal {
    /// Opens the journal at `path`, or begins one. Fails with [`ErrorKind::WouldBlock`] when
    /// another transfer has it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let mut file =
            options.read(true).append(true).create(true).custom_flags(flags).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        let mut text = String::new();
        let read = (&mut file).take(MAX_BYTES).read_to_string(&mut text);
        if read.is_err_and(|error| error.kind() == ErrorKind::InvalidData) {
            text.clear();
        }
        let boot = format!("boot {}\n", boot());
        let mut journal =
            Self { file, pieces: HashMap::new(), placed: HashSet::new(), is_fresh: true };
        if text.is_empty() {
            journal.file.set_len(0)?;
            journal.file.write_all(boot.as_bytes())?;
        } else {
            journal.is_fresh = text.starts_with(&boot);
            // A line that was cut short says nothing, and must not run into the next.
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
                self.pieces.entry(content()?).or_default().insert(number);
            }
            "placed" => {
                let mut number = || words.next()?.parse::<i128>().ok();
                let (inode, size) = (number()?.try_into().ok()?, number()?.try_into().ok()?);
                let identity = Identity { inode, size, modified_ns: number()? };
                self.placed.insert((content()?, identity));
            }
            _ => {}
        }
        Some(())
    }

    /// Which pieces of the file with this `content` are said to be written.
    pub(super) fn pieces(&self, content: BlobHash) -> impl Iterator<Item = u32> + '_ {
        self.pieces.get(&content).into_iter().flatten().copied()
    }

    /// Whether what it says can be relied upon without hashing anything.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Whether this file has been placed with this `content`, and not been touched since.
    pub(super) fn is_placed(&self, content: BlobHash, there: &Metadata) -> bool {
        self.is_fresh && self.placed.contains(&(content, Identity::of(there)))
    }

    /// A piece is in the file that is being written.
    pub(super) fn note_piece(&mut self, content: BlobHash, number: u32) -> io::Result<()> {
        self.pieces.entry(content).or_default().insert(number);
        self.file.write_all(format!("piece {content} {number}\n").as_bytes())
    }

    /// A file is whole and has its name.
    pub(super) fn note_placed(&mut self, content: BlobHash, there: &Metadata) -> io::Result<()> {
        let identity = Identity::of(there);
        self.placed.insert((content, identity));
        let Identity { inode, size, modified_ns } = identity;
        let line = format!("placed {content} {inode} {size} {modified_ns}\n");
        self.file.write_all(line.as_bytes())
    }

    /// Begins again with what turned out to be there.
    pub(super) fn restart(&mut self, pieces: HashMap<BlobHash, HashSet<u32>>) -> io::Result<()> {
        self.file.set_len(0)?;
        let mut text = format!("boot {}\n", boot());
        for (content, numbers) in &pieces {
            text.extend(numbers.iter().map(|number| format!("piece {content} {number}\n")));
        }
        self.file.write_all(text.as_bytes())?;
        (self.pieces, self.is_fresh) = (pieces, true);
        self.placed.clear();
        Ok(())
    }

    /// Whether it says anything that a later try could use.
    pub(super) fn is_useful(&self) -> bool {
        !self.pieces.is_empty()
    }
}

/// What is different after every start of the machine.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    // Without one, nothing that an earlier process wrote counts without being hashed.
    id.map_or_else(|_| format!("process {}", std::process::id()), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: BlobHash = BlobHash([7; 32]);

    #[test]
    fn what_was_noted_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let placed = folder.path().join("placed");
        std::fs::write(&placed, b"content").unwrap();
        let there = placed.metadata().unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert!(!journal.is_useful());
        journal.note_piece(CONTENT, 3).unwrap();
        journal.note_placed(CONTENT, &there).unwrap();
        let other = Journal::open(&path).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::WouldBlock);
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert!(journal.is_fresh() && journal.pieces(CONTENT).eq([3]));
        assert!(journal.is_placed(CONTENT, &there) && journal.is_useful());
        assert!(!journal.is_placed(BlobHash([8; 32]), &there));
        std::fs::write(&placed, b"changed").unwrap();
        std::fs::File::open(&placed).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(!journal.is_placed(CONTENT, &placed.metadata().unwrap()));
    }

    #[test]
    fn a_journal_of_before_a_restart_is_not_relied_upon_and_damage_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let hex = CONTENT.to_string();
        let text = format!("boot another\npiece {hex} 4\nnonsense\npiece {hex} x\npiece {hex} 5");
        std::fs::write(&path, text).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert!(!journal.is_fresh() && journal.pieces(CONTENT).eq([4]));
        journal.note_piece(CONTENT, 6).unwrap();
        drop(journal);
        let mut journal = Journal::open(&path).unwrap();
        let found: HashSet<u32> = journal.pieces(CONTENT).collect();
        assert_eq!(found, HashSet::from([4, 6]));
        journal.restart(HashMap::from([(CONTENT, HashSet::from([6]))])).unwrap();
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert!(journal.is_fresh() && journal.pieces(CONTENT).eq([6]));
        drop(journal);
        std::fs::write(&path, [0xff; 100]).unwrap();
        assert!(!Journal::open(&path).unwrap().is_useful());
    }
}
