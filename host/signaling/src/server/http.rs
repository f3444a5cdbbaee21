//! The HTTP API, and the upgrade to the WebSocket.

use crate::identity::IdentityError;
use crate::server::addresses::behind_proxy;
use crate::server::relay::Whose;
use crate::server::upgrade::{NoUpgrade, Serves, place, upgrade};
use crate::server::{Server, Share, metrics, page, relay};
use crate::store::StoreError;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body as HttpBody;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use iroh_relay::http::{RELAY_PATH, RELAY_PROBE_PATH};
use serde::Deserialize;
use serde_json::{Value, json};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_base::random;
use sleap_rtc_protocol::ids::{IdToken, PeerId, RoomId};
use sleap_rtc_protocol::pairing;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest body: a token and a few ids.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// The answer to a connection beyond its address's limit, as bytes on the wire.
pub(crate) const TOO_MANY_SOCKETS: &str =
    "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The answer when all sockets belong to registered peers.
pub(crate) const NO_SOCKET: &str =
    "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Malformed(String),
    #[error("send `Authorization: Bearer <id_token>` with the token from sign-in")]
    NoToken,
    #[error(transparent)]
    PeerIdentity(#[from] IdentityError),
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("not found: no such path")]
    NotFound,
    #[error(
        "this server has no accounts; Python sleap-rtc 0.0.7 and newer, which log in with GitHub or \
         an API key, need their own server"
    )]
    NoAccounts,
    #[error("method not allowed for this path")]
    Method,
    #[error("this is the WebSocket's path; GET /health reports the server's state")]
    UpgradeRequired,
    #[error("this is the relay's path: it expects a WebSocket of iroh's relay protocol")]
    NotRelayed,
    #[error(
        "too many sockets are open from your address; close some, or raise `sockets_per_address`"
    )]
    TooManySockets,
    #[error(
        "your address has signed in too often; try again within the hour, or raise `sign_ins_per_address`"
    )]
    TooManySignIns,
    #[error(
        "your address has made too many rooms; try again within the hour, or raise `rooms_per_address`"
    )]
    TooManyRooms,
    #[error("the server cannot use its state; try again later")]
    Store(#[from] StoreError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::NoToken | Self::PeerIdentity(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound | Self::NoAccounts => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UpgradeRequired | Self::NotRelayed => StatusCode::UPGRADE_REQUIRED,
            Self::TooManySockets | Self::TooManySignIns | Self::TooManyRooms => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<NoUpgrade> for Refusal {
    fn from(error: NoUpgrade) -> Self {
        match error {
            NoUpgrade::NotAsked => Self::UpgradeRequired,
            NoUpgrade::TooManySockets => Self::TooManySockets,
        }
    }
}

/// The fields that the bodies of requests may have.
#[derive(Debug, Default, Deserialize)]
struct Body {
    #[serde(default)]
    id_token: Option<IdToken>,
    #[serde(default)]
    peer_id: Option<PeerId>,
    #[serde(default)]
    room_id: Option<RoomId>,
}

/// A request's body, from a socket or from a test.
pub(crate) trait Readable:
    HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>
{
}

impl<B> Readable for B where B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> {}

/// Answers one request that came from the socket of `address`.
pub(crate) async fn answer<B: Readable>(
    request: Request<B>,
    server: Arc<Server>,
    address: IpAddr,
    share: Arc<Share>,
) -> Response<Full<Bytes>> {
    let address = match server.options.trust_proxy {
        true => behind_proxy(request.headers(), address),
        false => address,
    };
    let route = Route::of(request.method(), request.uri().path());
    let found = route.as_ref().ok().copied();
    let answered = match route {
        Ok(route) => route.serve(request, &server, address, share).await,
        Err(refusal) => Err(refusal),
    };
    answered.unwrap_or_else(|refusal| {
        if refusal.status() == StatusCode::TOO_MANY_REQUESTS {
            server.counters.rate_limited.count();
        }
        tracing::debug!(route = ?found, error = ?refusal, "request refused");
        let message = refusal.to_string();
        reply(refusal.status(), &json!({"error": message, "message": message}))
    })
}

/// The path of accounts on servers of the Python program's later versions.
const ACCOUNTS: &str = "/api/auth/";

/// The routes of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    WebSocket,
    Pair,
    Health,
    Metrics,
    SignIn,
    CreateRoom,
    DeletePeer,
    DeleteRoom,
    Relay,
    /// A peer measures how long the relay takes.
    Ping,
    /// A peer finds out whether a captive portal answers in the server's place.
    NoContent,
    /// A browser loads the page.
    Page,
}

