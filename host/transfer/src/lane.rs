//! What carries chunks: the link's own connection, or a lane beside it.

use bytes::BytesMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// One way for chunks. It keeps them in order and whole while it lasts, and may end at any time:
/// what it had not delivered then goes over another one.
#[async_trait::async_trait]
pub trait Lane: Send + Sync {
    /// Hands an encoded chunk over.
    async fn send(&self, chunk: BytesMut) -> Result<(), LaneLost>;

    /// Waits until fewer bytes than the gauge allows are unacknowledged, and notes there how many.
    async fn room(&self, gauge: &Gauge) -> Result<(), LaneLost>;

    /// From here to the other side and back, as it was measured last.
    async fn round_trip(&self) -> Option<Duration>;

    /// It is not wanted any more. The link's own connection takes no notice.
    fn close(&self);
}

/// A lane carries nothing more.
#[derive(Debug, thiserror::Error)]
#[error("a lane has ended: {0}")]
pub struct LaneLost(pub Box<dyn std::error::Error + Send + Sync>);

/// What a lane may have under way, and what it has.
#[derive(Debug)]
pub struct Gauge {
    cap_bytes: AtomicUsize,
    outstanding_bytes: AtomicUsize,
}

impl Gauge {
    /// Nothing under way yet.
    pub fn new(cap_bytes: usize) -> Arc<Self> {
        Arc::new(Self { cap_bytes: cap_bytes.into(), outstanding_bytes: 0.into() })
    }

    /// So many bytes are unacknowledged; returns how many may be.
    pub fn note(&self, outstanding_bytes: usize) -> usize {
        self.outstanding_bytes.store(outstanding_bytes, Ordering::Relaxed);
        self.cap_bytes.load(Ordering::Relaxed)
    }

    /// So many may be from now on.
    pub(crate) fn set_cap(&self, cap_bytes: usize) {
        self.cap_bytes.store(cap_bytes, Ordering::Relaxed);
    }

    /// So many were when somebody looked last.
    pub(crate) fn outstanding_bytes(&self) -> usize {
        self.outstanding_bytes.load(Ordering::Relaxed)
    }

    /// A chunk was handed over.
    pub(crate) fn add(&self, bytes: usize) {
        self.outstanding_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
