//! Standard output that tolerates a closed pipe: `sleap-rtc … | head -1` ends quietly.

use std::io::{self, Write};

/// Writes `text` and a newline at once. A closed pipe is not an error; a full disk is.
pub fn line(text: &str) -> io::Result<()> {
    raw(&format!("{text}\n"))
}

/// Writes `text` as it is and flushes. A closed pipe is not an error; a full disk is.
pub fn raw(text: &str) -> io::Result<()> {
    ignore_closed_pipe(write(&mut io::stdout().lock(), text))
}

/// Writes to standard error what the command waits for.
pub fn waiting(words: &str) {
    error(&format!("{words} …\n"));
}

/// Writes `text` to standard error, ignoring errors: there is nowhere left to report them.
pub fn error(text: &str) {
    let _ = write(&mut io::stderr().lock(), text);
}

fn write(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}

fn ignore_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_pipe_is_ignored() {
        assert!(ignore_closed_pipe(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(ignore_closed_pipe(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
