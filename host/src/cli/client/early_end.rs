//! How a job ends before its time.

/// By `stop` or by `cancel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EarlyEnd {
    /// With the model that is being trained; `all` leaves out those that would follow.
    Stop { all: bool },
    /// Without a result.
    Cancel,
}
