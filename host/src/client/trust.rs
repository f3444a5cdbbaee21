//! Decides which workers this client trusts: those that the room's authority has certified, the one
//! in a session string, and those that the user has accepted.

use super::known_removals::KnownRemovals;
use super::known_workers::KnownWorkers;
use super::rooms::SavedRooms;
use super::untrusted::Untrusted;
use crate::config::ClientConfig;
use crate::{device, question};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_net::dialect::{ClientEnd, DialectError, Meeting};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_trust::certificate::Certificate;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::{DeviceId, DeviceKey};
use sleap_rtc_trust::handshake::{Disbelief, Identity, Proven};
use std::collections::HashMap;

/// What this client knows about the peers of its room.
pub(crate) struct Trust {
    room: Credential,
    device: DeviceKey,
    /// What the room's authority says of this device.
    certificate: Option<Certificate>,
    removals: KnownRemovals,
    known: KnownWorkers,
    /// Workers whose devices are known from a session string or an earlier proof.
    pinned: HashMap<PeerId, DeviceId>,
    python_workers: bool,
}

impl Trust {
    /// `None` for a room whose token has no secret for peers. Such a room trusts the signaling
    /// server.
    pub(crate) fn new(config: &ClientConfig, room: &Credential) -> Option<Self> {
        let peer = room.peer()?;
        let (folder, device) = (&config.state_dir, device::key(&config.state_dir));
        // Without a file that can be read, the room's token decides.
        let rooms = SavedRooms::load(folder).unwrap_or_default();
        let certificate = rooms.certificate(&room.room_id, &device.id());
        let has_ended =
            |of: &&Certificate| of.subject().not_after_s.is_some_and(|until| until < now_s());
        // Who knows the room's secret needs none that has expired.
        let is_of_use = |of: &&Certificate| peer.secret().is_none() || !has_ended(of);
        Some(Self {
            room: room.clone(),
            certificate: certificate.filter(is_of_use).cloned(),
            device,
            removals: KnownRemovals::of(folder, &room.room_id, peer.authority()),
            known: KnownWorkers::of(folder, &room.room_id),
            pinned: HashMap::new(),
            python_workers: config.python_worker,
        })
    }

    /// Trusts `worker` only if it is this device.
    pub(crate) fn pin(&mut self, worker: PeerId, device: DeviceId) {
        self.pinned.insert(worker, device);
    }

    /// Refuses a worker that speaks like a Python worker, unless the user wants one.
    pub(crate) fn check_python(&self) -> Result<(), Untrusted> {
        if self.python_workers { Ok(()) } else { Err(Untrusted::Python) }
    }

    /// Has the worker prove its identity, and proves this client's identity.
    pub(crate) async fn meet(
        &mut self,
        end: &mut ClientEnd,
        meeting: &Meeting,
    ) -> Result<Proven, Untrusted> {
        let Some(peer) = self.room.peer() else { return Err(Untrusted::Python) };
        let (device, certificate) = (self.device.clone(), self.certificate.clone());
        let own = Identity::new(device, peer.clone(), certificate);
        let own = own.knowing(self.removals.all().clone());
        let asked = end.question(own, meeting, rand::random(), now_s()).await;
        let (proof, proven) = asked.map_err(Untrusted::Proof)?;
        proven.check(self.pinned.get(&meeting.worker), |device| self.known.contains(device))?;
        self.removals.take(&proven.news);
        let proving = end.prove(proof, &proven).await;
        proving.map_err(|error: DialectError| Untrusted::Proof(error.into()))?;
        self.pin(meeting.worker.clone(), proven.device);
        Ok(proven)
    }

    /// Asks the user whether to accept an uncertified worker, and saves the answer. `None` if there
    /// is another reason, or no terminal.
    pub(crate) async fn ask(&mut self, worker: &PeerId, why: &Untrusted) -> Option<bool> {
        let Untrusted::Disbelieved(Disbelief::Unknown { device, name }) = why else { return None };
        let question = format!(
            "New worker \"{name}\" ({worker}) in this room, with the key {}….\n\
             No worker of the room vouches for it. Trust it with your files? [y/N] ",
            device.short()
        );
        let accepted = question::confirm(&question).await?;
        if accepted {
            self.known.add(*device, name, now_s());
        }
        Some(accepted)
    }
}
