//! Pairs this browser with a worker, by a code that its user types.

use super::clock::within;
use super::http;
use super::random::generator;
use super::socket::Socket;
use crate::words::{browser_name, message};
use sleap_rtc_protocol::pairing::{
    MAX_PAIRING_FRAME_BYTES, MailboxErrorCode, MailboxEvent, MailboxRequest, PATH, Parcel,
};
use sleap_rtc_trust::certificate::MemberRole;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::pairing::{
    Code, Grant, Introduction, JOIN_LIMIT, JoinError, JoinStep, Joiner, VerificationWords,
};

/// What a worker has given to this browser.
pub struct Paired {
    /// What it gives.
    pub grant: Grant,
    /// What both sides can show.
    pub words: VerificationWords,
}

#[derive(Debug, thiserror::Error)]
enum PairError {
    #[error("{}; {}", .0, .0.advice())]
    Join(#[from] JoinError),
    #[error("the signaling server refuses: {0}")]
    Refused(String),
    #[error("the connection to the signaling server is lost; {}", JoinError::Late.advice())]
    Lost,
}

/// Pairs `device` with the worker that shows `code`.
///
/// # Errors
/// Within ten seconds, whatever the server does. The text says why, and what to do.
pub async fn join(code: Code, device: DeviceId) -> Result<Paired, String> {
    let joined = within(JOIN_LIMIT, exchange(&code, device)).await;
    joined.unwrap_or_else(|| Err(JoinError::Late.into())).map_err(|error| error.to_string())
}

async fn exchange(code: &Code, device: DeviceId) -> Result<Paired, PairError> {
    let server = http::websocket_url().map_err(|_| PairError::Lost)?;
    let url = format!("{}{PATH}", server.trim_end_matches('/'));
    let mut socket = Socket::open(&url).await.ok_or(PairError::Lost)?;
    send(&socket, &MailboxRequest::Join { mailbox: code.mailbox() })?;
    match event(&mut socket).await? {
        MailboxEvent::Joined => {}
        MailboxEvent::Error { code: MailboxErrorCode::NoMailbox, .. } => {
            return Err(JoinError::Nobody(code.mailbox()).into());
        }
        other => return Err(unexpected(other)),
    }
    let agent = web_sys::window().and_then(|window| window.navigator().user_agent().ok());
    let name = browser_name(&agent.unwrap_or_default());
    let introduction = Introduction { device, name, role: MemberRole::Client };
    let (mut joiner, mut bytes) = Joiner::start(code, introduction, &mut generator());
    loop {
        let parcel = Parcel::new(bytes).map_err(|error| PairError::Refused(error.to_string()))?;
        send(&socket, &MailboxRequest::Send { parcel })?;
        let answer = answer(&mut socket).await?;
        match joiner.take(answer.as_ref().map(Parcel::bytes))? {
            JoinStep::Send(next, parcel) => (joiner, bytes) = (next, parcel),
            JoinStep::Joined(grant, words) => return Ok(Paired { grant: *grant, words }),
        }
    }
}

/// The next parcel; `None` when the other device is gone.
async fn answer(socket: &mut Socket) -> Result<Option<Parcel>, PairError> {
    loop {
        match event(socket).await? {
            MailboxEvent::Received { parcel } => return Ok(Some(parcel)),
            MailboxEvent::Left => return Ok(None),
            MailboxEvent::Unknown => {}
            other => return Err(unexpected(other)),
        }
    }
}

fn send(socket: &Socket, request: &MailboxRequest) -> Result<(), PairError> {
    socket.sender().send(request).map_err(|_| PairError::Lost)
}

async fn event(socket: &mut Socket) -> Result<MailboxEvent, PairError> {
    let text = socket.text().await.filter(|text| text.len() <= MAX_PAIRING_FRAME_BYTES);
    serde_json::from_str(&text.ok_or(PairError::Lost)?).map_err(|_| PairError::Lost)
}

fn unexpected(event: MailboxEvent) -> PairError {
    match event {
        MailboxEvent::Error { message: words, .. } => PairError::Refused(message(&words)),
        _ => PairError::Refused("it answers with what does not belong here".into()),
    }
}
