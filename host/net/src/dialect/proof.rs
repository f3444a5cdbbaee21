//! The proof with which a conversation begins: the `handshake` of `trust`, before any frame.

use super::{ClientEnd, DialectError, Frame, FrameChannel, WorkerEnd};
use crate::binding::ChannelBinding;
use crate::rtc::Message;
use sleap_rtc_protocol::frame::{self, WorkerFrame};
use sleap_rtc_protocol::ids::{PeerId, RoomId};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_trust::handshake::{
    Admits, Binding, ClientHandshake, ClientHello, ClientMessage, ClientProof, ConnectionKind,
    Identity, NONCE_BYTES, ProofError, Proven, Scene, Transcript, WorkerHandshake, WorkerMessage,
};
use std::time::Duration;
use tokio::time::timeout;

/// How long one side may take for its next message.
const PROOF_LIMIT: Duration = Duration::from_secs(6);
/// The most characters of the other side's reason that are shown.
const MAX_REASON_CHARS: usize = 300;

/// The offer that led to a conversation.
#[derive(Debug, Clone)]
pub struct Meeting {
    /// The room.
    pub room: RoomId,
    /// The number of the offer.
    pub attempt: u64,
    /// The peer that offered.
    pub client: PeerId,
    /// The peer that answered.
    pub worker: PeerId,
}

/// Why the other side has not proven who it is. Each text continues a sentence about it.
#[derive(Debug, thiserror::Error)]
pub enum ProvingError {
    /// The conversation ended early.
    #[error("broke the conversation off before it had proven who it is: {0}")]
    Dialect(DialectError),
    /// The peer begins like a program without keys, or refuses to prove who it is.
    #[error("shows no key{}", said(.0))]
    NoProof(Option<String>),
    /// The peer has several certificates, and it is unknown which one is in use.
    #[error("names several certificates for one connection")]
    NoBinding,
    /// The proof is missing or wrong.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl From<DialectError> for ProvingError {
    fn from(error: DialectError) -> Self {
        Self::Dialect(error)
    }
}

fn said(reason: &Option<String>) -> String {
    reason.as_ref().map(|reason| format!(": it says \"{reason}\"")).unwrap_or_default()
}

/// The first message of a client.
#[derive(Debug)]
pub enum FirstMessage {
    /// The client offers to prove who it is.
    Hello(ClientHello),
    /// The client sends frames at once, as a program without keys does.
    Frames,
}

impl ClientEnd {
    /// Has the worker prove who it is. Reveals nothing about the client: decide whether to trust
    /// the worker first, then call [`prove`](Self::prove).
    ///
    /// # Errors
    /// The worker's proof is missing or wrong.
    pub async fn question(
        &mut self,
        own: Identity,
        meeting: &Meeting,
        nonce: [u8; NONCE_BYTES],
        now_s: u64,
    ) -> Result<(ClientProof, Proven), ProvingError> {
        let scene = self.scene(meeting, |local, remote| (local, remote))?;
        let (asking, hello) = ClientHandshake::begin(own, scene, nonce);
        self.tell(ClientMessage::Hello(hello).encode()).await?;
        let text = self.text_within(PROOF_LIMIT).await?;
        match WorkerMessage::decode(&text) {
            Some(WorkerMessage::Hello(hello)) => Ok(asking.conclude(&hello, now_s)?),
            None => Err(ProvingError::NoProof(refusal(&text))),
        }
    }

    /// Proves who this client is to the worker of `proven`.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn prove(&mut self, proof: ClientProof, proven: &Proven) -> Result<(), DialectError> {
        self.tell(ClientMessage::Proof(proof).encode()).await?;
        self.transcript = Some(proven.transcript);
        Ok(())
    }
}

impl WorkerEnd {
    /// Waits for the client's first message.
    ///
    /// # Errors
    /// The conversation ends first, or no message arrives within `limit`.
    pub async fn first_message(&mut self, limit: Duration) -> Result<FirstMessage, DialectError> {
        loop {
            let text = self.text_within(limit).await?;
            if let Some(ClientMessage::Hello(hello)) = ClientMessage::decode(&text) {
                return Ok(FirstMessage::Hello(hello));
            }
            if let Some(frame) = self.decode(&text).await? {
                self.waiting.push_back(frame);
                return Ok(FirstMessage::Frames);
            }
        }
    }

    /// Proves who this worker is to a client, and has the client do the same.
    ///
    /// # Errors
    /// The client's proof is missing or wrong.
    pub async fn answer(
        &mut self,
        own: Identity,
        meeting: &Meeting,
        hello: &ClientHello,
        admitted: Admits,
        nonce: [u8; NONCE_BYTES],
        now_s: u64,
    ) -> Result<Proven, ProvingError> {
        let scene = self.scene(meeting, |local, remote| (remote, local))?;
        let (answering, answer) = WorkerHandshake::answer(own, scene, hello, nonce);
        self.tell(WorkerMessage::Hello(answer).encode()).await?;
        let text = self.text_within(PROOF_LIMIT).await?;
        let Some(ClientMessage::Proof(proof)) = ClientMessage::decode(&text) else {
            return Err(ProvingError::NoProof(None));
        };
        let proven = answering.conclude(&proof, admitted, now_s)?;
        self.transcript = Some(proven.transcript);
        Ok(proven)
    }
}

impl<Out: Frame, In: Frame> FrameChannel<Out, In> {
    /// What both sides agreed on, once they have proven who they are.
    pub fn transcript(&self) -> Option<&Transcript> {
        self.transcript.as_ref()
    }

    async fn tell(&self, text: String) -> Result<(), DialectError> {
        self.within(PROOF_LIMIT, self.wire.send_text(text)).await
    }

    async fn text_within(&self, limit: Duration) -> Result<String, DialectError> {
        match timeout(limit, self.message()).await.map_err(|_| DialectError::Silent(limit))?? {
            Message::Text(text) if text.len() <= frame::MAX_CONTROL_BYTES => Ok(text),
            Message::Text(text) => Err(frame::FrameError::TooLong(text.len()).into()),
            Message::Binary(_) => Err(DialectError::UnexpectedChunk),
        }
    }

    /// `ends` orders this side's end and the other one, so that the client's comes first.
    fn scene(
        &self,
        meeting: &Meeting,
        ends: impl Fn([u8; 32], [u8; 32]) -> ([u8; 32], [u8; 32]),
    ) -> Result<Scene, ProvingError> {
        let (transport, (client, worker)) = match self.binding() {
            Some(ChannelBinding::Iroh { local, remote }) => {
                (ConnectionKind::Iroh, ends(local, remote))
            }
            Some(ChannelBinding::Webrtc { local, remote }) => {
                (ConnectionKind::Webrtc, ends(local, remote))
            }
            None => return Err(ProvingError::NoBinding),
        };
        let Meeting { room, attempt, client: from, worker: to } = meeting;
        let binding = Binding { transport, client, worker };
        Ok(Scene::new(room, *attempt, from, to, binding))
    }
}

/// The worker's reason for a refusal.
fn refusal(text: &str) -> Option<String> {
    match frame::decode::<WorkerFrame>(text) {
        Ok(WorkerFrame::Refused { refusal }) => {
            Some(Printable::line(&refusal.message, MAX_REASON_CHARS).into())
        }
        _ => None,
    }
}
