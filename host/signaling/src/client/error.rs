//! Why signaling failed, and what to do about it.

use super::ANSWER_DEADLINE;
use super::stream::Late;
use hyper::StatusCode;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio_tungstenite::tungstenite;
use url::Url;

/// Why signaling failed.
#[derive(Debug, thiserror::Error)]
pub enum SignalingError {
    /// The server cannot be reached.
    #[error("cannot reach the signaling server at {url}")]
    Unreachable {
        /// Where.
        url: Url,
        /// Why not.
        source: Box<ConnectError>,
    },
    /// Another program answers, or a broken server.
    #[error("{url} is not a sleap-rtc signaling server: {reason}")]
    Unexpected {
        /// Where.
        url: Url,
        /// What came instead.
        reason: String,
    },
    /// The server has failed.
    #[error("the signaling server at {url} cannot do this now: {message}")]
    Failing {
        /// Where.
        url: Url,
        /// The server's words.
        message: String,
    },
    /// The answer points elsewhere.
    #[error("{url} redirects to {target}")]
    Redirected {
        /// Where.
        url: Url,
        /// Where it points.
        target: String,
    },
    /// Wrong room or token.
    #[error("the signaling server refuses the room id and token: {message}")]
    RoomRefused {
        /// The server's words.
        message: String,
    },
    /// The identity token is invalid or has expired.
    #[error("the signaling server refuses this identity: {message}")]
    IdentityRefused {
        /// The server's words.
        message: String,
    },
    /// Refused for another reason.
    #[error("the signaling server refuses: {message}")]
    Refused {
        /// The server's words.
        message: String,
    },
    /// No answer in time.
    #[error("the signaling server did not answer {what} within {} s", ANSWER_DEADLINE.as_secs())]
    NoAnswer {
        /// Which request.
        what: &'static str,
    },
    /// The connection is down, and the client reconnects.
    #[error("the connection to the signaling server is lost; reconnecting")]
    Lost,
    /// The client was closed.
    #[error("this signaling client is closed")]
    Closed,
}

/// Why the server cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name is unknown, or no name server answers.
    #[error("the name {host} cannot be resolved")]
    Resolve {
        /// The name.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// The URL names no host, or its host has no address.
    #[error("the host has no address")]
    NoAddress,
    /// TCP failed.
    #[error("no connection to {address}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A step took too long.
    #[error(transparent)]
    Late(#[from] Late),
    /// Through a proxy.
    #[error("no way through the proxy {proxy}")]
    Proxy {
        /// The proxy, and the variable that names it.
        proxy: ProxyName,
        /// Why not.
        source: ProxyError,
    },
    /// The proxy that the environment names.
    #[error(transparent)]
    ProxySetting(#[from] ProxyError),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The WebSocket failed.
    #[error("the WebSocket failed")]
    WebSocket(#[source] Box<tungstenite::Error>),
    /// The other side closed the connection.
    #[error("it closed the connection before it answered")]
    ClosedEarly,
    /// The answer is longer than anything that was asked for.
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    /// HTTP failed.
    #[error("the HTTP request failed")]
    Http(#[from] hyper::Error),
}

impl From<tungstenite::Error> for ConnectError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                Self::ClosedEarly
            }
            error => Self::WebSocket(Box::new(error)),
        }
    }
}

/// A proxy, as messages name it: without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyName {
    /// The environment variable that names it.
    pub(crate) variable: &'static str,
    pub(crate) url: String,
}

impl fmt::Display for ProxyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.url.trim_end_matches('/'), self.variable)
    }
}

/// Why a proxy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The variable's value.
    #[error("{variable} does not name a proxy that can be used")]
    Unusable {
        /// The environment variable.
        variable: &'static str,
    },
    /// The proxy itself cannot be reached.
    #[error(transparent)]
    Unreachable(Box<ConnectError>),
    /// The target cannot be named in a request.
    #[error("a proxy cannot be asked for {target}")]
    Target {
        /// Host and port.
        target: String,
    },
    /// The proxy asks for credentials.
    #[error("it asks for a user name and a password (status 407)")]
    Authentication,
    /// The proxy refuses.
    #[error("it answers status {status} to a request for {target}")]
    Refused {
        /// Host and port.
        target: String,
        /// Its answer.
        status: StatusCode,
    },
    /// The request failed.
    #[error("the HTTP request failed")]
    Http(#[from] hyper::Error),
}

impl From<ConnectError> for ProxyError {
    fn from(error: ConnectError) -> Self {
        Self::Unreachable(Box::new(error))
    }
}

impl From<Late> for ProxyError {
    fn from(late: Late) -> Self {
        ConnectError::from(late).into()
    }
}

