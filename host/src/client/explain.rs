//! Shows a room: its workers, and how the selection policy ranks them.

use super::interrupt::Interrupts;
use super::room::Room;
use super::{ClientError, Join, or_interrupt};
use crate::config::Config;
use sleap_rtc_policy::{Policies, Selection};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::JobDescription;
use sleap_rtc_protocol::signaling::PeerInfo;

/// Ranks the workers of the room for `job` as `--auto-select` would, without asking any of them.
pub async fn explain(
    config: &Config,
    join: &Join,
    job: &JobDescription,
    interrupts: &mut Interrupts,
) -> Result<(Vec<WorkerFacts>, Selection), ClientError> {
    let policies = Policies::load(&config.policy)?;
    let peers = snapshot(config, join, interrupts).await?;
    let workers: Vec<_> = peers.iter().map(WorkerFacts::from_peer).collect();
    let selection = policies.select(job, &workers).await;
    Ok((workers, selection))
}

/// The workers of the room as they describe themselves, including busy ones.
pub async fn snapshot(
    config: &Config,
    join: &Join,
    interrupts: &mut Interrupts,
) -> Result<Vec<PeerInfo>, ClientError> {
    let room = or_interrupt(interrupts, Room::visit(config, join.credentials().clone())).await?;
    let looking = async { room.peers(None).await.map_err(ClientError::from) };
    let peers = or_interrupt(interrupts, looking).await;
    room.leave().await;
    peers
}
