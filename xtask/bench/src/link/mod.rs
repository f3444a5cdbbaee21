//! An emulated link: two network namespaces with a TUN device in each, and this program between them. It
//! delays, limits, queues and loses packets as a [`Shape`] says.
//!
//! Each direction has two threads: one reads packets and decides when they arrive, and one delivers them.
//! Every table also measures the limit of these threads, with a rate that no CPU reaches.

mod namespace;
mod path;
mod tun;

pub use namespace::Namespace;
pub use path::Shape;

use anyhow::Result;
use path::Path;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::Ipv4Addr;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Address of the left end.
pub const LEFT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Address of the right end.
pub const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// The MTU of Ethernet, which real networks have.
const MTU: u16 = 1_500;
/// The most packets under way in one direction: 80 ms of 1 Gbit/s, and a deep queue.
const UNDER_WAY: usize = 65_536;
/// How often a waiting thread checks whether the link is still in use.
const LOOK: Duration = Duration::from_millis(50);

/// Two namespaces with a link between them. Both end when the value is dropped.
pub struct EmulatedLink {
    /// The namespace of [`LEFT`].
    pub left: Namespace,
    /// The namespace of [`RIGHT`].
    pub right: Namespace,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

struct Packet {
    at: Instant,
    bytes: Box<[u8]>,
}

impl EmulatedLink {
    /// Needs root, /dev/net/tun and iproute2. The error names what is missing.
    pub fn open(shape: Shape) -> Result<Self> {
        let (left, right) = (Namespace::new()?, Namespace::new()?);
        let one = Arc::new(tun::open(&left, LEFT, MTU)?);
        let other = Arc::new(tun::open(&right, RIGHT, MTU)?);
        let ended = Arc::new(AtomicBool::new(false));
        let there = Path::new(shape, Instant::now());
        let back = Path::new(Shape { seed: shape.seed ^ 1, ..shape }, Instant::now());
        let mut threads = direction(&one, &other, there, &ended);
        threads.extend(direction(&other, &one, back, &ended));
        Ok(Self { left, right, ended, threads })
    }
}

impl Drop for EmulatedLink {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // The panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

fn direction(
    from: &Arc<OwnedFd>,
    to: &Arc<OwnedFd>,
    path: Path,
    ended: &Arc<AtomicBool>,
) -> Vec<JoinHandle<()>> {
    let (under_way, arrivals) = mpsc::sync_channel(UNDER_WAY);
    let (from, to, ended) = (from.clone(), to.clone(), ended.clone());
    vec![
        std::thread::spawn(move || take(&from, path, &under_way, &ended)),
        std::thread::spawn(move || deliver(&to, &arrivals)),
    ]
}

/// Reads packets until the link ends.
fn take(device: &OwnedFd, mut path: Path, under_way: &SyncSender<Packet>, ended: &AtomicBool) {
    let mut packet = [0; MTU as usize + 64];
    let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
    while !ended.load(Ordering::Relaxed) {
        let mut readable = [PollFd::new(device, PollFlags::IN)];
        if !matches!(poll(&mut readable, Some(&look)), Ok(1..)) {
            continue;
        }
        let Ok(length @ 1..) = rustix::io::read(device, &mut packet) else { continue };
        if let Some(at) = path.deliver_at(length, Instant::now()) {
            // A full channel means a queue longer than the shape's, so the packet is dropped.
            let _ = under_way.try_send(Packet { at, bytes: packet[..length].into() });
        }
    }
}

/// Delivers each packet at its time, until the reader has ended.
fn deliver(device: &OwnedFd, arrivals: &Receiver<Packet>) {
    // By default the kernel may wake a thread 50 µs late, which is four packets of a 1 Gbit/s line.
    if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000)) {
        eprintln!("warning: packets arrive up to 50 µs late: {error}");
    }
    while let Ok(Packet { at, bytes }) = arrivals.recv() {
        let wait = at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        // The device refuses packets that are not IP, which do not occur here.
        let _ = rustix::io::write(device, &bytes);
    }
}