/// Why there is no TLS with the server.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsFailure {
    /// The file of trusted certificates is empty.
    #[error("SSL_CERT_FILE names {}, which contains no certificates", file.display())]
    NoCertificateInFile {
        /// The file.
        file: PathBuf,
    },
    /// The machine trusts no authority.
    #[error("this machine has no trusted certificate authorities")]
    NoAuthorities,
    /// The server's certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateProblem),
    /// Something else.
    #[error("the TLS handshake failed")]
    Handshake(#[source] std::sync::Arc<io::Error>),
    /// The library refuses its own defaults, or the host's name.
    #[error("TLS cannot be set up for this host")]
    Setup,
}

/// What is wrong with the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    /// It is self-signed.
    #[error("its certificate is self-signed, and this machine does not trust it")]
    SelfSigned,
    /// Its issuer is not trusted.
    #[error("its certificate has an unknown issuer ({issuer}), which this machine does not trust")]
    UnknownIssuer {
        /// The issuer's name.
        issuer: String,
    },
    /// It has expired.
    #[error("its certificate expired on {at}")]
    Expired {
        /// When.
        at: String,
    },
    /// It is not valid yet.
    #[error("its certificate is not valid before {from}")]
    NotYetValid {
        /// The start of its validity.
        from: String,
    },
    /// It is for other names.
    #[error("its certificate is for {names}, not for {host}")]
    WrongName {
        /// The server's name.
        host: String,
        /// The names in the certificate.
        names: String,
    },
    /// Anything else.
    #[error("its certificate cannot be used ({0})")]
    Other(String),
}

impl SignalingError {
    /// What a user can do about it.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } => Some(source.advice()),
            Self::Redirected { .. } => Some(
                "a network's login page answers like this: open a browser and log in first; or set \
                 the server's new address with --signaling"
                    .into(),
            ),
            Self::Unexpected { .. } => Some(
                "check host and port of --signaling or SLEAP_RTC_SIGNALING_WS; a network's login \
                 page or a proxy may answer in the server's place"
                    .into(),
            ),
            Self::Failing { .. } => {
                Some("try again in a minute; the server's log has the cause".into())
            }
            Self::RoomRefused { .. } => {
                Some("copy the room id and the token from the worker's output".into())
            }
            Self::IdentityRefused { .. }
            | Self::Refused { .. }
            | Self::NoAnswer { .. }
            | Self::Lost
            | Self::Closed => None,
        }
    }
}

impl ConnectError {
    fn advice(&self) -> String {
        let address = "check the address in --signaling or SLEAP_RTC_SIGNALING_WS";
        match self {
            Self::Tcp { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                "check that the server is running; set its address with --signaling or \
                 SLEAP_RTC_SIGNALING_WS"
                    .into()
            }
            Self::Resolve { .. } | Self::NoAddress => address.into(),
            Self::Tcp { .. } | Self::Late(_) => format!(
                "{address}; a firewall or a missing VPN may be in the way; where only a proxy leads \
                 out, name it in HTTPS_PROXY (HTTP_PROXY for ws://)"
            ),
            Self::Proxy { proxy, .. } => format!(
                "ask those who run the proxy to let it pass, or list the server's host in NO_PROXY \
                 to reach it directly without {}",
                proxy.variable
            ),
            Self::ProxySetting(_) => {
                "write a proxy as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT".into()
            }
            Self::Tls(failure) => failure.advice(),
            Self::WebSocket(_) | Self::ClosedEarly | Self::TooLong(_) | Self::Http(_) => {
                format!("{address}: is it ws:// for a server without TLS, wss:// for one with it?")
            }
        }
    }
}

impl TlsFailure {
    fn advice(&self) -> String {
        match self {
            Self::NoCertificateInFile { .. } => {
                "SSL_CERT_FILE takes a file of certificates in PEM; unset it to trust what the \
                 system trusts"
            }
            Self::NoAuthorities => {
                "install the package ca-certificates, or name a file of certificates in \
                 SSL_CERT_FILE"
            }
            Self::Certificate(problem) => return problem.advice().into(),
            Self::Handshake(_) => {
                "does the server speak TLS on this port? ws:// and http:// are for one without"
            }
            Self::Setup => "check the host name in --signaling or SLEAP_RTC_SIGNALING_WS",
        }
        .into()
    }
}

impl CertificateProblem {
    fn advice(&self) -> &'static str {
        match self {
            Self::SelfSigned => {
                "if the server is yours, copy its certificate to this machine and name the file in \
                 SSL_CERT_FILE"
            }
            Self::UnknownIssuer { .. } => {
                "name a file with the issuer's certificate in SSL_CERT_FILE; a server must also \
                 send the certificates between its own and the root"
            }
            Self::Expired { .. } => {
                "the operator of the server must renew the certificate; check this machine's clock too"
            }
            Self::NotYetValid { .. } => "check the clocks of this machine and of the server",
            Self::WrongName { .. } => {
                "use the name in the certificate, or give the server a certificate whose \
                 subjectAltName has this name"
            }
            Self::Other(_) => {
                "a certificate for a server is made with `openssl req -x509 -nodes -newkey rsa:2048 \
                 -subj /CN=HOST -addext subjectAltName=DNS:HOST -addext \
                 basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem`"
            }
        }
    }
}
