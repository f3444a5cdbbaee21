//! The list of workers that the user chooses from.

use super::ClientError;
use super::display::{print, say};
use super::room::Room;
use crate::job::now_ms;
use crate::signaling::client::SignalingError;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::progress::RunningJob;
use sleap_rtc_protocol::worker::WorkerStatus;
use std::io::BufRead;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the user may think.
const PATIENCE: Duration = Duration::from_secs(300);

/// Displays and drivers hold some GPU memory on any machine.
const WORTH_TELLING_MIB: u64 = 1024;

/// What the user decided.
pub(super) enum Picked {
    /// This one.
    Worker(Box<WorkerFacts>),
    /// None.
    Quit,
    /// Nothing, for too long.
    TooLate,
}

/// Shows the available workers and reads a number, `refresh` or `q`.
///
/// The connection to the server is kept alive beside this by its own task. A refresh asks with the
/// same filter.
pub(super) async fn pick(
    room: &mut Room,
    min_gpu_memory_mib: Option<u64>,
) -> Result<Picked, ClientError> {
    let mut workers = available(room, min_gpu_memory_mib).await?;
    show(&workers);
    loop {
        let line = match tokio::time::timeout(PATIENCE, read_line()).await {
            Err(_) => return Ok(Picked::TooLate),
            Ok(None) => return Ok(Picked::Quit),
            Ok(Some(line)) => line,
        };
        match Answer::parse(&line, workers.len()) {
            Answer::Number(index) => {
                return Ok(Picked::Worker(Box::new(workers.swap_remove(index))));
            }
            Answer::Refresh => match available(room, min_gpu_memory_mib).await {
                Ok(found) => {
                    workers = found;
                    show(&workers);
                }
                // The connection comes back by itself, and the user is here to try again.
                Err(error @ (SignalingError::Lost | SignalingError::NoAnswer { .. })) => {
                    say(&error.to_string());
                    ask(workers.len());
                }
                Err(error) => return Err(error.into()),
            },
            Answer::Quit => return Ok(Picked::Quit),
            Answer::Nonsense => ask(workers.len()),
        }
    }
}

async fn available(
    room: &Room,
    min_gpu_memory_mib: Option<u64>,
) -> Result<Vec<WorkerFacts>, SignalingError> {
    let mut workers = room.workers(min_gpu_memory_mib).await?;
    workers.retain(|worker| worker.status == WorkerStatus::Available);
    workers.sort_by_key(|worker| std::cmp::Reverse(memory_mib(worker)));
    Ok(workers)
}

fn memory_mib(worker: &WorkerFacts) -> u64 {
    worker.accelerators.largest().map_or(0, |gpu| gpu.memory_mib)
}

#[derive(Debug, PartialEq)]
enum Answer {
    Number(usize),
    Refresh,
    Quit,
    Nonsense,
}

impl Answer {
    fn parse(line: &str, choices: usize) -> Self {
        match line.trim().to_ascii_lowercase().as_str() {
            "r" | "refresh" => Self::Refresh,
            "q" | "quit" | "exit" => Self::Quit,
            number => match number.parse::<usize>() {
                Ok(number) if (1..=choices).contains(&number) => Self::Number(number - 1),
                _ => Self::Nonsense,
            },
        }
    }
}

fn show(workers: &[WorkerFacts]) {
    let mut text = String::from("\nAvailable workers:\n");
    for (index, worker) in workers.iter().enumerate() {
        text.push_str(&row(&format!("{}.", index + 1), worker));
    }
    if workers.is_empty() {
        text.push_str("  none at the moment\n");
    }
    print(&text);
    ask(workers.len());
}

/// A worker in a line, and below it a line for each job that runs there.
pub fn row(number: &str, worker: &WorkerFacts) -> String {
    let gpu = worker.accelerators.largest();
    let model = gpu.map_or("CPU", |gpu| gpu.model.as_str());
    let cuda = worker.accelerators.cuda_version.as_deref().unwrap_or("-");
    let host = worker.hostname.as_deref().unwrap_or("-");
    let (mib, status) = (memory_mib(worker), worker.status.as_str());
    let slots = match worker.slots {
        0 | 1 => String::new(),
        slots => format!(", {} of {slots} slots free", worker.slots_free),
    };
    let others = match gpu.and_then(|gpu| gpu.memory_others_mib) {
        None | Some(..WORTH_TELLING_MIB) => String::new(),
        Some(mib) => format!(" ({mib} MB in use by others)"),
    };
    let line = format!(
        "  {number} {host}  GPU: {model}, {mib} MB{others}  CUDA: {cuda}  status: {status}{slots}  \
         id: {}",
        worker.peer_id
    );
    let jobs = worker.jobs.iter().map(job);
    // The worker's words must not steer the terminal.
    let plain = |line: String| line.chars().filter(|c| !c.is_control()).chain(['\n']).collect();
    std::iter::once(line).chain(jobs).map(plain).collect::<Vec<String>>().concat()
}

fn job(job: &RunningJob) -> String {
    let age_ms = now_ms().saturating_sub(job.since_ms);
    let owner = job.user.as_deref().unwrap_or(job.owner.as_str());
    format!("       a job of {owner}, for {} min: {}", age_ms / 60_000, job.progress)
}

fn ask(choices: usize) {
    let numbers = match choices {
        0 => String::new(),
        1 => "1 to select, ".into(),
        n => format!("1-{n} to select, "),
    };
    print(&format!("Choose a worker ({numbers}refresh to look again, q to quit): "));
}

/// One line of standard input, or `None` at its end. Read on a thread of its own, which an
/// abandoned prompt leaves behind until the process ends: a blocked read cannot be taken back.
async fn read_line() -> Option<String> {
    let (send, mut receive) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        let _ = send.blocking_send(read.is_ok_and(|bytes| bytes > 0).then_some(line));
    });
    receive.recv().await.flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_numbers_of_the_list_or_words() {
        for (line, choices, wanted) in [
            ("1\n", 1, Answer::Number(0)),
            (" 2 ", 2, Answer::Number(1)),
            ("3", 2, Answer::Nonsense),
            ("0", 2, Answer::Nonsense),
            ("R", 0, Answer::Refresh),
            ("refresh", 2, Answer::Refresh),
            ("q", 2, Answer::Quit),
            ("", 2, Answer::Nonsense),
        ] {
            assert_eq!(Answer::parse(line, choices), wanted, "{line:?}");
        }
    }
}
