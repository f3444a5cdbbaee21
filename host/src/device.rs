//! The key of this device: who this program is, to its peers.

use sleap_rtc_base::folder::private;
use sleap_rtc_net::quic;
use sleap_rtc_trust::device::DeviceKey;
use std::path::Path;
use tracing::warn;

/// The key in `folder`, made at the first call; one for this process alone where the folder cannot be used.
pub(crate) fn key(folder: &Path) -> DeviceKey {
    private(folder).and_then(|()| quic::device_key(folder)).unwrap_or_else(|error| {
        let folder = folder.display();
        warn!(%folder, %error, "this device's key cannot be used; this process has its own");
        DeviceKey::from_bytes(rand::random())
    })
}
