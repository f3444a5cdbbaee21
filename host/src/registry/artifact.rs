//! How a component is kept in a registry: as the WebAssembly ecosystem has it, a manifest with one layer,
//! the component, and a configuration that describes it.
//!
//! <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>

use super::reference::ContentDigest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A manifest.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const LAYER_TYPE: &str = "application/wasm";
/// The annotation with a version.
const VERSION: &str = "org.opencontainers.image.version";
/// When every artifact was made, so that the same component has the same digest wherever it is published.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Why a manifest is not that of a plugin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// It is not a manifest.
    #[error("its manifest cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It is an artifact of another kind.
    #[error("it is no WebAssembly component: its manifest is of the type {0:?}")]
    Type(String),
    /// It has another number of layers.
    #[error("it is no single WebAssembly component: it has {0} layers")]
    Layers(usize),
    /// A digest is none.
    #[error("its manifest names the digest {0:?}, and only SHA-256 is known")]
    Digest(String),
}

/// Something in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub digest: ContentDigest,
    pub size_bytes: u64,
}

/// The manifest of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The component.
    pub component: Blob,
    /// Its version, if the publisher has said it.
    pub version: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestJson {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

impl Descriptor {
    fn of(media_type: &str, bytes: &[u8]) -> Self {
        let (digest, size) = (ContentDigest::of(bytes).to_string(), bytes.len() as u64);
        Self { media_type: media_type.to_owned(), digest, size }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigJson<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    layer_digests: [&'a str; 1],
    component: ComponentJson<'a>,
}

#[derive(Serialize)]
struct ComponentJson<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

/// What a component offers and needs, for the configuration.
pub(crate) struct Interfaces<'a> {
    pub exports: &'a [String],
    pub imports: &'a [String],
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// Says why it is not that of a plugin.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ManifestError> {
        let ManifestJson { config, mut layers, mut annotations, .. } =
            serde_json::from_slice(bytes)?;
        if config.media_type != CONFIG_TYPE {
            return Err(ManifestError::Type(config.media_type));
        }
        let count = layers.len();
        let layer = layers.pop().filter(|_| count == 1).ok_or(ManifestError::Layers(count))?;
        if layer.media_type != LAYER_TYPE {
            return Err(ManifestError::Type(layer.media_type));
        }
        let digest = layer.digest.parse().map_err(|_| ManifestError::Digest(layer.digest))?;
        let component = Blob { digest, size_bytes: layer.size };
        Ok(Self { component, version: annotations.remove(VERSION) })
    }
}

/// The configuration and the manifest of a component, as they are published.
pub(crate) fn described(
    component: &[u8],
    version: &str,
    interfaces: &Interfaces<'_>,
) -> Result<(Vec<u8>, Vec<u8>), serde_json::Error> {
    let layer = Descriptor::of(LAYER_TYPE, component);
    let config = serde_json::to_vec(&ConfigJson {
        created: CREATED,
        architecture: "wasm",
        os: "wasip2",
        layer_digests: [&layer.digest],
        component: ComponentJson { exports: interfaces.exports, imports: interfaces.imports },
    })?;
    let manifest = serde_json::to_vec(&ManifestJson {
        schema_version: 2,
        media_type: Some(MANIFEST_TYPE.to_owned()),
        config: Descriptor::of(CONFIG_TYPE, &config),
        layers: vec![layer],
        annotations: BTreeMap::from([(VERSION.to_owned(), version.to_owned())]),
    })?;
    Ok((config, manifest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Vec<u8> {
        let exports = ["sleap-rtc:policy/selection@0.1.0".to_owned()];
        let interfaces = Interfaces { exports: &exports, imports: &[] };
        described(b"component", "1.2", &interfaces).unwrap().1
    }

    #[test]
    fn what_is_published_is_read_again() {
        let found = Manifest::read(&published()).unwrap();
        assert_eq!(
            found.component,
            Blob { digest: ContentDigest::of(b"component"), size_bytes: 9 }
        );
        assert_eq!(found.version.as_deref(), Some("1.2"));
        assert_eq!(published(), published(), "it has another digest each time");
    }

    #[test]
    fn other_artifacts_are_refused() {
        let text = String::from_utf8(published()).unwrap();
        let layer = text[text.find("\"layers\":[").unwrap() + 10..].split_once(']').unwrap().0;
        for (from, to, expected) in [
            (CONFIG_TYPE, "application/vnd.oci.image.config.v1+json", "no WebAssembly component"),
            ("application/wasm\"", "application/tar\"", "of the type \"application/tar\""),
            ("sha256:", "md5:", "only SHA-256"),
            (layer, "", "0 layers"),
            (layer, &format!("{layer},{layer}"), "2 layers"),
            ("{", "", "cannot be read"),
        ] {
            let said = Manifest::read(text.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(said.contains(expected), "{to}: {said}");
        }
    }
}
