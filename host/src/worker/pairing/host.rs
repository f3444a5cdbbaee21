//! This worker's identity for a device that pairs with it, and the grant for that device.

use sleap_rtc_base::clock::now_s;
use sleap_rtc_protocol::ids::{DeviceName, PeerId, RoomName};
use sleap_rtc_trust::certificate::{Certificate, MemberRole, Subject};
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::pairing::{Grant, Introduction};

/// What a worker can grant.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// The room, with its authority if this worker has it.
    pub(crate) room: Credential,
    pub(crate) room_name: RoomName,
    pub(crate) worker: PeerId,
    pub(crate) name: DeviceName,
    pub(crate) device: Option<DeviceId>,
}

impl Host {
    /// The grant for a device that has introduced itself.
    pub(crate) fn grant(&self, introduction: &Introduction) -> Grant {
        let Introduction { device, name, role } = introduction;
        let authority = self.room.peer().and_then(|peer| peer.authority_key());
        let subject = Subject::new(*device, *role, name.as_str(), now_s());
        Grant {
            room: match role {
                MemberRole::Client => self.room.for_clients(),
                MemberRole::Worker => self.room.clone(),
            },
            room_name: self.room_name.clone(),
            worker: self.worker.clone(),
            worker_name: self.name.clone(),
            worker_device: self.device,
            certificate: authority.map(|key| Certificate::issue(key, subject)),
        }
    }
}
