//! Processes, packages and observers for the end-to-end tests and the torture.
//!
//! A test begins with a [`Site`]: a temporary folder for all its files, which leaves no process behind.
//! It contains a [`TestServer`], [`TestWorker`]s and [`TestClient`]s, all running the real binary, and
//! [`Observer`]s that watch a room from outside.

// A test that cannot set up its scene has failed, and the panic names the place.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Only the tests next to this crate use it, and most names explain themselves.
#![allow(missing_docs, clippy::new_without_default)]

mod broker;
mod browser;
mod client;
mod compiled;
pub mod disk;
mod driver;
mod http;
pub mod invitation;
mod netns;
mod observer;
mod packages;
pub mod plugins;
mod process;
mod python_peer;
mod registry;
mod screen;
mod server;
mod site;
mod slurm;
pub mod terminal_picture;
mod windows;
mod worker;

pub use broker::{TestBroker, server_lists};
pub use browser::{Browser, keys};
pub use client::{Ended, TestClient};
pub use driver::{Driver, gpu_row};
pub use http::post;
pub use invitation::TestInvitation;
pub use netns::{Island, Machine, Nat, Network};
pub use observer::{Observer, StatusTrace};
pub use packages::*;
pub use process::{Process, memory_peak_mib, python, under};
pub use process::{cpu_s, kill_all, processes_in, with_program};
pub use python_peer::{Aiortc, python_laptop, python_peer, python_program};
pub use python_peer::{python_worker, stand_in_with_hdf5};
pub use registry::TestRegistry;
pub use screen::TmuxScreen;
pub use server::TestServer;
pub use site::{Site, write_program};
pub use slurm::{TestSlurm, TwoMounts};
pub use windows::Windows;
pub use worker::{Credentials, TestWorker, WorkerSetup};

use std::{
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

/// Long enough for anything that should take a second or two, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);
/// Long enough for a whole job with the stand-in trainer.
pub const A_WHILE: Duration = Duration::from_secs(90);

/// The folder in which cargo puts programs: the parent of the running test's folder.
pub fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    built().parent().unwrap().to_owned()
}

const POLL_EVERY: Duration = Duration::from_millis(15);

/// Calls `look` until it returns something, and returns that.
///
/// # Panics
///
/// Panics after `limit`, naming `what` it waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {} s for {what}", limit.as_secs());
        sleep(POLL_EVERY);
    }
}
