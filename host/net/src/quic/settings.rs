//! How QUIC is set up.

use iroh::endpoint::{QuicTransportConfig, VarInt};
use noq_proto::congestion::Bbr3Config;
use std::sync::Arc;
use std::time::Duration;

/// What the other side may send before it is read: all streams together, and each.
const RECEIVE_WINDOW_BYTES: u32 = 16 << 20;
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// What this side keeps until it is acknowledged.
pub(crate) const SEND_WINDOW_BYTES: usize = 8 << 20;
/// Streams of file content that the other side may have open.
const MAX_STREAMS: u32 = 64;
/// One conversation.
const MAX_CONVERSATIONS: u32 = 1;
/// A path that is silent for this long is left for another. Keep-alives make it notice.
const PATH_IDLE: Duration = Duration::from_millis(4_500);
const PATH_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// A connection that is silent on all paths for this long is over: by then a worker must know that its
/// client is gone, and a client whose network is away for longer connects anew.
const IDLE_MS: u32 = 20_000;

/// Assumed until it is measured: a first packet that is lost is sent again after three of these.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);

pub(crate) fn transport() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        // CUBIC, the default, makes a tenth of the rate where one packet in a thousand is lost.
        .congestion_controller_factory(Arc::new(Bbr3Config::default()))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES as u64)
        // Content in order: the receiver reads one stream after the other.
        .send_fairness(false)
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_CONVERSATIONS))
        .initial_rtt(INITIAL_ROUND_TRIP)
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_MS).into()))
        .default_path_max_idle_timeout(PATH_IDLE)
        .default_path_keep_alive_interval(PATH_KEEP_ALIVE)
        .build()
}
