//! The room of this worker, if it pairs with another worker, and the room's name.

use super::host::Host;
use crate::config::{Config, WorkerConfig};
use crate::device;
use crate::pairing::{self, PairError, device_name, short_host_name};
use crate::worker::WorkerRoom;
use crate::worker::members::Members;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::json_file;
use sleap_rtc_protocol::ids::{PeerId, RoomId, RoomName};
use sleap_rtc_trust::certificate::MemberRole;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::pairing::{Code, Introduction};
use std::path::Path;
use std::sync::Arc;
use tracing::warn;

/// The file with a room's name, beside this worker's identity.
const FILE: &str = "room-name.json";

#[derive(Serialize, Deserialize)]
struct KnownAs {
    room_id: RoomId,
    name: RoomName,
}

/// The room to enter. With a code, the room of the worker that shows the code.
pub(crate) async fn resolve(wanted: &WorkerRoom, config: &Config) -> Result<WorkerRoom, PairError> {
    match wanted {
        WorkerRoom::Pair(code) => pair(code, config).await.map(WorkerRoom::Join),
        wanted => Ok(wanted.clone()),
    }
}

async fn pair(code: &Code, config: &Config) -> Result<Credential, PairError> {
    let folder = &config.worker.state_dir;
    let introduction = Introduction {
        device: device::key(folder).id(),
        name: device_name(None),
        role: MemberRole::Worker,
    };
    let (grant, words) = pairing::join(&config.signaling, code, &introduction).await?;
    let (name, worker) = (grant.room_name, grant.worker_name);
    let known_as = KnownAs { room_id: grant.room.room_id.clone(), name: name.clone() };
    if let Err(error) = json_file::save(&folder.join(FILE), &known_as) {
        warn!(error = %WithCauses(&error), "cannot save the name of the room");
    }
    super::print(&format!(
        "Paired with room \"{name}\" (worker {worker}). Verify if you like: {words}"
    ));
    Ok(grant.room)
}

/// What this worker hands out in `room`.
pub(crate) fn host(
    config: &WorkerConfig,
    worker: &PeerId,
    room: &Credential,
    members: Option<Arc<Members>>,
) -> Host {
    let known_as = known_as(&config.state_dir, &room.room_id);
    let room_name = config.room_name.clone().or(known_as);
    Host {
        room: room.clone(),
        members,
        room_name: room_name.unwrap_or_else(|| RoomName::nearest(&short_host_name())),
        worker: worker.clone(),
        name: device_name(None),
        device: Some(device::key(&config.state_dir).id()),
    }
}

/// The name that the other worker gave to the room.
fn known_as(folder: &Path, room: &RoomId) -> Option<RoomName> {
    let known: KnownAs = json_file::load(&folder.join(FILE)).ok()??;
    (known.room_id == *room).then_some(known.name)
}
