//! A UDP socket whose sends fit.
//!
//! The crate hands over up to 65,535 bytes of datagrams at once, 28 more than the kernel takes. A
//! message whose datagrams add up to one of those 28 lengths would be thrown away each time that it
//! is sent.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

/// The most that one UDP send over IPv4 takes, however many datagrams it is.
const SEND_BYTES: usize = 65_507;
/// No datagram is longer: what fits into an Ethernet frame.
const DATAGRAM_BYTES: usize = 1_472;

/// A UDP socket that takes no more datagrams at once than the kernel sends.
#[derive(Debug)]
pub(crate) struct Socket(pub(crate) Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for Socket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.0.poll_send(cx, transmit)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_gso_segments(&self) -> usize {
        self.0.max_gso_segments().min(SEND_BYTES / DATAGRAM_BYTES)
    }

    fn max_gro_segments(&self) -> usize {
        self.0.max_gro_segments()
    }
}
