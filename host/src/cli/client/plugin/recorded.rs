//! `plugin test`: shows a plugin's answers for a recorded room, at each extension point that it exports.

use super::super::description::{load_job_description, read_json};
use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::{PluginNames, answers, columns, ranking};
use sleap_rtc_policy::PluginConfig;
use sleap_rtc_policy::examine::{Candidate, PluginFile};
use sleap_rtc_policy::{ExtensionPoint, Line, LocalTime};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::JobDescription;
use sleap_rtc_protocol::signaling::{PeerInfo, Role};
use sleap_rtc_transfer::Hashes;
use std::path::PathBuf;

/// The inputs of a test.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The recorded room.
    pub(crate) room: PathBuf,
    /// The job.
    pub(crate) job: PathBuf,
    /// The worker that must be ranked first, or take the job.
    pub(crate) expect: Option<PeerId>,
    /// The local time that the plugin sees; `None` for now.
    pub(crate) at: Option<LocalTime>,
}

/// Prints a table for each extension point, and checks the expectation.
pub(crate) async fn run(
    plugin: &PluginFile,
    config: &PluginConfig,
    recorded: &Recorded,
) -> Result<Exit, Failure> {
    let points = plugin.points();
    if points.is_empty() {
        return Err(plugin.exports_nothing().into());
    }
    let peers: Vec<PeerInfo> = read_json("--room", &recorded.room, "a list of peers")?;
    let peers = peers.iter().filter(|peer| peer.role != Role::Client);
    let workers: Vec<_> = peers.map(WorkerFacts::from_peer).collect();
    let job = load_job_description("--job", &recorded.job, None, None, Hashes::none()).await?;
    let at = recorded.at.unwrap_or_else(LocalTime::now);
    let mut unexpected = None;
    for point in &points {
        let room = RecordedRoom { job: &job, workers: &workers, expect: recorded.expect.as_ref() };
        let answer = room
            .ask(&plugin.load(*point, config)?.at(at), *point)
            .map_err(|why| Failure::usage(format!("the plugin {} failed: {why}", plugin.name)))?;
        if points.len() > 1 {
            print::line(point.key()).exit(Exit::Unexpected)?;
        }
        print::raw(&answer.table).exit(Exit::Unexpected)?;
        unexpected = unexpected.or(answer.unexpected);
    }
    match unexpected {
        Some(why) => Err(Failure::message(Exit::Unexpected, why)),
        None if recorded.expect.is_some() && !points.iter().any(chooses_workers) => {
            let text = format!("--expect names a worker, but {} chooses none", plugin.name);
            Err(Failure::usage(text))
        }
        None => Ok(Exit::Success),
    }
}

fn chooses_workers(point: &ExtensionPoint) -> bool {
    matches!(point, ExtensionPoint::Selection | ExtensionPoint::Compatibility)
}

/// The recorded room with its job.
struct RecordedRoom<'a> {
    job: &'a JobDescription,
    workers: &'a [WorkerFacts],
    expect: Option<&'a PeerId>,
}

/// A plugin's answer as a table, and how it differs from the expectation.
struct RecordedAnswer {
    table: String,
    unexpected: Option<String>,
}

impl RecordedRoom<'_> {
    fn ask(&self, plugin: &Candidate, point: ExtensionPoint) -> Result<RecordedAnswer, String> {
        match point {
            ExtensionPoint::Selection => self.ranked(plugin),
            ExtensionPoint::Compatibility => self.checked(plugin),
            ExtensionPoint::Queueing => self.ordered(plugin),
            ExtensionPoint::Estimate => {
                let estimates = self.workers.iter().map(|w| plugin.estimate(self.job, w));
                let estimates: Vec<String> = estimates.collect::<Result<_, _>>()?;
                Ok(RecordedAnswer { table: answers(self.workers, &estimates), unexpected: None })
            }
        }
    }

    fn ranked(&self, plugin: &Candidate) -> Result<RecordedAnswer, String> {
        let selection = plugin.select(self.job, self.workers)?;
        let first = selection.ranking.first().and_then(|choice| self.workers.get(choice.index));
        let first = first.map(|worker| &worker.peer_id);
        let unexpected = self.expect.filter(|expected| first != Some(expected)).map(|expected| {
            let first = first.map_or("nobody".to_owned(), ToString::to_string);
            format!("expected {expected} to be ranked first, but {first} is")
        });
        Ok(RecordedAnswer {
            table: ranking(self.workers, &selection, PluginNames::Hidden),
            unexpected,
        })
    }

    /// The order at each worker if the job came there now.
    fn ordered(&self, plugin: &Candidate) -> Result<RecordedAnswer, String> {
        let mut rows = vec![["worker", "place", "user", "why"].map(String::from)];
        for worker in self.workers {
            let line = Line::recorded(worker, self.job);
            let Some(places) = plugin.order(worker, &line)? else {
                let none = ["-", "-", "no opinion"].map(String::from);
                let [place, user, why] = none;
                rows.push([worker.peer_id.to_string(), place, user, why]);
                continue;
            };
            for (number, place) in (1u32..).zip(places) {
                let user = line.waiting.get(place.index).map(|job| job.user.clone());
                rows.push([
                    worker.peer_id.to_string(),
                    number.to_string(),
                    user.unwrap_or_default(),
                    place.reason,
                ]);
            }
        }
        Ok(RecordedAnswer { table: columns(&rows), unexpected: None })
    }

    fn checked(&self, plugin: &Candidate) -> Result<RecordedAnswer, String> {
        let checked = self.workers.iter().map(|worker| plugin.check(self.job, worker));
        let checked: Vec<(bool, String)> = checked.collect::<Result<_, _>>()?;
        let unexpected = self.expect.and_then(|expected| {
            let place = self.workers.iter().position(|worker| worker.peer_id == *expected);
            match place.map(|place| &checked[place]) {
                Some((true, _)) => None,
                Some((false, said)) => {
                    Some(format!("expected {expected} to take the job, but it says {said}"))
                }
                None => {
                    Some(format!("expected {expected} to take the job, but it is not in the room"))
                }
            }
        });
        let said: Vec<String> = checked.into_iter().map(|(_, said)| said).collect();
        Ok(RecordedAnswer { table: answers(self.workers, &said), unexpected })
    }
}
