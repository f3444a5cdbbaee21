//! Standard output that outlives its reader: `sleap-rtc … | head -1` ends quietly.

use std::io::{self, Write};

/// Writes `text` and a newline at once. A reader that has gone is no error; a full disk is.
pub fn line(text: &str) -> io::Result<()> {
    raw(&format!("{text}\n"))
}

/// Writes `text` as it is and flushes. A reader that has gone is no error; a full disk is.
pub fn raw(text: &str) -> io::Result<()> {
    forgive(write(&mut io::stdout().lock(), text))
}

/// Writes `text` to standard error. Nothing can be done when that fails.
pub fn error(text: &str) {
    let _ = write(&mut io::stderr().lock(), text);
}

fn write(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}

fn forgive(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gone_reader_is_forgiven() {
        assert!(forgive(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(forgive(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
