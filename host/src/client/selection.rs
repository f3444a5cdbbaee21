//! Which worker gets the job.

use super::display::say;
use super::prompt::{self, Picked};
use super::room::{Asked, Connected, Offered, Room};
use super::{Choose, ClientError, Join};
use sleap_rtc_policy::Policies;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::JobSpec;
use sleap_rtc_protocol::worker::WorkerStatus;
use tracing::info;

/// Finds the worker that `join` asks for, or the best that takes the job, and connects to it.
pub(super) async fn connect(
    room: &mut Room,
    policies: &Policies,
    join: &Join,
    spec: &JobSpec,
) -> Result<Connected, ClientError> {
    match join {
        Join::Session(session) => direct(room, &session.worker).await,
        Join::Room { choose: Choose::Worker(worker), .. } => direct(room, worker).await,
        Join::Room { choose: Choose::Auto, .. } => automatic(room, policies, spec).await,
        Join::Room { choose: Choose::Prompt, .. } => interactive(room, spec).await,
    }
}

async fn direct(room: &mut Room, worker: &PeerId) -> Result<Connected, ClientError> {
    info!(%worker, "connecting to the worker that was named");
    match room.offer(worker, Purpose::NewJob).await? {
        Offered::Yes(connected) => Ok(*connected),
        Offered::Refused(text) => Err(ClientError::Refused(text)),
        Offered::Absent(text) => Err(ClientError::NoWorker(text)),
    }
}

/// Why workers were passed over, for the user of a client that found none.
#[derive(Default)]
struct PassedOver {
    lines: Vec<String>,
    /// Whether one of them would perhaps take the job later.
    refused: bool,
}

impl PassedOver {
    fn add(&mut self, worker: &WorkerFacts, why: &str, refused: bool) {
        info!(worker = %worker.peer_id, why, "passed over");
        self.lines.push(format!("  {} ({}): {why}", name(worker), worker.peer_id));
        self.refused |= refused;
    }

    fn into_error(self, headline: &str) -> ClientError {
        let text = [&[headline.to_owned()], &self.lines[..]].concat().join("\n");
        if self.refused { ClientError::Refused(text) } else { ClientError::NoWorker(text) }
    }
}

fn name(worker: &WorkerFacts) -> &str {
    worker.hostname.as_deref().unwrap_or("a worker")
}

/// Goes down the policy's ranking until a worker takes the job.
async fn automatic(
    room: &mut Room,
    policies: &Policies,
    spec: &JobSpec,
) -> Result<Connected, ClientError> {
    let workers = room.workers(None).await?;
    if workers.is_empty() {
        return Err(ClientError::NoWorker(
            "there is no worker in this room; start one with `sleap-rtc worker`".into(),
        ));
    }
    let policies = policies.asked_by(room.own_id().as_str());
    let selection = policies.select(&spec.description, &workers).await;
    let mut passed = PassedOver::default();
    let mut silent = Vec::new();
    let mut ranked = vec![false; workers.len()];
    for choice in &selection.ranking {
        let Some(worker) = workers.get(choice.index) else { continue };
        ranked[choice.index] = true;
        info!(worker = %worker.peer_id, score = choice.score, reason = choice.reason, "ranked");
        match try_worker(room, worker, spec, &mut passed).await? {
            Tried::Connected(connected) => return Ok(*connected),
            Tried::Silent => silent.push(worker),
            Tried::PassedOver => {}
        }
    }
    // An old Python worker may not know job requests: an offer is its only question.
    for worker in silent {
        if let Tried::Connected(connected) = offer(room, worker, &mut passed).await? {
            return Ok(*connected);
        }
    }
    for (index, worker) in workers.iter().enumerate().filter(|(index, _)| !ranked[*index]) {
        let said = selection.left_out.iter().find(|left_out| left_out.index == index);
        let busy = worker.status != WorkerStatus::Available;
        let why = match said {
            Some(said) => said.reason.as_str(),
            None if busy => worker.status.as_str(),
            None => "does not fit this job",
        };
        passed.add(worker, why, busy);
    }
    let demand = match spec.description.requirements.min_gpu_memory_mib {
        Some(mib) => format!(" (--min-gpu-memory {mib})"),
        None => String::new(),
    };
    Err(passed.into_error(&format!("no worker in this room takes the job now{demand}:")))
}

enum Tried {
    Connected(Box<Connected>),
    Silent,
    PassedOver,
}

async fn try_worker(
    room: &mut Room,
    worker: &WorkerFacts,
    spec: &JobSpec,
    passed: &mut PassedOver,
) -> Result<Tried, ClientError> {
    let peer = &worker.peer_id;
    match room.ask(peer, spec).await? {
        Asked::Yes(response) => {
            let minutes = response.estimated_duration_minutes;
            info!(worker = %peer, ?minutes, "takes the job");
            say(&format!("Selected {} ({peer}){}", name(worker), about(minutes)));
        }
        Asked::No(why) => {
            passed.add(worker, &why, true);
            return Ok(Tried::PassedOver);
        }
        Asked::Silent if worker.speaks_native => {
            passed.add(worker, "did not answer", false);
            return Ok(Tried::PassedOver);
        }
        Asked::Silent => return Ok(Tried::Silent),
    }
    room.assign(peer, spec).await?;
    offer(room, worker, passed).await
}

async fn offer(
    room: &mut Room,
    worker: &WorkerFacts,
    passed: &mut PassedOver,
) -> Result<Tried, ClientError> {
    match room.offer(&worker.peer_id, Purpose::NewJob).await {
        Ok(Offered::Yes(connected)) => Ok(Tried::Connected(connected)),
        Ok(Offered::Refused(why)) => {
            passed.add(worker, &why, true);
            Ok(Tried::PassedOver)
        }
        Ok(Offered::Absent(why)) => {
            passed.add(worker, &why, false);
            Ok(Tried::PassedOver)
        }
        // One worker behind a firewall is no reason to give up on the others.
        Err(error @ ClientError::Connect { .. }) => {
            passed.add(worker, &error.to_string(), false);
            Ok(Tried::PassedOver)
        }
        Err(error) => Err(error),
    }
}

fn about(minutes: Option<f64>) -> String {
    match minutes {
        Some(minutes) if minutes >= 90.0 => format!(", about {:.1} hours", minutes / 60.0),
        Some(minutes) if minutes < 1.5 => ", about a minute".into(),
        Some(minutes) => format!(", about {minutes:.0} minutes"),
        None => String::new(),
    }
}

/// Lets the user pick, again when the picked worker is taken by somebody else meanwhile.
async fn interactive(room: &mut Room, spec: &JobSpec) -> Result<Connected, ClientError> {
    let min_memory_mib = spec.description.requirements.min_gpu_memory_mib;
    loop {
        let worker = match prompt::pick(room, min_memory_mib).await? {
            Picked::Worker(worker) => *worker,
            Picked::Quit => return Err(ClientError::Cancelled),
            Picked::TooLate => {
                return Err(ClientError::NoWorker(
                    "no worker was chosen within five minutes; the connection was closed".into(),
                ));
            }
        };
        let mut passed = PassedOver::default();
        let mut tried = try_worker(room, &worker, spec, &mut passed).await?;
        if let Tried::Silent = tried {
            tried = offer(room, &worker, &mut passed).await?;
        }
        if let Tried::Connected(connected) = tried {
            return Ok(*connected);
        }
        say(&format!("That worker did not take the job:\n{}", passed.lines.join("\n")));
    }
}
