//! Checked STUN and TURN servers, and the addresses on which to gather candidates.

use std::fmt;
use std::net::IpAddr;

/// The reason why some URLs are not used.
pub const UDP_ONLY: &str = "STUN and TURN servers are reached over UDP alone, not over TCP or TLS; where there is no UDP, \
     no connection is possible";

/// Whether connections can use `url`: only STUN and TURN over UDP.
pub fn is_supported(url: &str) -> bool {
    let over_udp = url.starts_with("stun:") || url.starts_with("turn:");
    over_udp && !url.ends_with("?transport=tcp")
}

/// Settings for finding a path between two peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceConfig {
    /// The configured servers, in the order in which they are tried.
    pub servers: Vec<IceServer>,
    /// How to use the servers that the signaling server gives.
    pub given: Given,
    /// Local addresses to use. Empty for all interfaces and loopback.
    pub bind: Vec<IpAddr>,
}

/// How to use the servers that the signaling server gives to this peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// They replace the configured ones, because those are only defaults.
    Instead,
    /// They follow the configured ones.
    Also,
    /// They are ignored.
    Ignored,
}

impl Default for IceConfig {
    /// One public STUN server, unless the signaling server gives others.
    fn default() -> Self {
        let server = IceServer { urls: vec![PUBLIC_STUN.into()], username: None, credential: None };
        Self { servers: vec![server], given: Given::Instead, bind: Vec::new() }
    }
}

impl IceConfig {
    /// Options replace everything. Servers in the file precede those that the signaling server
    /// gives, and replace them if the file says `from_signaling = false`.
    pub fn new(
        option: Option<Vec<IceServer>>,
        file: Option<Vec<IceServer>>,
        from_signaling: Option<bool>,
        bind: Vec<IpAddr>,
    ) -> Self {
        let default = Self::default().servers;
        let (servers, given) = match (option, file, from_signaling) {
            (Some(servers), ..) => (servers, Given::Ignored),
            (None, servers, Some(false)) => (servers.unwrap_or(default), Given::Ignored),
            (None, Some(servers), _) => (servers, Given::Also),
            (None, None, _) => (default, Given::Instead),
        };
        Self { servers, given, bind }
    }

    /// The servers to use, if the signaling server gives these.
    pub fn servers_with(&self, given: impl IntoIterator<Item = IceServer>) -> Vec<IceServer> {
        let mut given = given.into_iter().take(MAX_GIVEN).peekable();
        match self.given {
            Given::Instead if given.peek().is_some() => given.collect(),
            Given::Also => self.servers.iter().cloned().chain(given).collect(),
            Given::Instead | Given::Ignored => self.servers.clone(),
        }
    }

    /// One sentence for each URL that is valid but not used.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let urls = self.servers.iter().flat_map(|server| &server.urls);
        urls.filter(|url| !is_supported(url)).map(|url| format!("{url} is not used: {UDP_ONLY}"))
    }
}

/// The most servers to accept from a signaling server.
const MAX_GIVEN: usize = 16;

const PUBLIC_STUN: &str = "stun:stun.l.google.com:19302";

/// A STUN or TURN server. `Debug` hides the credential.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    /// Checked `stun:`, `stuns:`, `turn:` or `turns:` URLs of one server.
    pub urls: Vec<String>,
    /// The account's name, for TURN.
    pub username: Option<String>,
    /// The account's password, for TURN.
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
    /// Checks the parts. Error texts never contain the credential.
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

    /// Splits off the URLs that connections cannot use.
    pub fn usable(mut self) -> (Option<Self>, Vec<String>) {
        let unused = self.urls.extract_if(.., |url| !is_supported(url)).collect();
        (Some(self).filter(|server| !server.urls.is_empty()), unused)
    }

    /// Parses one URL. A TURN server's may contain its account, as `turn:USER:PASSWORD@HOST:PORT`.
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
    // Parsing it as `http` applies the rules for hosts and ports, including IPv6 brackets.
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
    fn unusable_urls_are_left_out() {
        let urls = ["turn:a:b@c", "turn:a:b@c?transport=tcp", "turns:a:b@c", "stuns:c", "stun:c"];
        let servers = urls.map(|url| IceServer::from_url(url).unwrap());
        let used = servers.into_iter().filter_map(|server| server.usable().0?.urls.pop());
        assert_eq!(used.collect::<Vec<_>>(), ["turn:c", "stun:c"]);
        let both = vec!["turns:c".to_owned(), "turn:c".to_owned()];
        let (used, unused) =
            IceServer::new(both, Some("a".into()), Some("b".into())).unwrap().usable();
        assert_eq!((used.unwrap().urls, unused), (vec!["turn:c".into()], vec!["turns:c".into()]));
    }

    #[test]
    fn sources_of_servers_have_an_order() {
        let server = |host: &str| IceServer::from_url(&format!("stun:{host}")).unwrap();
        let used = |option: Option<&str>, file: Option<&str>, from_signaling, given: &[&str]| {
            let list = |host: Option<&str>| host.map(|host| vec![server(host)]);
            let config = IceConfig::new(list(option), list(file), from_signaling, Vec::new());
            let used = config.servers_with(given.iter().map(|host| server(host)));
            used.iter().map(|server| server.urls[0].clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(used(None, None, None, &[]), PUBLIC_STUN);
        assert_eq!(used(None, None, None, &["given"]), "stun:given");
        assert_eq!(used(None, None, Some(false), &["given"]), PUBLIC_STUN);
        assert_eq!(used(None, Some("file"), None, &["given"]), "stun:file stun:given");
        assert_eq!(used(None, Some("file"), Some(false), &["given"]), "stun:file");
        assert_eq!(used(Some("option"), Some("file"), Some(true), &["given"]), "stun:option");
        assert_eq!(used(None, Some("file"), None, &["g"; 99]).split(' ').count(), 1 + MAX_GIVEN);
    }

    #[test]
    fn unusable_urls_are_reported() {
        let urls = ["turn:a:b@c", "turn:a:b@c?transport=tcp", "turns:a:b@c", "stuns:c", "stun:c"];
        let servers = urls.map(|url| IceServer::from_url(url).unwrap()).to_vec();
        let config = IceConfig::new(Some(servers), None, None, Vec::new());
        let warnings: Vec<String> = config.warnings().collect();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].starts_with("turn:c?transport=tcp is not used: "), "{warnings:?}");
    }
}
