//! How `top` looks.

use super::model::{JobEnding, OwnJob, Top, Unconfirmed};
use crate::client::display::put;
use crate::client::display::view::{LOSS, VALIDATION, View, best_so_far};
use crate::client::error::NAME_CHARS;
use crate::client::queue_text;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::chart::short;
use sleap_rtc_protocol::course::{Epoch, RunCourse};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_protocol::worker::WorkerStatus;

/// The most own jobs that are listed.
const MAX_OWN: u16 = 5;
/// The lines of the curves, of which one is a title.
const CURVES: u16 = 9;
/// The columns of a worker's name and of its GPU.
const NAME_COLUMNS: usize = 20;
const GPU_COLUMNS: usize = 26;

impl Widget for &Top {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let view = self.job().map(|job| job.view.lock());
        let run = view.as_ref().and_then(|view| view.runs().last());
        let run = run.filter(|run| !run.epochs.is_empty());
        let own = (self.jobs.len() as u16).clamp(1, MAX_OWN) + 1;
        let curves = if run.is_some() { CURVES.max(area.height / 3) } else { 0 };
        let [head, workers, own, curves, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(own),
            Constraint::Length(curves),
            Constraint::Length(1),
        ])
        .areas(area);
        self.head().render(head, buffer);
        list(&self.worker_lines(), self.scrolled, workers, buffer);
        if let (Some(view), Some(run)) = (&view, run) {
            draw_curves(view, run, curves, buffer);
        }
        drop(view);
        list(&self.own_lines(own.height), 0, own, buffer);
        put(&self.foot(), foot, buffer);
    }
}

impl Top {
    fn head(&self) -> Line<'static> {
        let free: u32 = self.workers.iter().map(|worker| worker.slots_free).sum();
        let all: u32 = self.workers.iter().map(|worker| worker.slots).sum();
        let workers = match self.workers.len() {
            1 => "1 worker".to_owned(),
            count => format!("{count} workers"),
        };
        let text =
            format!(" sleap-rtc · room {} · {workers} · {free} of {all} slots free", self.room);
        Line::from(text).bold().reversed()
    }

    fn worker_lines(&self) -> Vec<Line<'static>> {
        if self.workers.is_empty() {
            return vec![Line::raw("There are no workers in this room.")];
        }
        let of_worker = |worker: &WorkerFacts| {
            let problems = worker.problem_lines().map(|text| Line::raw(format!("  {text}")));
            let problems = problems.map(|line| line.fg(Color::Red)).collect();
            let jobs = queue_text::jobs_of(worker, self.now_ms).into_iter().map(Line::raw);
            [vec![worker_line(worker)], problems, jobs.collect()].concat()
        };
        self.workers.iter().flat_map(of_worker).collect()
    }

    fn own_lines(&self, height: u16) -> Vec<Line<'static>> {
        let mut lines = vec![Line::raw("Your jobs here").bold().fg(Color::Cyan)];
        if self.jobs.is_empty() {
            lines.push(
                Line::raw("  none that you submitted from this machine and that still runs").dim(),
            );
            return lines;
        }
        let room = usize::from(height.saturating_sub(1));
        let first = self.place().saturating_sub(room.saturating_sub(1));
        for (place, job) in self.jobs.iter().enumerate().skip(first).take(room) {
            let line = own_line(job);
            lines.push(if place == self.place() { line.reversed() } else { line });
        }
        lines
    }

    fn foot(&self) -> Line<'static> {
        if let Some(Unconfirmed { name, ending, .. }) = &self.question {
            let (user, name) = (&self.user, Printable::line(name.as_str(), NAME_COLUMNS));
            let text = match ending {
                JobEnding::Stop => format!("Stop {name} of {user} early and keep its model?"),
                JobEnding::Cancel => format!("Cancel {name} of {user}? It will have no result."),
            };
            return Line::from(vec![text.bold().fg(Color::Yellow), "  y yes  n no".into()]);
        }
        if !self.said.as_str().is_empty() {
            return Line::raw(self.said.to_string()).fg(Color::Yellow);
        }
        let keys: &[(&str, &str)] = match self.jobs.is_empty() {
            true => &[("PgUp PgDn", "scroll"), ("q", "quit")],
            false => &[
                ("↑↓", "choose"),
                ("a", "attach"),
                ("s", "stop early"),
                ("c", "cancel"),
                ("PgUp PgDn", "scroll"),
                ("q", "quit"),
            ],
        };
        let spans = keys.iter().flat_map(|(key, what)| [key.bold(), format!(" {what}   ").into()]);
        Line::from(spans.collect::<Vec<_>>())
    }
}

