//! Checks the signaling server: the proxy on the way to it, HTTP, TLS, the WebSocket, and the clock.

use crate::cli::findings::{Finding, with_causes};
use crate::cli::print;
use crate::config::Config;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sleap_rtc_base::bounded_wait::BoundedWait;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_protocol::ids::{IdToken, RoomCredentials};
use sleap_rtc_protocol::signaling::{Metadata, Role};
use sleap_rtc_signaling::client::{
    Apart, Endpoints, Events, HttpApi, PeerIdentity, SignalingClient, SignalingError, are_apart,
};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long each step may take. The requests in it have shorter deadlines of their own.
const PATIENCE: BoundedWait =
    BoundedWait { limit: Duration::from_secs(60), announce: print::waiting };
/// Certificates and tokens tolerate larger differences, but people who compare logs do not.
const CLOCK_SKEW_S: u64 = 60;
/// The variables that may contain a proxy's URL.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// A room with one member, which belongs to this check.
pub(crate) struct Meeting {
    pub(crate) client: SignalingClient,
    _events: Events,
    server: Endpoints,
    room: RoomCredentials,
    api: HttpApi,
    token: IdToken,
}

impl Meeting {
    /// Leaves the room and deletes it.
    pub(crate) async fn end(self) {
        self.client.close().await;
        if let Err(error) = self.api.delete_room(&self.token, &self.room.room_id).await {
            tracing::debug!(%error, "the room of this check stays until it expires");
        }
    }
}

/// Checks the way to each server. If there is one, returns a room for further checks, whose member
/// publishes `properties`.
pub(crate) async fn check(
    config: &Config,
    properties: Map<String, Value>,
) -> (Vec<Finding>, Option<Meeting>) {
    let (mut findings, mut first_meeting) = (Vec::new(), None::<Meeting>);
    for server in config.signaling.iter() {
        let (found, meeting) = check_one(server, properties.clone()).await;
        findings.extend(found);
        match (&first_meeting, meeting) {
            (Some(first), Some(further)) => {
                findings.push(shares_rooms(first, &further).await);
                further.end().await;
            }
            (None, Some(first)) => first_meeting = Some(first),
            (_, None) => {}
        }
    }
    (findings, first_meeting)
}

/// Whether the room of one server can be entered at the other, as peers do that are given both.
async fn shares_rooms(first: &Meeting, further: &Meeting) -> Finding {
    let (one, other) = (first.server.option(), further.server.option());
    let asking = are_apart(&first.server, &further.server, first.room.clone());
    match PATIENCE.wait(&other, asking).await {
        Ok(Ok(None)) => Finding::ok("rooms", format!("{one} and {other} share their rooms")),
        Ok(Ok(Some(apart))) => Finding::fail("rooms", apart.to_string(), Apart::ADVICE),
        Ok(Err(error)) => Finding { check: "rooms", ..refused(&other, &error) },
        Err(_) => {
            let says = format!("{other} does not say whether it shares the rooms of {one}");
            Finding::fail("rooms", says, "check that the server is running")
        }
    }
}

async fn check_one(
    server: &Endpoints,
    properties: Map<String, Value>,
) -> (Vec<Finding>, Option<Meeting>) {
    let mut findings: Vec<Finding> = proxy(server).into_iter().collect();
    let (http, start) = (&server.http, Instant::now());
    let api = HttpApi::new(http);
    let identity = match PATIENCE.wait(http.as_str(), api.sign_in(None)).await {
        Ok(Ok(identity)) => identity,
        Ok(Err(error)) => {
            findings.push(refused(http.as_str(), &error));
            return (findings, None);
        }
        Err(_) => {
            let says = format!("{http} does not answer");
            findings.push(Finding::fail("server", says, "check that the server is running"));
            return (findings, None);
        }
    };
    let tls = if http.scheme() == "https" { ", its certificate is trusted" } else { "" };
    let took = start.elapsed().as_millis();
    findings.push(Finding::ok("server", format!("{http} answers in {took} ms{tls}")));
    findings.push(clock(&identity.id_token, now_ms() / 1000));
    let websocket = &server.websocket;
    let meeting = meet(server, api, identity, properties);
    let meeting = PATIENCE.wait(websocket.as_str(), meeting).await;
    let (found, meeting) = match meeting {
        Ok(Ok(meeting)) => {
            (Finding::ok("websocket", format!("{websocket} lets peers register")), Some(meeting))
        }
        Ok(Err(error)) => {
            (Finding { check: "websocket", ..refused(websocket.as_str(), &error) }, None)
        }
        Err(_) => {
            let says = format!("{websocket} does not answer");
            let advice = "a proxy in front of the server must pass WebSockets";
            (Finding::fail("websocket", says, advice), None)
        }
    };
    findings.push(found);
    (findings, meeting)
}

