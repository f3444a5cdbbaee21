//! Processes, packages and observations that the tests share.
//!
//! A test begins with a [`Site`]: a temporary folder in which everything happens, and which leaves
//! no process behind. In it live a [`TestServer`], [`TestWorker`]s and [`TestClient`]s, all of them
//! the real binary, and [`Observer`]s that look at a room from outside.

mod client;
#[allow(dead_code, reason = "the torture and the tests of full disks use different parts")]
pub mod disk;
#[allow(dead_code, reason = "only the tests of GPUs use it")]
mod driver;
mod http;
#[allow(dead_code, reason = "only the tests with networks of their own use it")]
mod netns;
mod observer;
mod packages;
pub mod plugins;
mod process;
mod python_peer;
mod server;
mod site;
mod worker;

pub use client::{Ended, TestClient};
#[allow(unused_imports, reason = "only the tests of GPUs use it")]
pub use driver::{Driver, gpu_row};
pub use http::post;
#[allow(unused_imports, reason = "only the tests with networks of their own use it")]
pub use netns::{Machine, Network};
pub use observer::{Observer, StatusTrace};
pub use packages::*;
pub use process::{Process, memory_peak_mib, python};
#[allow(unused_imports, reason = "`Site` has its own use for it; the torture another")]
pub use process::{kill_all, processes_in};
#[allow(unused_imports, reason = "the torture has Python peers of no kind")]
pub use python_peer::{Aiortc, python_peer, python_program, python_worker};
pub use server::TestServer;
pub use site::Site;
pub use worker::{Credentials, TestWorker};

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// Long enough for anything that should take a second or two, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);
/// Long enough for a whole job with the stand-in trainer.
pub const A_WHILE: Duration = Duration::from_secs(90);

const POLL_EVERY: Duration = Duration::from_millis(15);

/// Looks again and again until `look` finds something, and gives it back.
///
/// # Panics
/// After `limit`, saying `what` never came.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {} s in vain for {what}", limit.as_secs());
        sleep(POLL_EVERY);
    }
}
