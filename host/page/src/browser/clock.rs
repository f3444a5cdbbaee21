//! Time in a browser.

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use std::pin::pin;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::Window;
use web_time::{Duration, Instant};

/// The time, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    js_sys::Date::now() as u64
}

/// A timer of the browser. Dropping it ends it: a transfer would leave thousands of them.
struct Timer {
    window: Window,
    id: i32,
    _fire: Closure<dyn FnMut()>,
}

impl Timer {
    /// Calls `fire` once.
    fn start(after: Duration, fire: impl FnOnce() + 'static) -> Option<Self> {
        let window = web_sys::window()?;
        let millis = i32::try_from(after.as_millis()).unwrap_or(i32::MAX);
        let fire = Closure::once(fire);
        let function = fire.as_ref().unchecked_ref();
        let id = window.set_timeout_with_callback_and_timeout_and_arguments_0(function, millis);
        Some(Self { window, id: id.ok()?, _fire: fire })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.window.clear_timeout_with_handle(self.id);
    }
}

/// Waits.
pub async fn sleep(duration: Duration) {
    let (fired, waiting) = oneshot::channel();
    let timer = Timer::start(duration, move || drop(fired.send(())));
    // Without a timer there is nothing left to wait for: the page is going away.
    let _ = waiting.await;
    drop(timer);
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
