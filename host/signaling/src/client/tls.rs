//! TLS for `https:` and `wss:`, with the system's certificates.

use rustls::{ClientConfig, RootCertStore};
use std::sync::{Arc, OnceLock};

/// The settings of all TLS connections. The system's certificates are read at the first call only
/// (which takes some milliseconds), so a program that speaks plain HTTP never does.
///
/// # Errors
/// When TLS cannot be set up at all. Without certificates it can, and refuses every server.
pub(super) fn config() -> Result<Arc<ClientConfig>, rustls::Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a system certificate could not be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let config = build(roots)?;
    Ok(Arc::clone(CONFIG.get_or_init(|| config)))
}

/// Settings that trust nobody, for connections that are plain.
pub(super) fn none() -> Result<Arc<ClientConfig>, rustls::Error> {
    build(RootCertStore::empty())
}

fn build(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    // The provider is named here rather than installed for the process: that is not ours to do.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
