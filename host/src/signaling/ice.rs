//! Which STUN and TURN servers a peer is given.
//!
//! A TURN server that shares a secret with this one takes accounts that were never made known to it:
//! the name is `EXPIRY:PEER`, the time in seconds since 1970, and the password is
//! `base64(HMAC-SHA1(secret, name))` ("A REST API For Access To TURN Services",
//! draft-uberti-behave-turn-rest-00; coturn's `use-auth-secret`).

use crate::config::{IceOffer, OfferedServer, Secret};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::{HandedOut, IceServer};

/// What `peer` is given at `now_s`, in seconds since 1970.
pub fn hand_out(offer: &IceOffer, peer: &PeerId, now_s: u64) -> HandedOut {
    let lifetime_s = offer.lifetime.as_secs();
    let username = format!("{}:{peer}", now_s.saturating_add(lifetime_s));
    let server = |server: &OfferedServer| match server {
        OfferedServer::Fixed(server) => IceServer {
            urls: server.urls.clone(),
            username: server.username.clone(),
            credential: server.credential.clone(),
        },
        OfferedServer::Secret { urls, secret } => IceServer {
            urls: urls.clone(),
            username: Some(username.clone()),
            credential: Some(password(secret, &username)),
        },
    };
    let expires = |server: &OfferedServer| matches!(server, OfferedServer::Secret { .. });
    HandedOut {
        ice_servers: offer.servers.iter().map(server).collect(),
        ice_lifetime_s: offer.servers.iter().any(expires).then_some(lifetime_s),
    }
}

fn password(Secret(secret): &Secret, username: &str) -> String {
    // HMAC takes a key of any length, so this form does not fail; with an error, no password.
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
        let server = crate::config::IceServer::from_url("turn:joe:pw@relay.lab").unwrap();
        let peer = PeerId::new("peer-1").unwrap();
        let handed_out = hand_out(&offer(OfferedServer::Fixed(server)), &peer, 0);
        assert_eq!(handed_out.ice_lifetime_s, None);
        assert_eq!(handed_out.ice_servers[0].credential.as_deref(), Some("pw"));
        let none = hand_out(&IceOffer::default(), &peer, 0);
        assert_eq!(serde_json::to_string(&none).unwrap(), "{}");
    }
}
