//! Plugins in an OCI registry, the kind in which the WebAssembly ecosystem shares components.
//!
//! Finding, fetching and publishing are three requests each, made over the program's own HTTP client: so
//! they go through the same proxies, trust the same certificates and have the same limits as everything
//! else. (The crate `oci-client` brings fifteen others, and reads a file of any size into memory.) Whatever
//! comes from a registry is checked by its digest before it is used.

mod artifact;
mod credentials;
mod error;
mod reference;
mod transport;

pub(crate) use artifact::Interfaces;
pub(crate) use error::RegistryError;
pub(crate) use reference::{ContentDigest, Reference, ReferenceError};

use artifact::{MANIFEST_TYPE, Manifest, described};
use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, LOCATION};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use sleap_rtc_policy::examine::LARGEST_BYTES;
use sleap_rtc_signaling::client::{AnswerLimits, HttpAnswer};
use std::path::PathBuf;
use std::time::Duration;
use transport::{Call, Transport, joined};

/// How long a plugin may take to come or go.
const FILE_TIME: Duration = Duration::from_secs(600);
/// The header with a manifest's digest.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A registry, asked about one plugin.
pub(crate) struct Registry<'a> {
    reference: &'a Reference,
    transport: Transport<'a>,
}

/// A plugin that a registry has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedPlugin {
    /// What was asked for, with the digest of what is there.
    pub pinned: Reference,
    /// Its version, if the publisher has said it.
    pub version: Option<String>,
    component: artifact::Blob,
}

impl<'a> Registry<'a> {
    /// The registry of `reference`. Nothing is sent yet.
    pub(crate) fn of(reference: &'a Reference) -> Self {
        Self { reference, transport: Transport::new(reference) }
    }

    /// Finds the plugin. If the reference has a digest, what is there must have the same.
    ///
    /// # Errors
    ///
    /// If the registry cannot be reached or refuses, or if it has no plugin there or another one.
    pub(crate) async fn find(&mut self) -> Result<ResolvedPlugin, RegistryError> {
        let Reference { tag, digest, .. } = self.reference;
        let wanted = digest.as_ref().map_or(tag.as_str(), ContentDigest::as_str);
        let url = self.transport.url(&format!("manifests/{wanted}"));
        let call = Call { header: Some((ACCEPT, MANIFEST_TYPE)), ..Call::new(Method::GET, url) };
        let answer = self.transport.send(call).await?;
        let answer = self.accepted(answer, StatusCode::OK)?;
        let found = ContentDigest::of(&answer.body);
        let claimed = answer.headers.get(CONTENT_DIGEST).and_then(|value| value.to_str().ok());
        let pinned = digest.as_ref().map(ContentDigest::as_str);
        for expected in pinned.into_iter().chain(claimed) {
            self.check("manifest", &found, expected)?;
        }
        let Manifest { component, version } = Manifest::read(&answer.body).map_err(|source| {
            RegistryError::Manifest { reference: self.reference.to_string(), source }
        })?;
        Ok(ResolvedPlugin { pinned: self.reference.pinned(found), version, component })
    }

    /// Fetches the component of a plugin that was found.
    ///
    /// # Errors
    ///
    /// If it is too large, does not come, or is not what the manifest says.
    pub(crate) async fn fetch(&mut self, found: &ResolvedPlugin) -> Result<Bytes, RegistryError> {
        let size_bytes = found.component.size_bytes;
        let fits = usize::try_from(size_bytes).ok().filter(|_| size_bytes <= LARGEST_BYTES);
        let Some(bytes) = fits else {
            let (reference, limit_bytes) = (self.reference.to_string(), LARGEST_BYTES);
            return Err(RegistryError::TooLarge { reference, size_bytes, limit_bytes });
        };
        let url = self.transport.url(&format!("blobs/{}", found.component.digest));
        let limits = AnswerLimits { bytes, time: FILE_TIME };
        let answer = self.transport.send(Call { limits, ..Call::new(Method::GET, url) }).await?;
        let answer = self.accepted(answer, StatusCode::OK)?;
        self.check("component", &ContentDigest::of(&answer.body), found.component.digest.as_str())?;
        Ok(answer.body)
    }

