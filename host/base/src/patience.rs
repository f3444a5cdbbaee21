//! Waits for a program or a machine that may never answer, and says what is waited for before anybody wonders.

use std::pin::pin;
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// Whoever waits for longer than this is told for what.
const SILENCE: Duration = Duration::from_millis(1500);

/// How long to wait, and who is told.
#[derive(Debug, Clone, Copy)]
pub struct BoundedWait {
    /// The longest wait.
    pub limit: Duration,
    /// Hears one sentence about each long wait.
    pub tell: fn(&str),
}

impl BoundedWait {
    /// Waits for `work`, which is called `what`.
    pub async fn wait<T>(self, what: &str, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        let mut work = pin!(work);
        if let Ok(done) = timeout(SILENCE.min(self.limit), work.as_mut()).await {
            return Ok(done);
        }
        (self.tell)(&format!("waiting for {what}, for at most {} s", self.limit.as_secs()));
        timeout(self.limit.saturating_sub(SILENCE), work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static TOLD: AtomicUsize = AtomicUsize::new(0);

    #[tokio::test]
    async fn a_long_wait_is_announced_and_bounded() {
        fn tell(words: &str) {
            assert_eq!(words, "waiting for the driver, for at most 1 s");
            TOLD.fetch_add(1, Ordering::Relaxed);
        }
        let patience = BoundedWait { limit: SILENCE + Duration::from_millis(50), tell };
        assert!(patience.wait("the driver", async {}).await.is_ok());
        assert_eq!(TOLD.load(Ordering::Relaxed), 0);
        assert!(patience.wait("the driver", std::future::pending::<()>()).await.is_err());
        assert_eq!(TOLD.load(Ordering::Relaxed), 1);
    }
}
