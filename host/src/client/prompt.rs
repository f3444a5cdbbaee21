//! The list of workers that the user chooses from.

use super::ClientError;
use super::display::{print, say};
use super::error::NAME_CHARS;
use super::room::Room;
use crate::question::{Typed, typed as typed_line};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::occupancy::age;
use sleap_rtc_protocol::progress::RunningJob;
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_protocol::worker::WorkerStatus;
use sleap_rtc_signaling::client::{Roster, SignalingError};
use std::collections::BTreeMap;

/// Memory of other programs is shown above this amount, because displays and drivers always use
/// some.
const NOTABLE_MIB: u64 = 1024;

/// The user's decision.
pub(crate) enum Picked {
    /// This worker.
    Worker(Box<WorkerFacts>),
    /// No worker.
    Quit,
    /// The user did not answer in time.
    TooLate,
}

/// Shows the available workers and reads a number, `refresh` or `q`. Shows the list again whenever it
/// changes.
pub(crate) async fn pick(
    room: &mut Room,
    min_gpu_memory_mib: Option<u64>,
) -> Result<Picked, ClientError> {
    let mut roster = room.roster(min_gpu_memory_mib).await?;
    let mut list = Numbered::default();
    list.take(&roster);
    list.show();
    let mut line = Box::pin(typed_line());
    loop {
        let typed = tokio::select! {
            typed = &mut line => typed,
            changed = roster.changed() => {
                changed?;
                if list.take(&roster) {
                    list.show();
                }
                continue;
            }
        };
        let text = match typed {
            Typed::Line(text) => text,
            Typed::End => return Ok(Picked::Quit),
            Typed::Nothing => return Ok(Picked::TooLate),
        };
        match PromptAnswer::parse(&text) {
            PromptAnswer::Number(number) => match list.worker(number) {
                Some(worker) => return Ok(Picked::Worker(Box::new(worker))),
                None => list.ask_again(&text),
            },
            PromptAnswer::Refresh => match roster.ask().await {
                Ok(_) => {
                    list.take(&roster);
                    list.show();
                }
                // The connection is restored in the background, and the user can try again.
                Err(error @ (SignalingError::Lost | SignalingError::NoAnswer { .. })) => {
                    say(&error.to_string());
                    list.ask();
                }
                Err(error) => return Err(error.into()),
            },
            PromptAnswer::Quit => return Ok(Picked::Quit),
            PromptAnswer::Nonsense => list.ask_again(&text),
        }
        line = Box::pin(typed_line());
    }
}

/// The available workers. Each keeps its number, so that the number that the user types means the
/// worker that the user saw, even if the list has changed since.
#[derive(Default)]
struct Numbered {
    available: BTreeMap<usize, WorkerFacts>,
    numbers: BTreeMap<PeerId, usize>,
    busy: usize,
}

impl Numbered {
    /// Updates the list from the roster; returns whether the displayed list changes.
    fn take(&mut self, roster: &Roster) -> bool {
        self.number(roster.peers().map(WorkerFacts::from_peer).collect())
    }

    fn number(&mut self, mut workers: Vec<WorkerFacts>) -> bool {
        let before = self.listing();
        let is_busy = |worker: &&WorkerFacts| {
            matches!(worker.status, WorkerStatus::Busy | WorkerStatus::Reserved)
        };
        self.busy = workers.iter().filter(is_busy).count();
        workers.retain(|worker| worker.status == WorkerStatus::Available);
        workers.sort_by_key(|worker| std::cmp::Reverse(memory_mib(worker)));
        self.available.clear();
        for worker in workers {
            let next = self.numbers.len() + 1;
            let number = *self.numbers.entry(worker.peer_id.clone()).or_insert(next);
            self.available.insert(number, worker);
        }
        before != self.listing()
    }

    fn worker(&self, number: usize) -> Option<WorkerFacts> {
        self.available.get(&number).cloned()
    }

