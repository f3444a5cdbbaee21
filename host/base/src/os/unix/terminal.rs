//! The terminal.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io;
use std::time::Duration;

/// Whether programs draw on terminals here.
pub const HAS_SCREENS: bool = true;

/// The columns and lines of the terminal that standard output or error is, if it knows them.
pub fn terminal_size() -> Option<(u16, u16)> {
    let known = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stderr())).ok()?;
    (known.ws_col > 0 && known.ws_row > 0).then_some((known.ws_col, known.ws_row))
}

/// While this exists, the terminal hands over each key as it is pressed, Ctrl-C too, and shows none.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Changes the terminal that standard input is.
    ///
    /// # Errors
    /// Standard input is not a terminal.
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Reads what keys have sent, past the buffer of [`io::Stdin`], which a later reader would miss. Returns the
/// number of bytes, 0 at the end, or `None` if nothing was pressed within `limit` (less than a second counts).
///
/// # Errors
/// The system's.
pub fn read_keys(bytes: &mut [u8], limit: Duration) -> io::Result<Option<usize>> {
    let limit = Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() };
    let input = io::stdin();
    match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&limit)) {
        Ok(0) | Err(Errno::INTR) => Ok(None),
        Ok(_) => Ok(Some(rustix::io::read(&input, bytes)?)),
        Err(error) => Err(error.into()),
    }
}
