//! A UDP socket whose sends fit, and that is read a little at a time.
//!
//! The crate hands over up to 65,535 bytes of datagrams at once, 28 more than the kernel takes. A
//! message whose datagrams add up to one of those 28 lengths would be thrown away each time that it
//! is sent.
//!
//! The crate reads up to 65 times in a row, and acknowledges all of it at once. A browser sends at most
//! four packets for an acknowledgement, however many it covers: it would send four and wait, then the
//! next four.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

/// The most that one UDP send over IPv4 takes, however many datagrams it is.
const SEND_BYTES: usize = 65_507;
/// No datagram is longer: what fits into an Ethernet frame.
const DATAGRAM_BYTES: usize = 1_472;

/// How often the crate may read in a row what another program sends: fewer times than a browser sends
/// packets for one acknowledgement, so that ever more are under way.
const READS_IN_A_ROW: usize = 3;

/// A UDP socket that takes no more datagrams at once than the kernel sends.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// How often it may be read in a row.
    most_reads: usize,
    /// How often it was.
    reads: AtomicUsize,
}

impl Socket {
    /// Our own programs send as much as fits for each acknowledgement, and fewer of them cost less.
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>, is_foreign: bool) -> Self {
        let most_reads = if is_foreign { READS_IN_A_ROW } else { usize::MAX };
        Self { inner, most_reads, reads: AtomicUsize::new(0) }
    }
}

impl AsyncUdpSocket for Socket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let reads = self.reads.load(Ordering::Relaxed);
        if reads == self.most_reads {
            self.reads.store(0, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = self.inner.poll_recv(cx, bufs, meta);
        self.reads.store(if polled.is_ready() { reads + 1 } else { 0 }, Ordering::Relaxed);
        polled
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.inner.poll_send(cx, transmit)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments().min(SEND_BYTES / DATAGRAM_BYTES)
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// A socket at which there is always something to read.
    #[derive(Debug)]
    struct Busy;

    impl AsyncUdpSocket for Busy {
        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(1))
        }

        fn poll_send(&self, _: &mut Context<'_>, _: &Transmit<'_>) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 0).into())
        }

        fn max_gso_segments(&self) -> usize {
            1
        }

        fn max_gro_segments(&self) -> usize {
            1
        }
    }

    #[test]
    fn reading_pauses_after_a_few_datagrams_for_their_acknowledgement() {
        let socket = Socket::new(Arc::new(Busy), true);
        let mut cx = Context::from_waker(Waker::noop());
        let mut has_read = || socket.poll_recv(&mut cx, &mut [], &mut []).is_ready();
        let reads: Vec<bool> = (0..8).map(|_| has_read()).collect();
        assert_eq!(reads, [true, true, true, false, true, true, true, false]);
    }
}
