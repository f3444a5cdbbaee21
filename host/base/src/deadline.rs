//! Deadlines that may be absent, for `select!`.

use std::time::Instant;

/// Resolves at `deadline`, or never if there is none.
pub async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
