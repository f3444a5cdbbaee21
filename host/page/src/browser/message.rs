//! The messages that change the page, and how to send them.

use super::engine::{Opened, Session};
use super::job::{Choice, JobNews};
use super::pairing::Paired;
use super::parcel::Item;
use super::prediction::FormStep;
use super::room::RoomNews;
use super::store::KnownRoom;
use sleap_rtc_protocol::chart::Scale;
use sleap_rtc_protocol::ids::{JobId, RoomId};
use std::cell::RefCell;

/// What the page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Screen {
    /// The room's workers.
    #[default]
    Workers,
    /// A training.
    Train,
    /// A prediction.
    Track,
    /// A job.
    Job(JobId),
}

/// What can happen.
pub enum Msg {
    /// The user has pasted a link, a string, or room and token.
    Pasted(String),
    /// The address has changed.
    Linked,
    /// This browser has paired, or has not. The text says why.
    Paired(Box<Result<Paired, String>>),
    /// The user has read the words.
    Verified,
    /// Enter this room.
    Enter(Box<KnownRoom>),
    /// Forget this room.
    Forget(RoomId),
    /// Leave the room.
    Leave,
    /// News of the room.
    Room(RoomNews),
    /// Show something else.
    Show(Screen),
    /// The user has given a package. The text says why it was not.
    Given(Result<Vec<Item>, String>),
    /// The user puts a prediction together.
    Form(FormStep),
    /// What was given was read.
    Opened(Result<(Session, Box<Opened>), String>),
    /// The user chooses a worker.
    Choose(Choice),
    /// Submit the package.
    Submit,
    /// Put the package away.
    PutAway,
    /// News of a job.
    Job(JobId, JobNews),
    /// The user asks something of a job.
    Ask(JobId, JobAction),
    /// Another scale for the curves.
    Scale(Scale),
    /// The pointer is at this epoch of a run.
    Point(Option<(usize, u64)>),
    /// Only lines of the log with this text.
    Search(String),
    /// All lines of the log that are kept, or the last ones.
    ShowAllLines(bool),
}

/// What a user may ask of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAction {
    /// Ask the workers again.
    Retry,
    /// Wait in line.
    Wait,
    /// Stop early.
    Stop,
    /// Ask whether to cancel, or do not.
    ConfirmCancel(bool),
    /// Cancel.
    Cancel,
    /// Fetch the result.
    Fetch,
    /// Save the result as a zip.
    SaveZip,
    /// Save the result into a folder.
    SaveFolder,
    /// Save this file of the result.
    SaveFile(usize),
    /// Forget it.
    Forget,
}

type Receiver = Box<dyn Fn(Msg)>;

thread_local! {
    static PAGE: RefCell<Option<Receiver>> = const { RefCell::new(None) };
}

/// Everything that is sent from now on goes to `receiver`.
pub fn receive(receiver: impl Fn(Msg) + 'static) {
    PAGE.set(Some(Box::new(receiver)));
}

/// Tells the page.
pub fn send(message: Msg) {
    PAGE.with_borrow(|page| {
        if let Some(page) = page {
            page(message);
        }
    });
}
