//! This worker's identity for a device that pairs with it, and the grant for that device.

use super::Invited;
use crate::worker::members::Members;
use sleap_rtc_protocol::ids::{DeviceName, PeerId, RoomName};
use sleap_rtc_trust::certificate::{Certificate, MemberRole, Subject};
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::pairing::{Grant, Introduction};
use std::sync::Arc;

/// What a worker can grant.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// The room, with its authority if this worker has it.
    pub(crate) room: Credential,
    /// Its members, if it has keys.
    pub(crate) members: Option<Arc<Members>>,
    pub(crate) room_name: RoomName,
    pub(crate) worker: PeerId,
    pub(crate) name: DeviceName,
    pub(crate) device: Option<DeviceId>,
}

impl Host {
    /// What the device gets that has introduced itself. A client that gets a certificate needs no secret of
    /// the room, so that nothing it knows opens the room once it is removed.
    pub(crate) fn grant(&self, introduction: &Introduction, invited: &Invited) -> Grant {
        let Introduction { device, name, role } = introduction;
        let room = self.members.as_ref().map_or(self.room.clone(), |members| members.credential());
        let certificate = self.members.as_ref().and_then(|members| {
            let issued_s = members.issue_s(device);
            let subject = Subject::new(*device, *role, name.as_str(), issued_s);
            let subject = subject.until(invited.until_s(issued_s));
            let authority = room.peer().and_then(|peer| peer.authority_key())?;
            let certificate = Certificate::issue(authority, subject);
            members.admitted(&certificate);
            Some(certificate)
        });
        Grant {
            room: match (role, &certificate) {
                (MemberRole::Client, Some(_)) => room.for_members(),
                (MemberRole::Client, None) => room.for_clients(),
                (MemberRole::Worker, _) => room,
            },
            room_name: self.room_name.clone(),
            worker: self.worker.clone(),
            worker_name: self.name.clone(),
            worker_device: self.device,
            certificate,
        }
    }
}