    /// Publishes a component under the reference's tag. Gives the digest of its manifest.
    ///
    /// # Errors
    ///
    /// If the registry cannot be reached or refuses.
    pub(crate) async fn publish(
        &mut self,
        component: &[u8],
        interfaces: &Interfaces<'_>,
    ) -> Result<ContentDigest, RegistryError> {
        let Reference { tag, digest, .. } = self.reference;
        if digest.is_some() {
            return Err(RegistryError::Pinned(self.reference.to_string()));
        }
        let (config, manifest) = described(component, tag, interfaces)?;
        self.upload(component).await?;
        self.upload(&config).await?;
        let url = self.transport.url(&format!("manifests/{tag}"));
        let call = Call {
            header: Some((CONTENT_TYPE, MANIFEST_TYPE)),
            body: Bytes::copy_from_slice(&manifest),
            ..Call::new(Method::PUT, url)
        };
        let answer = self.transport.send(call).await?;
        self.accepted(answer, StatusCode::CREATED)?;
        Ok(ContentDigest::of(&manifest))
    }

    /// Sends a file, unless the registry has it.
    async fn upload(&mut self, bytes: &[u8]) -> Result<(), RegistryError> {
        let digest = ContentDigest::of(bytes);
        let url = self.transport.url(&format!("blobs/{digest}"));
        if self.transport.send(Call::new(Method::HEAD, url)).await?.status == StatusCode::OK {
            return Ok(());
        }
        let url = self.transport.url("blobs/uploads/");
        let answer = self.transport.send(Call::new(Method::POST, url.clone())).await?;
        let answer = self.accepted(answer, StatusCode::ACCEPTED)?;
        let location = answer.headers.get(LOCATION).and_then(|place| joined(&url, place));
        let mut url = location.ok_or_else(|| self.transport.broken("no place for a file"))?;
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let call = Call {
            header: Some((CONTENT_TYPE, "application/octet-stream")),
            body: Bytes::copy_from_slice(bytes),
            limits: AnswerLimits { time: FILE_TIME, ..transport::SHORT },
            ..Call::new(Method::PUT, url)
        };
        let answer = self.transport.send(call).await?;
        self.accepted(answer, StatusCode::CREATED).map(drop)
    }

    fn check(
        &self,
        part: &'static str,
        found: &ContentDigest,
        expected: &str,
    ) -> Result<(), RegistryError> {
        if found.as_str() == expected {
            return Ok(());
        }
        let (reference, found) = (self.reference.to_string(), found.clone());
        Err(RegistryError::Differs { reference, part, found, expected: expected.to_owned() })
    }

    fn accepted(
        &self,
        answer: HttpAnswer,
        expected: StatusCode,
    ) -> Result<HttpAnswer, RegistryError> {
        let registry = || self.reference.registry();
        match answer.status {
            status if status == expected => Ok(answer),
            StatusCode::UNAUTHORIZED => Err(RegistryError::Login { registry: registry() }),
            StatusCode::NOT_FOUND => Err(RegistryError::Absent(self.reference.to_string())),
            status => {
                let message = explanation(&answer.body);
                Err(RegistryError::Refused { registry: registry(), status, message })
            }
        }
    }
}

/// The file in which logins at registries are sought.
pub(crate) fn logins() -> Option<PathBuf> {
    credentials::file()
}

/// A registry's own words.
fn explanation(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Words>,
    }
    #[derive(Deserialize)]
    struct Words {
        #[serde(default)]
        message: String,
    }
    let words = serde_json::from_slice(body).ok();
    let first = words.and_then(|Errors { errors }| errors.into_iter().next());
    first.map_or_else(|| "no explanation".to_owned(), |w| w.message.chars().take(300).collect())
}

#[cfg(test)]
mod tests;
