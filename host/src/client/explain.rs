//! A look into the room: who is there, and what the selection policy makes of them.

use super::room::Room;
use super::{ClientError, Join, or_interrupt};
use crate::config::Config;
use crate::policy::{Policies, Selection};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::JobDescription;
use sleap_rtc_protocol::signaling::PeerInfo;
use tokio_util::sync::CancellationToken;

/// Ranks the workers of the room for `job` as `--auto-select` would. No worker hears of it.
pub async fn explain(
    config: &Config,
    join: &Join,
    job: &JobDescription,
    interrupt: &CancellationToken,
) -> Result<(Vec<WorkerFacts>, Selection), ClientError> {
    let policies = Policies::load(&config.policy)?;
    let peers = snapshot(config, join, interrupt).await?;
    let workers: Vec<_> = peers.iter().map(WorkerFacts::from_peer).collect();
    let selection = policies.select(job, &workers).await;
    Ok((workers, selection))
}

/// The workers of the room as they describe themselves, the busy ones included.
pub async fn snapshot(
    config: &Config,
    join: &Join,
    interrupt: &CancellationToken,
) -> Result<Vec<PeerInfo>, ClientError> {
    let room = or_interrupt(interrupt, Room::join(config, join.credentials().clone())).await?;
    let looking = async { room.peers(None).await.map_err(ClientError::from) };
    let peers = or_interrupt(interrupt, looking).await;
    room.leave().await;
    peers
}
