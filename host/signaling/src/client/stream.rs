//! Streams to the server, and the deadline of each step of connecting.

use super::ANSWER_DEADLINE;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// The common interface of TCP, TLS and tunnels.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A step of connecting took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub struct Late(Duration);

/// Gives a step of connecting its deadline.
pub(crate) async fn within_deadline<T>(step: impl Future<Output = T>) -> Result<T, Late> {
    within(ANSWER_DEADLINE, step).await
}

/// Gives a step this much time.
pub(crate) async fn within<T>(limit: Duration, step: impl Future<Output = T>) -> Result<T, Late> {
    timeout(limit, step).await.map_err(|_| Late(limit))
}
