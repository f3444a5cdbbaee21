//! Shows the progress of reading a large package.

use super::display::say;
use sleap_rtc_protocol::meter::bytes;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// No progress is shown for a package that is read within this time.
const FIRST: Duration = Duration::from_millis(1_500);
/// The time between two lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// The progress of reading a package.
#[derive(Debug, Clone, Default)]
pub struct ReadProgress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: AtomicU64,
    read: AtomicU64,
}

impl ReadProgress {
    /// Sets the size of the package.
    pub(crate) fn expect(&self, total_bytes: u64) {
        self.0.total.store(total_bytes, Ordering::Relaxed);
    }

    /// The counter of the bytes that have been read.
    pub(crate) fn counter(&self) -> &AtomicU64 {
        &self.0.read
    }

    /// Shows the progress regularly until `work`, which reads the package, is done.
    pub async fn show_during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.show() => match never {},
        }
    }

    async fn show(&self) -> Infallible {
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
