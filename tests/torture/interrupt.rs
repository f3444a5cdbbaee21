//! Ctrl-C ends the rounds that go on, with all that they have started, and begins no other.

use std::sync::atomic::{AtomicBool, Ordering};

static CAME: AtomicBool = AtomicBool::new(false);

/// Listens from now on.
pub fn listen() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let waited = runtime.block_on(async { tokio::signal::ctrl_c().await });
        CAME.store(waited.is_ok(), Ordering::Relaxed);
    });
}

/// Whether it came.
pub fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}
