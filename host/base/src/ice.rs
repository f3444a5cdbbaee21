//! A STUN or TURN server, checked.

use std::fmt;

/// Why some URLs are not used.
pub const UDP_ONLY: &str = "STUN and TURN servers are reached over UDP alone, not over TCP or TLS; where there is no UDP, \
     no connection is possible";

/// Whether connections can use it: STUN and TURN over UDP.
pub fn is_supported(url: &str) -> bool {
    let over_udp = url.starts_with("stun:") || url.starts_with("turn:");
    over_udp && !url.ends_with("?transport=tcp")
}

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

    /// The server with the URLs that connections can use, and the others.
    pub fn usable(mut self) -> (Option<Self>, Vec<String>) {
        let unused = self.urls.extract_if(.., |url| !is_supported(url)).collect();
        (Some(self).filter(|server| !server.urls.is_empty()), unused)
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

/// Checks one URL.
pub fn check(url: &str) -> Result<(), String> {
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

    #[test]
    fn what_cannot_be_used_is_left_out() {
        let urls = ["turn:a:b@c", "turn:a:b@c?transport=tcp", "turns:a:b@c", "stuns:c", "stun:c"];
        let servers = urls.map(|url| IceServer::from_url(url).unwrap());
        let used = servers.into_iter().filter_map(|server| server.usable().0?.urls.pop());
        assert_eq!(used.collect::<Vec<_>>(), ["turn:c", "stun:c"]);
        let both = vec!["turns:c".to_owned(), "turn:c".to_owned()];
        let (used, unused) =
            IceServer::new(both, Some("a".into()), Some("b".into())).unwrap().usable();
        assert_eq!((used.unwrap().urls, unused), (vec!["turn:c".into()], vec!["turns:c".into()]));
    }
}
