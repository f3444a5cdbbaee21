//! The STUN and TURN servers that a peer is given.
//!
//! A TURN server that shares a secret with this server accepts accounts that it has never seen:
//! the name is `EXPIRY:PEER`, the time in seconds since 1970, and the password is
//! `base64(HMAC-SHA1(secret, name))` ("A REST API For Access To TURN Services",
//! draft-uberti-behave-turn-rest-00; coturn's `use-auth-secret`).

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sleap_rtc_base::ice::{self, UDP_ONLY, is_supported};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::{IceServers, WireIceServer};
use std::fmt;
use std::time::Duration;

/// The servers that a signaling server gives to its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceOffer {
    /// The servers, in the order in which peers try them.
    pub servers: Vec<OfferedServer>,
    /// How long a peer's own account lasts.
    pub lifetime: Duration,
}

impl Default for IceOffer {
    /// None.
    fn default() -> Self {
        Self { servers: Vec::new(), lifetime: Duration::from_secs(24 * 60 * 60) }
    }
}

impl IceOffer {
    /// One sentence for each URL that our own peers cannot use.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let urls = self.servers.iter().flat_map(|server| match server {
            OfferedServer::Fixed(server) => &server.urls,
            OfferedServer::Secret { urls, .. } => urls,
        });
        let unused = urls.filter(|url| !is_supported(url));
        unused.map(|url| {
            format!("{url} is given to all peers, and sleap-rtc's own do not use it: {UDP_ONLY}")
        })
    }
}

/// One server, and the credentials for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfferedServer {
    /// The same for every peer.
    Fixed(ice::IceServer),
    /// With an account for each peer, derived from a secret that the TURN server knows too.
    Secret {
        /// Its URLs.
        urls: Vec<String>,
        /// The secret.
        secret: Secret,
    },
}

/// A secret. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl OfferedServer {
    /// Checks the parts of a server with a secret.
    pub fn with_secret(urls: Vec<String>, secret: String) -> Result<Self, String> {
        if urls.is_empty() || !urls.iter().all(|url| url.starts_with("turn")) {
            return Err("has a `secret`, which is for turn: URLs alone".into());
        }
        urls.iter().try_for_each(|url| ice::check(url))?;
        if secret.is_empty() {
            return Err("has an empty `secret`".into());
        }
        Ok(Self::Secret { urls, secret: Secret(secret) })
    }
}

/// The servers and accounts for `peer` at `now_s`, in seconds since 1970.
pub fn hand_out(offer: &IceOffer, peer: &PeerId, now_s: u64) -> IceServers {
    let lifetime_s = offer.lifetime.as_secs();
    let username = format!("{}:{peer}", now_s.saturating_add(lifetime_s));
    let server = |server: &OfferedServer| match server {
        OfferedServer::Fixed(server) => WireIceServer {
            urls: server.urls.clone(),
            username: server.username.clone(),
            credential: server.credential.clone(),
        },
        OfferedServer::Secret { urls, secret } => WireIceServer {
            urls: urls.clone(),
            username: Some(username.clone()),
            credential: Some(password(secret, &username)),
        },
    };
    let expires = |server: &OfferedServer| matches!(server, OfferedServer::Secret { .. });
    IceServers {
        ice_servers: offer.servers.iter().map(server).collect(),
        ice_lifetime_s: offer.servers.iter().any(expires).then_some(lifetime_s),
    }
}

fn password(Secret(secret): &Secret, username: &str) -> String {
    // Cannot fail, because HMAC accepts a key of any length.
    let Ok(mac) = <Hmac<Sha1> as Mac>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    STANDARD.encode(mac.chain_update(username).finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(server: OfferedServer) -> IceOffer {
        IceOffer { servers: vec![server], ..IceOffer::default() }
    }

    #[test]
    fn an_account_is_what_openssl_makes_of_it() {
        // printf 1700086400:peer-1 | openssl dgst -sha1 -hmac north -binary | base64
        let secret = Secret("north".into());
        let offer = offer(OfferedServer::Secret { urls: vec!["turn:relay.lab".into()], secret });
        let handed_out = hand_out(&offer, &PeerId::new("peer-1").unwrap(), 1_700_000_000);
        let server = &handed_out.ice_servers[0];
        assert_eq!(server.username.as_deref(), Some("1700086400:peer-1"));
        assert_eq!(server.credential.as_deref(), Some("PviLiBisKyJqacdoczDgAEt/HFM="));
        assert_eq!(handed_out.ice_lifetime_s, Some(86_400));
        let shown = format!("{offer:?} {handed_out:?}");
        assert!(
            !shown.contains("north") && !shown.contains("PviLiBisKyJqacdoczDgAEt/HFM="),
            "{shown}"
        );
    }

    #[test]
    fn what_does_not_expire_is_not_asked_for_again() {
        let server = ice::IceServer::from_url("turn:joe:pw@relay.lab").unwrap();
        let peer = PeerId::new("peer-1").unwrap();
        let handed_out = hand_out(&offer(OfferedServer::Fixed(server)), &peer, 0);
        assert_eq!(handed_out.ice_lifetime_s, None);
        assert_eq!(handed_out.ice_servers[0].credential.as_deref(), Some("pw"));
        let none = hand_out(&IceOffer::default(), &peer, 0);
        assert_eq!(serde_json::to_string(&none).unwrap(), "{}");
    }

    #[test]
    fn what_our_own_peers_do_not_use_is_said() {
        let urls = ["turn:a:b@c", "turn:a:b@c?transport=tcp", "turns:a:b@c", "stuns:c", "stun:c"];
        let servers = urls.map(|url| OfferedServer::Fixed(ice::IceServer::from_url(url).unwrap()));
        let offer = IceOffer { servers: servers.to_vec(), ..IceOffer::default() };
        assert_eq!(offer.warnings().count(), 3);
    }
}
