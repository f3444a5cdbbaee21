//! Work that may never end, done by a thread of its own: reading a file from a disk that is gone, or
//! compiling what was made to take for ever. Neither can be interrupted; nobody needs to wait for it.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long reading and compiling a plugin may take. One written in Python takes seconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// What `work` returns, if it does so within `limit`. Else it goes on, and what it returns is dropped.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = move || {
        // Nobody may be waiting any more.
        let _ = sender.send(work());
    };
    thread::Builder::new().name("plugin".to_owned()).spawn(work).ok()?;
    receiver.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_not_waited_for() {
        assert_eq!(within(LIMIT, || 1), Some(1));
        let endless = || thread::sleep(Duration::from_secs(3600));
        assert_eq!(within(Duration::from_millis(10), endless), None);
    }
}
