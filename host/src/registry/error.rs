//! Why a registry could not be used.

use super::artifact::ManifestError;
use super::reference::ContentDigest;
use hyper::StatusCode;
use sleap_rtc_signaling::client::ConnectError;
use url::Url;

/// Why a registry could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// It cannot be reached.
    #[error("cannot reach the registry {registry}")]
    Unreachable { registry: String, source: Box<ConnectError> },
    /// It wants to know who asks.
    #[error("the registry {registry} asks for a login that it accepts")]
    Login { registry: String },
    /// There is no such plugin.
    #[error("{0} does not exist, or only for others")]
    Absent(String),
    /// It refuses.
    #[error("the registry {registry} answers {status}: {message}")]
    Refused { registry: String, status: StatusCode, message: String },
    /// It does not answer as registries do.
    #[error("the registry {registry} answers with {what}: it does not speak OCI's protocol")]
    Unexpected { registry: String, what: &'static str },
    /// It points to somewhere that everybody on the way can read and change.
    #[error("{0} is not encrypted; only registries on this machine may be")]
    NotEncrypted(Box<Url>),
    /// What is there is not a plugin.
    #[error("{reference} cannot be used")]
    Manifest { reference: String, source: ManifestError },
    /// What is there is too large.
    #[error("{reference} has {size_bytes} bytes, and a plugin may have {limit_bytes}")]
    TooLarge { reference: String, size_bytes: u64, limit_bytes: u64 },
    /// What came is something else.
    #[error(
        "{reference} is not what was expected: the digest of its {part} is {found}, expected was {expected}"
    )]
    Differs { reference: String, part: &'static str, found: ContentDigest, expected: String },
    /// A digest has only one content.
    #[error("{0} names a digest; publish under a tag")]
    Pinned(String),
    /// A description cannot be written.
    #[error("the plugin cannot be described")]
    Describe(#[from] serde_json::Error),
}
