//! UDP sockets with large buffers: with the system's defaults a burst of packets is dropped, and
//! throughput falls to a seventh.

use rustix::net::sockopt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::time::Duration;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime,
    TokioRuntime,
};

/// What is asked for; the system may give less (`net.core.rmem_max`, `net.core.wmem_max`).
const WANTED_BYTES: usize = 4 << 20;

/// The tokio runtime, except that it enlarges the buffers of each UDP socket that it wraps.
#[derive(Debug)]
pub(super) struct LargeBuffers;

/// Bytes in flight on one channel. The cap must fit into what the receiving socket can hold, or
/// bursts are dropped and SCTP collapses; a larger cap without the buffers is slower, not faster.
pub(super) fn send_window_bytes() -> usize {
    const FULL: usize = 1 << 20;
    const CLAMPED: usize = 192 << 10;
    match granted_bytes() {
        granted if granted >= WANTED_BYTES / 2 => FULL,
        _ => CLAMPED,
    }
}

/// The receive buffer that this system gives when asked for [`WANTED_BYTES`].
fn granted_bytes() -> usize {
    static PROBED: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *PROBED.get_or_init(|| {
        let probe = || -> io::Result<usize> {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            enlarge(&socket)?;
            Ok(sockopt::socket_recv_buffer_size(&socket)?)
        };
        probe().unwrap_or(0)
    })
}

fn enlarge(socket: &UdpSocket) -> io::Result<()> {
    // Root may go past the limits of the system; for others these two calls fail, and the plain
    // ones give as much as they may.
    if sockopt::set_socket_recv_buffer_size_force(socket, WANTED_BYTES).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, WANTED_BYTES)?;
    }
    sockopt::set_socket_send_buffer_size(socket, WANTED_BYTES)?;
    advise_once(sockopt::socket_recv_buffer_size(socket)?);
    Ok(())
}

fn advise_once(granted_bytes: usize) {
    static ADVISED: Once = Once::new();
    if granted_bytes < WANTED_BYTES / 2 {
        ADVISED.call_once(|| {
            tracing::info!(
                granted_bytes,
                "UDP buffers are small; for faster transfers on fast networks run \
                 `sysctl net.core.rmem_max={WANTED_BYTES} net.core.wmem_max={WANTED_BYTES}`"
            );
        });
    }
}

impl Runtime for LargeBuffers {
    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        if let Err(error) = enlarge(&socket) {
            tracing::debug!(%error, "UDP buffers keep their size");
        }
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn spawn_reactor(
        &self,
        reactor_pool_size: usize,
        future: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn_reactor(reactor_pool_size, future)
    }

    fn wrap_tcp_listener(
        &self,
        listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        TokioRuntime.connect_tcp(remote_addr)
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        TokioRuntime.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        "tokio, large buffers"
    }
}
