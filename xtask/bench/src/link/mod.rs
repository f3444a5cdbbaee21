//! An emulated link: two network namespaces, a TUN device in each, and this program between them,
//! which delays, limits, queues and loses packets as a [`Shape`] says.
//!
//! Four threads: one for each direction reads packets and decides when they arrive, one delivers
//! them. Their own limit is measured with every table ([`Shape`] with a rate beyond any CPU).

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
/// What Ethernet carries: the MTU of real networks.
const MTU: u16 = 1_500;
/// Packets under way in one direction, at most: 80 ms of 1 Gbit and a deep queue.
const UNDER_WAY: usize = 65_536;
/// A waiting thread looks this often whether the link is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Two namespaces with a link between them; gone when dropped.
pub struct Link {
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

impl Link {
    /// Needs root, /dev/net/tun and iproute2; says which is missing.
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

impl Drop for Link {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread has been shown already.
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

/// Reads packets until the link has ended.
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
            // A full channel is a queue beyond the shape's: the packet is dropped, as there.
            let _ = under_way.try_send(Packet { at, bytes: packet[..length].into() });
        }
    }
}

/// Delivers packets, each at its time, until the reader has ended.
fn deliver(device: &OwnedFd, arrivals: &Receiver<Packet>) {
    // By default the kernel lets sleepers lie 50 µs longer: four packets of a 1 Gbit line.
    if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000)) {
        eprintln!("warning: packets arrive up to 50 µs late: {error}");
    }
    while let Ok(Packet { at, bytes }) = arrivals.recv() {
        let wait = at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        // The device refuses packets that are not IP; there are none here.
        let _ = rustix::io::write(device, &bytes);
    }
}
