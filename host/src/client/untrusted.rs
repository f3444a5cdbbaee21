//! Why a worker is not trusted.

use sleap_rtc_net::dialect::ProvingError;
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_trust::device::DeviceId;

/// Why a worker is not trusted. Each text continues a sentence about the worker.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// The proof is missing or wrong.
    #[error("{0}")]
    Proof(ProvingError),
    /// It speaks like a Python worker.
    #[error(
        "shows no key: it speaks as Python workers do. If it is one, use --python-worker, which trusts \
         the signaling server; otherwise the server has changed its answer"
    )]
    Python,
    /// Its device is not the one that the user's strings name.
    #[error(
        "has another key ({got}…) than the one that it had before ({wanted}…): it was installed anew, or \
         somebody else has taken its place"
    )]
    OtherDevice {
        /// The beginning of the expected device's id.
        wanted: String,
        /// The beginning of the actual device's id.
        got: String,
    },
    /// It is not certified.
    #[error(
        "is not certified by this room's other workers, and this computer does not know it (it calls \
         itself \"{name}\", key {}…)", .device.short()
    )]
    Unknown {
        /// Its device.
        device: DeviceId,
        /// The name that it gives itself.
        name: Printable,
    },
    /// The user does not accept it.
    #[error("was not accepted")]
    Declined,
}
