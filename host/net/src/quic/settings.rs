//! The transport settings of QUIC.

use super::congestion::ByDistance;
use iroh::endpoint::{QuicTransportConfig, VarInt};
use std::sync::Arc;
use std::time::Duration;

/// How many unread bytes the other side may send: on all streams together, and on each.
const RECEIVE_WINDOW_BYTES: u32 = 16 << 20;
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// The most bytes that this side keeps until they are acknowledged.
pub(crate) const SEND_WINDOW_BYTES: usize = 8 << 20;
/// How many streams of file content the other side may have open.
const MAX_STREAMS: u32 = 64;
/// How many conversations there may be.
const MAX_CONVERSATIONS: u32 = 1;
/// A path that is silent for this long is abandoned for another: users notice three seconds.
/// Keep-alives show which paths work.
const PATH_IDLE: Duration = Duration::from_millis(2_400);
const PATH_KEEP_ALIVE: Duration = Duration::from_millis(800);
/// A connection that is silent on all paths for this long has ended. By then a worker must know
/// that its client is gone; a client whose network was away for longer connects again.
const IDLE_MS: u32 = 20_000;

/// The round-trip time that is assumed until it is measured. A lost first packet is sent again
/// after three times this.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);

pub(crate) fn transport() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .congestion_controller_factory(Arc::new(ByDistance))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES as u64)
        // The receiver reads one stream after the other, so they must arrive in order.
        .send_fairness(false)
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_CONVERSATIONS))
        .initial_rtt(INITIAL_ROUND_TRIP)
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_MS).into()))
        .default_path_max_idle_timeout(PATH_IDLE)
        .default_path_keep_alive_interval(PATH_KEEP_ALIVE)
        .build()
}
