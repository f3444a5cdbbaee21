//! What `top` shows, and what its keys do.

use crate::client::display::view::View;
use parking_lot::Mutex;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::text::Printable;
use std::sync::Arc;

const NAME_CHARS: usize = 60;
const SAID_CHARS: usize = 200;
/// The lines by which a page moves.
const PAGE: usize = 5;

/// A key with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Attach,
    Stop,
    Cancel,
    Yes,
    No,
    Quit,
}

/// What the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TopAction {
    Quit,
    Attach(JobId),
    End(JobId, JobEnding),
}

/// What ends a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobEnding {
    /// Early, and its model is kept.
    Stop,
    /// Now, without a result.
    Cancel,
}

/// A job whose secret is on this machine.
#[derive(Debug, Clone)]
pub(super) struct OwnJob {
    pub(super) id: JobId,
    pub(super) view: Arc<Mutex<View>>,
}

/// An action that the user has to confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unconfirmed {
    pub(super) job: JobId,
    /// The job's package.
    pub(super) name: Printable,
    pub(super) ending: JobEnding,
}

/// The whole screen.
#[derive(Debug)]
pub(super) struct Top {
    pub(super) room: Printable,
    /// Whose jobs are listed.
    pub(super) user: Printable,
    pub(super) workers: Vec<WorkerFacts>,
    pub(super) jobs: Vec<OwnJob>,
    pub(super) now_ms: u64,
    /// What was said last.
    pub(super) said: Printable,
    /// What the user has to confirm.
    pub(super) question: Option<Unconfirmed>,
    /// The lines of the workers' list that are above the screen.
    pub(super) scrolled: usize,
    selected: Option<JobId>,
}

impl Top {
    pub(super) fn new(room: &str, user: &str) -> Self {
        let [room, user] = [room, user].map(|name| Printable::line(name, NAME_CHARS));
        Self {
            room,
            user,
            workers: Vec::new(),
            jobs: Vec::new(),
            now_ms: 0,
            said: Printable::default(),
            question: None,
            scrolled: 0,
            selected: None,
        }
    }

    /// Shows the first line of a message at the bottom. There is room for no more.
    pub(super) fn say(&mut self, text: &str) {
        self.said = Printable::line(text.lines().next().unwrap_or_default(), SAID_CHARS);
    }

    /// The place of the selected job in the list: the first one, unless the user has chosen another.
    pub(super) fn place(&self) -> usize {
        let chosen = self.selected.as_ref();
        self.jobs.iter().position(|job| Some(&job.id) == chosen).unwrap_or(0)
    }

    /// The selected job.
    pub(super) fn job(&self) -> Option<&OwnJob> {
        self.jobs.get(self.place())
    }

    /// Applies a key. Nothing ends a job before the user has confirmed it.
    pub(super) fn press(&mut self, key: Key) -> Option<TopAction> {
        if let Some(Unconfirmed { job, ending, .. }) = self.question.take() {
            return match key {
                Key::Yes => Some(TopAction::End(job, ending)),
                Key::Quit => Some(TopAction::Quit),
                _ => None,
            };
        }
        self.said = Printable::default();
        let job = self.job().map(|job| job.id.clone());
        match key {
            Key::Up => self.select(self.place().saturating_sub(1)),
            Key::Down => self.select(self.place() + 1),
            Key::PageUp => self.scrolled = self.scrolled.saturating_sub(PAGE),
            Key::PageDown => self.scrolled += PAGE,
            Key::Attach => return job.map(TopAction::Attach),
            Key::Stop => self.question = self.ask(JobEnding::Stop),
            Key::Cancel => self.question = self.ask(JobEnding::Cancel),
            Key::Yes | Key::No => {}
            Key::Quit => return Some(TopAction::Quit),
        }
        None
    }

    fn ask(&self, ending: JobEnding) -> Option<Unconfirmed> {
        let OwnJob { id, view } = self.job()?;
        Some(Unconfirmed { job: id.clone(), name: view.lock().name.clone(), ending })
    }

    fn select(&mut self, place: usize) {
        if let Some(job) = self.jobs.get(place) {
            self.selected = Some(job.id.clone());
        }
    }
}
