//! `[signaling]`: what `sleap-rtc signaling` serves, and how much of it anybody may have.

use super::tree::{Bytes, Section};
use super::values::{Parsed, lifetime, unwrap_parsed};
use super::{ConfigError, units};
use sleap_rtc_signaling::ice::{IceOffer, OfferedServer};
use sleap_rtc_signaling::server::{Limits, TlsFiles};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// What `sleap-rtc signaling` serves.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// HTTP and WebSocket on each.
    pub listen: Vec<SocketAddr>,
    /// The SQLite file.
    pub state: PathBuf,
    /// The STUN and TURN servers that peers are given.
    pub ice: IceOffer,
    /// TLS on every port; `None` for plain.
    pub tls: Option<TlsFiles>,
    /// Whether `X-Forwarded-For` says who the client is.
    pub trust_proxy: bool,
    /// Whether it relays between peers that have no direct path.
    pub relay: bool,
    /// What anybody may have.
    pub limits: Limits,
}

/// `[signaling]` as the file has it.
#[derive(Debug, Default)]
pub(super) struct FileServer {
    pub(super) listen: Option<Vec<SocketAddr>>,
    pub(super) state: Option<String>,
    pub(super) ice_servers: Option<Vec<OfferedServer>>,
    pub(super) ice_lifetime: Option<Duration>,
    /// Certificate and key.
    pub(super) tls: Option<(String, String)>,
    pub(super) trust_proxy: bool,
    pub(super) relay: Option<bool>,
    pub(super) limits: Limits,
}

impl FileServer {
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let tls = match section.take("tls_cert")? {
            Some(cert) => Some((cert, section.require("tls_key")?)),
            None => section.take_with("tls_key", |_: String| Err("needs `tls_cert` too".into()))?,
        };
        let server = Self {
            listen: section.take::<Vec<Parsed<SocketAddr>>>("listen")?.map(unwrap_parsed),
            state: section.take("state")?,
            ice_servers: section.take("ice_servers")?,
            ice_lifetime: section.take_with("ice_lifetime", lifetime)?,
            tls,
            trust_proxy: section.take("trust_proxy")?.unwrap_or(false),
            relay: section.take("relay")?,
            limits: read_limits(section.section("limits")?)?,
        };
        section.finish()?;
        Ok(server)
    }
}

/// Checks a number; it fits any integer type that the range's end fits.
fn within<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl FnOnce(u64) -> Result<T, String> {
    move |number| {
        let fits = Some(number).filter(|number| range.contains(number));
        let wrong = || format!("expects {} to {}, not {number}", range.start(), range.end());
        fits.and_then(|number| T::try_from(number).ok()).ok_or_else(wrong)
    }
}

fn size_within(range: RangeInclusive<u64>) -> impl FnOnce(Bytes) -> Result<usize, String> {
    |Bytes(bytes)| within(range)(bytes).map_err(|why| format!("{why} bytes"))
}

/// A rate that is still worth a connection.
fn relay_rate(text: String) -> Result<u32, String> {
    within(64 << 10..=u64::from(u32::MAX))(units::rate(&text)?)
        .map_err(|why| format!("{why} bytes each second"))
}

fn register_within(text: String) -> Result<Duration, String> {
    let time = units::duration(&text)?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(3600);
    if allowed.contains(&time) { Ok(time) } else { Err("expects a time from 1 s to 1 h".into()) }
}

fn read_limits(mut section: Section<'_>) -> Result<Limits, ConfigError> {
    let Limits {
        frame_bytes,
        frames_per_s,
        burst_frames,
        room_peers,
        rooms_per_address,
        sign_ins_per_address,
        sockets_per_address,
        register_within: register,
        queue_frames,
        queue_bytes,
        nesting,
        malformed_frames,
        relay_connections,
        relay_bytes_per_s,
    } = Limits::default();
    const MANY: u64 = 1_000_000;
    let longest = sleap_rtc_protocol::signaling::MAX_FRAME_BYTES as u64;
    let s = &mut section;
    let limits = Limits {
        // A worker's registration and an offer need some 4 KiB.
        frame_bytes: s.take_with("frame", size_within(16 << 10..=longest))?.unwrap_or(frame_bytes),
        frames_per_s: s.take_with("frames_per_s", within(1..=MANY))?.unwrap_or(frames_per_s),
        burst_frames: s.take_with("burst_frames", within(1..=MANY))?.unwrap_or(burst_frames),
        room_peers: s.take_with("room_peers", within(2..=MANY))?.unwrap_or(room_peers),
        rooms_per_address: s
            .take_with("rooms_per_address", within(1..=MANY))?
            .unwrap_or(rooms_per_address),
        sign_ins_per_address: s
            .take_with("sign_ins_per_address", within(1..=MANY))?
            .unwrap_or(sign_ins_per_address),
        sockets_per_address: s
            .take_with("sockets_per_address", within(1..=MANY))?
            .unwrap_or(sockets_per_address),
        register_within: s.take_with("register_within", register_within)?.unwrap_or(register),
        queue_frames: s.take_with("queue_frames", within(1..=MANY))?.unwrap_or(queue_frames),
        queue_bytes: s.take_with("queue", size_within(64 << 10..=1 << 30))?.unwrap_or(queue_bytes),
        // The library that reads JSON goes no deeper than 128.
        nesting: s.take_with("nesting", within(8..=127))?.unwrap_or(nesting),
        malformed_frames: s
            .take_with("malformed_frames", within(1..=MANY))?
            .unwrap_or(malformed_frames),
        relay_connections: s
            .take_with("relay_connections", within(1..=MANY))?
            .unwrap_or(relay_connections),
        relay_bytes_per_s: s.take_with("relay_rate", relay_rate)?.unwrap_or(relay_bytes_per_s),
    };
    section.finish()?;
    Ok(limits)
}
