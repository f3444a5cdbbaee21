//! TLS on the server's ports, with a certificate that can be replaced at run time.

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sleap_rtc_base::clock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long before its expiry a certificate is due for renewal, in seconds. Those of Let's Encrypt
/// are renewed weeks earlier.
const RENEWAL_S: i64 = 7 * 24 * 60 * 60;

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its intermediates.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or has no such content.
    #[error("cannot read {what} in PEM from {path}")]
    Read {
        /// `certificate` or `key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not belong together, or their type is not supported.
    #[error("the certificate {cert} and the key {key} cannot be used together")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: Box<rustls::Error>,
    },
    /// The library refuses its own defaults.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// The certificate that is in use.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

/// TLS for all connections of a server; clones share the certificate.
#[derive(Debug, Clone)]
pub struct Tls {
    files: TlsFiles,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// When they cannot be read or do not belong together; names the file.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let current = Arc::new(Current(RwLock::new(Arc::new(read(&files)?))));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { files, current, config: Arc::new(config) })
    }

    /// Reloads certificate and key, for new connections.
    ///
    /// # Errors
    /// As [`Self::load`]. The old certificate then stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = Arc::new(read(&self.files)?);
        *self.current.0.write() = fresh;
        Ok(())
    }

    /// The configuration for QUIC, with the same certificate, also after a renewal.
    pub(crate) fn for_quic(&self) -> ServerConfig {
        ServerConfig::clone(&self.config)
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config).into()
    }
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let TlsFiles { cert, key } = files;
    let failed = |what, path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::Read { what, path, source }
    };
    let chain =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(failed("a certificate", cert))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(failed("a private key", key))?;
    let pair = |source| {
        let (cert, key, source) = (cert.clone(), key.clone(), Box::new(source));
        TlsError::Pair { cert, key, source }
    };
    if chain.is_empty() {
        let nothing = rustls::pki_types::pem::Error::NoItemsFound;
        return Err(failed("a certificate", cert)(nothing));
    }
    warn_about_dates(&chain[0], cert);
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(pair)
}

/// Warns the operator of an expiring certificate before peers refuse it.
fn warn_about_dates(certificate: &CertificateDer<'_>, file: &Path) {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return };
    let now_s = i64::try_from(clock::now_s()).unwrap_or(i64::MAX);
    let (from, until) = (parsed.validity().not_before, parsed.validity().not_after);
    let file = file.display();
    if until.timestamp() < now_s {
        tracing::warn!(%file, expired = %until, "the certificate has expired: peers will refuse it");
    } else if from.timestamp() > now_s {
        tracing::warn!(%file, valid_from = %from, "the certificate is not valid yet: is the clock right?");
    } else if until.timestamp() < now_s + RENEWAL_S {
        tracing::warn!(%file, expires = %until, "the certificate expires soon: renew it, then send SIGHUP");
    }
}
