//! This device's end of a mailbox, through which it pairs with another one.

use super::reach::reach;
use super::stream::within_deadline;
use super::websocket::{Connection, unreachable, upgrade};
use super::{Endpoints, Servers, SignalingError};
use crate::{SILENCE_LIMIT, WRITE_DEADLINE};
use futures_util::{SinkExt, StreamExt};
use sleap_rtc_protocol::pairing::{
    self, MAX_PAIRING_FRAME_BYTES, MailboxErrorCode, MailboxEvent, MailboxNumber, MailboxRequest,
    Parcel,
};
use sleap_rtc_protocol::text::Printable;
use std::fmt;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use url::Url;

/// How long the closing handshake may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// The most characters of a server's message that are repeated.
const MAX_QUOTED: usize = 200;

/// Why a mailbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// The server cannot be reached.
    #[error(transparent)]
    Signaling(#[from] SignalingError),
    /// The server has no mailboxes, or is another program.
    #[error(
        "the signaling server at {server} does not pair devices: it is an older version, or another \
         program answers in its place"
    )]
    NoMailboxes {
        /// Where.
        server: Url,
        /// The answer, if it explains more.
        source: Option<Box<SignalingError>>,
    },
    /// The server refuses.
    #[error("the signaling server refuses: {message}")]
    Refused {
        /// Why.
        code: MailboxErrorCode,
        /// The server's words.
        message: Printable,
    },
    /// The connection broke.
    #[error("the connection to the signaling server is lost")]
    Lost,
}

/// What happens at a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailboxNews {
    /// Another device has joined.
    Joined,
    /// The other device has sent this.
    Parcel(Vec<u8>),
    /// The other device is gone.
    Left,
}

/// A mailbox that this device has opened or joined. The server closes it when this value is
/// dropped.
pub struct Mailbox {
    server: Url,
    connection: Connection,
    number: MailboxNumber,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({} at {})", self.number, self.server)
    }
}

impl Mailbox {
    /// Opens a mailbox at the first server that answers. Also returns how long it stays open.
    ///
    /// # Errors
    /// When no server can be reached within the deadline of each step, has mailboxes, and does not refuse.
    pub async fn open(servers: &Servers) -> Result<(Self, Duration), MailboxError> {
        let opened = servers.first_that_answers(|server| Self::open_at(server.websocket)).await;
        opened.map(|(_, opened)| opened)
    }

    async fn open_at(websocket: Url) -> Result<(Self, Duration), MailboxError> {
        let (mut connection, server) = connect(&websocket).await?;
        match ask(&server, &mut connection, &MailboxRequest::Open).await? {
            MailboxEvent::Opened { mailbox: number, expires_s } => {
                Ok((Self { server, connection, number }, Duration::from_secs(expires_s)))
            }
            event => Err(unexpected(&server, event)),
        }
    }

    /// Joins the mailbox of that number, at the server that has it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn join(servers: &Servers, number: MailboxNumber) -> Result<Self, MailboxError> {
        let join = |server: Endpoints| Self::join_at(server.websocket, number);
        servers.first_that_answers(join).await.map(|(_, joined)| joined)
    }

    async fn join_at(websocket: Url, number: MailboxNumber) -> Result<Self, MailboxError> {
        let (mut connection, server) = connect(&websocket).await?;
        let request = MailboxRequest::Join { mailbox: number };
        match ask(&server, &mut connection, &request).await? {
            MailboxEvent::Joined => Ok(Self { server, connection, number }),
            event => Err(unexpected(&server, event)),
        }
    }

    /// Its number.
    pub fn number(&self) -> MailboxNumber {
        self.number
    }

    /// Sends a parcel to the other device.
    ///
    /// # Errors
    /// When it is too long, or the connection is lost.
    pub async fn send(&mut self, bytes: Vec<u8>) -> Result<(), MailboxError> {
        let parcel = Parcel::new(bytes).map_err(|error| MailboxError::Refused {
            code: MailboxErrorCode::InvalidFrame,
            message: Printable::line(&error.to_string(), MAX_QUOTED),
        })?;
        write(&mut self.connection, &MailboxRequest::Send { parcel }).await
    }

    /// Waits for the next event. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost or silent for too long, or the server closes the mailbox.
    pub async fn next(&mut self) -> Result<MailboxNews, MailboxError> {
        loop {
            return match read(&self.server, &mut self.connection).await? {
                MailboxEvent::Joined => Ok(MailboxNews::Joined),
                MailboxEvent::Received { parcel } => {
                    Ok(MailboxNews::Parcel(parcel.bytes().to_vec()))
                }
                MailboxEvent::Left => Ok(MailboxNews::Left),
                MailboxEvent::Unknown => continue,
                event => Err(unexpected(&self.server, event)),
            };
        }
    }

    /// Leaves the mailbox, once everything that was sent has arrived at the server.
    pub async fn close(mut self) {
        let closing = async {
            if self.connection.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.connection.next().await {}
            }
        };
        let _ = timeout(CLOSE_DEADLINE, closing).await;
    }
}

