//! Names of plugins in a registry: `oci://registry/name:tag@sha256:…`.

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use url::{Host, Url};

/// What every reference begins with.
const SCHEME: &str = "oci://";
/// The tag of a reference that names none.
const DEFAULT_TAG: &str = "latest";
/// The longest reference to read, in bytes.
const LONGEST: usize = 512;

/// The SHA-256 of something in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigest(String);

impl ContentDigest {
    /// The digest of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
    }

    /// As registries write it: `sha256:` and 64 hexadecimal digits.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContentDigest {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
        match hex.is_some_and(|hex| hex.chars().all(is_hex)) {
            true => Ok(Self(text.to_owned())),
            false => Err(ReferenceError::Digest),
        }
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It does not have the parts of one.
    #[error("expects oci://REGISTRY/NAME:TAG, such as oci://ghcr.io/lab/fair-share:1")]
    Form,
    /// The registry is not a host.
    #[error("{0:?} is not a registry's address")]
    Registry(String),
    /// The name.
    #[error(
        "{0:?} is not a name in a registry: it has lower-case letters and digits, and between them `.`, `_`, \
         `-` or `/`"
    )]
    Name(String),
    /// The tag.
    #[error("{0:?} is not a tag: it has up to 128 letters, digits, `_`, `.` and `-`")]
    Tag(String),
    /// The digest.
    #[error("a digest is `sha256:` and 64 lower-case hexadecimal digits")]
    Digest,
}

/// A plugin in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `https:` and the registry; `http:` on this machine.
    pub base: Url,
    /// The registry's name for the plugin, with folders.
    pub name: String,
    /// The version.
    pub tag: String,
    /// The manifest's digest, if it is pinned.
    pub digest: Option<ContentDigest>,
}

impl Reference {
    /// Whether a text means a registry, and not a file.
    pub(crate) fn is_meant_by(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The name of the plugin's file, without its ending.
    pub(crate) fn plugin_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// The same, with the digest of what was found there.
    pub(crate) fn pinned(&self, digest: ContentDigest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The newest version of a tag: by default, of its own.
    pub(crate) fn newest(&self, tag: Option<&str>) -> Result<Self, ReferenceError> {
        let tag = tag.map(checked_tag).transpose()?.unwrap_or_else(|| self.tag.clone());
        Ok(Self { tag, digest: None, ..self.clone() })
    }

    /// Host and port of the registry, as other tools write them.
    pub(crate) fn registry(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(SCHEME).filter(|_| text.len() <= LONGEST);
        let (registry, path) =
            rest.and_then(|rest| rest.split_once('/')).ok_or(ReferenceError::Form)?;
        let (path, digest) = match path.split_once('@') {
            Some((path, digest)) => (path, Some(digest.parse()?)),
            None => (path, None),
        };
        let (name, tag) = path.split_once(':').unwrap_or((path, DEFAULT_TAG));
        Ok(Self {
            base: base(registry)?,
            name: checked_name(name)?,
            tag: checked_tag(tag)?,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, tag, digest, .. } = self;
        write!(f, "{SCHEME}{}/{name}:{tag}", self.registry())?;
        digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// The address of a registry. Only this machine is trusted without TLS.
fn base(registry: &str) -> Result<Url, ReferenceError> {
    let wrong = || ReferenceError::Registry(registry.to_owned());
    let url: Url = format!("https://{registry}").parse().map_err(|_| wrong())?;
    let is_plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_plain || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong());
    }
    match is_this_machine(&url) {
        true => format!("http://{registry}").parse().map_err(|_| wrong()),
        false => Ok(url),
    }
}

/// Whether a URL leads to this machine by its name or address alone.
pub(crate) fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn checked_name(name: &str) -> Result<String, ReferenceError> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_allowed = |c: char| is_word(c) || matches!(c, '.' | '_' | '-');
    let part = |part: &str| {
        part.starts_with(is_word) && part.ends_with(is_word) && part.chars().all(is_allowed)
    };
    match name.split('/').all(part) {
        true => Ok(name.to_owned()),
        false => Err(ReferenceError::Name(name.to_owned())),
    }
}

fn checked_tag(tag: &str) -> Result<String, ReferenceError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    match begins && tag.len() <= 128 && tag.chars().all(is_allowed) {
        true => Ok(tag.to_owned()),
        false => Err(ReferenceError::Tag(tag.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Reference, ReferenceError> {
        text.parse()
    }

    #[test]
    fn its_parts_are_read_and_written() {
        let digest = ContentDigest::of(b"");
        let whole = format!("oci://ghcr.io/lab/fair-share:1.2@{digest}");
        let found = read(&whole).unwrap();
        assert_eq!(found.base.as_str(), "https://ghcr.io/");
        assert_eq!((found.name.as_str(), found.tag.as_str()), ("lab/fair-share", "1.2"));
        assert_eq!((found.plugin_name(), found.digest.as_ref()), ("fair-share", Some(&digest)));
        assert_eq!(found.to_string(), whole);
        assert_eq!(found.newest(Some("2")).unwrap().to_string(), "oci://ghcr.io/lab/fair-share:2");
        assert_eq!(read("oci://a.b:5000/x").unwrap().to_string(), "oci://a.b:5000/x:latest");
    }

    #[test]
    fn only_this_machine_is_asked_without_tls() {
        for (registry, scheme) in [
            ("127.0.0.1:5000", "http"),
            ("127.9.9.9", "http"),
            ("[::1]:5000", "http"),
            ("localhost:5000", "http"),
            ("localhost.lab.org", "https"),
            ("10.0.0.1:5000", "https"),
            ("128.0.0.1", "https"),
        ] {
            let found = read(&format!("oci://{registry}/x:1")).unwrap();
            assert_eq!(found.base.scheme(), scheme, "{registry}");
            assert_eq!(found.to_string(), format!("oci://{registry}/x:1"));
        }
    }

    #[test]
    fn mistakes_are_named() {
        let digest = "sha256:0";
        for (text, expected) in [
            ("https://ghcr.io/x:1", ReferenceError::Form),
            ("oci://x", ReferenceError::Form),
            ("oci:///x", ReferenceError::Registry(String::new())),
            ("oci://me:secret@ghcr.io/x", ReferenceError::Registry("me:secret@ghcr.io".into())),
            ("oci://ghcr.io/Fair", ReferenceError::Name("Fair".into())),
            ("oci://ghcr.io/a//b", ReferenceError::Name("a//b".into())),
            ("oci://ghcr.io/../b", ReferenceError::Name("../b".into())),
            ("oci://ghcr.io/", ReferenceError::Name(String::new())),
            ("oci://ghcr.io/a:-1", ReferenceError::Tag("-1".into())),
            ("oci://ghcr.io/a:1:2", ReferenceError::Tag("1:2".into())),
            (&format!("oci://ghcr.io/a@{digest}"), ReferenceError::Digest),
        ] {
            assert_eq!(read(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "oci://[a-z0-9.:@/\\[\\]?#%A-Z_ -]{0,60}") {
            if let Ok(found) = read(&text) {
                prop_assert_eq!(read(&found.to_string()), Ok(found));
            }
        }
    }
}
