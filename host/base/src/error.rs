//! Formats errors with their causes.

use std::error::Error;
use std::fmt;

/// An error followed by its causes, for a log line or a message to another machine. The text of an
/// error does not repeat its cause; where nothing walks the chain, this prints it.
///
/// ```
/// use sleap_rtc_base::error::WithCauses;
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("cannot read the journal")]
/// struct Unreadable(#[source] std::io::Error);
///
/// let error = Unreadable(std::io::Error::other("the disk is gone"));
/// assert_eq!(WithCauses(&error).to_string(), "cannot read the journal: the disk is gone");
/// ```
pub struct WithCauses<'a>(pub &'a dyn Error);

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
