//! What to do with an existing job.

use super::output::Output;

/// What to do with an existing job.
#[derive(Debug, Clone)]
pub enum Action {
    /// Show its log, then download the result.
    Attach {
        /// Where the result goes.
        output: Output,
        /// Show only the events after the one with this number. 0 shows everything.
        after: u64,
    },
    /// Show its log.
    Logs {
        /// Keep showing it until the job ends.
        follow: bool,
        /// As in `Attach`.
        after: u64,
    },
    /// End it early and keep the model.
    Stop {
        /// Also skip the runs that have not started.
        all: bool,
    },
    /// Say why it waits.
    Why,
    /// End it now.
    Cancel,
    /// Download the result.
    Fetch(Output),
}
