//! Servers that do not share their rooms, although peers are given both.

use super::{Endpoints, HttpApi, Servers, SignalingClient, SignalingError};
use sleap_rtc_protocol::ids::RoomCredentials;
use sleap_rtc_protocol::signaling::{Metadata, Role};
use std::fmt;
use tokio_util::sync::CancellationToken;

/// Two servers, of which the second does not know a room of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apart {
    one: String,
    other: String,
}

impl Apart {
    /// What to do about it.
    pub const ADVICE: &str =
        "name only one of them, or have both use one broker (`cluster` under [signaling])";
}

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { one, other } = self;
        write!(
            f,
            "{one} and {other} do not share their rooms: who meets at one is not at the other"
        )
    }
}

/// Tries to enter a room of `first` at `further`, as peers do that are given both. Returns nothing if that
/// is possible.
///
/// # Errors
/// `further` cannot be asked.
pub async fn are_apart(
    first: &Endpoints,
    further: &Endpoints,
    room: RoomCredentials,
) -> Result<Option<Apart>, SignalingError> {
    let api = HttpApi::new(&further.http);
    let identity = api.sign_in(None).await?;
    let (token, peer) = (identity.id_token.clone(), identity.peer_id.clone());
    let (nothing, cancel) = (Metadata::default(), CancellationToken::new());
    let server = further.clone();
    let entered = SignalingClient::connect(server, identity, room, Role::Client, nothing, cancel);
    let apart = match entered.await {
        Ok((client, _)) => {
            client.close().await;
            Ok(None)
        }
        Err(SignalingError::RoomRefused { .. }) => {
            Ok(Some(Apart { one: first.option(), other: further.option() }))
        }
        Err(error) => Err(error),
    };
    // The server forgets it by itself later.
    let _ = api.delete_peer(&token, &peer).await;
    apart
}

/// Warns in the log of each of `servers` that does not share the `room` of the server `at`. Asks them in
/// the background.
pub fn warn_of_apart(servers: &Servers, at: &Endpoints, room: &RoomCredentials) {
    for further in servers.iter().filter(|server| *server != at).cloned() {
        let (at, room) = (at.clone(), room.clone());
        tokio::spawn(async move {
            match are_apart(&at, &further, room).await {
                Ok(Some(apart)) => tracing::warn!("{apart}; {}", Apart::ADVICE),
                Ok(None) => {}
                // It may be down, which is why there are several.
                Err(error) => {
                    tracing::debug!(%error, server = %further.http, "cannot be asked for the room")
                }
            }
        });
    }
}
