//! Processes, packages and observations that the end-to-end tests and the torture share.
//!
//! A test begins with a [`Site`]: a temporary folder in which everything happens, and which leaves
//! no process behind. In it live a [`TestServer`], [`TestWorker`]s and [`TestClient`]s, all of them
//! the real binary, and [`Observer`]s that look at a room from outside.

// A test that cannot set up its scene has failed, and says where.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Only the tests beside it read this, and most names say what they are.
#![allow(missing_docs, clippy::new_without_default)]

mod client;
pub mod disk;
mod driver;
mod http;
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
pub use driver::{Driver, gpu_row};
pub use http::post;
pub use netns::{Island, Machine, Nat, Network};
pub use observer::{Observer, StatusTrace};
pub use packages::*;
pub use process::{Process, memory_peak_mib, python, under};
pub use process::{kill_all, processes_in, with_program};
pub use python_peer::{Aiortc, python_peer, python_program, python_worker, stand_in_with_hdf5};
pub use server::TestServer;
pub use site::Site;
pub use worker::{Credentials, TestWorker};

use std::{
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

/// Long enough for anything that should take a second or two, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);
/// Long enough for a whole job with the stand-in trainer.
pub const A_WHILE: Duration = Duration::from_secs(90);

/// Where cargo puts programs: the folder above the one of the test that runs.
pub fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    built().parent().unwrap().to_owned()
}

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
