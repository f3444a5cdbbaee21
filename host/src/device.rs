//! The key of this device: this program's identity for its peers.

use sleap_rtc_base::folder::private;
use sleap_rtc_net::quic::{self, EndpointKey};
use sleap_rtc_trust::device::DeviceKey;
use std::io;
use std::path::Path;
use tracing::warn;

/// The key in `folder`, to sign with. Creates it at the first call.
pub(crate) fn key(folder: &Path) -> DeviceKey {
    of_device(folder, quic::device_key, || DeviceKey::from_bytes(rand::random()))
}

/// The same key for this process's endpoint, unless another process uses it.
pub(crate) fn endpoint_key(folder: &Path) -> EndpointKey {
    of_device(folder, EndpointKey::of, EndpointKey::fresh)
}

/// The key that `read` finds in `folder`, or a `fresh` one for this process if the folder cannot be
/// used.
fn of_device<K>(
    folder: &Path,
    read: impl FnOnce(&Path) -> io::Result<K>,
    fresh: impl FnOnce() -> K,
) -> K {
    private(folder).and_then(|()| read(folder)).unwrap_or_else(|error| {
        let folder = folder.display();
        warn!(%folder, %error, "cannot use this device's key; this process uses a key of its own");
        fresh()
    })
}
