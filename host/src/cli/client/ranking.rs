//! Tables for the terminal: a ranking of workers, and columns in general.

use sleap_rtc_policy::Selection;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_protocol::worker::WorkerStatus;

/// The longest text in a column, except in the last one.
const COLUMN_CHARS: usize = 40;

/// Whether reasons begin with the name of the plugin that gives them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PluginNames {
    Shown,
    Hidden,
}

/// Every worker with its rank, score and reason, best first; then those left out.
pub(crate) fn ranking(
    workers: &[WorkerFacts],
    selection: &Selection,
    names: PluginNames,
) -> String {
    let said = |plugin: &str, text: &str| match names {
        PluginNames::Shown => format!("{plugin}: {text}"),
        PluginNames::Hidden => text.to_owned(),
    };
    let mut rows = vec![["rank", "worker", "host", "GPU", "score", "why"].map(String::from)];
    let mut ranked = vec![false; workers.len()];
    for (place, choice) in (1..).zip(&selection.ranking) {
        let Some(worker) = workers.get(choice.index) else { continue };
        ranked[choice.index] = true;
        let place = format!("{place}");
        let why = choice.remarks.iter().map(|remark| said(&remark.plugin, &remark.text));
        let why = why.collect::<Vec<_>>().join("; ");
        rows.push(row(worker, place, score(choice.score), why));
    }
    for (index, worker) in workers.iter().enumerate().filter(|(index, _)| !ranked[*index]) {
        let why = match selection.left_out.iter().find(|out| out.index == index) {
            Some(out) => said(&out.plugin, &out.reason),
            None if worker.status != WorkerStatus::Available => worker.status_words().to_owned(),
            None => "left out without a reason".to_owned(),
        };
        rows.push(row(worker, "out".into(), "-".into(), why));
    }
    columns(&rows)
}

/// Every worker with the policy's answer, in the given order.
pub(crate) fn answers(workers: &[WorkerFacts], answers: &[String]) -> String {
    let mut rows = vec![["worker", "host", "GPU", "answer"].map(String::from)];
    rows.extend(workers.iter().zip(answers).map(|(worker, answer)| {
        let [id, host, gpu] = machine(worker);
        [id, host, gpu, answer.clone()]
    }));
    columns(&rows)
}

fn row(worker: &WorkerFacts, rank: String, score: String, why: String) -> [String; 6] {
    let [id, host, gpu] = machine(worker);
    [rank, id, host, gpu, score, why]
}

fn machine(worker: &WorkerFacts) -> [String; 3] {
    let gpu = match worker.accelerators.largest() {
        Some(gpu) => format!("{}, {} MB", gpu.model, gpu.memory_mib),
        None => worker.gpu_model().to_owned(),
    };
    let host = worker.hostname.as_deref().map(|host| Printable::name(host, COLUMN_CHARS));
    [worker.peer_id.to_string(), host.map_or_else(|| "-".into(), String::from), gpu]
}

/// A score in as few characters as possible.
fn score(score: f64) -> String {
    if score != 0.0 && !(1e-3..1e12).contains(&score.abs()) {
        return format!("{score:.3e}");
    }
    let text = format!("{score:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Aligns rows into columns, each as wide as its widest text.
pub(crate) fn columns<Row: AsRef<[String]>>(rows: &[Row]) -> String {
    let count = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let cells: Vec<Vec<Printable>> = rows
        .iter()
        .map(|row| {
            let cell = |(column, text): (usize, &String)| {
                let limit = if column + 1 == count { usize::MAX } else { COLUMN_CHARS };
                Printable::line(text, limit)
            };
            row.as_ref().iter().enumerate().map(cell).collect()
        })
        .collect();
    let width = |column: usize| {
        cells.iter().filter_map(|row| Some(row.get(column)?.as_str().chars().count())).max()
    };
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut lines = String::new();
    for row in &cells {
        let padded = row.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}"));
        lines.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use sleap_rtc_policy::{LeftOut, Ranked, Ranking};
    use sleap_rtc_protocol::signaling::PeerInfo;

    fn worker(peer_id: &str, properties: serde_json::Value) -> WorkerFacts {
        let peer = json!({
            "peer_id": peer_id, "role": "worker", "metadata": { "tags": [], "properties": properties },
        });
        WorkerFacts::from_peer(&serde_json::from_value::<PeerInfo>(peer).unwrap())
    }

    #[test]
    fn every_worker_has_a_line() {
        let gpu = json!([{ "model": "A", "memory_mib": 8192 }]);
        let workers = [
            worker("w1", json!({ "hostname": "a\x1b[2J", "status": "busy" })),
            worker("worker-2", json!({ "hostname": "b", "status": "available", "gpus": gpu })),
            worker("w3", json!({ "status": "maintenance" })),
        ];
        let answer = Ranking {
            choices: vec![Ranked { index: 1, score: 8192.0, reason: "largest".into() }],
            left_out: vec![LeftOut { index: 0, reason: "busy just now".into() }],
        };
        let selection = Selection::new(&"lab".into(), answer);
        let table = "rank  worker    host    GPU         score  why\n\
             1     worker-2  b       A, 8192 MB  8192   largest\n\
             out   w1        \"a[2J\"  CPU         -      busy just now\n\
             out   w3        -       CPU         -      maintenance\n";
        assert_eq!(ranking(&workers, &selection, PluginNames::Hidden), table);
        let named = table.replace("largest", "lab: largest").replace("busy just", "lab: busy just");
        assert_eq!(ranking(&workers, &selection, PluginNames::Shown), named);
    }

    #[test]
    fn scores_are_short() {
        let told = [0.0, 1.0, 0.5, 24_564.0, -2.25, 1e300, 1e-9].map(score);
        assert_eq!(told, ["0", "1", "0.5", "24564", "-2.25", "1.000e300", "1.000e-9"]);
    }
}