fn worker_line(worker: &WorkerFacts) -> Line<'static> {
    let gpu = worker.gpu_model();
    let count = worker.accelerators.gpus.len();
    let many = if count > 1 { format!("{count} × ") } else { String::new() };
    let gpu = format!("{many}{}", Printable::line(gpu, GPU_COLUMNS - many.chars().count()));
    let name = Printable::line(worker.name(), NAME_COLUMNS);
    let slots = format!("{} of {} free  ", worker.slots_free, worker.slots);
    let color = match worker.status {
        WorkerStatus::Available if worker.status_words() != worker.status.as_str() => Color::Red,
        WorkerStatus::Available => Color::Green,
        WorkerStatus::Busy | WorkerStatus::Reserved => Color::Yellow,
        _ => Color::Red,
    };
    Line::from(vec![
        format!("{name:NAME_COLUMNS$} ").bold(),
        format!("{gpu:GPU_COLUMNS$} {slots}").into(),
        Span::styled(worker.status_words(), color),
    ])
}

fn own_line(job: &OwnJob) -> Line<'static> {
    let view = job.view.lock();
    let state = match (view.outcome(), view.waiting.first()) {
        (Some(outcome), _) if outcome.is_success() => {
            format!("{}: sleap-rtc fetch {}", outcome.words(), job.id)
        }
        (Some(outcome), _) => format!("{}: sleap-rtc logs {}", outcome.words(), job.id),
        (None, Some(waiting)) => waiting.clone(),
        (None, None) if view.runs().is_empty() => "connecting".to_owned(),
        (None, None) => view.progress().to_string(),
    };
    let name = Printable::line(view.name.as_str(), NAME_COLUMNS);
    Line::from(format!("  {name:NAME_COLUMNS$} {state}"))
}

/// The lines from number `from` on, as many as there is room for.
fn list(lines: &[Line<'static>], from: usize, area: Rect, buffer: &mut Buffer) {
    let room = usize::from(area.height);
    let from = from.min(lines.len().saturating_sub(room));
    for (y, line) in (area.y..area.bottom()).zip(&lines[from..]) {
        put(line, Rect { y, height: 1, ..area }, buffer);
    }
    let hidden = lines.len().saturating_sub(from + room);
    if hidden > 0 && room > 0 {
        let text = Line::raw(format!("… and {} more lines", hidden + 1)).dim();
        let last = Rect { y: area.bottom() - 1, height: 1, ..area };
        buffer.set_style(last, Style::reset());
        for x in last.left()..last.right() {
            buffer[(x, last.y)].set_symbol(" ");
        }
        put(&text, last, buffer);
    }
}

/// The losses of the current model, by their logarithms.
fn draw_curves(view: &View, run: &RunCourse, area: Rect, buffer: &mut Buffer) {
    let [title, area] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let name = Printable::line(view.name.as_str(), NAME_CHARS);
    let last = |loss: fn(&Epoch) -> Option<f64>| run.epochs.iter().rev().find_map(loss).map(short);
    let mut words = vec![format!("{name}: {}  ", run.name).bold()];
    for (label, color, value) in [
        ("loss", LOSS, last(|epoch| epoch.loss)),
        ("validation", VALIDATION, last(|epoch| epoch.validation)),
    ] {
        words.extend(value.map(|value| Span::styled(format!("{label} {value}  "), color)));
    }
    words.extend(best_so_far(run).map(|best| best.dim()));
    put(&Line::from(words), title, buffer);
    let points = |loss: fn(&Epoch) -> Option<f64>| -> Vec<(f64, f64)> {
        let scaled = run.epochs.iter().filter_map(|epoch| {
            let value = loss(epoch)?.log10();
            value.is_finite().then_some((epoch.number as f64 + 1.0, value))
        });
        scaled.collect()
    };
    let (loss, validation) = (points(|epoch| epoch.loss), points(|epoch| epoch.validation));
    let values = loss.iter().chain(&validation).map(|(_, value)| *value);
    let least = values.clone().fold(f64::INFINITY, f64::min);
    let most = values.fold(f64::NEG_INFINITY, f64::max);
    if least > most {
        return;
    }
    let margin = ((most - least) * 0.05).max(1e-6);
    let (least, most) = (least - margin, most + margin);
    let epochs = run.epochs.len().max(2) as f64;
    let label = |scaled: f64| short(10f64.powf(scaled));
    let curve = |points, color| {
        let dataset = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line);
        dataset.style(Style::new().fg(color)).data(points)
    };
    let x =
        Axis::default().bounds([1.0, epochs]).labels(["1".to_owned(), format!("epoch {epochs}")]);
    let y = Axis::default().bounds([least, most]).labels([least, most].map(label));
    Chart::new(vec![curve(&loss, LOSS), curve(&validation, VALIDATION)])
        .x_axis(x.style(Style::new().dim()))
        .y_axis(y.style(Style::new().dim()))
        .render(area, buffer);
}
