//! Runs work that may never end on a separate thread, such as reading from a disk that is gone or
//! compiling a malicious plugin. Such work cannot be interrupted, but its caller can stop waiting.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long reading and compiling a plugin may take. One written in Python takes ten seconds, and more than
/// forty where all processors are busy, as a worker's are.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// The result of `work`, or `None` if it takes longer than `limit`. The work then continues, and
/// its result is dropped.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = move || {
        // The receiver may have stopped waiting.
        let _ = sender.send(work());
    };
    thread::Builder::new().name("plugin".to_owned()).spawn(work).ok()?;
    receiver.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_work_is_abandoned() {
        assert_eq!(within(LIMIT, || 1), Some(1));
        let endless = || thread::sleep(Duration::from_secs(3600));
        assert_eq!(within(Duration::from_millis(10), endless), None);
    }
}
