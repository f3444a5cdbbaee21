//! The HTTP half of the protocol.

use super::error::ConnectError;
use super::exchange::{AnswerLimits, HttpRequest};
use super::websocket::redirection;
use super::{ANSWER_DEADLINE, PeerIdentity, SignalingError};
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sleap_rtc_protocol::ids::{IdToken, PeerId, RoomCredentials, RoomId};
use url::Url;

/// The longest answer that is read, and how long it may take.
const LIMITS: AnswerLimits = AnswerLimits { bytes: 64 * 1024, time: ANSWER_DEADLINE };

/// The HTTP API of a signaling server. Each call opens its own connection, because calls are rare,
/// and has a deadline. Clones are cheap.
#[derive(Debug, Clone)]
pub struct HttpApi {
    base: Url,
}

#[derive(Deserialize)]
struct SignedIn {
    id_token: IdToken,
    username: PeerId,
}

impl HttpApi {
    /// A client of the server at `base` (`http:` or `https:`). Connects to nothing yet.
    pub fn new(base: &Url) -> Self {
        Self { base: base.clone() }
    }

    /// The server's address.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Signs in. Given the token of an earlier identity, even an expired one, the server renews
    /// that identity if it can. Otherwise it issues a new one, so compare the peer id.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn sign_in(&self, renew: Option<&IdToken>) -> Result<PeerIdentity, SignalingError> {
        let signed_in = match self.post("/anonymous-signin", renew, None).await {
            Err(SignalingError::IdentityRefused { message }) if renew.is_some() => {
                tracing::warn!(
                    message,
                    "the server does not know the old identity; signing in as a new peer"
                );
                self.post("/anonymous-signin", None, None).await
            }
            result => result,
        };
        let SignedIn { id_token, username } = signed_in?;
        Ok(PeerIdentity { peer_id: username, id_token })
    }

    /// Creates a room.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses the identity.
    pub async fn create_room(&self, token: &IdToken) -> Result<RoomCredentials, SignalingError> {
        self.post("/create-room", Some(token), None).await
    }

    /// Removes the caller's own peer from its room.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses the identity.
    pub async fn delete_peer(&self, token: &IdToken, peer: &PeerId) -> Result<(), SignalingError> {
        let body = json!({"peer_id": peer});
        let Value::Object(_) = self.post("/delete-peer", Some(token), Some(body)).await? else {
            return Err(self.unexpected("/delete-peer", "the answer is not a JSON object"));
        };
        Ok(())
    }

    /// Deletes a room that the caller created, and closes the connections of all its peers.
    ///
    /// # Errors
    /// When the server cannot be reached, or the room is not the caller's.
    pub async fn delete_room(&self, token: &IdToken, room: &RoomId) -> Result<(), SignalingError> {
        let body = json!({"room_id": room});
        let answer: Value = self.post("/delete-peers-and-room", Some(token), Some(body)).await?;
        tracing::debug!(%room, status = %answer["status"], "room deleted");
        Ok(())
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&IdToken>,
        body: Option<Value>,
    ) -> Result<T, SignalingError> {
        let answer = self.request(path, token, body)?.send(LIMITS).await;
        let answer = answer.map_err(|error| match error {
            ConnectError::TooLong(_) => self.unexpected(path, error.to_string()),
            error => SignalingError::Unreachable { url: self.url(path), source: Box::new(error) },
        })?;
        if let Some(target) = redirection(answer.status, answer.headers.get(LOCATION)) {
            return Err(SignalingError::Redirected { url: self.url(path), target });
        }
        self.understand(path, answer.status, &answer.body)
    }

    /// Interprets an answer.
    fn understand<T: DeserializeOwned>(
        &self,
        path: &str,
        status: StatusCode,
        body: &[u8],
    ) -> Result<T, SignalingError> {
        if status.is_success() {
            return serde_json::from_slice(body)
                .map_err(|_| self.unexpected(path, "the answer is not the JSON that is expected"));
        }
        let message = format!("{status}: {}", explanation(body));
        match status {
            // The Python server answers 422 to a missing or malformed header.
            StatusCode::UNAUTHORIZED | StatusCode::UNPROCESSABLE_ENTITY => {
                Err(SignalingError::IdentityRefused { message })
            }
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                Err(SignalingError::Refused { message })
            }
            _ if status.is_server_error() => {
                Err(SignalingError::Failing { url: self.url(path), message })
            }
            _ => Err(self.unexpected(path, message)),
        }
    }

    fn request(
        &self,
        path: &str,
        token: Option<&IdToken>,
        body: Option<Value>,
    ) -> Result<HttpRequest, SignalingError> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", token.as_str())).map_err(|_| {
                    SignalingError::IdentityRefused {
                        message: "the identity token holds characters that a header cannot have"
                            .into(),
                    }
                })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        Ok(HttpRequest { method: Method::POST, url: self.url(path), headers, body })
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    fn unexpected(&self, path: &str, reason: impl Into<String>) -> SignalingError {
        SignalingError::Unexpected { url: self.url(path), reason: reason.into() }
    }
}

/// The message of an error response, from the field that its server uses.
fn explanation(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = ["message", "error", "detail"].into_iter().find_map(|key| value[key].as_str());
    text.unwrap_or("no explanation").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostile_input::{damaged, each};
    use proptest::prelude::*;

    #[test]
    fn the_decoder_of_answers() {
        let api = HttpApi::new(&Url::parse("http://127.0.0.1:1/").unwrap());
        let whole = [
            r#"{"id_token":"eyJ","username":"peer-1"}"#,
            r#"{"room_id":"ab12cd34","token":"0f1e2d"}"#,
            r#"{"status":"deleted"}"#,
            r#"{"detail":"Invalid token"}"#,
            r#"{"error":"no","message":"no"}"#,
        ];
        let bodies = damaged(whole.map(str::to_owned).to_vec());
        let statuses = prop_oneof![Just(200), Just(401), Just(403), Just(422), 100..1000_u16];
        each("answers over HTTP", (statuses, bodies), |(status, body)| {
            let status = StatusCode::from_u16(status).unwrap();
            let body = body.as_bytes();
            let refusals = [
                api.understand::<SignedIn>("/x", status, body).map(drop),
                api.understand::<RoomCredentials>("/x", status, body).map(drop),
                api.understand::<Value>("/x", status, body).map(drop),
            ];
            for refusal in refusals.into_iter().filter_map(Result::err) {
                prop_assert!(!status.is_success() || refusal.to_string().contains("JSON"));
                prop_assert!(refusal.to_string().len() < 2000, "{refusal}");
            }
            Ok(())
        });
    }
}
