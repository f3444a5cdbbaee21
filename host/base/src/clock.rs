//! The time of day, as numbers since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, or 0 if the machine's clock is before that.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    now_ms() / 1000
}
