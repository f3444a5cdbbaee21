//! One attempt: connect to a server that answers, shake hands, register.

use super::error::ConnectError;
use super::reach::reach;
use super::relay::Relay;
use super::stream::within_deadline;
use super::websocket::{Connection, unexpected, unreachable, upgrade};
use super::{Endpoints, PeerIdentity, Servers, SignalingError};
use futures_util::{SinkExt, StreamExt};
use sleap_rtc_protocol::ids::RoomCredentials;
use sleap_rtc_protocol::signaling::{
    ClientMessage, ErrorFrame, IceServers, Metadata, Register, Role, ServerMessage,
};
use tokio_tungstenite::tungstenite::{Error, Message};
use url::Url;

/// The content of a registration.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) identity: PeerIdentity,
    pub(crate) credentials: RoomCredentials,
    pub(crate) role: Role,
    pub(crate) metadata: Metadata,
}

impl Registration {
    fn frame(&self) -> ClientMessage {
        ClientMessage::Register(Register {
            peer_id: self.identity.peer_id.clone(),
            room_id: self.credentials.room_id.clone(),
            token: self.credentials.token.clone(),
            id_token: self.identity.id_token.clone(),
            role: self.role,
            metadata: self.metadata.clone(),
        })
    }
}

/// What the server gives to a registered peer.
#[derive(Debug)]
pub(crate) struct HandedOut {
    pub(crate) ice: IceServers,
    pub(crate) relay: Option<Relay>,
    /// Whether the server serves the client for browsers.
    pub(crate) page: bool,
}

/// A registered connection.
pub(crate) struct RegisteredConnection {
    /// Where it leads.
    pub(crate) server: Endpoints,
    pub(crate) connection: Connection,
    pub(crate) handed_out: HandedOut,
}

/// Connects to the first server that answers. Nobody is registered there yet.
pub(crate) async fn reach_first(
    servers: &Servers,
) -> Result<(Endpoints, Connection), SignalingError> {
    servers.first_that_answers(connect).await
}

/// Connects to this server and registers, each step within its deadline.
pub(crate) async fn open(
    server: &Endpoints,
    registration: &Registration,
) -> Result<RegisteredConnection, SignalingError> {
    let connection = connect(server.clone()).await?;
    register_on(server, connection, registration).await
}

async fn connect(server: Endpoints) -> Result<Connection, SignalingError> {
    let url = &server.websocket;
    let stream = reach(url).await.map_err(|source| unreachable(url, source))?;
    let late = |late| unreachable(url, late);
    within_deadline(upgrade(url, url.as_str(), stream)).await.map_err(late)?
}

/// Registers on a new connection, within its deadline.
pub(crate) async fn register_on(
    server: &Endpoints,
    mut connection: Connection,
    registration: &Registration,
) -> Result<RegisteredConnection, SignalingError> {
    let handed_out = within_deadline(register(&server.websocket, &mut connection, registration))
        .await
        .map_err(|_| SignalingError::NoAnswer { what: "a registration" })??;
    Ok(RegisteredConnection { server: server.clone(), connection, handed_out })
}

async fn register(
    url: &Url,
    connection: &mut Connection,
    registration: &Registration,
) -> Result<HandedOut, SignalingError> {
    let ended = |error: Error| unreachable(url, error);
    connection.send(encode(&registration.frame())?).await.map_err(ended)?;
    while let Some(message) = connection.next().await {
        let Message::Text(text) = message.map_err(ended)? else { continue };
        match ServerMessage::decode(&text) {
            Ok(ServerMessage::RegisteredAuth { ice, relay, page, .. }) => {
                let relay = relay.and_then(|offer| Relay::new(url, offer));
                return Ok(HandedOut { ice, relay, page });
            }
            Ok(ServerMessage::Error(error)) => return Err(refusal(&error)),
            // A peer's frame can overtake the server's answer.
            Ok(_) => tracing::debug!("a frame came before the answer to the registration"),
            Err(error) => return Err(unexpected(url, error.to_string())),
        }
    }
    Err(unreachable(url, ConnectError::ClosedEarly))
}

/// Encodes a frame.
pub(crate) fn encode(message: &ClientMessage) -> Result<Message, SignalingError> {
    serde_json::to_string(message).map(Message::text).map_err(|error| SignalingError::Refused {
        message: format!("the frame cannot be written: {error}"),
    })
}

/// Classifies a refused registration. Our server gives a `code`; the Python server only a sentence.
fn refusal(error: &ErrorFrame) -> SignalingError {
    let message = error.text().chars().take(300).collect::<String>();
    match error.code.as_deref() {
        Some("ROOM_NOT_FOUND") => return SignalingError::RoomRefused { message },
        Some("IDENTITY_REFUSED" | "IDENTITY_EXPIRED") => {
            return SignalingError::IdentityRefused { message };
        }
        _ => {}
    }
    // Compares whole words: "invalid token" is about a room, although it contains "id token".
    let lower = message.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).collect::<Vec<_>>().join(" ");
    let says = |any: &[&str]| any.iter().any(|word| format!(" {words} ").contains(word));
    if says(&[" id token ", " identity ", " jwt ", " signature ", " authentic", " sign in "]) {
        SignalingError::IdentityRefused { message }
    } else if says(&[" room", " token"]) {
        SignalingError::RoomRefused { message }
    } else {
        SignalingError::Refused { message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_in_any_shape_is_understood() {
        for (text, room) in [
            (r#"{"type":"error","code":"ROOM_NOT_FOUND","message":"Room not found"}"#, Some(true)),
            (r#"{"type":"error","reason":"Invalid token"}"#, Some(true)),
            (r#"{"error":"Room expired"}"#, Some(true)),
            (r#"{"type":"error","code":"IDENTITY_EXPIRED","message":"x"}"#, Some(false)),
            (r#"{"error":"Invalid id_token"}"#, Some(false)),
            (r#"{"type":"error","message":"out of cheese"}"#, None),
        ] {
            let Ok(ServerMessage::Error(error)) = ServerMessage::decode(text) else { panic!() };
            let understood = match refusal(&error) {
                SignalingError::RoomRefused { .. } => Some(true),
                SignalingError::IdentityRefused { .. } => Some(false),
                _ => None,
            };
            assert_eq!(understood, room, "{text}");
        }
    }
}
