//! A file of the questions to plugins and their answers, one line of JSON each.
//!
//! The file is private to its user. It has no settings, which may hold secrets, and no tokens: plugins
//! see none. A thread of its own writes, so that a slow disk delays no decision; what it cannot take is
//! dropped, with a warning.

use super::component::Failure;
use super::questions::Question;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::file::folder_of;
use sleap_rtc_base::lock;
use sleap_rtc_base::os::{self, FileId};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// The size at which the file becomes `FILE.1`, which replaces the one before.
const FILE_BYTES: u64 = 32 << 20;
/// The longest line. 1,000 workers with full records take about 1 MiB.
const LINE_BYTES: usize = 4 << 20;
/// How many bytes may wait for the disk.
const WAITING_BYTES: usize = 32 << 20;
/// How long a program that ends waits for the last lines.
const GOODBYE: Duration = Duration::from_secs(2);

/// One line.
#[derive(Serialize, Deserialize)]
pub(crate) struct RecordLine<Q, A> {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The key of the extension point.
    pub point: String,
    /// The plugin's name.
    pub plugin: String,
    pub question: Q,
    pub answer: RecordedAnswer<A>,
}

/// What a plugin answered.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RecordedAnswer<A> {
    Said(A),
    Failed(String),
}

/// Writes the file.
pub(crate) struct Recorder {
    path: PathBuf,
    lines: Mutex<Option<Sender<Vec<u8>>>>,
    /// What waits for the disk.
    waiting_bytes: Arc<AtomicUsize>,
    /// Hears that the thread has ended.
    ended: Mutex<Receiver<()>>,
    has_dropped: AtomicBool,
}

impl Recorder {
    /// Starts the thread that writes to `path`.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot start a thread.
    pub(crate) fn start(path: &Path) -> io::Result<Self> {
        let (lines, waiting) = channel::<Vec<u8>>();
        let (ending, ended) = channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let file = RecordFile { path: path.to_owned(), limit_bytes: FILE_BYTES };
        let written = Arc::clone(&waiting_bytes);
        thread::Builder::new().name("policy-record".to_owned()).spawn(move || {
            file.write_all(waiting.iter().inspect(|line| {
                written.fetch_sub(line.len(), Ordering::Relaxed);
            }));
            let _ = ending.send(());
        })?;
        Ok(Self {
            path: path.to_owned(),
            lines: Mutex::new(Some(lines)),
            waiting_bytes,
            ended: Mutex::new(ended),
            has_dropped: AtomicBool::new(false),
        })
    }

    /// Records one call of `plugin`.
    pub(crate) fn keep<Q: Question>(
        &self,
        plugin: &str,
        question: &mut Q,
        answer: &Result<Q::Answer, Failure>,
    ) {
        // Settings may hold secrets.
        question.context().settings.clear();
        let line = RecordLine {
            at_ms: now_ms(),
            point: Q::POINT.key().to_owned(),
            plugin: plugin.to_owned(),
            question: &*question,
            answer: match answer {
                Ok(answer) => RecordedAnswer::Said(answer),
                Err(failure) => RecordedAnswer::Failed(failure.to_string()),
            },
        };
        let Ok(mut line) = serde_json::to_vec(&line) else { return };
        line.push(b'\n');
        if !self.send(line) && !self.has_dropped.swap(true, Ordering::Relaxed) {
            let path = self.path.display();
            tracing::warn!("{path} lacks decisions: they are too long, or its disk is too slow");
        }
    }
}

impl Recorder {
    /// Hands a line to the thread that writes. Returns whether it takes it.
    fn send(&self, line: Vec<u8>) -> bool {
        let bytes = line.len();
        // The lock makes this the only one that adds.
        let lines = self.lines.lock();
        let Some(lines) = lines.as_ref() else { return false };
        if bytes > LINE_BYTES || self.waiting_bytes.load(Ordering::Relaxed) + bytes > WAITING_BYTES
        {
            return false;
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        lines.send(line).is_ok()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.lines.lock().take();
        let _ = self.ended.lock().recv_timeout(GOODBYE);
    }
}

/// The older part of the record at `path`.
pub(crate) fn older(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".1");
    path.with_file_name(name)
}

