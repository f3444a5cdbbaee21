//! Whether a client believes a worker that has proven its device.

use super::{Certification, Proven};
use crate::device::DeviceId;
use sleap_rtc_protocol::text::Printable;

/// Why a client does not believe a worker that has proven its device. Each text continues a sentence about
/// the worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// Its device is not the one that the client expects.
    #[error(
        "has another key ({}…) than the one that it had before ({}…): it was installed anew, or somebody \
         else has taken its place", .got.short(), .wanted.short()
    )]
    OtherDevice {
        /// The expected device.
        wanted: DeviceId,
        /// The actual one.
        got: DeviceId,
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
}

impl Proven {
    /// Whether a client that expects the device `wanted`, or else any that is certified or `is_known`,
    /// believes this worker.
    ///
    /// # Errors
    /// It does not.
    pub fn check(
        &self,
        wanted: Option<&DeviceId>,
        is_known: impl FnOnce(&DeviceId) -> bool,
    ) -> Result<(), Disbelief> {
        let device = self.device;
        match wanted {
            Some(wanted) if *wanted == device => Ok(()),
            Some(wanted) => Err(Disbelief::OtherDevice { wanted: *wanted, got: device }),
            None if self.certification == Certification::Certified => Ok(()),
            None if is_known(&device) => Ok(()),
            None => Err(Disbelief::Unknown { device, name: self.name.clone() }),
        }
    }
}