async fn connect(websocket: &Url) -> Result<(Connection, Url), MailboxError> {
    let mut url = websocket.clone();
    url.set_path(&format!("{}{}", websocket.path().trim_end_matches('/'), pairing::PATH));
    let stream = reach(&url).await.map_err(|source| unreachable(&url, source))?;
    let upgraded = within_deadline(upgrade(&url, url.as_str(), stream)).await;
    match upgraded.map_err(|late| unreachable(&url, late))? {
        Ok(connection) => Ok((connection, websocket.clone())),
        Err(source @ SignalingError::Unexpected { .. }) => {
            let (server, source) = (websocket.clone(), Some(Box::new(source)));
            Err(MailboxError::NoMailboxes { server, source })
        }
        Err(error) => Err(error.into()),
    }
}

/// Sends the first frame and waits for its answer.
async fn ask(
    server: &Url,
    connection: &mut Connection,
    request: &MailboxRequest,
) -> Result<MailboxEvent, MailboxError> {
    write(connection, request).await?;
    let answer = within_deadline(read(server, connection)).await;
    answer.map_err(|_| SignalingError::NoAnswer { what: "a request for a mailbox" })?
}

async fn read(server: &Url, connection: &mut Connection) -> Result<MailboxEvent, MailboxError> {
    loop {
        // The server sends pings, so a silent server is gone.
        let message = timeout(SILENCE_LIMIT, connection.next()).await;
        let text = match message.map_err(|_| MailboxError::Lost)? {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(MailboxError::Lost),
            Some(Ok(_)) => continue,
        };
        let is_short = text.len() <= MAX_PAIRING_FRAME_BYTES;
        let event = is_short.then(|| serde_json::from_str(&text).ok()).flatten();
        return event.ok_or_else(|| no_mailboxes(server));
    }
}

async fn write(connection: &mut Connection, request: &MailboxRequest) -> Result<(), MailboxError> {
    let text = serde_json::to_string(request).map_err(|_| MailboxError::Lost)?;
    match timeout(WRITE_DEADLINE, connection.send(Message::text(text))).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(MailboxError::Lost),
    }
}

fn no_mailboxes(server: &Url) -> MailboxError {
    MailboxError::NoMailboxes { server: server.clone(), source: None }
}

fn unexpected(server: &Url, event: MailboxEvent) -> MailboxError {
    match event {
        // An error of another protocol.
        MailboxEvent::Error { code: MailboxErrorCode::Unknown, .. } => no_mailboxes(server),
        MailboxEvent::Error { code, message } => {
            MailboxError::Refused { code, message: Printable::line(&message, MAX_QUOTED) }
        }
        _ => no_mailboxes(server),
    }
}

impl MailboxError {
    /// What a user can do about it.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Signaling(error) => error.advice(),
            Self::NoMailboxes { .. } => Some(
                "update the server; until then use --room-id and --token, which the worker prints"
                    .into(),
            ),
            Self::Refused { .. } | Self::Lost => None,
        }
    }
}
