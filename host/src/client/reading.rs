//! A package of many gigabytes takes its time to be read and hashed: that is said.

use super::display::say;
use super::meter::bytes;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a silence may be.
const FIRST: Duration = Duration::from_millis(1_500);
const INTERVAL: Duration = Duration::from_secs(5);

/// How much of a package has been read.
#[derive(Debug, Clone, Default)]
pub struct Reading(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: AtomicU64,
    read: AtomicU64,
}

impl Reading {
    /// The package has so many bytes in all.
    pub(super) fn expect(&self, total_bytes: u64) {
        self.0.total.store(total_bytes, Ordering::Relaxed);
    }

    /// Where to count what has been read.
    pub(super) fn counter(&self) -> &AtomicU64 {
        &self.0.read
    }

    /// Says from time to time how far the reading is, while `work` does it.
    pub async fn while_at<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.tell() => match never {},
        }
    }

    async fn tell(&self) -> Infallible {
        tokio::time::sleep(FIRST).await;
        loop {
            say(&self.line());
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn line(&self) -> String {
        let [read, total] = [&self.0.read, &self.0.total].map(|of| of.load(Ordering::Relaxed));
        match total {
            0 => "Reading the package".to_owned(),
            total => format!("Reading the package: {} of {}", bytes(read.min(total)), bytes(total)),
        }
    }
}
