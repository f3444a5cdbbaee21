//! Taking a place in the room back after a connection was lost.

use super::connection::{self, RegisteredConnection, Registration};
use super::{Endpoints, HttpApi, PeerIdentity, Servers, SignalingError};

/// An attempt to register again.
pub(crate) struct Attempt {
    /// The identity to use from now on.
    pub(crate) identity: PeerIdentity,
    /// The server that answered.
    pub(crate) server: Option<Endpoints>,
    pub(crate) opened: Result<RegisteredConnection, SignalingError>,
}

/// Tries once to register again, at the first server that answers. Signs in again if the identity is refused.
///
/// The Python server does not renew identities: it gives a token for another peer, but lets its holder
/// register under the old id, which is the one in session strings.
pub(crate) async fn attempt(servers: &Servers, mut registration: Registration) -> Attempt {
    let (server, connection) = match connection::reach_first(servers).await {
        Ok(reached) => reached,
        Err(error) => {
            return Attempt { identity: registration.identity, server: None, opened: Err(error) };
        }
    };
    let mut opened = connection::register_on(&server, connection, &registration).await;
    let unsure = |error: &SignalingError| {
        matches!(error, SignalingError::IdentityRefused { .. } | SignalingError::Refused { .. })
    };
    if opened.as_ref().is_err_and(unsure) {
        let http = HttpApi::new(&server.http);
        match http.sign_in(Some(&registration.identity.id_token)).await {
            Ok(renewed) => {
                tracing::info!("signed in again");
                let own_token = registration.identity.id_token.clone();
                registration.identity.id_token = renewed.id_token;
                opened = connection::open(&server, &registration).await;
                if opened.is_err() && renewed.peer_id != registration.identity.peer_id {
                    // The token of another peer is useless here. The old one may still be renewed
                    // later.
                    registration.identity.id_token = own_token;
                }
            }
            Err(error) => opened = Err(error),
        }
    }
    Attempt { identity: registration.identity, server: Some(server), opened }
}
