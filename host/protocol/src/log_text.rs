//! The trainer's log as it is shown.

use crate::text::is_printable;

/// How much of a line on a pipe is kept, in bytes.
const MAX_LINE_BYTES: usize = 1 << 20;

/// The trainer's log for a terminal (progress bars redraw in place) or for a pipe (only the last state
/// of each line). Drops escape sequences and control characters, since text from a worker must not
/// control the terminal.
#[derive(Debug, Default)]
pub struct LogText {
    terminal: bool,
    line: String,
    escape: Escape,
    mid_line: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Escape {
    #[default]
    No,
    Begun,
    Sequence,
}

impl LogText {
    /// For a terminal, or for a pipe.
    pub fn new(terminal: bool) -> Self {
        Self { terminal, ..Self::default() }
    }

    /// Takes a part of the log and returns what to print.
    pub fn push(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            if self.is_escape(c) {
                continue;
            }
            match c {
                '\n' | '\r' if self.terminal => shown.push(c),
                '\n' if self.line.trim().is_empty() => self.line.clear(),
                '\n' => {
                    shown.push_str(self.line.trim_end());
                    shown.push('\n');
                    self.line.clear();
                }
                '\r' => self.line.clear(),
                c if !is_printable(c) && c != '\t' => {}
                c if self.terminal => shown.push(c),
                c if self.line.len() < MAX_LINE_BYTES => self.line.push(c),
                _ => {}
            }
        }
        if let Some(last) = shown.chars().last() {
            self.mid_line = last != '\n';
        }
        shown
    }

    fn is_escape(&mut self, c: char) -> bool {
        self.escape = match (self.escape, c) {
            (_, '\x1b') => Escape::Begun,
            (Escape::Begun, '[') => Escape::Sequence,
            (Escape::Begun, _) => {
                self.escape = Escape::No;
                return true;
            }
            (Escape::Sequence, '\x40'..='\x7e') => {
                self.escape = Escape::No;
                return true;
            }
            (state, _) => state,
        };
        self.escape != Escape::No
    }

    /// What ends the current line, before a message of another kind.
    pub fn end_line(&mut self) -> String {
        if self.mid_line {
            self.mid_line = false;
            return "\n".to_owned();
        }
        let line = std::mem::take(&mut self.line);
        if line.trim().is_empty() { String::new() } else { format!("{}\n", line.trim_end()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_pipe_only_the_last_state_of_a_bar_is_a_line() {
        let mut view = LogText::new(false);
        assert_eq!(view.push("start\n\rEpoch 0: 10%"), "start\n");
        assert_eq!(view.push("\rEpoch 0: 100%"), "");
        assert_eq!(view.push("\n\rValidation: \x1b[A\n"), "Epoch 0: 100%\nValidation:\n");
    }

    #[test]
    fn escape_sequences_are_removed() {
        let mut view = LogText::new(true);
        assert_eq!(view.push("a\x1b[2Jb\x1b"), "ab");
        assert_eq!(view.push("]c\x07\rd"), "c\rd");
    }
}
