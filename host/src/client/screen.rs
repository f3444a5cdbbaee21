//! The user's terminal: text that stays, and below it a few rows that are drawn anew.
//!
//! Everything that this program writes on a terminal goes through here, so that text never lands in
//! the middle of the rows. Nothing asks the terminal where its cursor is: that would need raw mode,
//! take what the user types ahead, and stop a client in the background.
//!
//! Between two drawings the cursor stands in an empty row above the others. A terminal that becomes
//! narrower may wrap the rows, or cut them, and may have another size than this program knows yet. The
//! cursor stays where it is in the text, so everything from there on is what has to go: no row is counted.

use parking_lot::Mutex;
use sleap_rtc_base::os::{self, RawMode};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::Once;

/// What is on the terminal now.
static SCREEN: Mutex<Screen> = Mutex::new(Screen::Rows(Drawn::NOTHING));

/// The most messages that are kept while the whole screen is taken.
const MAX_SAID: usize = 20;

/// The size of a terminal that does not know its own.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

enum Screen {
    /// These rows, below what was written.
    Rows(Drawn),
    /// Something else has it all. These messages wait until they are taken.
    Taken(VecDeque<String>),
}

/// Rows that are drawn anew.
#[derive(Debug)]
struct Drawn {
    rows: Vec<Row>,
    /// The terminal's columns when they were drawn.
    columns: u16,
    /// The lines that are above them on the screen, at least.
    above: u16,
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
        *SCREEN.lock() = Screen::Rows(Drawn::NOTHING);
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    let shown = match &mut *screen {
        Screen::Rows(shown) => shown,
        Screen::Taken(said) => {
            said.push_back(text.to_owned());
            said.drain(..said.len().saturating_sub(MAX_SAID));
            return;
        }
    };
    if to.is_terminal() {
        let lines = u16::try_from(text.matches('\n').count()).unwrap_or(u16::MAX);
        shown.above = shown.above.saturating_add(lines);
    }
    match Stream::of_rows() {
        Some(terminal) if !shown.rows.is_empty() && to.is_terminal() => {
            let line_end = if text.ends_with('\n') { "" } else { "\n" };
            terminal.write(ERASE);
            to.write(&format!("{text}{line_end}"));
            terminal.write(&drawn(&shown.rows));
        }
        _ => to.write(text),
    }
}

/// Replaces the rows. None at all gives the terminal back as it was.
pub(crate) fn show(new: Vec<Row>) {
    let mut screen = SCREEN.lock();
    let Screen::Rows(shown) = &mut *screen else { return };
    let Some(terminal) = Stream::of_rows() else { return };
    let new = shown.placed(new, size(), std::env::var_os("TMUX").is_some());
    if shown.rows != new {
        let erase = if shown.rows.is_empty() { "" } else { ERASE };
        terminal.write(&format!("{erase}{}", drawn(&new)));
        shown.rows = new;
    }
}

/// Takes the rows away before a user who presses Ctrl-Z is back at the shell. They come back with the next
/// change. Needs a runtime of tokio.
pub(crate) fn make_way_for_the_shell() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = os::before_each_suspension(|| show(Vec::new())) {
            tracing::debug!(%error, "the rows stay when the user presses Ctrl-Z");
        }
    });
}

impl Drawn {
    const NOTHING: Self = Self { rows: Vec::new(), columns: 0, above: 0 };

    /// `new` rows for a terminal of this size, below an empty row for the cursor.
    ///
    /// tmux puts as many lines into its history as the rows of a narrower terminal take more, even if
    /// the screen is empty below them. What is there cannot be taken back. So there are enough lines above
    /// the rows for a terminal that becomes half as wide: if too few are known, empty rows.
    fn placed(&mut self, new: Vec<Row>, (columns, lines): (u16, u16), in_tmux: bool) -> Vec<Row> {
        if columns < self.columns {
            self.above = self.above.saturating_sub(more_lines(&self.rows, columns));
        }
        self.columns = columns;
        if new.is_empty() {
            return new;
        }
        let wanted = if in_tmux { more_lines(&new, columns / 2) } else { 0 };
        let most = usize::from(lines).saturating_sub(new.len() + 1).max(1);
        let empty = usize::from(wanted.saturating_sub(self.above)).clamp(1, most);
        let mut rows = vec![Row::default(); empty];
        rows.extend(new);
        rows
    }
}

/// How many lines more the rows take if they are wrapped at `columns`.
fn more_lines(rows: &[Row], columns: u16) -> u16 {
    rows.iter().map(|row| row.columns.saturating_sub(1) / columns.max(1)).sum()
}

/// Removes everything from the cursor's line on. Erasing begins in the second column: what is erased
/// from the first character of the screen on goes into tmux's history.
const ERASE: &str = "\r\x1b[K\x1b[C\x1b[J\r";

/// Writes the rows, one a line whatever the width is, and returns to the first. The cursor is hidden
/// only until they are complete.
fn drawn(rows: &[Row]) -> String {
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    let back = match texts.len() {
        0 => return String::new(),
        1 => String::new(),
        count => format!("\x1b[{}A", count - 1),
    };
    format!("\x1b[?25l\x1b[?7l{}\x1b[?7h\r{back}\x1b[?25h", texts.join("\r\n"))
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
    fn in_tmux_there_are_lines_above_for_a_narrower_terminal() {
        let rows = || vec![row(&"x".repeat(79)), row(&"x".repeat(41)), row("short")];
        let empty =
            |shown: &mut Drawn, size, in_tmux| shown.placed(rows(), size, in_tmux).len() - 3;
        let mut shown = Drawn::NOTHING;
        assert_eq!(empty(&mut shown, (80, 24), false), 1);
        assert_eq!(empty(&mut shown, (80, 24), true), 2);
        shown.above = 1;
        assert_eq!(empty(&mut shown, (80, 24), true), 1);
        // The lines above have gone into the history.
        shown.rows = rows();
        assert_eq!(empty(&mut shown, (40, 24), true), 5);
        assert_eq!(empty(&mut shown, (40, 5), true), 1);
        assert_eq!(shown.placed(Vec::new(), (40, 24), true), Vec::new());
    }

    #[test]
    fn each_row_takes_one_line_and_the_cursor_is_shown_at_the_first() {
        let text = drawn(&[row("a"), row("b")]);
        assert_eq!(text, "\x1b[?25l\x1b[?7la\r\nb\x1b[?7h\r\x1b[1A\x1b[?25h");
        assert_eq!(drawn(&[row("a")]), "\x1b[?25l\x1b[?7la\x1b[?7h\r\x1b[?25h");
        assert_eq!(drawn(&[]), "");
    }
}
