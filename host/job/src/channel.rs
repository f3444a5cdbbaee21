//! Lets the trainer's sockets through, and nobody else's.
//!
//! A trainer can be told a TCP port and nothing better, and anybody on the machine can connect to a
//! port. So the ports belong to this module: it asks the kernel whose socket is at the other end, and
//! passes the bytes of the job's own processes on to ZMQ, which listens in a folder that nobody else
//! can enter.

use super::processes;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Connections at once to one port: a trainer makes one, and again when it was lost.
const MAX_CONNECTIONS: usize = 8;
/// How soon another connection is looked at: finding out whose it is takes time.
const INTERVAL: Duration = Duration::from_millis(20);
/// What a trainer may send on average, in bytes per second, and at once. Its messages have a few
/// hundred bytes.
const BYTES_PER_S: f64 = 1024.0 * 1024.0;
const BURST_BYTES: f64 = 4.0 * 1024.0 * 1024.0;
const BUFFER_BYTES: usize = 16 * 1024;
/// The state of a connection in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// A port that only the job's own processes reach. Closed when it is dropped.
pub struct Channel {
    port: u16,
    _task: JoinSet<()>,
}

impl Channel {
    /// Opens a free port of 127.0.0.1 that leads to the socket at `to`. Call it within a runtime.
    pub async fn open(to: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let mut task = JoinSet::new();
        task.spawn(serve(listener, to.to_owned()));
        Ok(Self { port, _task: task })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn serve(listener: TcpListener, to: PathBuf) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let next = Instant::now() + INTERVAL;
        if let Ok((stream, peer)) = accepted {
            match listener.local_addr() {
                Ok(own) if is_own(peer, own).await => {
                    connections.spawn(pass_on(stream, to.clone()));
                }
                _ => tracing::warn!(
                    %peer,
                    "somebody else connected to a trainer's port; the connection is closed"
                ),
            }
        }
        sleep_until(next).await;
    }
}

/// Whether the socket at `peer` belongs to this process or one that descends from it.
async fn is_own(peer: SocketAddr, own: SocketAddr) -> bool {
    let (SocketAddr::V4(peer), SocketAddr::V4(own)) = (peer, own) else { return false };
    let asking = move || {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let (user, socket) = owner_of(&table, peer, own)?;
        if user != rustix::process::geteuid().as_raw() {
            return None;
        }
        let job = processes::descendants(processes::own_id());
        let mut processes = job.into_keys().chain([processes::own_id()]);
        processes.any(|pid| has_socket(pid, socket)).then_some(())
    };
    tokio::task::spawn_blocking(asking).await.is_ok_and(|is| is.is_some())
}

/// The user and the socket's number of the connection from `peer` to `own`.
fn owner_of(table: &str, peer: SocketAddrV4, own: SocketAddrV4) -> Option<(u32, u64)> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, _, _, _, user, _, socket, ..] = fields[..] else {
            return None;
        };
        let is_it = local == hex(peer) && remote == hex(own) && state == ESTABLISHED;
        is_it.then(|| Some((user.parse().ok()?, socket.parse().ok()?)))?
    })
}

/// An address as the kernel writes it: the bytes of the IP address in the machine's own order.
fn hex(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

fn has_socket(pid: i32, socket: u64) -> bool {
    let name = PathBuf::from(format!("socket:[{socket}]"));
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|target| target == name)
}

/// Passes bytes on in both directions, those of the trainer no faster than it may send.
async fn pass_on(stream: TcpStream, to: PathBuf) {
    let Ok(socket) = UnixStream::connect(to).await else { return };
    let (mut from_trainer, mut to_trainer) = stream.into_split();
    let (mut from_us, mut to_us) = socket.into_split();
    let sending = async move {
        let (mut buffer, mut budget) = (vec![0; BUFFER_BYTES], Budget::new(Instant::now()));
        while let Ok(count @ 1..) = from_trainer.read(&mut buffer).await {
            sleep_until(budget.take(count, Instant::now())).await;
            if to_us.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    // The connection is over when either side has ended it.
    tokio::select! {
        () = sending => {}
        _ = copy(&mut from_us, &mut to_trainer) => {}
    }
}

/// How many bytes may pass now; it fills with time.
struct Budget {
    bytes: f64,
    at: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { bytes: BURST_BYTES, at: now }
    }

    /// When `count` bytes may pass.
    fn take(&mut self, count: usize, now: Instant) -> Instant {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * BYTES_PER_S;
        self.bytes = (self.bytes + earned).min(BURST_BYTES) - count as f64;
        self.at = now;
        now + Duration::from_secs_f64((-self.bytes).max(0.0) / BYTES_PER_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_whose_connection_it_is() {
        let own = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0x1F90);
        let peer = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0xC350);
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1 0\n\
            1: 0100007F:C350 0100007F:1F90 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0\n\
            2: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000 65534        0 4711 1 0\n";
        if cfg!(target_endian = "little") {
            assert_eq!(owner_of(table, peer, own), Some((65534, 4711)));
        }
        assert_eq!(owner_of(table, own, peer), None);
        assert_eq!(owner_of("", peer, own), None);
    }

    #[test]
    fn who_sends_too_much_waits() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!(budget.take(BURST_BYTES as usize, start), start);
        let second = BYTES_PER_S as usize;
        assert_eq!(budget.take(second, start), start + Duration::from_secs(1));
        let later = start + Duration::from_secs(3);
        assert_eq!(budget.take(second, later), later);
    }

    #[tokio::test]
    async fn own_sockets_are_known_and_others_are_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap();
        let stream = TcpStream::connect(own).await.unwrap();
        assert!(is_own(stream.local_addr().unwrap(), own).await);
        drop(stream);
        let gone = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        assert!(!is_own(gone, own).await);
    }
}
