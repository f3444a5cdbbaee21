//! Shows a room: its workers, and how the selection policy ranks them.

use super::candidates;
use super::interrupt::Interrupts;
use super::room::Room;
use super::unreliable::Unreliable;
use super::{ClientError, Join, or_interrupt};
use crate::config::Config;
use sleap_rtc_policy::{Policies, Remark, Selection};
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
    let mut selection = candidates::select(&policies, job, &workers).await;
    sink_unreliable(&Unreliable::load(&config.client.state_dir), &workers, &mut selection);
    Ok((workers, selection))
}

/// Puts the workers that failed lately last, as a submission does, and says why.
fn sink_unreliable(unreliable: &Unreliable, workers: &[WorkerFacts], selection: &mut Selection) {
    let ranking = std::mem::take(&mut selection.ranking);
    let (mut ranking, mut sunk) =
        unreliable.split(ranking, |choice| Some(&workers.get(choice.index)?.peer_id));
    for choice in &mut sunk {
        let text = "did not answer lately, so it is asked after the others".to_owned();
        choice.remarks.push(Remark { plugin: "sleap-rtc".into(), text });
    }
    ranking.append(&mut sunk);
    selection.ranking = ranking;
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use sleap_rtc_policy::Choice;

    #[test]
    fn a_worker_that_did_not_answer_lately_is_last_and_the_reason_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let worker = |id: &str| {
            let peer = json!({ "peer_id": id, "role": "worker", "metadata": {} });
            WorkerFacts::from_peer(&serde_json::from_value::<PeerInfo>(peer).unwrap())
        };
        let workers = [worker("w1"), worker("w2")];
        let mut unreliable = Unreliable::load(folder.path());
        unreliable.failed(&workers[0].peer_id);
        let choice = |index| Choice { index, score: 1.0, remarks: Vec::new() };
        let mut selection =
            Selection { ranking: vec![choice(0), choice(1)], ..Selection::default() };
        sink_unreliable(&unreliable, &workers, &mut selection);
        let order: Vec<usize> = selection.ranking.iter().map(|choice| choice.index).collect();
        assert_eq!(order, [1, 0]);
        assert!(selection.ranking[0].remarks.is_empty());
        assert!(selection.ranking[1].reason().contains("did not answer lately"));
    }
}