impl Route {
    fn of(method: &Method, path: &str) -> Result<Self, Refusal> {
        let (route, expected) = match path {
            "/" => (Self::WebSocket, Method::GET),
            pairing::PATH => (Self::Pair, Method::GET),
            "/health" => (Self::Health, Method::GET),
            "/metrics" => (Self::Metrics, Method::GET),
            "/anonymous-signin" => (Self::SignIn, Method::POST),
            "/create-room" => (Self::CreateRoom, Method::POST),
            "/delete-peer" => (Self::DeletePeer, Method::POST),
            "/delete-peers-and-room" => (Self::DeleteRoom, Method::POST),
            RELAY_PATH => (Self::Relay, Method::GET),
            RELAY_PROBE_PATH => (Self::Ping, Method::GET),
            "/generate_204" => (Self::NoContent, Method::GET),
            "/app" => (Self::Page, Method::GET),
            path if path.starts_with(page::FOLDER) => (Self::Page, Method::GET),
            path if path.starts_with(ACCOUNTS) => return Err(Refusal::NoAccounts),
            _ => return Err(Refusal::NotFound),
        };
        if *method == expected { Ok(route) } else { Err(Refusal::Method) }
    }

    async fn serve<B: Readable>(
        self,
        request: Request<B>,
        server: &Arc<Server>,
        address: IpAddr,
        share: Arc<Share>,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let value = match self {
            Self::WebSocket if server.has_page() && page::is_wanted(request.headers()) => {
                return Ok(page::redirection());
            }
            Self::Page => return page(server, request.uri().path(), request.headers()),
            Self::WebSocket => {
                return Ok(upgrade(request, Arc::clone(server), address, share, Serves::Room)?);
            }
            Self::Pair => {
                return Ok(upgrade(request, Arc::clone(server), address, share, Serves::Mailbox)?);
            }
            Self::Relay | Self::Ping | Self::NoContent if server.relay.is_none() => {
                return Err(Refusal::NotFound);
            }
            Self::Relay => {
                let place = place(server, address)?;
                let upgraded = relay::upgrade(request, Arc::clone(server), share, place);
                return upgraded.ok_or(Refusal::NotRelayed);
            }
            Self::Ping => return Ok(reply(StatusCode::OK, &Value::Null)),
            Self::NoContent => return Ok(no_content(request.headers())),
            Self::Metrics => return Ok(measured(request.headers(), server)),
            Self::Health => metrics::json(server),
            Self::SignIn => {
                let (bearer, body) = credentials(request).await?;
                sign_in(server, bearer.or(body.id_token), address)?
            }
            Self::CreateRoom => {
                let (caller, _) = caller(request, server).await?;
                create_room(server, caller, address).await?
            }
            Self::DeletePeer => {
                let (caller, body) = caller(request, server).await?;
                delete_peer(server, &caller, body.peer_id)?
            }
            Self::DeleteRoom => {
                let (caller, body) = caller(request, server).await?;
                delete_room(server, &caller, body).await?
            }
        };
        Ok(reply(StatusCode::OK, &value))
    }
}

