//! What the view shows, on terminals of several sizes.

use super::paint;
use super::summary::{Traffic, summary};
use super::view::View;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::text::Line;
use serde_json::json;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobType, NumberedEvent};
use sleap_rtc_protocol::meter::{Direction, Meter, Progress};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_protocol::workload::Workload;
use std::time::{Duration, Instant};

const HOSTILE: &str = "<b>\x1b[2J\u{202e}evil\u{7}\r\n";

/// A job whose events come one second after the other.
struct Story {
    view: View,
    at_ms: u64,
    seq: u64,
}

impl Story {
    fn new(epochs: u32) -> Self {
        let unknown = Workload::unknown(JobType::Training);
        let run = Workload { epochs: Some(epochs), stops_early: true, ..unknown };
        let mut view = View::new("flies-v3", "gpu2", true);
        view.gpu = Some(Printable::line("NVIDIA RTX 4090", 40));
        view.route = Some("direct, 12 ms".into());
        view.hint = Some(super::LEAVE);
        view.expect(vec![run.clone(), run]);
        Self { view, at_ms: 1_000_000, seq: 0 }
    }

    fn event(&mut self, event: JobEvent) {
        self.at_ms += 1_000;
        self.seq += 1;
        let numbered = NumberedEvent { seq: self.seq, at_ms: self.at_ms, event };
        self.view.see(&numbered);
    }

    fn log(&mut self, text: &str) {
        self.event(JobEvent::Log { text: text.to_owned() });
    }

    fn staged(&mut self, runs: &[&str]) {
        self.event(JobEvent::Staged { runs: runs.iter().map(ToString::to_string).collect() });
    }

    fn train(&mut self, name: &str, epochs: u64) {
        self.event(JobEvent::RunStarted { name: name.to_owned() });
        self.log(&format!("2026-11-20 21:46:48 | Setting up model ckpt dir: `models/{name}`...\n"));
        for epoch in 0..epochs {
            let begin = json!({ "event": "epoch_begin", "epoch": epoch });
            self.event(JobEvent::Progress { message: begin });
            let loss = 0.03 * 0.7f64.powi(epoch as i32) + 0.001;
            let logs = json!({ "loss": loss, "val/loss": loss * 1.1 + 0.0001 * epoch as f64 });
            let message = json!({ "event": "epoch_end", "epoch": epoch, "logs": logs });
            self.event(JobEvent::Progress { message });
            self.log(&format!("\rEpoch {epoch}: 100%|██████████| 200/200\n"));
        }
    }

    fn end(&mut self, name: &str, outcome: JobOutcome) {
        self.event(JobEvent::RunEnded { name: name.to_owned(), outcome });
    }

    fn uploading(&mut self) {
        let start = Instant::now();
        let mut meter = Meter::new(Direction::Upload, "gpu2", start);
        for (second, done_bytes) in [(0, 600_000_000), (1, 645_000_000)] {
            let progress = Progress {
                done_bytes,
                total_bytes: 1_290_000_000,
                already_there_bytes: 600_000_000,
            };
            meter.note(progress, start + Duration::from_secs(second));
        }
        self.view.transfer = Some(meter);
    }

    fn on(&self, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| frame.render_widget(&self.view, frame.area())).unwrap();
        let text = terminal.backend().to_string();
        let lines = text.lines().map(|line| line.trim_matches('"').trim_end());
        lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }
}

fn two_models() -> Story {
    let mut story = Story::new(100);
    story.staged(&["centroid", "centered_instance"]);
    story.train("centroid", 20);
    story.end("centroid", JobOutcome::Succeeded);
    story.train("centered_instance", 12);
    story
}

#[test]
fn an_upload_has_a_bar() {
    let mut story = Story::new(100);
    story.view.hint = None;
    story.uploading();
    insta::assert_snapshot!("upload", format!("{}\n\n{}", story.on(100, 10), story.on(40, 10)));
}

#[test]
fn a_training_has_its_losses_and_the_end_of_its_log() {
    insta::assert_snapshot!("training", two_models().on(80, 24));
}

#[test]
fn a_narrow_and_low_terminal_shows_the_current_model() {
    let story = two_models();
    insta::assert_snapshot!("narrow", format!("{}\n\n{}", story.on(40, 16), story.on(40, 6)));
}

#[test]
fn frames_are_counted_and_a_waiting_job_has_its_line() {
    let mut story = Story::new(1);
    story.staged(&["inference"]);
    story.event(JobEvent::RunStarted { name: "inference".into() });
    for done in [0, 300] {
        let message = json!({ "n_processed": done, "n_total": 1200 });
        story.event(JobEvent::Progress { message });
    }
    let tracking = story.on(60, 10);
    let mut waiting = Story::new(1);
    waiting.view.waiting = vec!["Queued on gpu2: 2nd in line".into(), "  now   ada   train".into()];
    insta::assert_snapshot!(
        "tracking_and_waiting",
        format!("{tracking}\n\n{}", waiting.on(60, 10))
    );
}

#[test]
fn hostile_texts_stay_in_their_place() {
    let mut story = Story::new(3);
    story.view.name = Printable::line(HOSTILE, 40);
    story.staged(&[HOSTILE]);
    story.train(HOSTILE, 1);
    story.log(HOSTILE);
    story.log(&format!("{}\n", "界".repeat(3_000)));
    insta::assert_snapshot!("hostile", story.on(40, 16));
    let lines = story.view.lines(39, 20);
    for row in paint::rows(&lines, 39) {
        assert!(row.columns <= 39, "{row:?}");
        let plain = row.text.replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[2m", "");
        let colours = plain.split('\x1b').skip(1);
        assert!(colours.into_iter().all(|code| code.starts_with("[3")), "{row:?}");
    }
}

#[test]
fn a_row_has_its_colours_and_ends_without_them() {
    use ratatui::style::Stylize;
    let line = Line::from(vec!["a".bold(), " 界 ".into(), "b".dim(), "  ".into()]);
    let rows = paint::rows(&[line], 20);
    assert_eq!(rows[0].text, "\x1b[0m\x1b[1ma\x1b[0m 界 \x1b[0m\x1b[2mb\x1b[0m");
    assert_eq!(rows[0].columns, 6);
}

#[test]
fn what_stays_names_models_folders_time_and_bytes() {
    let mut story = two_models();
    story.end("centered_instance", JobOutcome::StoppedEarly);
    let result = tempfile::tempdir().unwrap();
    std::fs::create_dir(result.path().join("centroid")).unwrap();
    let traffic = Traffic { sent_bytes: 690_000_000, received_bytes: 45_000_000 };
    let lines = summary(&story.view, Some(result.path()), traffic).join("\n");
    let lines = lines.replace(&result.path().display().to_string(), "MODELS");
    let left = two_models().view.left_behind(80);
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("what_stays", format!("{lines}\n\n{}", left.join("\n")));
}

#[test]
fn nothing_is_left_of_a_job_that_has_not_begun() {
    let story = Story::new(1);
    assert!(story.view.left_behind(80).is_empty());
    assert!(summary(&story.view, None, Traffic::default()).is_empty());
}