/// Registers in a new room.
async fn meet(
    server: &Endpoints,
    api: HttpApi,
    identity: PeerIdentity,
    properties: Map<String, Value>,
) -> Result<Meeting, SignalingError> {
    let room = api.create_room(&identity.id_token).await?;
    let metadata = Metadata { tags: Vec::new(), properties };
    let (server, cancel) = (server.clone(), CancellationToken::new());
    let (at, token) = (server.clone(), identity.id_token.clone());
    let joining =
        SignalingClient::connect(at, identity, room.clone(), Role::Client, metadata, cancel);
    match joining.await {
        Ok((client, events)) => Ok(Meeting { client, _events: events, server, room, api, token }),
        Err(error) => {
            if let Err(error) = api.delete_room(&token, &room.room_id).await {
                tracing::debug!(%error, "the room of this check stays until it expires");
            }
            Err(error)
        }
    }
}

fn refused(url: &str, error: &SignalingError) -> Finding {
    let advice = error.advice().unwrap_or_else(|| {
        "check that the server is running there, and that no firewall blocks the way".to_owned()
    });
    Finding::fail("server", format!("{url}: {}", with_causes(error)), advice)
}

/// Compares this machine's clock with the time in a token that the server has just issued.
fn clock(token: &IdToken, now_s: u64) -> Finding {
    let Some(server_s) = made_at_s(token) else {
        return Finding::ok("clock", "the server's time is unknown");
    };
    let skew_s = server_s.abs_diff(now_s);
    match skew_s > CLOCK_SKEW_S {
        true => Finding::warn(
            "clock",
            format!("this machine and the server are {skew_s} s apart"),
            "set both by NTP: `timedatectl set-ntp true`",
        ),
        false => Finding::ok("clock", format!("within {} s of the server's", skew_s.max(1))),
    }
}

fn made_at_s(token: &IdToken) -> Option<u64> {
    let token = String::from(token.clone());
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Value>(&claims).ok()?.get("iat")?.as_u64()
}

/// The proxy on the way to the server, or variables that name a proxy but have no effect.
fn proxy(server: &Endpoints) -> Option<Finding> {
    match server.proxy() {
        Err(error) => {
            let advice = "name one as http://HOST:PORT or https://HOST:PORT, or unset the variable";
            Some(Finding::fail("proxy", with_causes(&error), advice))
        }
        Ok(Some(proxy)) => Some(Finding::ok("proxy", format!("the server is reached by {proxy}"))),
        Ok(None) => {
            let is_set = |name: &&str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
            let set: Vec<&str> = PROXIES.into_iter().filter(is_set).collect();
            // Their values may contain a password.
            (!set.is_empty()).then(|| {
                let set = set.join(", ");
                Finding::ok("proxy", format!("{set} set; the server is reached without it"))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::findings::Verdict;

    #[test]
    fn the_servers_clock_is_in_its_token() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"peer","iat":1000,"exp":2000}"#);
        let token = IdToken::new(format!("e30.{claims}.x")).unwrap();
        assert_eq!(clock(&token, 1001).verdict, Verdict::Ok);
        let found = clock(&token, 5000);
        assert_eq!(found.verdict, Verdict::Warn);
        assert!(found.says.contains("4000 s"), "{found:?}");
        assert_eq!(clock(&IdToken::new("opaque").unwrap(), 0).verdict, Verdict::Ok);
    }
}
