//! The settings of the signaling server: `[signaling]`.

use super::ice::GivenServer;
use super::values::{
    ListenAddress, OneOrMore, Time, rate_within, size_within, time_within, within,
};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use sleap_rtc_signaling::ice::IceOffer;
use sleap_rtc_signaling::server::{ClusterOptions, Limits, TlsFiles};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// The settings of the signaling server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The addresses that serve HTTP and WebSocket.
    pub listen: Vec<SocketAddr>,
    /// The SQLite file.
    pub state: PathBuf,
    /// The STUN and TURN servers that peers receive.
    pub ice: IceOffer,
    /// The certificate for all ports. `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether `X-Forwarded-For` contains the client's address.
    pub trust_proxy: bool,
    /// Whether the server relays between peers that have no direct path.
    pub relay: bool,
    /// Whether the server serves the client for browsers.
    pub page: bool,
    /// Whether a worker that is the server announces it on its network.
    pub announce: bool,
    /// Limits for each peer, room and address.
    pub limits: Limits,
    /// The broker through which it shares its rooms with other servers.
    pub cluster: Option<ClusterOptions>,
}

/// `[signaling]` in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileServer {
    pub(crate) listen: Option<Vec<ListenAddress>>,
    pub(crate) state: Option<String>,
    pub(crate) ice_servers: Vec<GivenServer>,
    /// How long an account on a TURN server is valid.
    #[serde(deserialize_with = "lifetime")]
    pub(crate) ice_lifetime: Duration,
    pub(crate) tls_cert: Option<String>,
    pub(crate) tls_key: Option<String>,
    pub(crate) trust_proxy: bool,
    pub(crate) relay: bool,
    pub(crate) page: bool,
    pub(crate) announce: bool,
    pub(crate) cluster: Option<OneOrMore<BrokerAddress>>,
    pub(crate) cluster_token_file: Option<String>,
    #[serde(with = "FileLimits")]
    pub(crate) limits: Limits,
}

impl Default for FileServer {
    fn default() -> Self {
        Self {
            listen: None,
            state: None,
            ice_servers: Vec::new(),
            ice_lifetime: IceOffer::default().lifetime,
            tls_cert: None,
            tls_key: None,
            trust_proxy: false,
            relay: true,
            page: true,
            announce: true,
            cluster: None,
            cluster_token_file: None,
            limits: Limits::default(),
        }
    }
}

/// Reads `[signaling]`. A certificate needs its key, and a key its certificate.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<FileServer, D::Error> {
    let server = FileServer::deserialize(deserializer)?;
    match (&server.tls_cert, &server.tls_key) {
        (Some(_), None) => Err(D::Error::custom("has a `tls_cert` and needs a `tls_key` too")),
        (None, Some(_)) => Err(D::Error::custom("has a `tls_key` and needs a `tls_cert` too")),
        _ if server.cluster.is_none() && server.cluster_token_file.is_some() => {
            Err(D::Error::custom("has a `cluster_token_file` and needs a `cluster` too"))
        }
        _ => Ok(server),
    }
}

/// An element of `cluster`.
#[derive(Clone)]
pub(crate) struct BrokerAddress(pub(crate) Url);

/// Without the address, which may have a password.
impl fmt::Debug for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrokerAddress")
    }
}

impl TryFrom<String> for BrokerAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        ClusterOptions::address(&text).map(Self)
    }
}

fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let Time(lifetime) = Time::deserialize(deserializer)?;
    match lifetime < Duration::from_secs(2) {
        true => Err(D::Error::custom("expects a time of at least 2 s")),
        false => Ok(lifetime),
    }
}

const MANY: u64 = 1_000_000;
const LONGEST_FRAME: u64 = sleap_rtc_protocol::signaling::MAX_FRAME_BYTES as u64;

/// `[signaling.limits]`.
#[derive(Deserialize)]
#[serde(remote = "Limits", deny_unknown_fields, default = "Limits::default")]
struct FileLimits {
    // A worker's registration and an offer need some 4 KiB.
    #[serde(rename = "frame", deserialize_with = "size_within::<16_384, LONGEST_FRAME, _, _>")]
    frame_bytes: usize,
    #[serde(deserialize_with = "within::<1, MANY, _, _>")]
    frames_per_s: u32,
    #[serde(deserialize_with = "within::<1, MANY, _, _>")]
    burst_frames: u32,
    #[serde(deserialize_with = "within::<2, MANY, _, _>")]
    room_peers: usize,
    #[serde(deserialize_with = "within::<1, MANY, _, _>")]
    rooms_per_address: u32,
    #[serde(deserialize_with = "within::<1, MANY, _, _>")]
    sign_ins_per_address: u32,
    #[serde(deserialize_with = "within::<1, MANY, _, _>")]
    pairings_per_address: u32,
    #[serde(deserialize_with = "time_within::<1, 3600, _>")]
    pair_within: Duration,
    #[serde(deserialize_with = "within::<1, MANY, _, _>")]
    sockets_per_address: usize,
    #[serde(deserialize_with = "time_within::<1, 3600, _>")]
    register_within: Duration,
    #[serde(deserialize_with = "within::<1, MANY, _, _>")]
    queue_frames: usize,
    #[serde(rename = "queue", deserialize_with = "size_within::<65_536, 1_073_741_824, _, _>")]
    queue_bytes: usize,
    // The JSON parser's own limit for nesting is 128.
    #[serde(deserialize_with = "within::<8, 127, _, _>")]
    nesting: usize,
    #[serde(deserialize_with = "within::<1, MANY, _, _>")]
    malformed_frames: u32,
    #[serde(deserialize_with = "within::<1, MANY, _, _>")]
    relay_connections: usize,
    // A lower rate would make the connection useless.
    #[serde(
        rename = "relay_rate",
        deserialize_with = "rate_within::<65_536, 4_294_967_295, _, _>"
    )]
    relay_bytes_per_s: u32,
}
