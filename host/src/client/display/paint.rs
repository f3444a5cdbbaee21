//! Draws a job's view on the terminal whenever it has changed.

use super::view::View;
use crate::client::screen::{self, Row};
use parking_lot::Mutex;
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use ratatui::text::Line;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time between two drawings.
const FRAME: Duration = Duration::from_millis(100);
/// The lines that the view may have on any terminal.
const LEAST: u16 = 6;
/// How soon a terminal of another size is noticed.
const RESIZE: Duration = Duration::from_millis(100);

/// The thread that draws. It ends when this is dropped, and takes the view off the terminal.
#[derive(Debug)]
pub(crate) struct Painter {
    /// Taken when this is dropped, which ends the thread.
    poke: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Painter {
    /// Draws `view` from now on.
    pub(crate) fn start(view: Arc<Mutex<View>>) -> Self {
        screen::make_way_for_the_shell();
        let (poke, poked) = sync_channel(1);
        let thread = std::thread::spawn(move || paint(&view, &poked));
        Self { poke: Some(poke), thread: Some(thread) }
    }

    /// The view has changed.
    pub(crate) fn poke(&self) {
        if let Some(poke) = &self.poke {
            // If one is pending, it will do.
            let _ = poke.try_send(());
        }
    }
}

impl Drop for Painter {
    fn drop(&mut self) {
        self.poke = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the thread that draws the job failed");
        }
        screen::show(Vec::new());
    }
}

fn paint(view: &Mutex<View>, poked: &Receiver<()>) {
    let mut drawn: Option<Instant> = None;
    loop {
        // Several changes in a short time are drawn once.
        let due = drawn.map_or(Duration::ZERO, |at| FRAME.saturating_sub(at.elapsed()));
        std::thread::sleep(due);
        let size = screen::size();
        let (columns, lines) = size;
        // The last column stays free: some terminals begin a new line after it. Half of the lines stay
        // free, too: a terminal that becomes half as wide wraps each row once, and what leaves it at the
        // top could not be taken back.
        let (width, height) =
            (columns.saturating_sub(1), (lines / 2).max(LEAST).min(lines.saturating_sub(2)));
        let shown = view.lock().lines(width, height);
        screen::show(rows(&shown, width));
        drawn = Some(Instant::now());
        if wait(poked, size).is_none() {
            return;
        }
    }
}

/// Waits until there is something to draw. `None` at the end.
fn wait(poked: &Receiver<()>, size: (u16, u16)) -> Option<()> {
    loop {
        match poked.recv_timeout(RESIZE) {
            Ok(()) => return Some(()),
            Err(RecvTimeoutError::Timeout) if screen::size() == size => {}
            Err(RecvTimeoutError::Timeout) => return Some(()),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Lines as rows of a terminal with `width` columns.
pub(crate) fn rows(lines: &[Line<'_>], width: u16) -> Vec<Row> {
    let area = Rect::new(0, 0, width, lines.len() as u16);
    let mut buffer = Buffer::empty(area);
    for (y, line) in (0..).zip(lines) {
        put(line, Rect { y, height: 1, ..area }, &mut buffer);
    }
    buffer_rows(&buffer)
}

/// Draws a line. One that does not fit ends with `…`.
pub(crate) fn put(line: &Line<'_>, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    buffer.set_line(area.x, area.y, line, area.width);
    if line.width() > usize::from(area.width) {
        buffer[(area.right() - 1, area.y)].set_symbol("…");
    }
}

/// A whole buffer as rows.
pub(crate) fn buffer_rows(buffer: &Buffer) -> Vec<Row> {
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    (0..buffer.area.height).map(|y| row(buffer, y, colours)).collect()
}

/// One row, without the spaces at its end.
fn row(buffer: &Buffer, y: u16, colours: bool) -> Row {
    let cells = (0..buffer.area.width).filter_map(|x| buffer.cell((x, y)));
    let cells: Vec<&Cell> = cells.collect();
    let is_seen = |cell: &&Cell| cell.symbol() != " " || cell.modifier.contains(Modifier::REVERSED);
    let end = cells.iter().rposition(is_seen).map_or(0, |last| last + 1);
    let (mut text, mut style) = (String::new(), String::new());
    let mut hidden = 0;
    for cell in cells.iter().take(end) {
        // A wide character covers the cells after its own.
        if hidden > 0 {
            hidden -= 1;
            continue;
        }
        hidden = ratatui::text::Span::raw(cell.symbol()).width().saturating_sub(1);
        let wanted = codes(cell, colours);
        if wanted != style {
            text.push_str("\x1b[0m");
            text.push_str(&wanted);
            style = wanted;
        }
        text.push_str(cell.symbol());
    }
    if !style.is_empty() {
        text.push_str("\x1b[0m");
    }
    Row { text, columns: (end + hidden) as u16 }
}

/// What sets a cell's style.
fn codes(cell: &Cell, colours: bool) -> String {
    let mut codes = String::new();
    let modifiers = [(Modifier::BOLD, 1), (Modifier::DIM, 2), (Modifier::REVERSED, 7)];
    for (_, code) in modifiers.into_iter().filter(|(modifier, _)| cell.modifier.contains(*modifier))
    {
        codes.push_str(&format!("\x1b[{code}m"));
    }
    let colour = match cell.fg {
        Color::Red => 31,
        Color::Green => 32,
        Color::Yellow => 33,
        Color::Cyan => 36,
        _ => return codes,
    };
    if colours {
        codes.push_str(&format!("\x1b[{colour}m"));
    }
    codes
}
