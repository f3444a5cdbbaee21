//! Shows a running job: on a terminal as a view that is redrawn while the job runs, on a pipe as
//! plain lines. Results and log go to stdout, the client's messages to stderr.
//!
//! | module | what it does |
//! |---|---|
//! | `view` | what is known of the job, and its lines on a terminal |
//! | `sparkline` | a curve in one line |
//! | `paint` | draws the view whenever it has changed |
//! | `digest` | what matters of a trainer's log, for a pipe |
//! | `summary` | what stays when the job is over |

mod digest;
mod paint;
pub(crate) mod sparkline;
mod summary;
#[cfg(test)]
mod tests;
pub(crate) mod view;

use super::error::{NAME_CHARS, quoted};
use super::queue_text;
use super::screen::{self, Stream};
use crate::config::ClientConfig;
use digest::Digest;
use paint::Painter;
pub(crate) use paint::{buffer_rows, put};
use parking_lot::Mutex;
use sleap_rtc_net::route::Route;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, NumberedEvent};
use sleap_rtc_protocol::log_text::LogText;
use sleap_rtc_protocol::meter::{Direction, Meter};
use sleap_rtc_protocol::progress::JobProgress;
use sleap_rtc_protocol::queue_report::QueueStatus;
use sleap_rtc_protocol::text::{Printable, is_printable};
use sleap_rtc_protocol::workload::Workload;
use sleap_rtc_transfer::Progress;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use summary::{Traffic, summary};
use tokio::sync::watch;
use view::View;

/// The most characters of a reason.
const REASON_CHARS: usize = 500;
/// How often a transfer or a prediction prints a line on a pipe.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Under the view.
const LEAVE: &str = "Ctrl-C detaches; the job keeps running.";
const LEAVE_WAITING: &str = "Ctrl-C detaches; the job keeps its place.";

/// How much of a job is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What matters of it.
    Course,
    /// The trainer's own output.
    WholeLog,
    /// Nothing; somebody else draws [`Display::view`].
    Silent,
}

impl Detail {
    /// What the user wants to see of a job that the client follows.
    pub(crate) fn of_job(config: &ClientConfig) -> Self {
        if config.whole_log { Self::WholeLog } else { Self::Course }
    }
}

/// What becomes of the trainer's log.
enum Log {
    /// It is shown as it is.
    Whole(LogText),
    /// What matters of it is shown.
    Digest(Digest),
    /// The view shows its end.
    View,
}

/// The user's view of one job.
pub struct Display {
    worker: PeerId,
    /// What the worker is called: its host's name, once that is known.
    called: Printable,
    log: Log,
    view: Arc<Mutex<View>>,
    /// Draws the view; `None` where nothing can be drawn.
    painter: Option<Painter>,
    traffic: Traffic,
    last_line: Option<Instant>,
    /// The last line that was printed about a waiting job.
    waiting: Option<(Option<u32>, Option<String>)>,
    /// The connection's route, once there is one.
    route: Option<watch::Receiver<Option<Route>>>,
}

impl Display {
    /// A view of a job on `worker`.
    pub(crate) fn new(worker: &PeerId, detail: Detail) -> Self {
        let log = match detail {
            Detail::WholeLog => Log::Whole(LogText::new(std::io::stdout().is_terminal())),
            Detail::Silent => Log::View,
            Detail::Course if Stream::Stdout.can_draw() => Log::View,
            Detail::Course => Log::Digest(Digest::default()),
        };
        let view = View::new("A job", worker.as_str(), matches!(log, Log::View));
        let view = Arc::new(Mutex::new(view));
        let draws = detail != Detail::Silent && screen::can_show_rows();
        let painter = draws.then(|| Painter::start(view.clone()));
        Self {
            worker: worker.clone(),
            called: Printable::line(worker.as_str(), NAME_CHARS),
            log,
            view,
            painter,
            traffic: Traffic::default(),
            last_line: None,
            waiting: None,
            route: None,
        }
    }

    /// What is known of the job.
    pub(crate) fn view(&self) -> Arc<Mutex<View>> {
        self.view.clone()
    }

    /// Names the job, and its worker as the room knows it.
    pub(crate) fn introduce(&mut self, job: &str, facts: Option<&WorkerFacts>) {
        if let Some(host) = facts.and_then(|facts| facts.hostname.as_ref()) {
            self.called = Printable::name(host, NAME_CHARS);
        }
        let called = self.called.clone();
        self.change(|view| {
            view.name = Printable::line(job, NAME_CHARS);
            view.worker = called;
            let Some(facts) = facts else { return };
            let gpu = facts.accelerators.largest().map_or("CPU", |gpu| gpu.model.as_str());
            view.gpu = Some(Printable::line(gpu, NAME_CHARS));
        });
    }

    /// Whether it draws the job.
    fn draws_job(&self) -> bool {
        matches!(self.log, Log::View)
    }

