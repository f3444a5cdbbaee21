//! A conversation in `sleap-rtc/1` with one worker.

use super::clock::{now_ms, sleep_until, within};
use super::random;
use super::rtc::{Connection, Incoming, Step};
use futures_util::future::{Either, select};
use js_sys::ArrayBuffer;
use sleap_rtc_protocol::frame::{self, ClientFrame, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::job::RefusalCode;
use sleap_rtc_protocol::liveness::{Health, Liveness, LivenessEvent};
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::handshake::{
    ClientHandshake, ClientMessage, Identity, Scene, Transcript, WorkerMessage,
};
use sleap_rtc_trust::removal::RemovalNote;
use std::pin::pin;
use wasm_bindgen::JsValue;
use web_time::{Duration, Instant};

/// How long the worker may take for its next message of the proof.
const PROOF_LIMIT: Duration = Duration::from_secs(6);
/// How long a worker that is suspect may take to be heard again.
const SUSPECT_LIMIT: Duration = Duration::from_secs(10);

/// Why a conversation ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TalkError {
    /// The connection was lost. Another one may go on.
    #[error("the connection to the worker was lost")]
    Lost,
    /// The worker sent nothing for too long.
    #[error("the worker sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// The worker refuses, in its words.
    #[error("{0}")]
    Refused(String),
    /// The worker does not know the job.
    #[error("the worker does not know the job")]
    Unknown,
    /// The worker has not proven who it is. The text continues a sentence about it.
    #[error("the worker {0}")]
    Untrusted(String),
    /// The worker broke the protocol.
    #[error("the worker sent what makes no sense: {0}")]
    Broken(String),
    /// The package cannot be read any more.
    #[error("{0}")]
    Files(String),
}

impl TalkError {
    /// Whether another connection may go on with the job.
    pub fn may_heal(&self) -> bool {
        matches!(self, Self::Lost | Self::Silent(_))
    }
}

/// What a worker sends.
pub enum Received {
    /// A frame.
    Frame(WorkerFrame),
    /// A chunk of a result.
    Chunk(ArrayBuffer),
    /// There is room to send again.
    Drained,
}

/// An open conversation.
pub struct Talk {
    connection: Connection,
    liveness: Liveness,
    transcript: Option<Transcript>,
    /// The worker's device, as it has proven.
    device: Option<DeviceId>,
}

impl Talk {
    /// Over an open connection, in a room that trusts the server.
    pub fn new(connection: Connection) -> Self {
        let liveness = Liveness::new(Instant::now());
        Self { connection, liveness, transcript: None, device: None }
    }

    /// Has the worker prove who it is, and proves who this page is. Returns the removals that were news.
    ///
    /// # Errors
    /// The worker proves nothing or something else, or is none that is `believed`.
    pub async fn prove(
        &mut self,
        own: Identity,
        scene: Scene,
        believed: Believed<'_>,
    ) -> Result<Vec<RemovalNote>, TalkError> {
        let nonce = random::bytes().map_err(|_| TalkError::Lost)?;
        let (asking, hello) = ClientHandshake::begin(own, scene, nonce);
        self.send_text(&ClientMessage::Hello(hello).encode())?;
        let text = within(PROOF_LIMIT, self.text()).await;
        let text = text.ok_or(TalkError::Silent(PROOF_LIMIT))??;
        let hello = match WorkerMessage::decode(&text) {
            Some(WorkerMessage::Hello(hello)) => hello,
            None => return Err(TalkError::Untrusted(no_proof(&text))),
        };
        let concluded = asking.conclude(&hello, now_ms() / 1_000);
        let (proof, proven) = concluded.map_err(|why| TalkError::Untrusted(why.to_string()))?;
        let is_paired = |device: &DeviceId| believed.paired.contains(device);
        let belief = proven.check(believed.wanted.as_ref(), is_paired);
        belief.map_err(|why| TalkError::Untrusted(why.to_string()))?;
        self.send_text(&ClientMessage::Proof(proof).encode())?;
        (self.transcript, self.device) = (Some(proven.transcript), Some(proven.device));
        Ok(proven.news)
    }

    /// What both sides have agreed on, if they have proven themselves.
    pub fn transcript(&self) -> Option<&Transcript> {
        self.transcript.as_ref()
    }

