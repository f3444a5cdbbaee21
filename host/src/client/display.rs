//! Shows a running job: progress bars and the trainer's log on a terminal, plain lines on a pipe.
//! Results and log go to stdout, the client's messages to stderr.

use super::error::{NAME_CHARS, quoted};
use super::line;
use indicatif::{ProgressBar, ProgressStyle};
use sleap_rtc_net::route::Route;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::JobOutcome;
use sleap_rtc_protocol::line::WaitingNews;
use sleap_rtc_protocol::log_text::LogText;
use sleap_rtc_protocol::meter::{Direction, Meter};
use sleap_rtc_protocol::text::{Printable, duration, is_printable};
use sleap_rtc_protocol::workload::Estimate;
use sleap_rtc_transfer::Progress;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The most characters of a reason.
const REASON_CHARS: usize = 500;
/// How often a transfer prints a line on a pipe.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The most warnings of a worker to show, and the most characters of each.
const SHOWN_WARNINGS: usize = 4;
const WARNING_CHARS: usize = 500;

/// The user's view of one job.
pub struct Display {
    log: LogText,
    transfer: Option<Meter>,
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    /// The table of a job that waits, on a terminal.
    line: Option<ProgressBar>,
    /// What was printed last of a job that waits.
    waiting: Option<(Option<u32>, Option<String>)>,
    worker: PeerId,
    /// The connection's route, once there is one.
    route: Option<watch::Receiver<Option<Route>>>,
}