struct RecordFile {
    path: PathBuf,
    limit_bytes: u64,
}

impl RecordFile {
    fn write_all(&self, lines: impl Iterator<Item = Vec<u8>>) {
        let mut has_failed = false;
        for line in lines {
            match self.append(&line) {
                Ok(()) => has_failed = false,
                Err(_) if has_failed => {}
                Err(error) => {
                    has_failed = true;
                    let path = self.path.display();
                    tracing::warn!("cannot record decisions in {path}: {error}");
                }
            }
        }
    }

    /// Appends `line` at once, so that programs that share the file do not mix their lines.
    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut file = self.open()?;
        let length = file.metadata()?.len();
        if length > 0 && length + line.len() as u64 > self.limit_bytes && self.rotate(&file)? {
            file = self.open()?;
        }
        file.write_all(line)
    }

    /// Opens the file for its user alone.
    fn open(&self) -> io::Result<File> {
        let folder = folder_of(&self.path);
        os::create_private_folders(folder)?;
        let file = os::append_privately(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not an ordinary file"));
        }
        Ok(file)
    }

    /// Makes `file` the older part, unless another program does that now or has done it.
    fn rotate(&self, file: &File) -> io::Result<bool> {
        match lock::exclusive(file, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            locked => locked.map(drop)?,
        }
        if FileId::of_open(file)? == FileId::at_link(&self.path)? {
            fs::rename(&self.path, older(&self.path))?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_full_file_becomes_the_older_part() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/decisions.jsonl");
        let file = RecordFile { path: path.clone(), limit_bytes: 20 };
        for number in 1..=9 {
            file.append(format!("line {number}\n").as_bytes()).unwrap();
        }
        assert_eq!(lines(&path), ["line 9"]);
        assert_eq!(lines(&older(&path)), ["line 7", "line 8"]);
        // A line that alone is too long is still kept.
        file.append(&[b'x'; 100]).unwrap();
        assert_eq!(lines(&path)[0].len(), 100);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
    }

    #[test]
    fn two_programs_do_not_rotate_twice() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("decisions.jsonl");
        let file = RecordFile { path: path.clone(), limit_bytes: 10 };
        file.append(b"first....\n").unwrap();
        let (one, two) = (file.open().unwrap(), file.open().unwrap());
        assert!(file.rotate(&one).unwrap());
        assert!(!file.rotate(&two).unwrap(), "the other one holds the lock");
        file.append(b"second\n").unwrap();
        drop(one);
        assert!(file.rotate(&two).unwrap());
        assert_eq!(lines(&path), ["second"]);
        assert_eq!(lines(&older(&path)), ["first...."]);
    }

    #[test]
    fn it_is_for_its_user_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("decisions.jsonl");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let file = RecordFile { path: path.clone(), limit_bytes: 1000 };
        file.append(b"one\n").unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let link = home.path().join("link");
        symlink(&path, &link).unwrap();
        let through = RecordFile { path: link, limit_bytes: 1000 };
        assert!(through.append(b"two\n").is_err());
        assert!(RecordFile { path: "/dev/null".into(), limit_bytes: 9 }.append(b"x").is_err());
        assert_eq!(lines(&path), ["one"]);
    }

    #[test]
    fn what_was_said_last_is_on_disk_when_the_program_ends() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("decisions.jsonl");
        let recorder = Recorder::start(&path).unwrap();
        recorder.lines.lock().as_ref().unwrap().send(b"last\n".to_vec()).unwrap();
        drop(recorder);
        assert_eq!(lines(&path), ["last"]);
    }
}
