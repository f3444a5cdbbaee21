//! The crate's settings for a connection.

use super::{MAX_MESSAGE_BYTES, RtcOptions, packets, sockets};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use rtc::peer_connection::transport::RTCDtlsRole;
use sleap_rtc_base::ice::IceServer;
use std::net::SocketAddr;
use std::time::Duration;
use webrtc::peer_connection::{RTCIceServer, SettingEngine, SettingEngineBuilder};

/// Silence after which a path counts as disconnected, and then as failed.
const ICE_DISCONNECTED: Duration = Duration::from_secs(5);
const ICE_FAILED: Duration = Duration::from_secs(12);
const ICE_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// The time between two checks of a pair of candidates while this side has few addresses. (The
/// default, seven checks in 1.4 s, is too short for a peer that answers late.)
const ICE_CHECK_EVERY: Duration = Duration::from_millis(50);
const FEW_ADDRESSES: usize = 4;
/// How long each pair is checked.
const ICE_CHECK_FOR: Duration = Duration::from_secs(10);

pub(crate) fn servers(options: &RtcOptions) -> Vec<RTCIceServer> {
    let server = |server: &IceServer| RTCIceServer {
        urls: server.urls.clone(),
        username: server.username.clone().unwrap_or_default(),
        credential: server.credential.clone().unwrap_or_default(),
    };
    options.servers.iter().map(server).collect()
}

pub(crate) fn engine(addresses: &[SocketAddr]) -> SettingEngine {
    let check_every = check_every(addresses.len());
    let tries = ICE_CHECK_FOR.as_millis() / check_every.as_millis();
    SettingEngineBuilder::new()
        .with_answering_dtls_role(RTCDtlsRole::Server)
        .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEP_ALIVE))
        .with_ice_connection_attempts(
            Some(check_every),
            Some(u16::try_from(tries).unwrap_or(u16::MAX)),
        )
        .with_include_loopback_candidate(true)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_MESSAGE_BYTES))
        .with_sctp_max_receive_buffer_size(sockets::window_bytes() as u32)
        .with_sctp_mtu(packets::bytes(addresses))
        .build()
}

/// All pairs of candidates are checked at once, so more pairs are checked less often.
fn check_every(addresses: usize) -> Duration {
    ICE_CHECK_EVERY * u32::try_from(addresses.div_ceil(FEW_ADDRESSES).max(1)).unwrap_or(1)
}
