//! Reads the keyboard.

use super::model::Key;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
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
    keys: mpsc::Receiver<Option<Key>>,
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

    /// The next key; `Some(None)` for one without a meaning, and for a terminal of another size. `None`
    /// if there are no more.
    pub(super) async fn next(&mut self) -> Option<Option<Key>> {
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

fn read(keys: &mpsc::Sender<Option<Key>>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let key = match event::poll(POLL) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let Ok(event) = key else { return };
        let key = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => meaning(key),
            Event::Resize(..) => None,
            _ => continue,
        };
        if keys.blocking_send(key).is_err() {
            return;
        }
    }
}

fn meaning(key: KeyEvent) -> Option<Key> {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if is_control => Key::Quit,
        _ if is_control => return None,
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Enter | KeyCode::Char('a') => Key::Attach,
        KeyCode::Char('s') => Key::Stop,
        KeyCode::Char('c') => Key::Cancel,
        KeyCode::Char('y') => Key::Yes,
        KeyCode::Char('n') => Key::No,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        _ => return None,
    })
}