    /// A line for each worker, or why there is none.
    fn listing(&self) -> String {
        let busy = match self.busy {
            _ if !self.available.is_empty() => return self.rows(),
            0 => return "  none at the moment\n".to_owned(),
            1 => "1 is busy".to_owned(),
            busy => format!("{busy} are busy"),
        };
        format!(
            "  none at the moment; {busy} (with --auto-select --wait the job waits for a slot)\n"
        )
    }

    fn rows(&self) -> String {
        self.available.iter().map(|(number, worker)| row(&format!("{number}."), worker)).collect()
    }

    fn show(&self) {
        print(&format!("\nAvailable workers:\n{}", self.listing()));
        self.ask();
    }

    /// Says that `text` is not one of the choices, and asks again.
    fn ask_again(&self, text: &str) {
        print(&format!("\"{}\" is not one of the choices.\n", Printable::line(text.trim(), 40)));
        self.ask();
    }

    fn ask(&self) {
        let numbers = match self.available.keys().collect::<Vec<_>>()[..] {
            [] => String::new(),
            [only] => format!("{only} to select, "),
            [first, .., last] => format!("{first}-{last} to select, "),
        };
        print(&format!("Choose a worker ({numbers}refresh to look again, q to quit): "));
    }
}

fn memory_mib(worker: &WorkerFacts) -> u64 {
    worker.accelerators.largest().map_or(0, |gpu| gpu.memory_mib)
}

#[derive(Debug, PartialEq)]
enum PromptAnswer {
    Number(usize),
    Refresh,
    Quit,
    Nonsense,
}

impl PromptAnswer {
    fn parse(line: &str) -> Self {
        match line.trim().to_ascii_lowercase().as_str() {
            "r" | "refresh" => Self::Refresh,
            "q" | "quit" | "exit" => Self::Quit,
            number => number.parse().map_or(Self::Nonsense, Self::Number),
        }
    }
}

/// The limits for what a worker says of itself.
const MAX_TEXT_CHARS: usize = 300;
const MAX_MODEL_CHARS: usize = 60;
const MAX_VERSION_CHARS: usize = 20;

/// A line for a worker, followed by a line for each problem that it reports and for each job that
/// it runs.
pub fn row(number: &str, worker: &WorkerFacts) -> String {
    let gpu = worker.accelerators.largest();
    let cuda = worker.accelerators.cuda_version.as_deref().unwrap_or("-");
    let cuda = Printable::line(cuda, MAX_VERSION_CHARS);
    let host = worker.hostname.as_deref().map(|host| Printable::name(host, NAME_CHARS));
    let host = host.as_ref().map_or("-", Printable::as_str);
    let model = Printable::line(worker.gpu_model(), MAX_MODEL_CHARS);
    let status = worker.status_words();
    let memory = gpu.map(|gpu| format!(", {} MB", gpu.memory_mib)).unwrap_or_default();
    let slots = match worker.slots {
        0 | 1 => String::new(),
        slots => format!(", {} of {slots} slots free", worker.slots_free),
    };
    let others = match gpu.and_then(|gpu| gpu.memory_others_mib) {
        None | Some(..NOTABLE_MIB) => String::new(),
        Some(mib) => format!(" ({mib} MB in use by others)"),
    };
    let line = format!(
        "  {number} {host}  GPU: {model}{memory}{others}  CUDA: {cuda}  status: {status}{slots}  \
         id: {}",
        worker.peer_id
    );
    let problems = worker.problem_lines().map(|problem| format!("       {problem}"));
    let jobs = worker.jobs.iter().map(job);
    std::iter::once(line).chain(problems).chain(jobs).map(|line| line + "\n").collect()
}

