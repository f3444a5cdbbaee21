//! Why a worker is not believed.

use sleap_rtc_net::dialect::ProvingError;
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_trust::device::DeviceId;

/// Why a worker is not believed. Each text continues a sentence about it.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// It proves nothing, or something else.
    #[error("{0}")]
    Proof(ProvingError),
    /// It speaks as Python workers do.
    #[error(
        "shows no key: it speaks as Python workers do. If it is one, use --python-worker, which trusts \
         the signaling server; otherwise the server has changed its answer"
    )]
    Python,
    /// Its device is another one than the user's strings say.
    #[error(
        "has another key ({got}…) than the one that it had before ({wanted}…): it was installed anew, or \
         somebody else has taken its place"
    )]
    OtherDevice {
        /// The beginning of the wanted device's id.
        wanted: String,
        /// The beginning of the one that it has.
        got: String,
    },
    /// Nobody vouches for it.
    #[error(
        "is not certified by this room's other workers, and this computer does not know it (it calls \
         itself \"{name}\", key {}…)", .device.short()
    )]
    Unknown {
        /// Its device.
        device: DeviceId,
        /// What it calls itself.
        name: Printable,
    },
    /// The user does not accept it.
    #[error("was not accepted")]
    Declined,
}
