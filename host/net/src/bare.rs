//! The lanes alone, without files and hashes: what whole transfers are measured against.
//!
//! `cargo xtask bench` connects two processes (with [`rtc::offer`](crate::rtc::offer) and
//! [`rtc::answer`](crate::rtc::answer)) and has one of them [`send`] to the other, which
//! [`receive`]s. What goes over the wire is what a transfer of one incompressible file sends after
//! its manifest.

use crate::dialect::{ClientEnd, WorkerEnd};
use crate::rtc::{Channel, RtcOptions};
use sleap_rtc_transfer::bare;
pub use sleap_rtc_transfer::{LaneCount, TransferError};

/// Sends `bytes` over `channel`, an open one on a connection that this side has offered, and over
/// lanes beside it. Returns when the other side has everything.
///
/// # Errors
/// The connection was lost.
pub async fn send(
    channel: Channel,
    options: &RtcOptions,
    bytes: u64,
    lanes: LaneCount,
) -> Result<(), TransferError> {
    let mut link = ClientEnd::new(channel);
    link.allow_lanes(options, None);
    bare::send(&mut link, bytes, lanes).await
}

/// Receives what the other side of `channel` [`send`]s. Returns how many bytes that was.
///
/// # Errors
/// The connection was lost.
pub async fn receive(channel: Channel, options: &RtcOptions) -> Result<u64, TransferError> {
    let mut link = WorkerEnd::new(channel);
    link.allow_lanes(options, None);
    bare::receive(&mut link).await
}
