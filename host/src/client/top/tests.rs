//! What the screen shows, and what its keys do.

use super::model::{JobEnding, Key, OwnJob, Top, TopAction};
use crate::client::display::view::View;
use parking_lot::Mutex;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::{JobEvent, JobType, NumberedEvent};
use sleap_rtc_protocol::workload::Workload;
use std::sync::Arc;

const NOW_MS: u64 = 1_800_000_000_000;

fn worker(name: &str, properties: Value) -> WorkerFacts {
    let peer = json!({
        "peer_id": format!("peer-{name}"),
        "role": "worker",
        "connected_at": "",
        "metadata": { "tags": [], "properties": properties },
    });
    WorkerFacts::from_peer(&serde_json::from_value(peer).unwrap())
}

fn room() -> Vec<WorkerFacts> {
    let job = json!({
        "owner": "peer-ada", "user": "ada", "since_ms": NOW_MS - 720_000, "job_type": "training",
        "progress": { "run": 1, "runs": 1, "epoch": 59, "epochs": 100 }, "left_s": 1_200,
    });
    let waiting = json!({
        "place": 1, "user": "ben\u{1b}[2J\u{202e}", "job_type": "inference", "name": "",
        "since_ms": NOW_MS - 60_000, "is_held": false, "is_own": false,
    });
    let gpus = json!([{ "model": "NVIDIA RTX A5000", "memory_mib": 24_564 }]);
    let busy = json!({
        "hostname": "gpu1", "status": "busy", "max_concurrent_jobs": 1, "slots_free": 0, "gpus": gpus,
        "jobs": [job], "queue": [waiting],
    });
    let free = json!({
        "hostname": "gpu2", "status": "available", "max_concurrent_jobs": 2, "slots_free": 2,
        "gpus": [gpus[0], gpus[0]], "queue": [],
    });
    vec![worker("1", busy), worker("2", free)]
}

fn own(name: &str, epochs: u64) -> OwnJob {
    let mut view = View::new(name, "gpu1", true);
    let unknown = Workload::unknown(JobType::Training);
    view.expect(vec![Workload { epochs: Some(100), ..unknown }]);
    let losses = (0..epochs).map(|epoch| {
        let loss = 0.03 * 0.8f64.powi(epoch as i32) + 0.001;
        let logs = json!({ "loss": loss, "val/loss": loss * 1.2 });
        JobEvent::Progress {
            message: json!({ "event": "epoch_end", "epoch": epoch, "logs": logs }),
        }
    });
    let start = [
        JobEvent::Staged { runs: vec!["centroid".into()] },
        JobEvent::RunStarted { name: "centroid".into() },
    ];
    for (seq, event) in (1..).zip(start.into_iter().chain(losses)) {
        view.see(&NumberedEvent { seq, at_ms: seq * 1_000, event });
    }
    let id = JobId::new(format!("job-{name}")).unwrap();
    OwnJob { id, view: Arc::new(Mutex::new(view)) }
}

fn top(jobs: Vec<OwnJob>) -> Top {
    let mut top = Top::new("northlab", "ada");
    (top.workers, top.jobs, top.now_ms) = (room(), jobs, NOW_MS);
    top
}

fn on(top: &Top, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| frame.render_widget(top, frame.area())).unwrap();
    let text = terminal.backend().to_string();
    let lines = text.lines().map(|line| line.trim_matches('"').trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_room_fits_a_terminal_of_80_by_24() {
    let top = top(vec![own("flies-v3", 40), own("mice", 0)]);
    insta::assert_snapshot!("room", on(&top, 80, 24));
}

#[test]
fn without_a_job_of_ones_own_there_is_nothing_to_end() {
    let mut top = top(Vec::new());
    insta::assert_snapshot!("others_only", on(&top, 80, 24));
    for key in [Key::Attach, Key::Stop, Key::Cancel, Key::Yes, Key::Up, Key::Down] {
        assert_eq!(top.press(key), None);
    }
    assert!(top.question.is_none());
    assert_eq!(top.press(Key::Quit), Some(TopAction::Quit));
}

#[test]
fn a_small_terminal_and_an_empty_room_do_no_harm() {
    let mut top = top(vec![own("flies-v3", 3)]);
    for (width, height) in [(1, 1), (10, 3), (40, 8), (300, 100)] {
        on(&top, width, height);
    }
    let low = on(&top, 60, 12);
    top.workers.clear();
    insta::assert_snapshot!("low_and_empty", format!("{low}\n\n{}", on(&top, 60, 8)));
}

#[test]
fn a_job_ends_only_after_a_yes() {
    let mut top = top(vec![own("one", 1), own("two", 1)]);
    let two = top.jobs[1].id.clone();
    assert_eq!(top.press(Key::Down), None);
    assert_eq!(top.press(Key::Down), None);
    assert_eq!(top.press(Key::Cancel), None);
    assert!(on(&top, 80, 24).contains("Cancel two of ada? It will have no result."));
    // Any other key means no.
    assert_eq!(top.press(Key::Attach), None);
    assert_eq!(top.press(Key::Yes), None);
    assert_eq!(top.press(Key::Stop), None);
    assert_eq!(top.press(Key::Yes), Some(TopAction::End(two.clone(), JobEnding::Stop)));
    assert_eq!(top.press(Key::Attach), Some(TopAction::Attach(two)));
    // A job that is gone is not the one below it.
    top.press(Key::Cancel);
    top.jobs.remove(1);
    assert_eq!(top.place(), 0);
    let wish = top.press(Key::Yes);
    assert!(
        matches!(wish, Some(TopAction::End(job, JobEnding::Cancel)) if job.as_str() == "job-two")
    );
}
