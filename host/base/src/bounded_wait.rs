//! Waits for a program or a machine that may never answer, and announces a long wait.

use std::pin::pin;
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// A longer wait is announced.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(1500);

/// How long to wait, and how to announce it.
#[derive(Debug, Clone, Copy)]
pub struct BoundedWait {
    /// The longest wait.
    pub limit: Duration,
    /// Receives one sentence about each long wait.
    pub announce: fn(&str),
}

impl BoundedWait {
    /// Waits for `work`. An announcement calls it `what`.
    pub async fn wait<T>(self, what: &str, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        let mut work = pin!(work);
        if let Ok(done) = timeout(ANNOUNCE_AFTER.min(self.limit), work.as_mut()).await {
            return Ok(done);
        }
        (self.announce)(&format!("waiting for {what}, for at most {} s", self.limit.as_secs()));
        timeout(self.limit.saturating_sub(ANNOUNCE_AFTER), work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static ANNOUNCEMENTS: AtomicUsize = AtomicUsize::new(0);

    #[tokio::test]
    async fn a_long_wait_is_announced_and_bounded() {
        fn announce(words: &str) {
            assert_eq!(words, "waiting for the driver, for at most 1 s");
            ANNOUNCEMENTS.fetch_add(1, Ordering::Relaxed);
        }
        let limit = ANNOUNCE_AFTER + Duration::from_millis(50);
        let patience = BoundedWait { limit, announce };
        assert!(patience.wait("the driver", async {}).await.is_ok());
        assert_eq!(ANNOUNCEMENTS.load(Ordering::Relaxed), 0);
        assert!(patience.wait("the driver", std::future::pending::<()>()).await.is_err());
        assert_eq!(ANNOUNCEMENTS.load(Ordering::Relaxed), 1);
    }
}
