//! Asks the workers of a room which videos they see on their mounts.

use super::room::Room;
use super::{Choose, Join};
use crate::config::Config;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::VideoQuery;
use sleap_rtc_protocol::worker::WorkerStatus;

/// The most workers that are asked, one after the other.
const MAX_WORKERS: usize = 8;
/// How many videos one message asks about, to stay well below a frame's limit.
const BATCH: usize = 500;

/// For each video, its path on the worker that sees most of them, among the workers that `join`
/// allows. Leaves the room again. Returns no paths if no worker can be asked.
pub async fn find_mounted(
    config: &Config,
    join: &Join,
    videos: &[VideoQuery],
) -> Vec<Option<String>> {
    let mut room = match Room::join(config, join.credentials().clone()).await {
        Ok(room) => room,
        Err(error) => {
            tracing::debug!(error = %WithCauses(&error), "cannot ask workers about their mounts");
            return vec![None; videos.len()];
        }
    };
    let found = ask_workers(&mut room, join, videos).await;
    room.leave().await;
    found
}

async fn ask_workers(room: &mut Room, join: &Join, videos: &[VideoQuery]) -> Vec<Option<String>> {
    let may_be = |worker: &WorkerFacts| match join {
        Join::Session(session) => worker.peer_id == session.worker,
        Join::Room { choose: Choose::Worker(named), .. } => worker.peer_id == *named,
        Join::Room { .. } => worker.status == WorkerStatus::Available,
    };
    let workers = room.workers(None).await.unwrap_or_default();
    let asked = workers.iter().filter(|worker| worker.has_mounts() && may_be(worker));
    let mut best = vec![None; videos.len()];
    let count = |answer: &[Option<String>]| answer.iter().flatten().count();
    for worker in asked.take(MAX_WORKERS) {
        let answer = ask(room, &worker.peer_id, videos).await;
        if count(&answer) > count(&best) {
            best = answer;
        }
        if count(&best) == videos.len() {
            break;
        }
    }
    best
}

async fn ask(room: &mut Room, worker: &PeerId, videos: &[VideoQuery]) -> Vec<Option<String>> {
    let mut answers = Vec::with_capacity(videos.len());
    for batch in videos.chunks(BATCH) {
        let mut answer = room.ask_for_videos(worker, batch.to_vec()).await.unwrap_or_default();
        answer.resize(batch.len(), None);
        answers.extend(answer);
    }
    answers
}
