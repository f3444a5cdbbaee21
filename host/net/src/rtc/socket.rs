//! A UDP socket: what is sent at once fits, and what comes is read in batches.
//!
//! **Sending.** The crate hands over up to 65,535 bytes of datagrams at once, 28 more than the kernel
//! takes. A message whose datagrams add up to one of those 28 lengths would be thrown away each time
//! that it is sent.
//!
//! **Reading.** The crate goes through its whole loop for whatever it finds in a socket, and SCTP
//! acknowledges what came together once. On a line whose packets come one by one that is a wake-up, a
//! pass and an acknowledgement for each: 15 to 20 s of CPU for each GB at 100 Mbit. So when packets keep
//! coming few at a time, a lane's socket rests for a millisecond after each look, as network cards do
//! with interrupts.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

/// How long the socket rests. Timers are not finer.
const REST: Duration = Duration::from_millis(1);
/// A look that finds so many messages was worth it.
const WORTH: u32 = 16;
/// Packets that are further apart than this do not keep coming.
const APART: Duration = Duration::from_millis(4);

/// The most that one UDP send over IPv4 takes, however many datagrams it is.
const SEND_BYTES: usize = 65_507;
/// No datagram is longer: what fits into an Ethernet frame.
const DATAGRAM_BYTES: usize = 1_472;

/// See the module.
pub(crate) struct Socket {
    socket: Arc<dyn AsyncUdpSocket>,
    /// Where it rests between looks.
    moderation: Option<Moderation>,
}

struct Moderation {
    /// Nothing waits while a connection is being made.
    connecting: Arc<AtomicBool>,
    looks: Mutex<Looks>,
}

struct Looks {
    /// Found since the socket was empty last.
    found: u32,
    empty_at: Instant,
    resting: bool,
    rest: Pin<Box<Sleep>>,
}

impl Socket {
    /// Gives each packet on as it comes.
    pub(crate) fn prompt(socket: Arc<dyn AsyncUdpSocket>) -> Self {
        Self { socket, moderation: None }
    }

    /// Rests between looks, except while `connecting`.
    pub(crate) fn moderated(socket: Arc<dyn AsyncUdpSocket>, connecting: Arc<AtomicBool>) -> Self {
        let rest = Box::pin(tokio::time::sleep(Duration::ZERO));
        let looks = Looks { found: 0, empty_at: Instant::now(), resting: false, rest };
        Self { socket, moderation: Some(Moderation { connecting, looks: Mutex::new(looks) }) }
    }
}

impl Looks {
    /// The socket was found empty. Says whether it is to rest.
    fn empty(&mut self, connecting: bool) -> bool {
        let now = Instant::now();
        let keeps_coming = self.found > 0 && now - self.empty_at < APART;
        self.resting = keeps_coming && self.found < WORTH && !connecting;
        (self.found, self.empty_at) = (0, now);
        if self.resting {
            self.rest.as_mut().reset(now + REST);
        }
        self.resting
    }
}

impl AsyncUdpSocket for Socket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Some(Moderation { connecting, looks }) = &self.moderation else {
            return self.socket.poll_recv(cx, bufs, meta);
        };
        let mut looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.resting {
            ready!(looks.rest.as_mut().poll(cx));
            looks.resting = false;
        }
        match self.socket.poll_recv(cx, bufs, meta) {
            Poll::Ready(received) => {
                let messages = *received.as_ref().unwrap_or(&1) as u32;
                looks.found += messages;
                Poll::Ready(received)
            }
            Poll::Pending => {
                if looks.empty(connecting.load(Ordering::Relaxed)) {
                    // Whoever is woken by the socket before then goes on waiting.
                    let _ = looks.rest.as_mut().poll(cx);
                }
                Poll::Pending
            }
        }
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.socket.poll_send(cx, transmit)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_gso_segments(&self) -> usize {
        self.socket.max_gso_segments().min(SEND_BYTES / DATAGRAM_BYTES)
    }

    fn max_gro_segments(&self) -> usize {
        self.socket.max_gro_segments()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.socket, f)
    }
}
