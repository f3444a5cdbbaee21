//! Time in a browser.

use futures_util::future::{Either, select};
use js_sys::Promise;
use std::pin::pin;
use wasm_bindgen_futures::JsFuture;
use web_time::{Duration, Instant};

/// The time, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    js_sys::Date::now() as u64
}

/// Waits.
pub async fn sleep(duration: Duration) {
    let millis = i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
    let waiting = Promise::new(&mut |resolve, _| {
        if let Some(window) = web_sys::window() {
            // Without a timer there is nothing left to wait for: the page is going away.
            let _ = window.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, millis);
        }
    });
    let _ = JsFuture::from(waiting).await;
}

/// Waits until then.
pub async fn sleep_until(instant: Instant) {
    sleep(instant.saturating_duration_since(Instant::now())).await;
}

/// What `work` gives, if it does so within `limit`.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    match select(pin!(work), pin!(sleep(limit))).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
