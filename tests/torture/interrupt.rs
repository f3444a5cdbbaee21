//! Ctrl-C ends the running rounds with all their processes, and prevents further rounds.

use std::sync::atomic::{AtomicBool, Ordering};

static CAME: AtomicBool = AtomicBool::new(false);

pub fn listen() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let waited = runtime.block_on(async { tokio::signal::ctrl_c().await });
        CAME.store(waited.is_ok(), Ordering::Relaxed);
    });
}

/// Whether Ctrl-C was pressed.
pub fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}
