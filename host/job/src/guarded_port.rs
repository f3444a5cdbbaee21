//! Admits only the job's own processes to the trainer's ports.
//!
//! A trainer accepts only TCP ports, and any user of the machine can connect to a port. So this module
//! owns the ports. It asks the kernel which process is at the other end, and forwards the bytes of the
//! job's own processes to ZMQ, which listens in a folder that no other user can enter.

use super::processes;
use sleap_rtc_base::os::TcpSocket;
use sleap_rtc_base::rate_limit::RateLimit;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// The most connections to one port at once. A trainer opens one, and another if it loses the
/// first.
const MAX_CONNECTIONS: usize = 8;
/// The shortest time between two connections, because finding the owner of a connection takes time.
const INTERVAL: Duration = Duration::from_millis(20);
/// What a trainer may send, in bytes per second on average and in bytes at once. Its messages have
/// a few hundred bytes.
const BYTES_PER_S: f64 = 1024.0 * 1024.0;
const BURST_BYTES: f64 = 4.0 * 1024.0 * 1024.0;
const BUFFER_BYTES: usize = 16 * 1024;

/// A port that admits only the job's own processes. Dropping the value closes the port.
pub struct GuardedPort {
    port: u16,
    _task: JoinSet<()>,
}

impl GuardedPort {
    /// Opens a free port of 127.0.0.1 that leads to the socket at `to`. Must be called within a
    /// runtime.
    pub async fn open(to: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let mut task = JoinSet::new();
        task.spawn(serve(listener, to.to_owned()));
        Ok(Self { port, _task: task })
    }

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
                    "closed a connection to a trainer's port, because it comes from outside the job"
                ),
            }
        }
        sleep_until(next).await;
    }
}

/// Whether the socket at `peer` belongs to this process or to one of its descendants.
async fn is_own(peer: SocketAddr, own: SocketAddr) -> bool {
    let (SocketAddr::V4(peer), SocketAddr::V4(own)) = (peer, own) else { return false };
    let asking = move || {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let socket = TcpSocket::all(&table).find(|socket| socket.connects(peer, own))?;
        if socket.user() != rustix::process::geteuid().as_raw() {
            return None;
        }
        let job = processes::descendants(processes::own_id());
        let mut processes = job.into_keys().chain([processes::own_id()]);
        processes.any(|pid| socket.is_open_in(pid)).then_some(())
    };
    tokio::task::spawn_blocking(asking).await.is_ok_and(|is| is.is_some())
}

/// Forwards bytes in both directions, and delays the trainer when it exceeds its rate.
async fn pass_on(stream: TcpStream, to: PathBuf) {
    let Ok(socket) = UnixStream::connect(to).await else { return };
    let (mut from_trainer, mut to_trainer) = stream.into_split();
    let (mut from_us, mut to_us) = socket.into_split();
    let sending = async move {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut limit = RateLimit::new(Instant::now().into_std());
        while let Ok(count @ 1..) = from_trainer.read(&mut buffer).await {
            sleep(wait(&mut limit, count, Instant::now().into_std())).await;
            if to_us.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    // The connection ends when either side closes it.
    tokio::select! {
        () = sending => {}
        _ = copy(&mut from_us, &mut to_trainer) => {}
    }
}

/// How long `count` bytes have to wait.
fn wait(limit: &mut RateLimit, count: usize, now: std::time::Instant) -> Duration {
    let in_s = |bytes: f64| Duration::from_secs_f64(bytes / BYTES_PER_S);
    limit.charge(in_s(count as f64), now).saturating_sub(in_s(BURST_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_above_its_rate_waits() {
        let start = std::time::Instant::now();
        let mut limit = RateLimit::new(start);
        assert_eq!(wait(&mut limit, BURST_BYTES as usize, start), Duration::ZERO);
        let second = BYTES_PER_S as usize;
        assert_eq!(wait(&mut limit, second, start), Duration::from_secs(1));
        let later = start + Duration::from_secs(3);
        assert_eq!(wait(&mut limit, second, later), Duration::ZERO);
    }

    #[tokio::test]
    async fn only_own_sockets_are_recognized() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap();
        let stream = TcpStream::connect(own).await.unwrap();
        assert!(is_own(stream.local_addr().unwrap(), own).await);
        drop(stream);
        let gone = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        assert!(!is_own(gone, own).await);
    }
}