    /// The job's worker.
    pub fn worker_id(&self) -> PeerId {
        self.worker.clone()
    }

    /// Sets the route to show.
    pub(crate) fn show_route(&mut self, route: watch::Receiver<Option<Route>>) {
        self.route = Some(route);
        self.change(|_| {});
    }

    /// Changes what is drawn.
    fn change(&self, change: impl FnOnce(&mut View)) {
        let route = self.route.as_ref().and_then(|route| route.borrow().clone());
        let mut view = self.view.lock();
        view.route = route.map(|route| route.to_string());
        change(&mut view);
        drop(view);
        if let Some(painter) = &self.painter {
            painter.poke();
        }
    }

    /// Route and round-trip time, for the end of a line.
    fn route(&self) -> String {
        let route = self.route.as_ref().and_then(|route| route.borrow().clone());
        route.map(|route| format!(" ({route})")).unwrap_or_default()
    }

    /// Prints a message of the client.
    pub fn note(&mut self, text: &str) {
        match &mut self.log {
            Log::Whole(log) => print(&log.end_line()),
            Log::Digest(digest) => print(&digest.end_line()),
            Log::View => {}
        }
        say(text);
    }

    /// Prints how far the job is beside the whole log, which may be in the middle of a line. On a pipe
    /// the log is not interrupted, so it stays as the trainer wrote it.
    pub(crate) fn beside_log(&mut self, text: &str) {
        match self.log {
            Log::Whole(_) if std::io::stdout().is_terminal() => self.note(text),
            Log::Whole(_) => say(text),
            // They show progress by themselves.
            Log::Digest(_) | Log::View => {}
        }
    }

    /// No event has been seen yet. These runs are `expected`.
    pub(crate) fn expect(&self, expected: Vec<Workload>) {
        self.change(|view| view.expect(expected));
    }

    /// How far the job is.
    pub(crate) fn progress(&self) -> JobProgress {
        self.view.lock().progress().clone()
    }

    /// How long the job took in seconds, once it has ended.
    pub(crate) fn took_s(&self) -> Option<f64> {
        self.view.lock().took_s()
    }

    /// A transfer made progress.
    pub fn transfer(&mut self, direction: Direction, progress: Progress) {
        let now = Instant::now();
        let mut already = None;
        let mut line = String::new();
        let worker = self.called.clone();
        self.change(|view| {
            let is_new = view.transfer.as_ref().is_none_or(|meter| meter.direction != direction);
            if is_new {
                view.transfer = Some(Meter::new(direction, worker.as_str(), now));
            }
            let Some(meter) = &mut view.transfer else { return };
            meter.note(progress, now);
            already = meter.already().filter(|_| is_new);
            line = meter.line();
        });
        if let Some(already) = already {
            say(&format!("{}: {already}", direction.label()));
            self.last_line = None;
        }
        if self.painter.is_none() && self.is_due() && progress.done_bytes < progress.total_bytes {
            say(&format!("{}: {line}{}", direction.label(), self.route()));
        }
    }

