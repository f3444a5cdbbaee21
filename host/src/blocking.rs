//! Runs blocking work on a separate thread.

/// Blocking work has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a thread panicked; this is a bug, please report it together with the log")]
pub struct Panicked;

/// Runs `work` on a thread that may block, so that the threads of the runtime do not.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Panicked)
}
