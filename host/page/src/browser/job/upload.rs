//! Sends a package.

use super::news::JobNews;
use crate::browser::engine::{EngineError, MESSAGE_BYTES, Reply, Request, Session};
use crate::browser::talk::{Received, Talk, TalkError, refused};
use futures_util::future::{Either, select};
use js_sys::Uint8Array;
use sleap_rtc_protocol::frame::{TransferFrame, WorkerFrame};
use sleap_rtc_protocol::lists::IncomingLists;
use sleap_rtc_protocol::meter::{Direction, Progress};
use sleap_rtc_protocol::transfer::{BlobHash, Manifest};
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::JsValue;

/// How long the worker may be silent.
const IDLE: Duration = Duration::from_secs(60);
/// How many pieces are read ahead.
const READ_AHEAD: usize = 3;
/// How often one piece may be requested.
const MAX_REQUESTS: u8 = 4;

/// A piece on its way: the messages for it, one after the other, of which those up to `sent` have left.
/// They stay in the browser's memory, where nothing has to copy them.
struct Leaving {
    messages: Uint8Array,
    sent: u32,
}

struct Upload<'a> {
    /// What each piece adds to the package, in bytes, and how often it was requested.
    pieces: HashMap<BlobHash, (u64, u8)>,
    wanted: VecDeque<BlobHash>,
    /// A list of which more frames follow.
    partial: Vec<BlobHash>,
    has_first_list: bool,
    reading: usize,
    leaving: VecDeque<Leaving>,
    progress: Progress,
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
    let mut pieces = HashMap::new();
    for piece in manifest.files().iter().flat_map(|file| manifest.pieces(file)) {
        pieces.entry(piece.blake3).or_insert((0, 0)).0 += u64::from(piece.bytes);
    }
    let progress = Progress { total_bytes: manifest.total_bytes(), ..Progress::default() };
    for frame in lists {
        talk.send_transfer(frame.clone())?;
    }
    let (wanted, partial, leaving) = (VecDeque::new(), Vec::new(), VecDeque::new());
    let (has_first_list, reading) = (false, 0);
    let mut upload =
        Upload { pieces, wanted, partial, has_first_list, reading, leaving, progress, tell };
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
            TransferFrame::Want { pieces, more } => self.want(pieces, more)?,
            TransferFrame::Verified { bytes } => self.confirm(bytes),
            TransferFrame::Complete => {
                self.confirm(self.progress.total_bytes);
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

    fn want(&mut self, pieces: Vec<BlobHash>, more: bool) -> Result<(), TalkError> {
        for piece in &pieces {
            let known = self.pieces.get_mut(piece).filter(|(_, requests)| *requests < MAX_REQUESTS);
            known.ok_or_else(|| broken("a request for a piece that does not exist"))?.1 += 1;
        }
        self.partial.extend(&pieces);
        self.wanted.extend(pieces);
        if !more && !self.has_first_list {
            self.has_first_list = true;
            let lacking = self.partial.iter().filter_map(|piece| Some(self.pieces.get(piece)?.0));
            let there = self.progress.total_bytes.saturating_sub(lacking.sum());
            self.progress.already_there_bytes = there;
        }
        Ok(())
    }

    fn confirm(&mut self, bytes: u64) {
        self.progress.done_bytes = bytes.min(self.progress.total_bytes);
        if !self.has_first_list {
            // The worker had this content before it requested anything.
            self.progress.already_there_bytes = self.progress.done_bytes;
        }
        (self.tell)(JobNews::Transfer(Direction::Upload, self.progress));
    }
}