    /// Whether it is time for another line about the same.
    fn is_due(&mut self) -> bool {
        let is_due = self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY);
        if is_due {
            self.last_line = Some(Instant::now());
        }
        is_due
    }

    /// A transfer of `bytes` in total is complete.
    pub fn transferred(&mut self, direction: Direction, bytes: u64) {
        let now = Instant::now();
        let mut meter = None;
        self.change(|view| meter = view.transfer.take());
        let meter = meter.filter(|meter: &Meter| meter.direction == direction);
        let meter = meter.unwrap_or_else(|| Meter::new(direction, self.called.as_str(), now));
        match direction {
            Direction::Upload => self.traffic.sent_bytes += meter.sent_bytes(bytes),
            Direction::Download => self.traffic.received_bytes += meter.sent_bytes(bytes),
        }
        self.last_line = None;
        say(&format!("{}: {}", direction.label(), meter.done(bytes, now)));
    }

    /// A transfer was interrupted. When it resumes it counts as a new one.
    pub fn transfer_interrupted(&mut self) {
        self.change(|view| view.transfer = None);
        self.last_line = None;
    }

    /// The job waits for a slot. On a pipe only a new place is news, or a new reason of a cluster.
    pub(crate) fn waiting(&mut self, news: &QueueStatus) {
        let standing = (news.place, queue_text::cluster_reason(news));
        let mut text = vec![queue_text::headline(&self.called, news)];
        text.extend(queue_text::table(&news.line, news.omitted_jobs));
        text.push(LEAVE_WAITING.to_owned());
        if self.painter.is_none() && self.waiting.as_ref() != Some(&standing) {
            say(&text.join("\n"));
        }
        self.change(|view| view.waiting = text);
        self.waiting = Some(standing);
    }

    /// Says why the job waits.
    pub(crate) fn why_it_waits(&mut self, news: &QueueStatus) {
        let reason = Printable::line(&news.reason.message, REASON_CHARS);
        let mut text = vec![queue_text::headline(&self.called, news)];
        text.push(format!(
            "because: {reason} [{}]",
            Printable::line(&news.reason.code, NAME_CHARS)
        ));
        text.extend(queue_text::table(&news.line, news.omitted_jobs));
        print(&format!("{}\n", text.join("\n")));
    }

    /// The job does not wait any more: `event` has happened. A job that was withdrawn has ended without a
    /// start.
    pub(crate) fn waited(&mut self, event: &JobEvent) {
        if self.waiting.take().is_some() {
            self.change(|view| view.waiting.clear());
            if !matches!(event, JobEvent::Finished { .. }) {
                say(&format!("The job starts on {}.", self.called));
            }
        }
    }

    /// An event of the job.
    pub(crate) fn see(&mut self, numbered: &NumberedEvent) {
        let is_progress = matches!(numbered.event, JobEvent::Progress { .. });
        let mut epoch = None;
        self.change(|view| {
            let epochs = |view: &View| view.runs().last().map_or(0, |run| run.epochs.len());
            let before = epochs(view);
            view.hint = Some(LEAVE);
            view.see(numbered);
            let is_new = epochs(view) > before;
            let run = view.runs().last().filter(|_| is_new);
            epoch = run.and_then(|run| run.epochs.last()).copied();
        });
        let progress = self.progress();
        match &numbered.event {
            JobEvent::RunStarted { name } => self.run_started(name, &progress),
            JobEvent::RunEnded { name, outcome } => self.run_ended(name, outcome),
            JobEvent::Log { text } => self.log(text),
            JobEvent::Progress { .. }
            | JobEvent::Staged { .. }
            | JobEvent::Finished { .. }
            | JobEvent::Unknown => {}
        }
        let Log::Digest(digest) = &mut self.log else { return };
        if is_progress {
            digest.skip_bars(true);
        }
        let told = match (epoch, progress.frames) {
            (Some(epoch), _) => digest::epoch_line(&epoch, &progress),
            (None, Some((done, all))) if is_progress && self.is_due() => {
                format!("{done} of {all} frames")
            }
            _ => return,
        };
        print(&format!("{told}\n"));
    }

    /// A trainer run started.
    fn run_started(&mut self, name: &str, progress: &JobProgress) {
        match &mut self.log {
            Log::View => return,
            Log::Digest(digest) => digest.skip_bars(false),
            Log::Whole(_) => {}
        }
        let (worker, name) = (&self.called, Printable::line(name, NAME_CHARS));
        let (number, of) = (progress.run, progress.runs);
        let count = if of > 1 { format!(" ({number} of {of})") } else { String::new() };
        self.note(&format!("--- {name}{count} started on {worker}"));
    }

    /// A trainer run ended.
    fn run_ended(&mut self, name: &str, outcome: &JobOutcome) {
        let how = match outcome {
            JobOutcome::Succeeded if self.draws_job() => return,
            JobOutcome::Succeeded => "done".to_owned(),
            JobOutcome::Failed { message, .. } => format!("failed: {}", quoted(message)),
            other => other.words().to_owned(),
        };
        self.note(&format!("--- {} {how}", Printable::line(name, NAME_CHARS)));
    }

    /// A piece of the trainer's log.
    fn log(&mut self, text: &str) {
        match &mut self.log {
            Log::Whole(log) => print(&log.push(text)),
            Log::Digest(digest) => print(&digest.push(text)),
            Log::View => {}
        }
    }

    /// The job is over, and its result is in `result` if it has one. Prints what stays of it.
    pub(crate) fn sum_up(&mut self, result: Option<&Path>) {
        self.painter = None;
        if let Log::Whole(_) = self.log {
            return;
        }
        if let Log::Digest(digest) = &mut self.log {
            print(&digest.end_line());
        }
        for line in summary(&self.view.lock(), result, self.traffic) {
            print(&format!("{line}\n"));
        }
    }
}

impl Drop for Display {
    /// What the view showed of a job that goes on without this client stays on the terminal.
    fn drop(&mut self) {
        let Some(painter) = self.painter.take() else { return };
        drop(painter);
        let view = self.view.lock();
        if view.outcome().is_none() {
            let width = screen::size().0.saturating_sub(1);
            for row in paint::rows(&view.left_behind(width), width) {
                print(&format!("{}\n", row.text));
            }
        }
    }
}

/// Prints a line on stderr. A closed stderr is not an error: the user still wants the result.
pub(crate) fn say(text: &str) {
    let text: String = text.chars().filter(|c| is_printable(*c) || *c == '\n').collect();
    screen::write(Stream::Stderr, &format!("{text}\n"));
}

/// Prints text on stdout as it is. A closed stdout is not an error.
pub(crate) fn print(text: &str) {
    if !text.is_empty() {
        screen::write(Stream::Stdout, text);
    }
}
