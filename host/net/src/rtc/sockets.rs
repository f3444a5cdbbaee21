//! The runtime that the WebRTC stack runs on: tokio, with large UDP buffers, a bound on name
//! look-ups, and a fast clock while connecting.

use super::MAX_MESSAGE_BYTES;
use super::socket::Socket;
use rustix::net::sockopt;
use sleap_rtc_base::os;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;
use tokio::time::Instant;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime,
    TokioRuntime,
};

/// What is asked for; the system may give less (`net.core.rmem_max`, `net.core.wmem_max`).
const WANTED_BYTES: usize = 4 << 20;

/// The longest that a connection sleeps while it is being made. The crate sends some packets (the
/// first of DTLS, of SCTP and of a channel) only when it wakes the next time, and by itself it
/// wakes every 200 ms: connecting would take 420 ms where 10 are enough.
const CONNECTING_TICK: Duration = Duration::from_millis(5);

/// The tokio runtime as one connection needs it.
#[derive(Debug)]
pub(crate) struct Tuned {
    /// Whether to sleep in short steps; cleared when a channel is open, or when all is over.
    pub(crate) connecting: Arc<AtomicBool>,
    /// Names of STUN and TURN servers are looked up until then. The connection stands still
    /// meanwhile, and a dead name server would hold it for many seconds.
    pub(crate) resolve_until: Instant,
    /// Whether the other side is another program, a browser for instance.
    pub(crate) is_foreign: bool,
}

/// The most bytes in flight on a connection, in each direction. They must fit into what the receiving
/// socket can hold, or bursts are dropped and SCTP collapses: with the usual small buffers 256 KiB
/// is twice as fast as 384 KiB and more. Never less than one whole message.
pub(crate) fn window_bytes() -> usize {
    match granted_bytes() < WANTED_BYTES / 2 {
        true => MAX_MESSAGE_BYTES as usize,
        false => 1 << 20,
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
    if os::force_receive_buffer(socket, WANTED_BYTES).is_err() {
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

impl Runtime for Tuned {
    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        if let Err(error) = enlarge(&socket) {
            tracing::debug!(%error, "UDP buffers keep their size");
        }
        let same = socket.try_clone()?;
        let socket = TokioRuntime.wrap_udp_socket(socket)?;
        // The runtime has just forbidden it.
        if let Err(error) = os::allow_cutting(&same) {
            tracing::debug!(%error, "packets are not cut on their way");
        }
        Ok(Arc::new(Socket::new(socket, self.is_foreign)))
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
        Box::pin(async move {
            let looked_up = TokioRuntime.resolve_host(host);
            match tokio::time::timeout_at(self.resolve_until, looked_up).await {
                Ok(addresses) => addresses,
                Err(elapsed) => Err(elapsed.into()),
            }
        })
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        if self.connecting.load(Ordering::Relaxed) {
            return TokioRuntime.sleep(duration.min(CONNECTING_TICK));
        }
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
        "tokio, tuned"
    }
}
