//! Chooses the worker that gets the job.

mod skipped;
mod waiting;

use super::candidates::select;
use super::connect::Talk;
use super::display::say;
use super::error::{Ended, JobRefused, NAME_CHARS, NoWorker};
use super::prompt::{self, Picked};
use super::room::{ANSWER_LIMIT, Connected, Offered, RequestReply, Room};
use super::unreliable::Unreliable;
use super::{Choose, ClientError, Join, queue_text};
use crate::config::{Config, Wait};
use skipped::{SkipReason, Skipped};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_policy::Policies;
use sleap_rtc_protocol::asking::{Asking, Next};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobSpec, JobType};
use sleap_rtc_protocol::signaling::JobResponse;
use sleap_rtc_protocol::text::{Printable, duration};
use sleap_rtc_protocol::worker::WorkerStatus;
use sleap_rtc_trust::goal::Goal;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use tracing::{debug, info};
use waiting::in_line;

/// The time from offer to answer of a worker that speaks `sleap-rtc/1`, which takes half a second.
const NATIVE_ANSWER_LIMIT: Duration = Duration::from_secs(6);
/// How long a client asks one worker again while its slots are only reserved.
const RESERVED_PATIENCE: Duration = Duration::from_secs(20);
/// The same for a client that looks for any worker. Whoever connects and then says nothing has half a minute.
const RESERVED_EVERYWHERE: Duration = Duration::from_secs(45);
/// The same for a client whose job may wait in line: a slot that was reserved in vain is soon free.
const RESERVED_BEFORE_LINE: Duration = Duration::from_secs(3);
/// The time between two such rounds.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Finds the worker that `join` names, or the best one that takes the job, and connects to it.
pub(crate) async fn connect(
    room: &mut Room,
    policies: &Policies,
    join: &Join,
    spec: &JobSpec,
    search: &mut Search,
) -> Result<Connected, ClientError> {
    match join {
        Join::Session(session) => direct(room, &session.worker, spec, search).await,
        Join::Room { choose: Choose::Worker(worker), .. } => {
            direct(room, worker, spec, search).await
        }
        Join::Room { choose: Choose::Auto, .. } => automatic(room, policies, spec, search).await,
        Join::Room { choose: Choose::Prompt, .. } => interactive(room, spec, search).await,
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
    search: &mut Search,
) -> Result<Connected, ClientError> {
    debug!(%worker, "connecting to the named worker");
    let start = Instant::now();
    let mut has_queue = match search.wait {
        Some(_) => room.facts(worker).await.is_some_and(|facts| facts.queue().is_some()),
        None => false,
    };
    let mut goal = Goal::NewJob { may_wait: has_queue };
    let offered = loop {
        match room.offer(worker, &goal).await? {
            // A reservation that comes to nothing lapses soon.
            Offered::Refused(JobRefused::Reserved(why)) if start.elapsed() < RESERVED_PATIENCE => {
                info!(%worker, why, "asking again");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Offered::Refused(JobRefused::Busy(why)) if search.wait.is_none() => {
                if !search.asks_to_wait(room, worker, &why).await {
                    break Offered::Refused(JobRefused::Busy(why));
                }
                // The user is asked only where there is a queue.
                has_queue = true;
                goal = Goal::NewJob { may_wait: true };
            }
            Offered::Refused(JobRefused::Busy(why)) if !has_queue => {
                break Offered::Refused(JobRefused::NoQueue { worker: worker.clone(), why });
            }
            offered => break offered,
        }
    };
    match offered {
        Offered::Yes(connected) => match (beyond_python(room, worker, spec), *connected) {
            (Some(refused), Connected { talk: Talk::Python(connection, _), .. }) => {
                connection.close().await;
                Err(refused.into())
            }
            (_, connected) => Ok(connected),
        },
        Offered::Refused(why) | Offered::Unknown(why) => Err(why.into()),
        Offered::Absent(why) => Err(why.into()),
    }
}

fn name(worker: &WorkerFacts) -> Printable {
    match worker.hostname.as_deref() {
        Some(host) => Printable::name(host, NAME_CHARS),
        None => Printable::line("a worker", NAME_CHARS),
    }
}

/// The search for a worker, which continues if the chosen one does not take the job after all.
pub(crate) struct Search {
    unreliable: Unreliable,
    /// The workers that had taken the job and then refused it.
    failed: HashSet<PeerId>,
    /// Whether the job waits where no slot is free, and how long.
    pub(crate) wait: Option<Wait>,
}

impl Search {
    /// Nobody has been tried yet.
    pub(crate) fn new(config: &Config, wait: Option<Wait>) -> Self {
        let unreliable = Unreliable::load(&config.client.state_dir);
        Self { unreliable, failed: HashSet::new(), wait }
    }

    /// Records that `worker` had taken the job and then refused it. It is not asked again.
    pub(crate) fn avoid(&mut self, worker: &PeerId) {
        self.unreliable.failed(worker);
        self.failed.insert(worker.clone());
    }
}

/// Asks the workers in the policy's order until one takes the job. While slots are only reserved,
/// asks again for a while, because a reservation may expire.
async fn automatic(
    room: &mut Room,
    policies: &Policies,
    spec: &JobSpec,
    search: &mut Search,
) -> Result<Connected, ClientError> {
    let mut reserved_since: Option<Instant> = None;
    loop {
        let mut round = Round { room, spec, search, skipped: Skipped::default() };
        if let Some(connected) = round.run(policies).await? {
            return Ok(connected);
        }
        let skipped = round.skipped;
        let patience = match search.wait {
            Some(_) => RESERVED_BEFORE_LINE,
            None => RESERVED_EVERYWHERE,
        };
        let is_over = reserved_since.is_some_and(|since| since.elapsed() >= patience);
        if !skipped.has(SkipReason::Reserved) || is_over {
            if search.wait.is_some() || search.asks_to_wait_anywhere(room, &skipped).await {
                return in_line(room, policies, spec, search).await;
            }
            return Err(skipped.into_error(spec.description.requirements.min_gpu_memory_mib));
        }
        if reserved_since.is_none() {
            say("All slots are reserved at the moment; asking again …");
            reserved_since = Some(Instant::now());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// One round through the workers of the room.
struct Round<'a> {
    room: &'a mut Room,
    spec: &'a JobSpec,
    search: &'a mut Search,
    skipped: Skipped,
}

impl Round<'_> {
    async fn run(&mut self, policies: &Policies) -> Result<Option<Connected>, ClientError> {
        let workers = self.room.workers(None).await?;
        if workers.is_empty() {
            return Err(NoWorker::EmptyRoom.into());
        }
        let policies = policies.asked_by(self.room.own_id().as_str());
        let ranking = self.rank(&policies, &workers).await;
        let mut silent = Vec::new();
        if let Some(connected) = self.ask_all(&ranking, &mut silent).await? {
            return Ok(Some(connected));
        }
        // An old Python worker may not know job requests and understands only an offer.
        for worker in silent {
            let offered = self.offer(worker, false).await?;
            if offered.is_some() {
                return Ok(offered);
            }
        }
        Ok(None)
    }

    /// The workers in the order in which they are asked: as the policy ranks them, then those whose slots
    /// are only reserved, as it would rank them if they were free. Workers that failed lately come last.
    async fn rank<'w>(
        &mut self,
        policies: &Policies,
        workers: &'w [WorkerFacts],
    ) -> Vec<&'w WorkerFacts> {
        let job = &self.spec.description;
        let selection = select(policies, job, workers).await;
        let mut order: Vec<usize> = Vec::new();
        for choice in &selection.ranking {
            let Some(worker) = workers.get(choice.index) else { continue };
            info!(worker = %worker.peer_id, score = choice.score, reason = choice.reason(), "ranked");
            order.push(choice.index);
        }
        let reserved: Vec<usize> = (0..workers.len())
            .filter(|index| !order.contains(index))
            .filter(|index| workers[*index].speaks_native)
            .filter(|index| workers[*index].status == WorkerStatus::Reserved)
            .collect();
        if !reserved.is_empty() {
            let as_free: Vec<WorkerFacts> =
                reserved.iter().map(|index| workers[*index].as_if_free()).collect();
            let ranking = select(policies, job, &as_free).await.ranking;
            order.extend(ranking.iter().filter_map(|choice| reserved.get(choice.index).copied()));
        }
        for (index, worker) in
            workers.iter().enumerate().filter(|(index, _)| !order.contains(index))
        {
            let exclusion = selection.left_out.iter().find(|left_out| left_out.index == index);
            let is_busy = worker.status != WorkerStatus::Available;
            let why = match exclusion {
                // A policy knows no more than the status of a worker that takes no jobs.
                Some(out) if out.reason != worker.status.as_str() => out.reason.clone(),
                _ if is_busy => queue_text::occupied(worker, now_ms()),
                _ => "does not fit this job".to_owned(),
            };
            let reason = match worker.status {
                WorkerStatus::Available => SkipReason::Unfit,
                WorkerStatus::Maintenance => SkipReason::Maintenance,
                _ => SkipReason::Refused,
            };
            self.skipped.add(worker, reason, &why);
        }
        let order = order
            .into_iter()
            .map(|index| &workers[index])
            .filter(|worker| !self.search.failed.contains(&worker.peer_id));
        let (mut ranking, failed_lately) =
            self.search.unreliable.split(order, |worker| Some(&worker.peer_id));
        for worker in &failed_lately {
            info!(worker = %worker.peer_id, "the worker failed within the last ten minutes; asking it last");
        }
        ranking.extend(failed_lately);
        ranking
    }

    /// Asks them, several at once, until one has taken the job and is connected. Adds workers that
    /// may not know job requests to `silent`.
    async fn ask_all<'w>(
        &mut self,
        ranking: &[&'w WorkerFacts],
        silent: &mut Vec<&'w WorkerFacts>,
    ) -> Result<Option<Connected>, ClientError> {
        let (mut asking, mut answers) = (Asking::new(ranking.len()), HashMap::new());
        loop {
            match asking.next(Instant::now()) {
                Next::Ask(place) => {
                    let (room, worker) = (&mut *self.room, ranking[place]);
                    match beyond_python(room, &worker.peer_id, self.spec) {
                        Some(refused) if !worker.speaks_native => {
                            self.skipped.add(worker, SkipReason::Refused, &refused);
                            asking.over(place);
                        }
                        _ => room.request(&worker.peer_id, self.spec).await?,
                    }
                }
                Next::Wait(until) => {
                    if self.skipped.has(SkipReason::Reserved)
                        && self.give_up_late(&asking, ranking).await
                    {
                        return Ok(None);
                    }
                    match self.reply_until(until, ranking).await? {
                        Some((place, RequestReply::Yes(response))) => {
                            asking.yes(place);
                            answers.insert(place, response);
                        }
                        Some((place, RequestReply::No { why, obstacle })) => {
                            asking.over(place);
                            self.skipped.add(ranking[place], obstacle.into(), &why);
                        }
                        None => {}
                    }
                }
                Next::GiveUp(place) => self.give_up(ranking[place], silent).await,
                Next::Use(place) => {
                    for late in asking.overdue(Instant::now()) {
                        self.search.unreliable.failed(&ranking[late].peer_id);
                    }
                    for other in asking.release_others(place) {
                        self.room.release(&ranking[other].peer_id).await;
                    }
                    let answer: Option<JobResponse> = answers.remove(&place);
                    let minutes = answer.and_then(|answer| answer.estimated_duration_minutes);
                    if let Some(connected) = self.take(ranking[place], minutes).await? {
                        return Ok(Some(connected));
                    }
                    asking.over(place);
                }
                Next::Nobody => return Ok(None),
            }
        }
    }

    /// The next answer of one of these workers, with its place, if there is one by then.
    async fn reply_until(
        &mut self,
        until: Instant,
        ranking: &[&WorkerFacts],
    ) -> Result<Option<(usize, RequestReply)>, ClientError> {
        let reply = self.room.reply(self.spec);
        let Ok(reply) = tokio::time::timeout_at(until.into(), reply).await else { return Ok(None) };
        let (from, reply) = reply?;
        let place = ranking.iter().position(|worker| worker.peer_id == from);
        Ok(place.map(|place| (place, reply)))
    }

    /// Asks the worker that the user has chosen.
    async fn ask_chosen(&mut self, worker: &WorkerFacts) -> Result<Option<Connected>, ClientError> {
        let mut silent = Vec::new();
        let connected = self.ask_all(&[worker], &mut silent).await?;
        match (connected, silent.pop()) {
            (None, Some(silent)) => self.offer(silent, false).await,
            (connected, _) => Ok(connected),
        }
    }

    /// Gives up the workers that should have answered, if no others are left: a slot that is only reserved
    /// may be free before they answer. Returns whether that is so.
    async fn give_up_late(&mut self, asking: &Asking, ranking: &[&WorkerFacts]) -> bool {
        let now = Instant::now();
        let late: Vec<_> = asking.overdue(now).into_iter().map(|place| ranking[place]).collect();
        // An older program may be about to answer.
        let is_over =
            asking.waits_for_overdue_ones(now) && late.iter().all(|worker| worker.speaks_native);
        if is_over {
            for worker in late {
                self.give_up(worker, &mut Vec::new()).await;
            }
        }
        is_over
    }

    /// A worker has not answered.
    async fn give_up<'w>(&mut self, worker: &'w WorkerFacts, silent: &mut Vec<&'w WorkerFacts>) {
        self.room.release(&worker.peer_id).await;
        match worker.speaks_native {
            true => {
                self.search.unreliable.failed(&worker.peer_id);
                self.skipped.add(worker, SkipReason::Silent, &"did not answer");
            }
            false => silent.push(worker),
        }
    }

    /// Gives the job to a worker that takes it.
    async fn take(
        &mut self,
        worker: &WorkerFacts,
        minutes: Option<f64>,
    ) -> Result<Option<Connected>, ClientError> {
        let peer = &worker.peer_id;
        info!(worker = %peer, "the worker takes the job");
        // A worker of ours says more when it has accepted the job.
        let estimate = estimate_text(minutes.filter(|_| !worker.speaks_native));
        say(&format!("Selected {} ({peer}){estimate}", name(worker)));
        self.room.assign(peer, self.spec).await?;
        self.offer(worker, false).await
    }

    async fn offer(
        &mut self,
        worker: &WorkerFacts,
        may_wait: bool,
    ) -> Result<Option<Connected>, ClientError> {
        let limit = if worker.speaks_native { NATIVE_ANSWER_LIMIT } else { ANSWER_LIMIT };
        let peer = &worker.peer_id;
        let goal = Goal::NewJob { may_wait };
        let offered = self.room.offer_with_question(peer, &goal, limit).await;
        self.room.release(peer).await;
        match offered {
            Ok(Offered::Yes(connected)) => {
                self.search.unreliable.worked(peer);
                return Ok(Some(*connected));
            }
            Ok(Offered::Refused(why) | Offered::Unknown(why)) => {
                self.skipped.add(worker, SkipReason::Refused, &why);
            }
            Ok(Offered::Absent(why)) => {
                self.search.unreliable.failed(peer);
                self.skipped.add(worker, SkipReason::Silent, &why);
            }
            // Neither an impostor nor an unreachable worker may end the search.
            Err(ClientError::Untrusted { why, .. }) => {
                self.search.unreliable.failed(peer);
                self.skipped.add(worker, SkipReason::Untrusted, &why);
            }
            Err(error @ ClientError::Connect { .. }) => {
                self.search.unreliable.failed(peer);
                self.skipped.add(worker, SkipReason::Silent, &error);
            }
            Err(error) => return Err(error),
        }
        Ok(None)
    }
}

fn estimate_text(minutes: Option<f64>) -> String {
    match minutes {
        // That much is unknown.
        Some(minutes) if !(0.0..1e6).contains(&minutes) => String::new(),
        Some(minutes) => format!(", about {}", duration(minutes * 60.0)),
        None => String::new(),
    }
}

/// Lets the user choose, and choose again if that worker does not take the job.
async fn interactive(
    room: &mut Room,
    spec: &JobSpec,
    search: &mut Search,
) -> Result<Connected, ClientError> {
    let min_memory_mib = spec.description.requirements.min_gpu_memory_mib;
    loop {
        let worker = match prompt::pick(room, min_memory_mib).await? {
            Picked::Worker(worker) => *worker,
            Picked::Quit => return Err(ClientError::Cancelled(Ended::Choice)),
            Picked::TooLate => {
                return Err(NoWorker::NotChosen.into());
            }
        };
        let mut round = Round { room, spec, search, skipped: Skipped::default() };
        if let Some(connected) = round.ask_chosen(&worker).await? {
            return Ok(connected);
        }
        say(&format!("That worker did not take the job:\n{}", round.skipped.lines()));
    }
}
