//! STUN and TURN servers, and the addresses to gather candidates on.

use std::fmt;
use std::net::IpAddr;

/// What makes two peers find a path to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceConfig {
    /// In the order in which they are tried; empty for none.
    pub servers: Vec<IceServer>,
    /// Local addresses to use; empty means all interfaces and loopback.
    pub bind: Vec<IpAddr>,
}

impl Default for IceConfig {
    /// One public STUN server.
    fn default() -> Self {
        let server = IceServer { urls: vec![PUBLIC_STUN.into()], username: None, credential: None };
        Self { servers: vec![server], bind: Vec::new() }
    }
}

const PUBLIC_STUN: &str = "stun:stun.l.google.com:19302";

/// A STUN or TURN server. `Debug` hides the credential.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:`, `stuns:`, `turn:` or `turns:` URLs of one server, checked.
    pub urls: Vec<String>,
    /// For TURN.
    pub username: Option<String>,
    /// For TURN.
    pub credential: Option<String>,
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .field("credential", &self.credential.as_ref().map(|_| "redacted"))
            .finish()
    }
}

impl IceServer {
    /// Checks the parts. The error texts never hold the credential.
    pub fn new(
        urls: Vec<String>,
        username: Option<String>,
        credential: Option<String>,
    ) -> Result<Self, String> {
        if urls.is_empty() {
            return Err("expects at least one URL".into());
        }
        for url in &urls {
            check(url)?;
        }
        let relays = urls.iter().any(|url| url.starts_with("turn"));
        if relays && (username.is_none() || credential.is_none()) {
            return Err("names a TURN server, which needs a username and a credential".into());
        }
        Ok(Self { urls, username, credential })
    }

    /// Reads one URL; a TURN server's may carry its account, as `turn:USER:PASSWORD@HOST:PORT`.
    pub fn from_url(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').ok_or(EXPECTED)?;
        let Some((account, host)) = rest.rsplit_once('@') else {
            return Self::new(vec![text.into()], None, None);
        };
        let (user, password) = account.split_once(':').ok_or("expects USER:PASSWORD before `@`")?;
        Self::new(vec![format!("{scheme}:{host}")], Some(user.into()), Some(password.into()))
    }
}

const EXPECTED: &str = "expects STUN or TURN URLs such as stun:stun.example.org:3478";

fn check(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once(':').ok_or(EXPECTED)?;
    if !matches!(scheme, "stun" | "stuns" | "turn" | "turns") {
        return Err(EXPECTED.into());
    }
    let (server, query) = rest.split_once('?').map_or((rest, None), |(s, q)| (s, Some(q)));
    let transport_known = matches!(query, None | Some("transport=udp" | "transport=tcp"));
    // `http` lends its rules for hosts and ports, IPv6 brackets included.
    let parsed = url::Url::parse(&format!("http://{server}")).ok();
    let plain = parsed.is_some_and(|parsed| parsed.path() == "/" && parsed.username().is_empty());
    if server.is_empty() || server.contains(['/', '@']) || !plain || !transport_known {
        return Err(EXPECTED.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_and_accounts_are_hidden() {
        for good in ["stun:a", "stun:a.b:19302", "stuns:[::1]:5349"] {
            assert!(IceServer::from_url(good).is_ok(), "{good}");
        }
        let turn = IceServer::from_url("turn:joe:s3cret@relay:3478?transport=tcp").unwrap();
        assert_eq!(turn.urls, ["turn:relay:3478?transport=tcp"]);
        assert_eq!(turn.username.as_deref(), Some("joe"));
        assert!(!format!("{turn:?}").contains("s3cret"));
        for bad in [
            "",
            "none",
            "stun:",
            "http://a",
            "stun://a",
            "stun:a:b",
            "stun:a:99999",
            "turn:relay",
            "turn:joe@relay",
            "stun:a?x=1",
            "stun:a/b",
        ] {
            assert!(IceServer::from_url(bad).is_err(), "{bad:?}");
        }
    }
}