/// A file of the page.
fn page(
    server: &Server,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response<Full<Bytes>>, Refusal> {
    match path {
        _ if !server.has_page() => Err(Refusal::NotFound),
        "/app" => Ok(page::redirection()),
        path => page::serve(path, headers).ok_or(Refusal::NotFound),
    }
}

/// The token in a request's head, and its body.
async fn credentials<B: Readable>(request: Request<B>) -> Result<(Option<IdToken>, Body), Refusal> {
    let bearer = bearer(request.headers())?;
    Ok((bearer, read(request.into_body()).await?))
}

/// The authenticated caller, and the body of its request.
async fn caller<B: Readable>(
    request: Request<B>,
    server: &Server,
) -> Result<(PeerId, Body), Refusal> {
    let (bearer, body) = credentials(request).await?;
    let token = bearer.ok_or(Refusal::NoToken)?;
    Ok((server.signer.verify(&token, now_s())?, body))
}

/// Signs in: issues a new identity, or a new token for the identity of `token`, which may have
/// expired.
fn sign_in(server: &Server, token: Option<IdToken>, address: IpAddr) -> Result<Value, Refusal> {
    let peer = match token {
        Some(token) => server.signer.verify_expired_too(&token)?,
        None if !server.addresses.try_count_sign_in(address, Instant::now()) => {
            return Err(Refusal::TooManySignIns);
        }
        None => PeerId::new(format!("peer-{}", random::hex::<8>()))
            .map_err(|_| IdentityError::Invalid)?,
    };
    let token = server.signer.sign(&peer, now_s())?;
    Ok(json!({"id_token": token, "username": peer}))
}

async fn create_room(server: &Server, caller: PeerId, address: IpAddr) -> Result<Value, Refusal> {
    if !server.addresses.try_count_room(address, Instant::now()) {
        return Err(Refusal::TooManyRooms);
    }
    let room = server.state.create_room(caller.clone(), now_s()).await?;
    tracing::info!(peer = %caller, room = %room.room_id, "room created");
    Ok(json!({"room_id": room.room_id, "token": room.token}))
}

fn delete_peer(server: &Server, caller: &PeerId, peer: Option<PeerId>) -> Result<Value, Refusal> {
    if peer.is_some_and(|peer| peer != *caller) {
        return Err(Refusal::Forbidden("a peer can delete itself only"));
    }
    let present = server.rooms().remove(caller);
    if let Some(member) = &present {
        server.close_deleted(caller, member);
        tracing::info!(peer = %caller, room = %member.room, "peer deleted");
        relay::review(server, &member.room, Whose::Peer(caller));
    }
    Ok(json!({"status": if present.is_some() { "deleted" } else { "not present" }}))
}

/// Deletes a room that the caller created. The Python programs name themselves instead of a room,
/// which means the room that they are in.
async fn delete_room(server: &Server, caller: &PeerId, body: Body) -> Result<Value, Refusal> {
    if body.peer_id.as_ref().is_some_and(|peer| peer != caller) {
        return Err(Refusal::Forbidden("a peer can delete itself and its own rooms only"));
    }
    let own = server.rooms().room_of(caller);
    let named = body.room_id.is_some();
    let Some(room) = body.room_id.or(own) else { return delete_peer(server, caller, None) };
    if !server.state.delete_room(room.clone(), caller.clone()).await? {
        // The same answer as for a room that does not exist, so that nobody can probe for rooms.
        let refusal = Refusal::Forbidden("you have made no such room");
        return if named { Err(refusal) } else { delete_peer(server, caller, None) };
    }
    let members = server.rooms().clear(&room);
    members.iter().for_each(|(peer, member)| server.close_deleted(peer, member));
    relay::review(server, &room, Whose::Everybody);
    if let Some(cluster) = &server.cluster {
        cluster.room_deleted(&room);
    }
    tracing::info!(peer = %caller, %room, peers = members.len(), "room deleted");
    Ok(json!({"status": "deleted", "peers": members.len()}))
}

/// The metrics as Prometheus text, or as JSON for callers that accept it, such as the Python
/// programs.
fn measured(headers: &HeaderMap, server: &Server) -> Response<Full<Bytes>> {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("application/json")) {
        return reply(StatusCode::OK, &metrics::json(server));
    }
    let mut response = reply(StatusCode::OK, &Value::Null);
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    *response.body_mut() = Full::from(metrics::prometheus(server));
    response
}

/// An empty answer that repeats the request's challenge, which a captive portal would not do.
fn no_content(headers: &HeaderMap) -> Response<Full<Bytes>> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    let challenge = headers.get("X-Iroh-Challenge").map(HeaderValue::as_bytes);
    let challenge = challenge.filter(|bytes| bytes.len() < 64 && bytes.iter().all(is_plain));
    let mut response = reply(StatusCode::NO_CONTENT, &Value::Null);
    *response.body_mut() = Full::default();
    if let Some(Ok(repeated)) =
        challenge.map(|bytes| HeaderValue::from_bytes(&[b"response ", bytes].concat()))
    {
        response.headers_mut().insert("X-Iroh-Response", repeated);
    }
    response
}

fn bearer(headers: &HeaderMap) -> Result<Option<IdToken>, Refusal> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let token = token.ok_or(Refusal::NoToken)?;
    IdToken::new(token).map(Some).map_err(|_| IdentityError::Invalid.into())
}

async fn read(body: impl Readable) -> Result<Body, Refusal> {
    let limited = Limited::new(body, MAX_BODY_BYTES).collect();
    let bytes = tokio::time::timeout(BODY_DEADLINE, limited)
        .await
        .map_err(|_| Refusal::Malformed("the request's body took too long".into()))?
        .map_err(|error| Refusal::Malformed(format!("the request's body: {error}")))?
        .to_bytes();
    if bytes.trim_ascii().is_empty() {
        return Ok(Body::default());
    }
    serde_json::from_slice(&bytes)
        .map_err(|_| Refusal::Malformed("the body is not the JSON object that is expected".into()))
}

fn reply(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Calls are rare, so keeping the connection for the next one would only occupy a socket.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
