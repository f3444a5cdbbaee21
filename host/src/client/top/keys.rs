//! Reads the keyboard.

use super::model::Key;
use sleap_rtc_base::os::read_keys;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;

/// How soon the thread that reads notices that nobody listens any more.
const POLL: Duration = Duration::from_millis(100);
/// The most keys that wait.
const QUEUE: usize = 32;

/// The keyboard of a terminal in raw mode. A thread reads it, which ends when this is dropped.
pub(super) struct Keyboard {
    keys: mpsc::Receiver<Key>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keyboard {
    pub(super) fn open() -> Self {
        let (sender, keys) = mpsc::channel(QUEUE);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || read(&sender, &over));
        Self { keys, is_over, thread: Some(thread) }
    }

    /// The next key. `None` if there are no more.
    pub(super) async fn next(&mut self) -> Option<Key> {
        self.keys.recv().await
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.keys.close();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the thread that reads the keyboard failed");
        }
    }
}

fn read(keys: &mpsc::Sender<Key>, is_over: &AtomicBool) {
    let mut bytes = [0; 64];
    while !is_over.load(Ordering::Relaxed) {
        let length = match read_keys(&mut bytes, POLL) {
            Ok(None) => continue,
            Ok(Some(length @ 1..)) => length,
            Ok(Some(_)) | Err(_) => return,
        };
        for key in meanings(&bytes[..length]) {
            if keys.blocking_send(key).is_err() {
                return;
            }
        }
    }
}

/// What a terminal in raw mode sends for the keys that have a meaning. It sends each key's bytes at once.
fn meanings(mut bytes: &[u8]) -> Vec<Key> {
    let sequences: [(&[u8], Key); 6] = [
        (b"\x1b[A", Key::Up),
        (b"\x1bOA", Key::Up),
        (b"\x1b[B", Key::Down),
        (b"\x1bOB", Key::Down),
        (b"\x1b[5~", Key::PageUp),
        (b"\x1b[6~", Key::PageDown),
    ];
    let mut keys = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        if let Some((sequence, key)) = sequences.iter().find(|(start, _)| bytes.starts_with(start))
        {
            keys.push(*key);
            bytes = &bytes[sequence.len()..];
            continue;
        }
        keys.extend(match first {
            b'k' => Some(Key::Up),
            b'j' => Some(Key::Down),
            b'\r' | b'\n' | b'a' => Some(Key::Attach),
            b's' => Some(Key::Stop),
            b'c' => Some(Key::Cancel),
            b'y' => Some(Key::Yes),
            b'n' => Some(Key::No),
            // Ctrl-C, and Esc alone.
            b'q' | 0x03 => Some(Key::Quit),
            0x1b if rest.is_empty() => Some(Key::Quit),
            // Another key's sequence, whose letters mean nothing.
            0x1b => return keys,
            _ => None,
        });
        bytes = rest;
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_the_sequences_of_others() {
        let keys = meanings(b"\x1b[A\x1bOBs\x1b[6~xy\x03");
        assert_eq!(keys, [Key::Up, Key::Down, Key::Stop, Key::PageDown, Key::Yes, Key::Quit]);
        assert_eq!(meanings(b"\x1b"), [Key::Quit]);
        // Ctrl-right, and a pasted text in brackets.
        assert_eq!(meanings(b"\x1b[1;5C"), []);
        assert_eq!(meanings(b"\x1b[200~scary"), []);
    }
}
