//! `plugin test`: a recorded room, ranked.

use super::super::described::{described, read_json};
use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::ranking;
use crate::config::PluginConfig;
use crate::policy::ExtensionPoint;
use crate::policy::examine::PluginFile;
use crate::transfer::Hashes;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::{PeerInfo, Role};
use std::path::Path;

/// Prints the ranking of the room in `room` for the job in `job`.
pub(super) async fn run(
    plugin: &PluginFile,
    config: &PluginConfig,
    room: &Path,
    job: &Path,
    expect: Option<&PeerId>,
) -> Result<Exit, Failure> {
    let peers: Vec<PeerInfo> = read_json("--room", room, "a list of peers")?;
    let peers = peers.iter().filter(|peer| peer.role != Role::Client);
    let workers: Vec<_> = peers.map(WorkerFacts::from_peer).collect();
    let job = described("--job", job, None, None, Hashes::none()).await?;
    let candidate = plugin.load(ExtensionPoint::Selection, config)?;
    let selection = candidate
        .select(&job, &workers)
        .map_err(|why| Failure::usage(format!("the plugin {} failed: {why}", plugin.name)))?;
    print::raw(&ranking(&workers, &selection)).exit(Exit::Unexpected)?;
    let first = selection.ranking.first().and_then(|choice| workers.get(choice.index));
    let first = first.map(|worker| &worker.peer_id);
    match expect {
        Some(expected) if first != Some(expected) => {
            let first = first.map_or("nobody".to_owned(), ToString::to_string);
            let text = format!("{expected} was expected to be first, but {first} is");
            Err(Failure::message(Exit::Unexpected, text))
        }
        _ => Ok(Exit::Success),
    }
}
