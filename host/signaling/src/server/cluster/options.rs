//! How a server reaches the broker of its cluster.

use async_nats::ServerAddr;
use sleap_rtc_base::os::everybody_can_read;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use url::Url;

/// The longest token in a file.
const MAX_TOKEN_BYTES: u64 = 4 * 1024;
const NO_TOKEN: &str = "it must have one line, with the token";

/// The broker of a cluster, as it is configured.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// `nats://HOST:PORT` or `tls://HOST:PORT`, of one broker or of several that are a cluster themselves. With
    /// `USER:PASSWORD@` or `TOKEN@`, if they ask for that.
    pub brokers: Vec<Url>,
    /// A file with a token, in place of one in the address.
    pub token_file: Option<PathBuf>,
}

/// The file with the token cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the token of the cluster in {path}, which `cluster_token_file` names")]
pub struct TokenFileError {
    path: PathBuf,
    source: io::Error,
}

/// Brokers, and the credentials for them.
#[derive(Clone)]
pub struct Brokers {
    addresses: Vec<ServerAddr>,
    credentials: Credentials,
}

/// How a server proves to a broker that it may connect.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    None,
    Token(String),
    User { name: String, password: String },
}

/// Without passwords and tokens.
impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.brokers.iter().map(name).collect();
        let mut shown = f.debug_struct("ClusterOptions");
        shown.field("brokers", &names).field("token_file", &self.token_file).finish()
    }
}

/// Without passwords and tokens.
impl fmt::Debug for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Brokers({self})")
    }
}

impl fmt::Display for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.addresses.iter().map(ServerAddr::as_url_str).collect();
        f.write_str(&names.join(", "))
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

    /// Reads the token, if a file has it. Otherwise the first address has the credentials.
    ///
    /// # Errors
    /// The file cannot be read, or does not have one line.
    pub fn load(&self) -> Result<Brokers, TokenFileError> {
        let credentials = match &self.token_file {
            Some(path) => Credentials::Token(
                token(path).map_err(|source| TokenFileError { path: path.clone(), source })?,
            ),
            None => self.brokers.first().map_or(Credentials::None, Credentials::of),
        };
        // Without credentials, because async-nats logs addresses.
        let bare = |url: &Url| ServerAddr::from_url(Url::parse(&name(url)).ok()?).ok();
        Ok(Brokers { addresses: self.brokers.iter().filter_map(bare).collect(), credentials })
    }
}

impl Brokers {
    pub(crate) fn addresses(&self) -> &[ServerAddr] {
        &self.addresses
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn need_tls(&self) -> bool {
        self.addresses.iter().any(ServerAddr::tls_required)
    }
}

impl Credentials {
    fn of(url: &Url) -> Self {
        match (decoded(url.username()), url.password()) {
            (name, Some(password)) => Self::User { name, password: decoded(password) },
            (token, None) if !token.is_empty() => Self::Token(token),
            _ => Self::None,
        }
    }
}

/// A user name, password or token of an address, without its percent-encoding.
fn decoded(text: &str) -> String {
    let pair = format!("={}", text.replace('+', "%2B").replace('&', "%26"));
    let mut pairs = url::form_urlencoded::parse(pair.as_bytes());
    pairs.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// A broker without passwords and tokens.
fn name(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

fn token(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    if everybody_can_read(&file.metadata()?) {
        tracing::warn!(
            path = %path.display(),
            "every user of this machine can read the cluster's token, and with it forge what servers say; `chmod o=` \
             closes the file"
        );
    }
    let mut text = String::new();
    file.by_ref().take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
    let token = text.trim();
    match token.is_empty() || token.contains('\n') || text.len() as u64 == MAX_TOKEN_BYTES {
        true => Err(io::Error::other(NO_TOKEN)),
        false => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(brokers: &[&str], token_file: Option<PathBuf>) -> ClusterOptions {
        let brokers = brokers.iter().map(|text| ClusterOptions::address(text).unwrap()).collect();
        ClusterOptions { brokers, token_file }
    }

    #[test]
    fn secrets_are_not_shown() {
        let options = options(&["nats://me:hunter2@a:4222", "tls://hunter2@[::1]"], None);
        assert!(!format!("{options:?}").contains("hunter2"));
        let brokers = options.load().unwrap();
        assert_eq!(brokers.to_string(), "nats://a:4222, tls://[::1]");
        assert!(!format!("{brokers:?}").contains("hunter2"));
        assert!(brokers.need_tls());
    }

    #[test]
    fn what_is_no_broker_is_refused() {
        for wrong in ["", "broker", "http://a", "nats://", "broker:4222", "nats:a"] {
            assert!(ClusterOptions::address(wrong).is_err(), "{wrong}");
        }
        let error = ClusterOptions::address("nats://me:hunter2@a:99999").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn credentials_come_from_the_file_or_from_the_address() {
        let of = |broker, file| options(&[broker], file).load().map(|brokers| brokers.credentials);
        let user = |name: &str, password: &str| {
            let (name, password) = (name.to_owned(), password.to_owned());
            Ok(Credentials::User { name, password })
        };
        let token = |token: &str| Ok(Credentials::Token(token.to_owned()));
        let of = |broker, file| of(broker, file).map_err(|error| error.source.to_string());
        assert!(of("nats://me:a%40b+c&d%20=@h", None) == user("me", "a@b+c&d ="));
        assert!(of("nats://s%25cret@h", None) == token("s%cret"));
        assert!(of("nats://h", None) == Ok(Credentials::None));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "of the file\n").unwrap();
        assert!(of("nats://me:pw@h", Some(file.clone())) == token("of the file"));
        for wrong in ["", "\n", "two\nlines", &"x".repeat(5000)] {
            std::fs::write(&file, wrong).unwrap();
            assert!(of("nats://h", Some(file.clone())) == Err(NO_TOKEN.to_owned()), "{wrong}");
        }
        assert!(of("nats://h", Some(folder.path().join("none"))).is_err());
    }
}
