//! STUN and TURN servers, and the addresses to gather candidates on.

use sleap_rtc_base::ice::{IceServer, UDP_ONLY, is_supported};
use std::net::IpAddr;

/// What makes two peers find a path to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceConfig {
    /// In the order in which they are tried; empty for none.
    pub servers: Vec<IceServer>,
    /// What becomes of those that the signaling server gives.
    pub given: Given,
    /// Local addresses to use; empty means all interfaces and loopback.
    pub bind: Vec<IpAddr>,
}

/// What becomes of the servers that the signaling server gives to this peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// They replace ours, if there are any: nobody has configured ours.
    Instead,
    /// They come after ours.
    Also,
    /// They are left out.
    Ignored,
}

impl Default for IceConfig {
    /// One public STUN server, until the signaling server gives better ones.
    fn default() -> Self {
        let server = IceServer { urls: vec![PUBLIC_STUN.into()], username: None, credential: None };
        Self { servers: vec![server], given: Given::Instead, bind: Vec::new() }
    }
}

impl IceConfig {
    /// Options replace everything; servers of the file stand before those that are given, unless
    /// the file says `from_signaling = false`.
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

    /// The servers to use, when the signaling server gives these.
    pub fn servers_with(&self, given: impl IntoIterator<Item = IceServer>) -> Vec<IceServer> {
        let mut given = given.into_iter().take(MAX_GIVEN).peekable();
        match self.given {
            Given::Instead if given.peek().is_some() => given.collect(),
            Given::Also => self.servers.iter().cloned().chain(given).collect(),
            Given::Instead | Given::Ignored => self.servers.clone(),
        }
    }

    /// One sentence for each URL that is understood and not used.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let urls = self.servers.iter().flat_map(|server| &server.urls);
        urls.filter(|url| !is_supported(url)).map(|url| format!("{url} is not used: {UDP_ONLY}"))
    }
}

/// The most servers that are taken from a signaling server.
const MAX_GIVEN: usize = 16;

const PUBLIC_STUN: &str = "stun:stun.l.google.com:19302";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_from_whoever_has_the_last_word() {
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
    fn what_cannot_be_used_is_said() {
        let urls = ["turn:a:b@c", "turn:a:b@c?transport=tcp", "turns:a:b@c", "stuns:c", "stun:c"];
        let servers = urls.map(|url| IceServer::from_url(url).unwrap()).to_vec();
        let config = IceConfig::new(Some(servers), None, None, Vec::new());
        let warnings: Vec<String> = config.warnings().collect();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].starts_with("turn:c?transport=tcp is not used: "), "{warnings:?}");
    }
}
