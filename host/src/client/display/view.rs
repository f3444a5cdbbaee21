//! What is known of one job, as a terminal shows it.

use super::sparkline::sparkline;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;
use sleap_rtc_protocol::chart::short;
use sleap_rtc_protocol::course::{Course, Epoch, RunCourse};
use sleap_rtc_protocol::job::{JobOutcome, NumberedEvent};
use sleap_rtc_protocol::meter::Meter;
use sleap_rtc_protocol::progress::JobProgress;
use sleap_rtc_protocol::text::{Printable, duration};
use sleap_rtc_protocol::workload::Workload;

/// The most lines of the log.
const LOG_LINES: usize = 5;
/// The columns of a transfer's bar and of a curve.
const BAR_COLUMNS: u16 = 24;
const CURVE_COLUMNS: u16 = 40;
/// From this width on, more stands side by side.
const WIDE: u16 = 64;
/// The most characters of a run's name.
const NAME_CHARS: usize = 40;
/// The columns before the figures of a curve, and those of the figures.
const LABEL_COLUMNS: usize = 12;
const VALUE_COLUMNS: usize = 9;

pub(crate) const LOSS: Color = Color::Cyan;
pub(crate) const VALIDATION: Color = Color::Yellow;

/// One job, as far as its user has seen it.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The job's name, and its worker's.
    pub(crate) name: Printable,
    pub(crate) worker: Printable,
    /// The worker's GPU, and the way to it.
    pub(crate) gpu: Option<Printable>,
    pub(crate) route: Option<String>,
    /// The transfer that is on its way.
    pub(crate) transfer: Option<Meter>,
    /// Where a job stands that waits.
    pub(crate) waiting: Vec<String>,
    /// What the user can do.
    pub(crate) hint: Option<&'static str>,
    /// Whether the job itself is shown, and not only what it waits for.
    pub(crate) shows_job: bool,
    course: Course,
}

impl View {
    /// A job that has not begun, by the names of the job and its worker.
    pub(crate) fn new(name: &str, worker: &str, shows_job: bool) -> Self {
        let [name, worker] = [name, worker].map(|text| Printable::line(text, NAME_CHARS));
        Self { name, worker, shows_job, ..Self::default() }
    }

    /// Nothing has happened yet. These runs are `expected`.
    pub(crate) fn expect(&mut self, expected: Vec<Workload>) {
        self.course = Course::expecting(expected);
    }

    /// Applies an event of the job.
    pub(crate) fn see(&mut self, numbered: &NumberedEvent) {
        self.course.take(numbered);
    }

    /// Its runs so far.
    pub(crate) fn runs(&self) -> &[RunCourse] {
        &self.course.runs
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> &JobProgress {
        self.course.progress()
    }

    /// How long it took in seconds, once it has ended.
    pub(crate) fn took_s(&self) -> Option<f64> {
        self.course.took_s()
    }

    /// How it ended, if it has.
    pub(crate) fn outcome(&self) -> Option<&JobOutcome> {
        self.course.outcome.as_ref()
    }

    /// Its lines, at most `height` of them, each for `width` columns.
    pub(crate) fn lines(&self, width: u16, height: u16) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        if self.shows_job {
            lines.extend(self.head(width));
        }
        lines.extend(self.transfer_lines(width));
        lines.extend(self.waiting.iter().cloned().map(Line::raw));
        let hint = self.hint.filter(|_| self.shows_job).map(|hint| Line::raw(hint).dim());
        let room = usize::from(height).saturating_sub(lines.len() + usize::from(hint.is_some()));
        if self.shows_job {
            let runs = newest(self.run_lines(width), room);
            let room = LOG_LINES.min(room.saturating_sub(runs.len()));
            lines.extend(runs);
            lines.extend(self.log_lines(room));
        }
        lines.extend(hint);
        lines.truncate(height.into());
        lines
    }

