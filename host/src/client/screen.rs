//! The user's terminal: text that stays, and below it a few rows that are drawn anew.
//!
//! Everything that this program writes on a terminal goes through here, so that text never lands in
//! the middle of the rows. Nothing asks the terminal where its cursor is: that would need raw mode,
//! take what the user types ahead, and stop a client in the background.

use parking_lot::Mutex;
use sleap_rtc_base::os::{self, RawMode};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};

/// What is on the terminal now.
static SCREEN: Mutex<Screen> = Mutex::new(Screen::Rows(Vec::new()));

/// The most messages that are kept while the whole screen is taken.
const MAX_SAID: usize = 20;

/// The size of a terminal that does not know its own.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

enum Screen {
    /// These rows, below what was written.
    Rows(Vec<Row>),
    /// Something else has it all. These messages wait until they are taken.
    Taken(VecDeque<String>),
}

/// The whole screen, for one view. Until it is dropped, nothing else is written on the terminal.
#[derive(Debug)]
pub(crate) struct WholeScreen {
    /// How the terminal was before.
    _raw: RawMode,
    drawn: Vec<Row>,
}

impl WholeScreen {
    /// Takes the screen, and keys as they are pressed.
    pub(crate) fn take() -> io::Result<Self> {
        let raw = RawMode::enter()?;
        *SCREEN.lock() = Screen::Taken(VecDeque::new());
        Stream::Stdout.write("\x1b[?1049h\x1b[?25l\x1b[2J");
        Ok(Self { _raw: raw, drawn: Vec::new() })
    }

    /// Draws all rows, as far as they have changed.
    pub(crate) fn draw(&mut self, rows: Vec<Row>) {
        let mut text = String::new();
        if rows.len() != self.drawn.len() {
            self.drawn.clear();
            text.push_str("\x1b[2J");
        }
        for (place, row) in rows.iter().enumerate() {
            if self.drawn.get(place) != Some(row) {
                text.push_str(&format!("\x1b[{};1H{}\x1b[K", place + 1, row.text));
            }
        }
        Stream::Stdout.write(&text);
        self.drawn = rows;
    }

    /// The next message that this program would have written.
    pub(crate) fn said(&self) -> Option<String> {
        match &mut *SCREEN.lock() {
            Screen::Taken(said) => said.pop_front(),
            Screen::Rows(_) => None,
        }
    }
}

impl Drop for WholeScreen {
    fn drop(&mut self) {
        Stream::Stdout.write("\x1b[?25h\x1b[?1049l");
        *SCREEN.lock() = Screen::Rows(Vec::new());
    }
}

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Results and the trainer's log.
    Stdout,
    /// This program's messages.
    Stderr,
}

/// One row: text with its colours, without control characters of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// What to write.
    pub(crate) text: String,
    /// The columns that it takes.
    pub(crate) columns: u16,
}

impl Stream {
    /// Whether it is a terminal whose cursor can be moved.
    pub(crate) fn can_draw(self) -> bool {
        os::HAS_SCREENS && self.is_terminal() && !crate::terminal::is_dumb()
    }

    fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// The stream for rows: whichever is a terminal.
    fn of_rows() -> Option<Self> {
        [Self::Stdout, Self::Stderr].into_iter().find(|stream| stream.can_draw())
    }

    /// A closed stream is not an error: the user still wants the result.
    fn write(self, text: &str) {
        let write = |to: &mut dyn Write| to.write_all(text.as_bytes()).and_then(|()| to.flush());
        let _ = match self {
            Self::Stdout => write(&mut io::stdout().lock()),
            Self::Stderr => write(&mut io::stderr().lock()),
        };
    }
}

/// Whether rows can be shown.
pub(crate) fn can_show_rows() -> bool {
    Stream::of_rows().is_some()
}

/// Columns and lines of the terminal.
pub(crate) fn size() -> (u16, u16) {
    os::terminal_size().unwrap_or(DEFAULT_SIZE)
}

/// Writes text that stays, above the rows.
pub(crate) fn write(to: Stream, text: &str) {
    let mut screen = SCREEN.lock();
    let rows = match &mut *screen {
        Screen::Rows(rows) => rows,
        Screen::Taken(said) => {
            said.push_back(text.to_owned());
            said.drain(..said.len().saturating_sub(MAX_SAID));
            return;
        }
    };
    match Stream::of_rows() {
        Some(terminal) if !rows.is_empty() && to.is_terminal() => {
            let line_end = if text.ends_with('\n') { "" } else { "\n" };
            terminal.write(&erased(rows, size().0));
            to.write(&format!("{text}{line_end}"));
            terminal.write(&drawn(rows));
        }
        _ => to.write(text),
    }
}

/// Replaces the rows. None at all gives the terminal back as it was.
pub(crate) fn show(new: Vec<Row>) {
    let mut screen = SCREEN.lock();
    let Screen::Rows(rows) = &mut *screen else { return };
    let Some(terminal) = Stream::of_rows() else { return };
    if *rows != new {
        let text = erased(rows, size().0) + &drawn(&new);
        terminal.write(&text);
        *rows = new;
    }
}

/// Removes the rows, and puts the cursor where they began. A terminal that has become narrower has
/// wrapped them.
fn erased(rows: &[Row], columns: u16) -> String {
    let lines = rows.iter().map(|row| row.columns.div_ceil(columns.max(1)).max(1));
    match lines.sum::<u16>() {
        0 => String::new(),
        1 => "\r\x1b[J".to_owned(),
        lines => format!("\r\x1b[{}A\x1b[J", lines - 1),
    }
}

/// The cursor is hidden only until they are complete.
fn drawn(rows: &[Row]) -> String {
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    match texts.len() {
        0 => String::new(),
        _ => format!("\x1b[?25l{}\x1b[?25h", texts.join("\r\n")),
    }
}

/// This program's log, for `tracing`: on standard error, above the rows.
#[derive(Debug)]
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(Stream::Stderr, &String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        Row { text: text.to_owned(), columns: text.len() as u16 }
    }

    #[test]
    fn rows_are_erased_as_the_terminal_has_wrapped_them() {
        let rows = [row("twelve chars"), row(""), row("five5")];
        assert_eq!(erased(&[], 40), "");
        assert_eq!(erased(&rows[1..2], 40), "\r\x1b[J");
        assert_eq!(erased(&rows, 40), "\r\x1b[2A\x1b[J");
        assert_eq!(erased(&rows, 5), "\r\x1b[4A\x1b[J");
    }

    #[test]
    fn the_cursor_is_shown_again_after_each_drawing() {
        let text = drawn(&[row("a"), row("b")]);
        assert_eq!(text, "\x1b[?25la\r\nb\x1b[?25h");
        assert_eq!(drawn(&[]), "");
    }
}
