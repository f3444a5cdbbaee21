//! The signaling server, the proxy on the way to it, the clock.

use super::{Finding, with_causes};
use crate::config::Config;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_protocol::ids::IdToken;
use sleap_rtc_protocol::signaling::{Metadata, Role};
use sleap_rtc_signaling::client::{HttpApi, Identity, SignalingClient, SignalingError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Each step has deadlines of its own; this one is for all of them.
const LIMIT: Duration = Duration::from_secs(60);
/// Certificates and tokens bear more; people who compare logs do not.
const CLOCK_SKEW_S: u64 = 60;

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = proxy().into_iter().collect();
    let http = &config.signaling.http;
    let api = HttpApi::new(http);
    let identity = match tokio::time::timeout(LIMIT, api.sign_in(None)).await {
        Ok(Ok(identity)) => identity,
        Ok(Err(error)) => {
            findings.push(refused(http.as_str(), &error));
            return findings;
        }
        Err(_) => {
            let says = format!("{http} gives no answer");
            findings.push(Finding::fail("server", says, "see whether the server runs"));
            return findings;
        }
    };
    let tls = if http.scheme() == "https" { ", its certificate is trusted" } else { "" };
    findings.push(Finding::ok("server", format!("{http} answers{tls}")));
    findings.push(clock(&identity.id_token, now_ms() / 1000));
    let websocket = &config.signaling.websocket;
    let meeting = tokio::time::timeout(LIMIT, meet(config, &api, identity)).await;
    findings.push(match meeting {
        Ok(Ok(())) => Finding::ok("websocket", format!("{websocket} lets peers register")),
        Ok(Err(error)) => Finding { check: "websocket", ..refused(websocket.as_str(), &error) },
        Err(_) => {
            let says = format!("{websocket} gives no answer");
            Finding::fail("websocket", says, "a proxy in front of the server must pass WebSockets")
        }
    });
    findings
}

/// Registers in a room of its own, which it removes again.
async fn meet(config: &Config, api: &HttpApi, identity: Identity) -> Result<(), SignalingError> {
    let room = api.create_room(&identity.id_token).await?;
    let metadata = Metadata { tags: Vec::new(), properties: serde_json::Map::new() };
    let (endpoints, cancel) = (config.signaling.clone(), CancellationToken::new());
    let token = identity.id_token.clone();
    let joining =
        SignalingClient::connect(endpoints, identity, room.clone(), Role::Client, metadata, cancel);
    let joined = joining.await;
    if let Ok((client, _events)) = &joined {
        client.clone().close().await;
    }
    if let Err(error) = api.delete_room(&token, &room.room_id).await {
        tracing::debug!(%error, "the room of this check stays until it expires");
    }
    joined.map(drop)
}

fn refused(url: &str, error: &SignalingError) -> Finding {
    let advice = error.advice().unwrap_or_else(|| {
        "see whether it runs there, and whether a firewall stands between".to_owned()
    });
    Finding::fail("server", format!("{url}: {}", with_causes(error)), advice)
}

/// The server's clock, by the time at which it made our token.
fn clock(token: &IdToken, now_s: u64) -> Finding {
    let Some(server_s) = made_at_s(token) else {
        return Finding::ok("clock", "the server's time is not known");
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
    serde_json::from_slice::<serde_json::Value>(&claims).ok()?.get("iat")?.as_u64()
}

fn proxy() -> Option<Finding> {
    let names =
        ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let set: Vec<&str> = names
        .into_iter()
        .filter(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()))
        .collect();
    // Their values may hold a password.
    (!set.is_empty()).then(|| {
        Finding::ok("proxy", format!("{} set; NO_PROXY names what goes past it", set.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

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
