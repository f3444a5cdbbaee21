//! Fetches a result.

use super::news::{JobNews, Results};
use crate::browser::engine::{EngineError, Reply, Request, Session};
use crate::browser::talk::{Received, Talk, TalkError, refused};
use futures_util::future::{Either, select};
use js_sys::Array;
use sleap_rtc_protocol::frame::{TransferFrame, WorkerFrame};
use sleap_rtc_protocol::meter::{Direction, Progress};
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::{JsCast, JsValue};

/// How long the worker may be silent.
const IDLE: Duration = Duration::from_secs(60);
/// The worker hears how far it is after this many bytes.
const REPORT_BYTES: u64 = 2 << 20;

/// Receives everything that `session` does not have yet.
///
/// # Errors
/// The connection is lost, the worker refuses, or what arrives is not what was listed.
pub async fn download(
    talk: &mut Talk,
    session: &mut Session,
    tell: &dyn Fn(JobNews),
) -> Result<(), TalkError> {
    let (mut progress, mut reported) = (Progress::default(), 0);
    loop {
        let next = match select(pin!(talk.next_within(IDLE)), pin!(session.answer())).await {
            Either::Left((heard, _)) => Either::Left(heard?),
            Either::Right((answer, _)) => Either::Right(answer.map_err(broken)?),
        };
        match next {
            Either::Left(Received::Frame(frame)) => {
                let WorkerFrame::Transfer(frame) = refused(frame)? else { continue };
                match frame {
                    TransferFrame::Abort { reason } => {
                        return Err(TalkError::Refused(crate::words::message(&reason)));
                    }
                    TransferFrame::Unknown => {}
                    list => {
                        session.ask(&Request::List(list), &JsValue::NULL, false).map_err(broken)?
                    }
                }
            }
            Either::Left(Received::Drained) => {}
            Either::Left(Received::Chunk(chunk)) => {
                session.ask(&Request::Chunk, &chunk, true).map_err(broken)?;
            }
            Either::Right((Reply::Listed { total_bytes }, _)) => {
                progress = Progress { total_bytes, ..Progress::default() };
            }
            Either::Right((Reply::Want(frames), _)) => {
                frames.into_iter().try_for_each(|frame| talk.send_transfer(frame))?;
            }
            Either::Right((Reply::Verified(bytes), _)) => {
                progress.done_bytes = bytes;
                tell(JobNews::Transfer(Direction::Download, progress));
                if bytes >= reported + REPORT_BYTES {
                    reported = bytes;
                    talk.send_transfer(TransferFrame::Verified { bytes })?;
                }
            }
            Either::Right((Reply::Complete(files), contents)) => {
                let contents: Array = contents.unchecked_into();
                let contents = contents.iter().map(|content| content.unchecked_into());
                tell(JobNews::Fetched(Results {
                    files: files.into_iter().zip(contents).collect(),
                }));
                return talk.send_transfer(TransferFrame::Complete);
            }
            Either::Right(_) => {}
        }
    }
}

fn broken(error: EngineError) -> TalkError {
    TalkError::Broken(error.to_string())
}
