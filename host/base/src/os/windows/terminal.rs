//! The terminal: text alone.

use std::io;
use std::time::Duration;

/// Whether programs draw on terminals here.
pub const HAS_SCREENS: bool = false;

/// Not known here.
pub fn terminal_size() -> Option<(u16, u16)> {
    None
}

/// Keys as they are pressed, which programs do not get here.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Does nothing.
    ///
    /// # Errors
    /// Always.
    pub fn enter() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Reads nothing.
///
/// # Errors
/// Always.
pub fn read_keys(_: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
    Err(io::ErrorKind::Unsupported.into())
}
