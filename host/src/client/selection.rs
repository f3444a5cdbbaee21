//! Chooses the worker that gets the job.

use super::connect::Talk;
use super::display::say;
use super::error::{JobRefused, NoWorker, SkippedWorker, SkippedWorkers};
use super::prompt::{self, Picked};
use super::room::{Connected, Offered, RequestReply, Room};
use super::{Choose, ClientError, Join};
use sleap_rtc_policy::Policies;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobSpec, JobType};
use sleap_rtc_protocol::worker::WorkerStatus;
use tracing::info;

/// Finds the worker that `join` names, or the best one that takes the job, and connects to it.
pub(crate) async fn connect(
    room: &mut Room,
    policies: &Policies,
    join: &Join,
    spec: &JobSpec,
) -> Result<Connected, ClientError> {
    match join {
        Join::Session(session) => direct(room, &session.worker, spec).await,
        Join::Room { choose: Choose::Worker(worker), .. } => direct(room, worker, spec).await,
        Join::Room { choose: Choose::Auto, .. } => automatic(room, policies, spec).await,
        Join::Room { choose: Choose::Prompt, .. } => interactive(room, spec).await,
    }
}

/// Why no Python worker, such as `worker`, can do the job.
fn beyond_python(room: &Room, worker: &PeerId, spec: &JobSpec) -> Option<JobRefused> {
    let job = &spec.description;
    if job.job_type == JobType::Inference && !room.tracks_on_python() {
        return Some(JobRefused::PythonTracking(worker.clone()));
    }
    (!job.mounted_videos.is_empty()).then(|| JobRefused::PythonMounts(worker.clone()))
}

async fn direct(
    room: &mut Room,
    worker: &PeerId,
    spec: &JobSpec,
) -> Result<Connected, ClientError> {
    info!(%worker, "connecting to the named worker");
    match room.offer(worker, Purpose::NewJob).await? {
        Offered::Yes(connected) => match (beyond_python(room, worker, spec), connected.talk) {
            (Some(refused), Talk::Python(connection, _)) => {
                connection.close().await;
                Err(refused.into())
            }
            (_, talk) => Ok(Connected { worker: worker.clone(), talk }),
        },
        Offered::Refused(why) => Err(why.into()),
        Offered::Absent(why) => Err(why.into()),
    }
}

/// The workers that were skipped.
#[derive(Default)]
struct Skipped {
    workers: Vec<SkippedWorker>,
    /// Whether one of them may take the job later.
    refused: bool,
}

impl Skipped {
    fn add(&mut self, worker: &WorkerFacts, why: &impl ToString, refused: bool) {
        let (name, why) = (name(worker).to_owned(), why.to_string());
        let worker = worker.peer_id.clone();
        info!(%worker, why, "skipped");
        self.workers.push(SkippedWorker { name, worker, why });
        self.refused |= refused;
    }

    fn into_error(self, min_gpu_memory_mib: Option<u64>) -> ClientError {
        let skipped = SkippedWorkers { min_gpu_memory_mib, workers: self.workers };
        match self.refused {
            true => JobRefused::ByAll(skipped).into(),
            false => NoWorker::NoneFits(skipped).into(),
        }
    }
}

fn name(worker: &WorkerFacts) -> &str {
    worker.hostname.as_deref().unwrap_or("a worker")
}

/// Asks the workers in the policy's order until one takes the job.
async fn automatic(
    room: &mut Room,
    policies: &Policies,
    spec: &JobSpec,
) -> Result<Connected, ClientError> {
    let workers = room.workers(None).await?;
    if workers.is_empty() {
        return Err(NoWorker::EmptyRoom.into());
    }
    let policies = policies.asked_by(room.own_id().as_str());
    let selection = policies.select(&spec.description, &workers).await;
    let mut skipped = Skipped::default();
    let mut silent = Vec::new();
    let mut ranked = vec![false; workers.len()];
    for choice in &selection.ranking {
        let Some(worker) = workers.get(choice.index) else { continue };
        ranked[choice.index] = true;
        info!(worker = %worker.peer_id, score = choice.score, reason = choice.reason, "ranked");
        match try_worker(room, worker, spec, &mut skipped).await? {
            Tried::Connected(connected) => return Ok(*connected),
            Tried::Silent => silent.push(worker),
            Tried::Skipped => {}
        }
    }
    // An old Python worker may not know job requests and understands only an offer.
    for worker in silent {
        if let Tried::Connected(connected) = offer(room, worker, &mut skipped).await? {
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
        skipped.add(worker, &why, busy);
    }
    Err(skipped.into_error(spec.description.requirements.min_gpu_memory_mib))
}

enum Tried {
    Connected(Box<Connected>),
    Silent,
    Skipped,
}

async fn try_worker(
    room: &mut Room,
    worker: &WorkerFacts,
    spec: &JobSpec,
    skipped: &mut Skipped,
) -> Result<Tried, ClientError> {
    let peer = &worker.peer_id;
    if let Some(refused) = beyond_python(room, peer, spec).filter(|_| !worker.speaks_native) {
        skipped.add(worker, &refused, true);
        return Ok(Tried::Skipped);
    }
    match room.ask(peer, spec).await? {
        RequestReply::Yes(response) => {
            let minutes = response.estimated_duration_minutes;
            info!(worker = %peer, ?minutes, "takes the job");
            say(&format!("Selected {} ({peer}){}", name(worker), about(minutes)));
        }
        RequestReply::No(why) => {
            skipped.add(worker, &why, true);
            return Ok(Tried::Skipped);
        }
        RequestReply::Silent if worker.speaks_native => {
            skipped.add(worker, &"did not answer", false);
            return Ok(Tried::Skipped);
        }
        RequestReply::Silent => return Ok(Tried::Silent),
    }
    room.assign(peer, spec).await?;
    offer(room, worker, skipped).await
}

async fn offer(
    room: &mut Room,
    worker: &WorkerFacts,
    skipped: &mut Skipped,
) -> Result<Tried, ClientError> {
    match room.offer(&worker.peer_id, Purpose::NewJob).await {
        Ok(Offered::Yes(connected)) => Ok(Tried::Connected(connected)),
        Ok(Offered::Refused(why)) => {
            skipped.add(worker, &why, true);
            Ok(Tried::Skipped)
        }
        Ok(Offered::Absent(why)) => {
            skipped.add(worker, &why, false);
            Ok(Tried::Skipped)
        }
        // One unreachable worker must not end the search.
        Err(error @ ClientError::Connect { .. }) => {
            skipped.add(worker, &error, false);
            Ok(Tried::Skipped)
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

/// Lets the user choose, and choose again if that worker does not take the job.
async fn interactive(room: &mut Room, spec: &JobSpec) -> Result<Connected, ClientError> {
    let min_memory_mib = spec.description.requirements.min_gpu_memory_mib;
    loop {
        let worker = match prompt::pick(room, min_memory_mib).await? {
            Picked::Worker(worker) => *worker,
            Picked::Quit => return Err(ClientError::Cancelled),
            Picked::TooLate => {
                return Err(NoWorker::NotChosen.into());
            }
        };
        let mut skipped = Skipped::default();
        let mut tried = try_worker(room, &worker, spec, &mut skipped).await?;
        if let Tried::Silent = tried {
            tried = offer(room, &worker, &mut skipped).await?;
        }
        if let Tried::Connected(connected) = tried {
            return Ok(*connected);
        }
        let lines: Vec<String> = skipped.workers.iter().map(ToString::to_string).collect();
        say(&format!("That worker did not take the job:\n{}", lines.join("\n")));
    }
}