    /// The worker's device, if it has proven it.
    pub fn device(&self) -> Option<DeviceId> {
        self.device
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The connection is over.
    pub fn send(&self, frame: &ClientFrame) -> Result<(), TalkError> {
        let text = frame::encode(frame).map_err(|error| TalkError::Broken(error.to_string()))?;
        self.send_text(&text)
    }

    /// Sends a frame of a transfer.
    ///
    /// # Errors
    /// The connection is over.
    pub fn send_transfer(&self, frame: TransferFrame) -> Result<(), TalkError> {
        self.send(&ClientFrame::Transfer(frame))
    }

    fn send_text(&self, text: &str) -> Result<(), TalkError> {
        self.connection.send_text(text).map_err(|_: JsValue| TalkError::Lost)
    }

    /// What comes next while nothing is sent: pings, and notices when nobody answers. Cancel safe.
    pub async fn next(&mut self) -> Result<Received, TalkError> {
        loop {
            let now = Instant::now();
            let suspect = self.liveness.health(now) == Health::Suspect;
            let since = self.liveness.suspect_at().unwrap_or(now);
            if suspect && now >= since + SUSPECT_LIMIT {
                return Err(TalkError::Lost);
            }
            let ping_at = self.liveness.ping_at();
            let step = self.step_until(ping_at).await;
            let Some(step) = step else {
                self.liveness.apply(LivenessEvent::PingSent, Instant::now());
                self.send(&ClientFrame::Ping)?;
                continue;
            };
            if let Some(heard) = self.hear(step)? {
                return Ok(heard);
            }
        }
    }

    async fn step_until(&mut self, instant: Instant) -> Option<Step> {
        match select(pin!(self.connection.step()), pin!(sleep_until(instant))).await {
            Either::Left((step, _)) => Some(step),
            Either::Right(_) => None,
        }
    }

    /// What comes next while much is sent, for at most `limit`. Pings would stand in line behind it.
    pub async fn next_within(&mut self, limit: Duration) -> Result<Received, TalkError> {
        let next = async {
            loop {
                let step = self.connection.step().await;
                if let Some(heard) = self.hear(step)? {
                    return Ok(heard);
                }
            }
        };
        within(limit, next).await.unwrap_or(Err(TalkError::Silent(limit)))
    }

    /// The next frame, for at most `limit`.
    pub async fn frame_within(&mut self, limit: Duration) -> Result<WorkerFrame, TalkError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_within(left).await {
                Ok(Received::Frame(frame)) => return refused(frame),
                Ok(Received::Drained) => {}
                Ok(Received::Chunk(_)) => {
                    return Err(TalkError::Broken("file content that was not requested".into()));
                }
                Err(TalkError::Silent(_)) => return Err(TalkError::Silent(limit)),
                Err(error) => return Err(error),
            }
        }
    }

    fn hear(&mut self, step: Step) -> Result<Option<Received>, TalkError> {
        let message = match step {
            Step::Message(message) => message,
            Step::Drained => return Ok(Some(Received::Drained)),
            Step::Over => return Err(TalkError::Lost),
        };
        self.liveness.apply(LivenessEvent::Heard, Instant::now());
        match message {
            Incoming::Binary(bytes) => Ok(Some(Received::Chunk(bytes))),
            Incoming::Text(text) => match frame::decode(&text) {
                Ok(WorkerFrame::Pong | WorkerFrame::Unknown) => Ok(None),
                Ok(frame) => Ok(Some(Received::Frame(frame))),
                Err(error) => Err(TalkError::Broken(error.to_string())),
            },
        }
    }

    async fn text(&mut self) -> Result<String, TalkError> {
        loop {
            match self.connection.step().await {
                Step::Message(Incoming::Text(text)) if text.len() <= frame::MAX_CONTROL_BYTES => {
                    return Ok(text);
                }
                Step::Message(_) => {
                    return Err(TalkError::Broken("something else than a proof".into()));
                }
                Step::Drained => {}
                Step::Over => return Err(TalkError::Lost),
            }
        }
    }
}

/// A refusal ends the conversation at any time.
pub fn refused(frame: WorkerFrame) -> Result<WorkerFrame, TalkError> {
    match frame {
        WorkerFrame::Refused { refusal } => Err(match refusal.code {
            RefusalCode::NotFound => TalkError::Unknown,
            _ => TalkError::Refused(crate::words::message(&refusal.message)),
        }),
        other => Ok(other),
    }
}

/// Which workers are believed, beside those that the room's authority vouches for.
pub struct Believed<'a> {
    /// The only one that is wanted, as a string names it.
    pub wanted: Option<DeviceId>,
    /// Those that this browser has paired with.
    pub paired: &'a [DeviceId],
}

fn no_proof(text: &str) -> String {
    match frame::decode::<WorkerFrame>(text) {
        Ok(WorkerFrame::Refused { refusal }) => {
            format!("shows no key: it says \"{}\"", crate::words::message(&refusal.message))
        }
        _ => "shows no key".to_owned(),
    }
}
