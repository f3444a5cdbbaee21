//! TLS for `https:` and `wss:`, with the certificates that the system, or `SSL_CERT_FILE`, names.

use super::dial::bare;
use super::error::{CertificateProblem, ConnectError, TlsFailure};
use super::stream::{ByteStream, within_deadline};
use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use sleap_rtc_protocol::text::Printable;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use tokio_rustls::TlsConnector;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Speaks TLS over `stream` with the server that is called `host`.
pub(crate) async fn secure(
    host: &str,
    stream: Box<dyn ByteStream>,
) -> Result<Box<dyn ByteStream>, ConnectError> {
    let config = config()?;
    let name = ServerName::try_from(bare(host).to_owned()).map_err(|_| TlsFailure::Setup)?;
    let handshake = TlsConnector::from(config).connect(name, stream);
    match within_deadline(handshake).await? {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(failure(error).into()),
    }
}

/// The verifier for other TLS connections to the same server. Trusts the system's authorities, or
/// the certificates in `SSL_CERT_FILE`.
///
/// # Errors
/// There are no trusted authorities.
pub fn certificate_verifier() -> Result<Arc<dyn ServerCertVerifier>, TlsFailure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(Arc::new(Verifier::new(&trusted()?, provider)?))
}

/// The settings of all TLS connections. The system's certificates are read at the first call only
/// (which takes some milliseconds), so a program that speaks plain HTTP never does.
pub(crate) fn config() -> Result<Arc<ClientConfig>, TlsFailure> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, TlsFailure>> = OnceLock::new();
    CONFIG.get_or_init(|| build(&trusted()?)).clone()
}

/// The trusted authorities. None at all is a configuration error, which a failed handshake would
/// not explain.
fn trusted() -> Result<Vec<CertificateDer<'static>>, TlsFailure> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a trusted certificate could not be read");
    }
    if found.certs.is_empty() {
        let file = std::env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty());
        return Err(file.map_or(TlsFailure::NoAuthorities, |file| {
            TlsFailure::NoCertificateInFile { file: PathBuf::from(file) }
        }));
    }
    Ok(found.certs)
}

fn build(trusted: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, TlsFailure> {
    // The provider is passed here rather than installed globally, because a library must not choose
    // for the whole process.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(trusted, Arc::clone(&provider))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsFailure::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn failure(error: io::Error) -> TlsFailure {
    match certificate_problem(&error) {
        Some(problem) => problem.into(),
        None => TlsFailure::Handshake(Arc::new(error)),
    }
}

/// What is wrong with the server's certificate, if that is why a handshake failed.
pub(crate) fn certificate_problem(error: &io::Error) -> Option<CertificateProblem> {
    match error.get_ref()?.downcast_ref()? {
        Error::InvalidCertificate(CertificateError::Other(OtherError(problem))) => {
            problem.downcast_ref().cloned()
        }
        _ => None,
    }
}

/// The usual verifier, which also accepts a certificate that is itself trusted. `openssl req -x509`
/// marks such certificates as authorities, and the usual verifier refuses an authority as a server.
/// Also explains refusals in terms that a user can act on.
#[derive(Debug)]
struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(
        trusted: &[CertificateDer<'static>],
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsFailure> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let usual = usual.map_err(|_| TlsFailure::NoAuthorities)?;
        Ok(Self { usual, trusted: trusted.to_vec() })
    }

    /// Whether a refusal is only about the certificate's issuer or role. The dates were checked
    /// before, and a certificate that is itself trusted needs nothing else.
    fn is_about_its_issuer(error: &CertificateError) -> bool {
        match error {
            // The second one: the issuer has the right name and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
            CertificateError::Other(OtherError(inner)) => {
                matches!(inner.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
            }
            _ => false,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let usual = self.usual.verify_server_cert(certificate, intermediates, host, ocsp, now);
        let refused = match usual {
            Err(Error::InvalidCertificate(refused)) => refused,
            done => return done,
        };
        if Self::is_about_its_issuer(&refused) && self.trusted.contains(certificate) {
            let parsed = ParsedCertificate::try_from(certificate)?;
            return match rustls::client::verify_server_name(&parsed, host) {
                Ok(()) => Ok(ServerCertVerified::assertion()),
                Err(Error::InvalidCertificate(refused)) => {
                    Err(explained(&refused, certificate, host))
                }
                Err(other) => Err(other),
            };
        }
        Err(explained(&refused, certificate, host))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// A refusal, with details about the certificate.
fn explained(refused: &CertificateError, der: &CertificateDer<'_>, host: &ServerName<'_>) -> Error {
    let parsed = X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed);
    let problem = match (refused, &parsed) {
        (error, Some(parsed)) if Verifier::is_about_its_issuer(error) => {
            match parsed.issuer() == parsed.subject() {
                true => CertificateProblem::SelfSigned,
                false => CertificateProblem::UnknownIssuer {
                    issuer: one_line(&parsed.issuer().to_string()),
                },
            }
        }
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, Some(parsed)) => {
            CertificateProblem::Expired { at: date(parsed.validity().not_after.timestamp()) }
        }
        (
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            Some(parsed),
        ) => {
            CertificateProblem::NotYetValid { from: date(parsed.validity().not_before.timestamp()) }
        }
        (
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            Some(parsed),
        ) => {
            CertificateProblem::WrongName { host: host.to_str().into_owned(), names: names(parsed) }
        }
        (other, _) => CertificateProblem::Other(one_line(&other.to_string())),
    };
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(problem))))
}

