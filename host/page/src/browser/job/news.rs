//! Messages between a job's task and the page.

use crate::browser::engine::ResultFile;
use sleap_rtc_protocol::job::NumberedEvent;
use sleap_rtc_protocol::meter::{Direction, Progress};
use sleap_rtc_protocol::queue_report::QueueStatus;
use sleap_rtc_protocol::workload::Outlook;
use sleap_rtc_trust::session::JobString;
use wasm_bindgen::JsValue;
use web_sys::Blob;

/// The phase of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The package is read and hashed.
    Reading,
    /// Workers are asked. The text says which.
    Asking(String),
    /// No worker takes it. The text says why.
    NoWorker(String),
    /// The worker is not ready yet. The text says what it does.
    Preparing(String),
    /// The package is on its way.
    Sending,
    /// The worker has it.
    Following,
    /// The connection is lost; reconnecting.
    Lost,
    /// The result is on its way.
    Fetching,
    /// It has ended.
    Over,
    /// It cannot go on. The text says why.
    Failed(String),
}

/// What the page is told.
pub enum JobNews {
    /// It is here now.
    Phase(Phase),
    /// Progress of reading the package.
    Read {
        /// Bytes.
        bytes: u64,
        /// The size of the package.
        total_bytes: u64,
    },
    /// Progress of a transfer.
    Transfer(Direction, Progress),
    /// A worker has it.
    Placed(Box<JobString>),
    /// What it is called, and where it is.
    Chosen(String),
    /// It waits for a slot.
    Waiting(Box<QueueStatus>),
    /// What the worker expects of the job, of which no event has come yet.
    Outlook(Box<Outlook>),
    /// Something has happened.
    Event(NumberedEvent),
    /// The result is here.
    Fetched(Results),
    /// The result is packed.
    Zip(JsValue),
    /// The result is in the folder of this name.
    Saved(String),
    /// Something did not work. It may be tried again.
    Trouble(String),
}

/// A result that is here.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// Its files, and what is in them.
    pub files: Vec<(ResultFile, Blob)>,
}

/// What the page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Ask the workers again.
    Retry,
    /// Wait in line at a worker without a free slot.
    Wait,
    /// Stop the training early, and keep the model.
    Stop,
    /// Cancel the job.
    Cancel,
    /// Fetch the result.
    Fetch,
    /// Pack the result.
    Zip,
}
