//! A link in memory, honest or not, and trees of files to send over it.

use super::{Accept, Hashes, Incoming, Link, LinkError, Package, Part, PartSource};
use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rand::{Rng, SeedableRng, rngs::StdRng};
use sleap_rtc_protocol::frame::{self, ClientFrame, TransferFrame};
use sleap_rtc_protocol::path::RelPath;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Mutex, mpsc};

/// A fault that a message meets on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    Arrive,
    Vanish,
    Repeat,
    /// One bit flips, at this position.
    Flip(usize),
    /// The next message overtakes it.
    Wait,
    /// It arrives, but no later message does.
    Cut,
}

type Fault = Box<dyn FnMut(&Incoming) -> Fate + Send>;

/// One end of a link in memory, with a small queue in each direction.
pub(crate) struct MemoryLink {
    to: Arc<Mutex<Outlet>>,
    from: mpsc::Receiver<Incoming>,
    held: Option<Incoming>,
}

/// The queue to the other end.
struct Outlet {
    to: Option<mpsc::Sender<Incoming>>,
    fault: Fault,
    waiting: Option<Incoming>,
}

/// Two connected ends.
pub(crate) fn pair() -> (MemoryLink, MemoryLink) {
    let (a, from_a) = mpsc::channel(4);
    let (b, from_b) = mpsc::channel(4);
    let end = |to, from| {
        let outlet = Outlet { to: Some(to), fault: Box::new(|_| Fate::Arrive), waiting: None };
        let to = Arc::new(Mutex::new(outlet));
        MemoryLink { to, from, held: None }
    };
    (end(a, from_b), end(b, from_a))
}

impl MemoryLink {
    /// Applies `fault` to everything that this end sends.
    pub(crate) fn with_fault(self, fault: impl FnMut(&Incoming) -> Fate + Send + 'static) -> Self {
        self.to.try_lock().unwrap().fault = Box::new(fault);
        self
    }

    pub(crate) async fn put(&mut self, message: Incoming) -> Result<(), LinkError> {
        put(self.to.clone(), message).await
    }
}

impl Outlet {
    async fn put(&mut self, message: Incoming) -> Result<(), ()> {
        let fate = (self.fault)(&message);
        let to = self.to.as_ref().ok_or(())?;
        if fate == Fate::Wait && self.waiting.is_none() {
            self.waiting = Some(message);
            return Ok(());
        }
        let copies = match fate {
            Fate::Vanish => 0,
            Fate::Repeat => 2,
            Fate::Arrive | Fate::Flip(_) | Fate::Wait | Fate::Cut => 1,
        };
        let message = match (fate, message) {
            (Fate::Flip(place), Incoming::Chunk(chunk)) => {
                let mut bytes = chunk.to_vec();
                let place = place % (bytes.len() * 8);
                bytes[place / 8] ^= 1 << (place % 8);
                Incoming::Chunk(bytes.into())
            }
            (_, message) => message,
        };
        for _ in 0..copies {
            to.send(message.clone()).await.map_err(drop)?;
        }
        if let Some(overtaken) = self.waiting.take() {
            to.send(overtaken).await.map_err(drop)?;
        }
        if fate == Fate::Cut {
            self.to = None;
        }
        Ok(())
    }
}

async fn put(to: Arc<Mutex<Outlet>>, message: Incoming) -> Result<(), LinkError> {
    let put = to.lock().await.put(message).await;
    put.map_err(|()| LinkError::Lost("closed".into()))
}

impl Link for MemoryLink {
    async fn send_control(&mut self, frame: TransferFrame) -> Result<(), LinkError> {
        // As on a real channel, a frame that does not fit is a bug of ours.
        let text = frame::encode(&ClientFrame::Transfer(frame)).unwrap();
        let ClientFrame::Transfer(frame) = frame::decode(&text).unwrap() else { panic!() };
        self.put(Incoming::Control(frame)).await
    }

    async fn next(&mut self, accept: Accept) -> Result<Incoming, LinkError> {
        if self.held.is_none() {
            self.held = self.from.recv().await;
        }
        if let (Some(Incoming::Chunk(_)), Accept::Control) = (&self.held, accept) {
            return std::future::pending().await;
        }
        self.held.take().ok_or_else(|| LinkError::Lost("closed".into()))
    }

    fn send_chunk(&self, chunk: BytesMut) -> BoxFuture<'static, Result<(), LinkError>> {
        put(self.to.clone(), Incoming::Chunk(chunk.freeze())).boxed()
    }
}

/// One of the packages in `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

pub(crate) fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

/// Builds a package in memory.
pub(crate) fn package(files: &[(&str, &[u8])]) -> Package {
    let part = |(path, bytes): &(&str, &[u8])| Part {
        path: rel(path),
        source: PartSource::Bytes(bytes.to_vec()),
    };
    Package::from_parts(files.iter().map(part).collect(), &Hashes::none()).unwrap()
}

/// Writes a file and the folders above it.
pub(crate) fn write(path: &Path, bytes: &[u8], executable: bool) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Everything below `folder`: files with their content and whether they are executable, and links
/// with their targets.
pub(crate) fn listing(folder: &Path) -> BTreeMap<String, (Vec<u8>, bool)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let there = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if there.is_dir() {
                folders.push(path);
            } else if there.is_symlink() {
                let end = fs::read_link(&path).unwrap();
                found.insert(name, (end.to_str().unwrap().into(), false));
            } else {
                let executable = there.permissions().mode() & 0o100 != 0;
                found.insert(name, (fs::read(&path).unwrap(), executable));
            }
        }
    }
    found
}

/// Bytes that cannot be compressed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Counts the bytes that are sent from now on.
pub(crate) fn counting(link: MemoryLink) -> (MemoryLink, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let link = link.with_fault(move |message| {
        if let Incoming::Chunk(chunk) = message {
            counter.fetch_add(chunk.len(), Ordering::Relaxed);
        }
        Fate::Arrive
    });
    (link, sent)
}