/// The hosts that a certificate is for.
fn names(certificate: &X509Certificate<'_>) -> String {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|found| &found.value.general_names);
    let names: Vec<String> = names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        })
        .collect();
    match names.as_slice() {
        [] => "no host at all (it has no subjectAltName)".into(),
        names => one_line(&names.join(", ")),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The fields of a certificate.
fn one_line(text: &str) -> String {
    Printable::line(text, 200).into()
}

fn date(time_s: i64) -> String {
    Timestamp::from_second(time_s).map_or_else(|_| "an unknown date".into(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    fn made(adjust: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["lab.example.org".to_owned()]).unwrap();
        adjust(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    /// The verdict of a client with these `trusted` certificates on a server named `host`.
    fn judged(
        trusted: &CertificateDer<'static>,
        shown: &CertificateDer<'static>,
        host: &'static str,
    ) -> Result<(), CertificateProblem> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(std::slice::from_ref(trusted), provider).unwrap();
        let host = ServerName::try_from(host).unwrap();
        let judged = verifier.verify_server_cert(shown, &[], &host, &[], UnixTime::now());
        judged.map(drop).map_err(|error| {
            match failure(io::Error::new(io::ErrorKind::InvalidData, error)) {
                TlsFailure::Certificate(problem) => problem,
                other => panic!("{other:?}"),
            }
        })
    }

    #[test]
    fn a_trusted_certificate_may_have_the_flag_of_an_authority() {
        const HOST: &str = "lab.example.org";
        let as_openssl = |params: &mut CertificateParams| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        };
        let (plain, authority) = (made(|_| ()), made(as_openssl));
        assert_eq!(judged(&plain, &plain, HOST), Ok(()));
        assert_eq!(judged(&authority, &authority, HOST), Ok(()));
        // Another certificate of the same kind and name is refused, and so is this one under
        // another name.
        let other = made(as_openssl);
        assert_eq!(judged(&authority, &other, HOST), Err(CertificateProblem::SelfSigned));
        assert_eq!(judged(&authority, &plain, HOST), Err(CertificateProblem::SelfSigned));
        let names = "lab.example.org".to_owned();
        let wrong = CertificateProblem::WrongName { host: "evil.example.org".into(), names };
        assert_eq!(judged(&authority, &authority, "evil.example.org"), Err(wrong.clone()));
        assert_eq!(judged(&plain, &plain, "evil.example.org"), Err(wrong));
    }

    #[test]
    fn a_certificate_that_somebody_else_issued_may_be_trusted_by_itself() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "the lab's authority");
        let issuer = rcgen::Issuer::new(params, key);
        let leaf = CertificateParams::new(vec!["lab.example.org".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
        assert_eq!(judged(&leaf, &leaf, "lab.example.org"), Ok(()));
        let stranger = judged(&made(|_| ()), &leaf, "lab.example.org").unwrap_err();
        assert!(stranger.to_string().contains("the lab's authority"), "{stranger}");
    }

    #[test]
    fn dates_count_for_a_trusted_certificate_too() {
        let day = rcgen::date_time_ymd;
        let old = made(|params| params.not_after = day(2020, 1, 2));
        let expired = judged(&old, &old, "lab.example.org").unwrap_err();
        assert_eq!(expired, CertificateProblem::Expired { at: "2020-01-02T00:00:00Z".into() });
        let early = made(|params| params.not_before = day(2100, 1, 2));
        let early = judged(&early, &early, "lab.example.org").unwrap_err();
        assert_eq!(early, CertificateProblem::NotYetValid { from: "2100-01-02T00:00:00Z".into() });
        let old_authority = made(|params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.not_after = day(2020, 1, 2);
        });
        let expired = judged(&old_authority, &old_authority, "lab.example.org").unwrap_err();
        assert!(matches!(expired, CertificateProblem::Expired { .. }), "{expired}");
    }
}
