//! What stays of a job on the terminal when it is over.

use super::view::{View, best};
use sleap_rtc_protocol::course::RunCourse;
use sleap_rtc_protocol::meter::bytes;
use sleap_rtc_protocol::text::duration;
use std::path::Path;

/// The bytes that a client has sent and received for a job.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
}

/// Each model with its best epoch, its folder in `result` and its time, then the whole job. Empty if
/// nothing has run.
pub(crate) fn summary(view: &View, result: Option<&Path>, traffic: Traffic) -> Vec<String> {
    let mut lines: Vec<String> = view.runs().iter().map(|run| of_run(run, view, result)).collect();
    let started_ms = view.runs().first().map(|run| run.started_ms);
    let ended_ms = view.runs().last().and_then(|run| run.ended_ms);
    if let Some((started_ms, ended_ms)) = started_ms.zip(ended_ms) {
        let took = duration(ended_ms.saturating_sub(started_ms) as f64 / 1e3);
        let Traffic { sent_bytes, received_bytes } = traffic;
        let (sent, received) = (bytes(sent_bytes), bytes(received_bytes));
        lines.push(format!("In all: took {took}; sent {sent}, received {received}"));
    }
    lines
}

fn of_run(run: &RunCourse, view: &View, result: Option<&Path>) -> String {
    let is_only = view.runs().len() == 1;
    let frames = view.progress().frames.filter(|_| is_only);
    let reached = best(run).or_else(|| Some(format!("{} frames", frames?.0)));
    let how = match &run.outcome {
        Some(outcome) if outcome.is_success() => None,
        Some(outcome) => Some(outcome.words().to_owned()),
        None => Some("not finished".to_owned()),
    };
    let took = run.took_s().map(|took_s| format!("took {}", duration(took_s)));
    let folder = result.and_then(|result| folder(run, result));
    let facts: Vec<String> = [how, reached, took, folder].into_iter().flatten().collect();
    format!("{}: {}", run.name, facts.join("; "))
}

/// The folder of the run's model, which the trainer has named in its log or by the run's name.
fn folder(run: &RunCourse, result: &Path) -> Option<String> {
    let names = [run.folder.as_ref(), Some(&run.name)].into_iter().flatten();
    // A name is not trusted to stay inside.
    let plain = names.filter(|name| Path::new(name.as_str()).components().count() == 1);
    let mut folders =
        plain.filter(|name| name.as_str() != "..").map(|name| result.join(name.as_str()));
    folders.find(|folder| folder.is_dir()).map(|folder| folder.display().to_string())
}