impl Display {
    /// A view of a job on `worker`.
    pub fn new(worker: &PeerId) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let log = LogText::new(terminal);
        let worker = worker.clone();
        Self {
            log,
            transfer: None,
            bar: None,
            last_line: None,
            line: None,
            waiting: None,
            worker,
            route: None,
        }
    }

    /// The job's worker.
    pub fn worker_id(&self) -> PeerId {
        self.worker.clone()
    }

    /// Sets the route to show.
    pub(crate) fn show_route(&mut self, route: watch::Receiver<Option<Route>>) {
        self.route = Some(route);
    }

    /// Route and round-trip time, for the end of a line.
    fn route(&self) -> String {
        let route = self.route.as_ref().and_then(|route| route.borrow().clone());
        route.map(|route| format!(" ({route})")).unwrap_or_default()
    }

    /// Prints a message of the client.
    pub fn note(&mut self, text: &str) {
        print(&self.log.end_line());
        say(text);
    }

    /// Prints a message while the log may be in the middle of a line. On a pipe the log goes on
    /// undisturbed, so that it stays as the trainer wrote it.
    pub(crate) fn aside(&mut self, text: &str) {
        if std::io::stdout().is_terminal() {
            self.note(text);
        } else {
            say(text);
        }
    }

    /// What the worker expects of the job. Its words are not trusted.
    pub fn expected(&mut self, estimate: Option<Estimate>, warnings: &[String]) {
        for warning in warnings.iter().take(SHOWN_WARNINGS) {
            self.note(&format!("Warning: {}", Printable::line(warning, WARNING_CHARS)));
        }
        let is_sane = |estimate: &Estimate| {
            let Estimate { minutes, low, high, .. } = *estimate;
            0.0 <= low && low <= minutes && minutes <= high && high < 1e6
        };
        if let Some(Estimate { minutes, low, high, .. }) = estimate.filter(is_sane) {
            let [likely, low, high] = [minutes, low, high].map(|minutes| duration(minutes * 60.0));
            self.note(&format!("Expected to take about {likely} ({low} to {high})"));
        }
    }

    /// A transfer made progress.
    pub fn transfer(&mut self, direction: Direction, progress: Progress) {
        let now = Instant::now();
        let is_new = self.transfer.as_ref().is_none_or(|meter| meter.direction != direction);
        if is_new {
            self.transfer = Some(Meter::new(direction, self.worker.as_str(), now));
            (self.bar, self.last_line) = (None, None);
        }
        let route = self.route();
        let Some(meter) = &mut self.transfer else { return };
        meter.note(progress, now);
        if let Some(already) = meter.already().filter(|_| is_new) {
            say(&format!("{}: {already}", direction.label()));
        }
        if std::io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| bar(direction, progress.total_bytes));
            bar.set_position(progress.done_bytes);
            bar.set_message(format!("{}{route}", meter.line()));
        } else if self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY)
            && progress.done_bytes < progress.total_bytes
        {
            self.last_line = Some(now);
            say(&format!("{}: {}{route}", direction.label(), meter.line()));
        }
    }

    /// A transfer of `bytes` in total is complete.
    pub fn transferred(&mut self, direction: Direction, bytes: u64) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let now = Instant::now();
        let meter = self.transfer.take().filter(|meter| meter.direction == direction);
        let meter = meter.unwrap_or_else(|| Meter::new(direction, self.worker.as_str(), now));
        say(&format!("{}: {}", direction.label(), meter.done(bytes, now)));
    }

    /// A transfer was interrupted. When it resumes it counts as a new one.
    pub fn transfer_interrupted(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
        self.transfer = None;
    }

    /// The job waits for a slot. On a pipe only a new place is news, or a new reason of a cluster.
    pub(crate) fn waiting(&mut self, news: &WaitingNews) {
        let standing = (news.place, line::cluster_reason(news));
        let mut text = vec![line::headline(&self.worker, news)];
        text.extend(line::table(&news.line, news.untold));
        text.push("Ctrl-C detaches; the job keeps its place.".to_owned());
        let text = text.join("\n");
        if std::io::stderr().is_terminal() {
            let table = self.line.get_or_insert_with(|| {
                let style = ProgressStyle::with_template("{msg}");
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                ProgressBar::new_spinner().with_style(style)
            });
            table.set_message(text);
            table.tick();
        } else if self.waiting.as_ref() != Some(&standing) {
            say(&text);
        }
        self.waiting = Some(standing);
    }

    /// Says why the job waits.
    pub(crate) fn why_it_waits(&mut self, news: &WaitingNews) {
        let reason = Printable::line(&news.reason.message, REASON_CHARS);
        let mut text = vec![line::headline(&self.worker, news)];
        text.push(format!(
            "because: {reason} [{}]",
            Printable::line(&news.reason.code, NAME_CHARS)
        ));
        text.extend(line::table(&news.line, news.untold));
        print(&format!("{}\n", text.join("\n")));
    }

    /// The job does not wait any more.
    pub(crate) fn waited(&mut self) {
        if let Some(table) = self.line.take() {
            table.finish_and_clear();
        }
        if self.waiting.take().is_some() {
            say(&format!("The job starts on {}.", self.worker));
        }
    }

    /// A trainer run started.
    pub fn run_started(&mut self, name: &str, number: usize, of: usize) {
        let (worker, name) = (self.worker.clone(), Printable::line(name, NAME_CHARS));
        let count = if of > 1 { format!(" ({number} of {of})") } else { String::new() };
        self.note(&format!("--- {name}{count} started on {worker}"));
    }

    /// A trainer run ended.
    pub fn run_ended(&mut self, name: &str, outcome: &JobOutcome) {
        let how = match outcome {
            JobOutcome::Succeeded => "done".to_owned(),
            JobOutcome::Failed { message, .. } => format!("failed: {}", quoted(message)),
            other => other.words().to_owned(),
        };
        self.note(&format!("--- {} {how}", Printable::line(name, NAME_CHARS)));
    }

    /// A piece of the trainer's log.
    pub fn log(&mut self, text: &str) {
        print(&self.log.push(text));
    }
}

fn bar(direction: Direction, total_bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total_bytes)
        .with_style(style.progress_chars("=> "))
        .with_prefix(direction.label())
}

/// Prints a line on stderr. A closed stderr is not an error: the user still wants the result.
pub(crate) fn say(text: &str) {
    let text: String = text.chars().filter(|c| is_printable(*c) || *c == '\n').collect();
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a question on stderr, without a line break.
pub(crate) fn ask_aloud(question: &str) {
    let question: String = question.chars().filter(|c| is_printable(*c) || *c == '\n').collect();
    let _ = write!(std::io::stderr().lock(), "{question}");
}

/// Prints text on stdout as it is. A closed stdout is not an error.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
