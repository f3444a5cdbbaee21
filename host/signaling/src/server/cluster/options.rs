//! How a server reaches the broker of its cluster.

use std::fmt;
use std::path::PathBuf;
use url::Url;

/// The broker of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// `nats://HOST:PORT` or `tls://HOST:PORT`, of one broker or of several that are a cluster themselves. With
    /// `USER:PASSWORD@` or `TOKEN@`, if they ask for that.
    pub brokers: Vec<Url>,
    /// A file with a token, in place of one in the address.
    pub token_file: Option<PathBuf>,
}

/// Without passwords and tokens.
impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ClusterOptions");
        shown.field("brokers", &self.names()).field("token_file", &self.token_file).finish()
    }
}

impl ClusterOptions {
    /// Reads the address of a broker.
    ///
    /// # Errors
    /// In words: what it must be.
    pub fn address(text: &str) -> Result<Url, String> {
        let expected = "expects an address such as \"nats://broker.lab:4222\"";
        // Without the text, which may have a password.
        let url = Url::parse(text.trim()).map_err(|error| format!("{expected} ({error})"))?;
        let is_broker = matches!(url.scheme(), "nats" | "tls");
        match is_broker && url.host_str().is_some_and(|host| !host.is_empty()) {
            true => Ok(url),
            false => Err(expected.to_owned()),
        }
    }

    /// The brokers for messages: without passwords and tokens.
    pub fn names(&self) -> Vec<String> {
        let name = |url: &Url| {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
        };
        self.brokers.iter().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let address = |text| ClusterOptions::address(text).unwrap();
        let brokers = vec![address("nats://me:hunter2@a:4222"), address("tls://hunter2@[::1]")];
        let options = ClusterOptions { brokers, token_file: Some("/etc/token".into()) };
        assert_eq!(options.names(), ["nats://a:4222", "tls://[::1]"]);
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_no_broker_is_refused() {
        for wrong in ["", "broker", "http://a", "nats://", "broker:4222", "nats:a"] {
            assert!(ClusterOptions::address(wrong).is_err(), "{wrong}");
        }
        let error = ClusterOptions::address("nats://me:hunter2@a:99999").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
