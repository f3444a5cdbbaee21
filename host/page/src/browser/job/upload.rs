//! Sends a package.

use super::news::JobNews;
use crate::browser::engine::{EngineError, MESSAGE_BYTES, Reply, Request, Session};
use crate::browser::talk::{Received, Talk, TalkError, refused};
use futures_util::future::{Either, select};
use js_sys::Uint8Array;
use sleap_rtc_protocol::frame::{TransferFrame, WorkerFrame};
use sleap_rtc_protocol::lists::IncomingLists;
use sleap_rtc_protocol::meter::{Direction, Progress};
use sleap_rtc_protocol::offered::Offered;
use sleap_rtc_protocol::transfer::{BlobHash, Manifest};
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::JsValue;

/// How long the worker may be silent.
const IDLE: Duration = Duration::from_secs(60);
/// How many pieces are read ahead.
const READ_AHEAD: usize = 3;

/// A piece on its way: the messages for it, one after the other, of which those up to `sent` have left.
/// They stay in the browser's memory, where nothing has to copy them.
struct Leaving {
    messages: Uint8Array,
    sent: u32,
}

struct Upload<'a> {
    offered: Offered,
    wanted: VecDeque<BlobHash>,
    reading: usize,
    leaving: VecDeque<Leaving>,
    tell: &'a dyn Fn(JobNews),
}

/// Sends what the worker lacks of `package`, until it has confirmed everything.
///
/// # Errors
/// The connection is lost, the worker refuses, or the package cannot be read any more.
pub async fn upload(
    talk: &mut Talk,
    package: &mut Session,
    lists: &[TransferFrame],
    tell: &dyn Fn(JobNews),
) -> Result<(), TalkError> {
    let manifest = manifest(lists)?;
    for frame in lists {
        talk.send_transfer(frame.clone())?;
    }
    let offered = Offered::new(&manifest);
    let (wanted, leaving) = (VecDeque::new(), VecDeque::new());
    let mut upload = Upload { offered, wanted, reading: 0, leaving, tell };
    loop {
        upload.read_ahead(package)?;
        upload.send(talk)?;
        let next = match select(pin!(talk.next_within(IDLE)), pin!(package.answer())).await {
            Either::Left((heard, _)) => Either::Left(heard?),
            Either::Right((answer, _)) => Either::Right(answer.map_err(files)?),
        };
        match next {
            Either::Left(Received::Frame(frame)) => {
                if upload.hear(refused(frame)?)? {
                    return Ok(());
                }
            }
            Either::Left(Received::Drained) => {}
            Either::Left(Received::Chunk(_)) => return Err(broken("file content")),
            Either::Right((Reply::Piece, buffer)) => {
                upload.reading = upload.reading.saturating_sub(1);
                let messages = Uint8Array::new(&buffer);
                upload.leaving.push_back(Leaving { messages, sent: 0 });
            }
            Either::Right(_) => {}
        }
    }
}

fn files(error: EngineError) -> TalkError {
    TalkError::Files(error.to_string())
}

fn broken(what: &str) -> TalkError {
    TalkError::Broken(what.to_owned())
}

fn manifest(lists: &[TransferFrame]) -> Result<Manifest, TalkError> {
    let mut incoming = IncomingLists::new(u64::MAX);
    let mut manifest = None;
    for frame in lists {
        manifest = incoming.take(frame.clone()).map_err(|error| broken(&error.to_string()))?;
    }
    manifest.ok_or_else(|| broken("an incomplete list of files"))
}

impl Upload<'_> {
    fn read_ahead(&mut self, package: &Session) -> Result<(), TalkError> {
        while self.reading + self.leaving.len() < READ_AHEAD {
            let Some(piece) = self.wanted.pop_front() else { break };
            package.ask(&Request::Read(piece), &JsValue::NULL, false).map_err(files)?;
            self.reading += 1;
        }
        Ok(())
    }

    /// Sends as much as the browser takes.
    fn send(&mut self, talk: &Talk) -> Result<(), TalkError> {
        while let Some(leaving) = self.leaving.front_mut().filter(|_| talk.connection().has_room())
        {
            let Leaving { messages, sent } = leaving;
            let end = messages.length().min(*sent + MESSAGE_BYTES as u32);
            let message = messages.subarray(*sent, end);
            talk.connection().send_bytes(&message).map_err(|_| TalkError::Lost)?;
            *sent = end;
            if end == messages.length() {
                self.leaving.pop_front();
            }
        }
        Ok(())
    }

    /// Takes a frame. Returns whether the worker has everything.
    fn hear(&mut self, frame: WorkerFrame) -> Result<bool, TalkError> {
        let WorkerFrame::Transfer(frame) = frame else { return Ok(false) };
        match frame {
            TransferFrame::Want { pieces, more } => {
                let list = self.offered.want(pieces, more);
                let list = list.map_err(|error| broken(&error.to_string()))?;
                self.wanted.extend(list.into_iter().flatten());
            }
            TransferFrame::Verified { bytes } => {
                let confirmed = self.offered.confirm(bytes);
                self.report(confirmed);
            }
            TransferFrame::Complete => {
                let confirmed = self.offered.confirm_all();
                self.report(confirmed);
                return Ok(true);
            }
            TransferFrame::Abort { reason } => {
                return Err(TalkError::Refused(crate::words::message(&reason)));
            }
            TransferFrame::Unknown => {}
            TransferFrame::Manifest { .. } | TransferFrame::Pieces { .. } => {
                return Err(broken("a list of files"));
            }
        }
        Ok(false)
    }

    fn report(&self, confirmed: Progress) {
        (self.tell)(JobNews::Transfer(Direction::Upload, confirmed));
    }
}