fn job(job: &RunningJob) -> String {
    let owner = Printable::name(job.user.as_deref().unwrap_or(job.owner.as_str()), NAME_CHARS);
    let route = job.route.as_deref().map(|route| Printable::line(route, MAX_TEXT_CHARS));
    let route = route.map(|route| format!("; its client is connected: {route}"));
    let progress = Printable::line(&job.progress.to_string(), MAX_TEXT_CHARS);
    let (age, route) = (age(job.since_ms, now_ms()), route.unwrap_or_default());
    format!("       a job of {owner}, for {age}: {progress}{route}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::signaling::{Metadata, PeerInfo, Role};

    #[test]
    fn answers_are_numbers_or_words() {
        for (line, wanted) in [
            ("1\n", PromptAnswer::Number(1)),
            (" 2 ", PromptAnswer::Number(2)),
            ("-1", PromptAnswer::Nonsense),
            ("R", PromptAnswer::Refresh),
            ("refresh", PromptAnswer::Refresh),
            ("q", PromptAnswer::Quit),
            ("", PromptAnswer::Nonsense),
        ] {
            assert_eq!(PromptAnswer::parse(line), wanted, "{line:?}");
        }
    }

    fn worker_with(peer: &str, properties: serde_json::Value) -> WorkerFacts {
        let metadata =
            Metadata { tags: Vec::new(), properties: properties.as_object().cloned().unwrap() };
        WorkerFacts::from_peer(&PeerInfo {
            peer_id: PeerId::new(peer).unwrap(),
            role: Role::Worker,
            metadata,
            connected_at: 0.into(),
        })
    }

    #[test]
    fn what_a_worker_says_of_itself_is_told_from_what_the_list_says() {
        let forged = "A100, 81920 MB  CUDA: 12.4  status: available  id: peer-1\n  2 b";
        let job = serde_json::json!(
            {"owner": "p", "user": "bob, for 1 min: running", "since_ms": now_ms(),
             "progress": {"run": 1, "runs": 1}}
        );
        let worker = worker_with(
            "peer-2",
            serde_json::json!({"hostname": format!("gpu1  GPU: {forged}"), "status": "busy",
                "gpus": [{"model": forged, "memory_mib": 1}], "jobs": [job]}),
        );
        let row = row("1", &worker);
        let lines: Vec<&str> = row.lines().collect();
        assert_eq!(lines.len(), 2, "{row}");
        assert!(lines[0].starts_with("  1 \"gpu1 GPU: A100, 81920 MB CUDA: 12.4 "), "{row}");
        assert!(lines[1].starts_with("       a job of \"bob, for 1 min: running\", for "), "{row}");
        // Two spaces separate the list's own parts, and stand in nobody's words.
        let parts: Vec<&str> = lines[0].trim().split("  ").collect();
        assert_eq!(parts.len(), 5, "{row}");
        assert_eq!(parts[4], "id: peer-2");
    }

    #[test]
    fn a_worker_keeps_its_number() {
        let worker = |peer: &str, memory_mib: u64, status: &str| {
            let properties = serde_json::json!({"gpu_memory_mb": memory_mib, "status": status});
            worker_with(peer, properties)
        };
        let mut list = Numbered::default();
        let of = |list: &Numbered, n| list.worker(n).map(|worker| worker.peer_id.to_string());
        assert!(list.number(vec![worker("a", 8, "available"), worker("b", 16, "available")]));
        assert_eq!((of(&list, 1), of(&list, 2)), (Some("b".into()), Some("a".into())));
        let changed = vec![worker("a", 8, "available"), worker("b", 16, "busy")];
        assert!(list.number(changed.clone()));
        assert!(!list.number(changed));
        assert_eq!((of(&list, 1), of(&list, 2)), (None, Some("a".into())));
        assert!(list.number(vec![worker("c", 99, "available"), worker("a", 8, "available")]));
        assert_eq!((of(&list, 2), of(&list, 3)), (Some("a".into()), Some("c".into())));
        assert!(list.number(vec![worker("a", 8, "busy"), worker("b", 16, "maintenance")]));
        assert!(list.listing().contains("1 is busy") && list.listing().contains("--wait"));
        assert!(list.number(vec![worker("a", 8, "busy"), worker("b", 16, "reserved")]));
        assert!(list.listing().contains("2 are busy"), "{}", list.listing());
    }
}