    /// The lines that stay when the user leaves a job that is not over.
    pub(crate) fn left_behind(&self, width: u16) -> Vec<Line<'static>> {
        if !self.shows_job || self.course.runs.is_empty() {
            return Vec::new();
        }
        [self.head(width), self.run_lines(width)].concat()
    }

    fn head(&self, width: u16) -> Vec<Line<'static>> {
        let of_worker = [self.gpu.as_ref().map(ToString::to_string), self.route.clone()];
        let of_worker: Vec<String> = of_worker.into_iter().flatten().collect();
        let title = [self.name.to_string().bold(), format!(" on {}", self.worker).into()];
        let details = Span::raw(of_worker.join(", ")).dim();
        match of_worker.is_empty() {
            true => vec![Line::from(title.to_vec())],
            false
                if title.iter().chain([&details]).map(Span::width).sum::<usize>() + 2
                    <= width.into() =>
            {
                let [name, worker] = title;
                vec![Line::from(vec![name, worker, ": ".into(), details])]
            }
            false => vec![Line::from(title.to_vec()), Line::from(vec!["  ".into(), details])],
        }
    }

    fn transfer_lines(&self, width: u16) -> Vec<Line<'static>> {
        let Some(meter) = &self.transfer else { return Vec::new() };
        let label = format!("{} ", meter.direction.label());
        let room = width.saturating_sub(label.len() as u16 + 1);
        let bar = bar(meter.share(), room.min(BAR_COLUMNS));
        let text = meter.line();
        let mut first = vec![Span::raw(label)];
        first.extend(bar);
        match width >= WIDE {
            true => {
                first.push(format!(" {text}").into());
                vec![Line::from(first)]
            }
            false => vec![Line::from(first), Line::raw(format!("  {text}"))],
        }
    }

    /// One run after the other: what it has reached, what it does, or that it waits.
    fn run_lines(&self, width: u16) -> Vec<Line<'static>> {
        let Course { runs, planned, .. } = &self.course;
        let of_run = |place: usize| match (runs.get(place), planned.get(place)) {
            (Some(run), _) if run.outcome.is_some() => vec![ended(run)],
            (Some(run), _) => self.current(run, width),
            (None, Some(name)) => vec![Line::raw(format!("{name}  waits")).dim()],
            (None, None) => Vec::new(),
        };
        (0..planned.len().max(runs.len())).flat_map(of_run).collect()
    }

    fn current(&self, run: &RunCourse, width: u16) -> Vec<Line<'static>> {
        let progress = self.progress().current_run().unwrap_or_else(|| "starting".into());
        let mut lines =
            vec![Line::from(vec![run.name.to_string().bold(), format!("  {progress}").into()])];
        if let Some((done, all)) = self.progress().frames {
            let share = if all == 0 { 0.0 } else { done as f64 / all as f64 };
            let mut line = vec![Span::raw("  ")];
            line.extend(bar(share, width.saturating_sub(4).min(CURVE_COLUMNS)));
            lines.push(Line::from(line));
        }
        let best = best_so_far(run).filter(|_| width >= WIDE);
        let has_validation = run.epochs.iter().any(|epoch| epoch.validation.is_some());
        let (on_loss, on_validation) = if has_validation { (None, best) } else { (best, None) };
        lines.extend(curve("loss", LOSS, run, |epoch| epoch.loss, on_loss, width));
        let validation = |epoch: &Epoch| epoch.validation;
        lines.extend(curve("validation", VALIDATION, run, validation, on_validation, width));
        lines
    }

    fn log_lines(&self, count: usize) -> Vec<Line<'static>> {
        let lines = self.course.lines().rev().filter(|line| !line.as_str().trim().is_empty());
        let mut lines: Vec<_> =
            lines.take(count).map(|line| Line::raw(format!("│ {line}")).dim()).collect();
        lines.reverse();
        lines
    }
}

impl Widget for &View {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let lines = self.lines(area.width, area.height);
        for (y, line) in (area.y..).zip(&lines) {
            buffer.set_line(area.x, y, line, area.width);
        }
    }
}

/// The last `room` lines: earlier runs give way first.
fn newest(mut lines: Vec<Line<'static>>, room: usize) -> Vec<Line<'static>> {
    let surplus = lines.len().saturating_sub(room);
    lines.drain(..surplus);
    lines
}

/// A run that has ended.
fn ended(run: &RunCourse) -> Line<'static> {
    let (mark, color) = match &run.outcome {
        Some(outcome) if outcome.is_success() => ("✓ ", Color::Green),
        _ => ("✗ ", Color::Red),
    };
    let how = match &run.outcome {
        None | Some(JobOutcome::Succeeded) => None,
        Some(other) => Some(other.words().to_owned()),
    };
    let took = run.took_s().map(|took_s| format!("took {}", duration(took_s)));
    let facts: Vec<String> = [how, best(run), took].into_iter().flatten().collect();
    let name = run.name.to_string().bold();
    Line::from(vec![Span::styled(mark, color), name, format!("  {}", facts.join(", ")).into()])
}

/// The best epoch of a training, in words.
pub(crate) fn best(run: &RunCourse) -> Option<String> {
    let best = best_so_far(run)?;
    Some(match run.most_epochs {
        Some(most) => format!("{best} of {most}"),
        None => best,
    })
}

/// The best epoch so far of a training that continues, in words.
pub(crate) fn best_so_far(run: &RunCourse) -> Option<String> {
    let best = run.best()?;
    let value = short(best.validation.or(best.loss)?);
    Some(format!("best {value} in epoch {}", best.number.saturating_add(1)))
}

/// The latest value of a loss, and its curve.
pub(crate) fn curve(
    label: &str,
    color: Color,
    run: &RunCourse,
    loss: fn(&Epoch) -> Option<f64>,
    remark: Option<String>,
    width: u16,
) -> Option<Line<'static>> {
    let values: Vec<f64> = run.epochs.iter().filter_map(loss).collect();
    let last = short(*values.last()?);
    let head = format!("  {label:LABEL_COLUMNS$}{last:VALUE_COLUMNS$} ");
    let remark = remark.map(|remark| format!("  {remark}")).unwrap_or_default();
    let taken = head.chars().count() + remark.chars().count();
    let columns = usize::from(width.saturating_sub(1)).saturating_sub(taken);
    let line = sparkline(&values, columns.min(CURVE_COLUMNS.into()));
    let curve = Span::styled(line, Style::new().fg(color));
    Some(Line::from(vec![Span::raw(head), curve, Span::raw(remark).dim()]))
}

/// A bar that is full up to `share`, which lies between 0 and 1.
pub(crate) fn bar(share: f64, columns: u16) -> [Span<'static>; 2] {
    let full = (share.clamp(0.0, 1.0) * f64::from(columns)).floor() as usize;
    let rest = usize::from(columns).saturating_sub(full);
    [Span::styled("━".repeat(full), Color::Green), Span::raw("─".repeat(rest)).dim()]
}
