//! Reads the user's input.

use sleap_rtc_protocol::text::is_printable;
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long to wait for the user's answer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whether there is somebody at a terminal.
pub(crate) fn may_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks a yes-or-no question. `None` if there is no terminal, or no answer in time.
pub(crate) async fn confirm(question: &str) -> Option<bool> {
    if !may_ask() {
        return None;
    }
    ask_aloud(question);
    match typed().await {
        Typed::Line(line) => Some(matches!(line.trim(), "y" | "Y" | "yes")),
        Typed::End => Some(false),
        Typed::Nothing => None,
    }
}

/// Prints a question on stderr, without a line break.
fn ask_aloud(question: &str) {
    let question: String = question.chars().filter(|c| is_printable(*c) || *c == '\n').collect();
    let _ = write!(std::io::stderr().lock(), "{question}");
}

/// The user's input.
pub(crate) enum Typed {
    Line(String),
    /// The end of standard input.
    End,
    /// No input in time.
    Nothing,
}

/// A line of input, within five minutes.
pub(crate) async fn typed() -> Typed {
    match tokio::time::timeout(PATIENCE, read_line()).await {
        Ok(Some(line)) => Typed::Line(line),
        Ok(None) => Typed::End,
        Err(_) => Typed::Nothing,
    }
}

/// One line of standard input, or `None` at its end. A thread of its own reads it. A blocked read cannot
/// be cancelled, so an abandoned prompt leaves the thread behind until the process ends.
async fn read_line() -> Option<String> {
    let (send, mut receive) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        let _ = send.blocking_send(read.is_ok_and(|bytes| bytes > 0).then_some(line));
    });
    receive.recv().await.flatten()
}
