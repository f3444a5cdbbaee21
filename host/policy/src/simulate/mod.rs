//! Runs a trace against policies on a virtual clock: which job would have run where, and when.
//!
//! The real components decide, as they would between real programs: the client's selection ranks the room,
//! the first worker in that order whose compatibility check says yes takes the job, and the estimates say
//! where a job that finds no free slot waits, which is where it is expected to start first. Jobs of a
//! worker's queue start in the order of its queueing policy, as far as they fit the slot that is free.
//!
//! Everything here blocks. A simulation has no random numbers: the same trace and the same policies give the
//! same result.

pub mod generate;
mod room;
pub mod statistics;
pub mod trace;

use super::bindings::types::{Context, Job, Worker};
use super::compose::{WhenNobodyAnswers, ask_until_answered};
use super::questions::order::OrderLine;
use super::questions::{Check, EstimateDuration, Select};
use super::{
    Choice, JobHere, Line, LineOrder, LocalTime, Policies, PolicyConfig, PolicyError, Verdict,
    compose, facts,
};
use room::{SimulatedRun, SimulatedWorker, UNKNOWN_MS, Users, Waiting};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use trace::{Trace, TraceJob};

/// How soon a worker with a free slot asks again about jobs that did not fit: rules may depend on the time.
const LOOK_AGAIN_MS: u64 = 600_000;
/// The longest time between two such questions.
const LOOK_AGAIN_LIMIT_MS: u64 = 3_600_000;
/// How long a job waits for a worker on which nothing happens. Rules repeat every week.
const PATIENCE_MS: u64 = 8 * 86_400_000;
/// The time limit of a call. A slow machine must not change the result.
const CALL_MS: u64 = 60_000;

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    /// It ran.
    Ran {
        /// The worker, by its place in the trace.
        worker: usize,
        /// The slot.
        slot: usize,
        /// When it started, in milliseconds since the start of the trace.
        start_ms: u64,
        /// When it ended.
        end_ms: u64,
        /// For how long it waited after a job that had come later was started before it.
        passed_over_ms: u64,
    },
    /// No worker took it.
    Refused(String),
}

/// The result of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulated {
    /// What happened to each job of the trace, in its order.
    pub jobs: Vec<JobResult>,
    /// How often plugins failed, for each extension point with failures.
    pub failures: BTreeMap<&'static str, u64>,
}

/// Runs `trace` with the plugins of `config`, each call of which gets enough time.
///
/// # Errors
///
/// Names the first plugin that cannot be used.
pub fn simulate(trace: &Trace, config: &PolicyConfig) -> Result<Simulated, PolicyError> {
    let mut config = config.clone();
    // A simulation decides nothing.
    config.record = None;
    for plugin in config.all_plugins_mut() {
        plugin.timeout_ms = plugin.timeout_ms.max(CALL_MS);
    }
    let policies = Policies::load(&config)?;
    let jobs = Simulation::new(trace, &policies).run();
    Ok(Simulated { jobs, failures: policies.all_failures() })
}

/// What happens next. At the same time, ends come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ended { worker: usize, slot: usize },
    Arrived { job: usize },
    LookAgain { worker: usize },
}

struct Simulation<'a> {
    trace: &'a Trace,
    policies: &'a Policies,
    now_ms: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    workers: Vec<SimulatedWorker>,
    jobs: Vec<Job>,
    users: Users,
    results: Vec<Option<JobResult>>,
    /// When a job that waits was first passed over.
    passed_over: BTreeMap<usize, u64>,
    /// The room as the client asks about it, and as if every slot were free.
    room: Select,
    room_if_free: Select,
    /// The workers that differ from what the two say.
    changed: Vec<bool>,
    minute: u64,
}

impl<'a> Simulation<'a> {
    fn new(trace: &'a Trace, policies: &'a Policies) -> Self {
        let workers: Vec<_> = trace.workers.iter().map(SimulatedWorker::new).collect();
        let jobs: Vec<_> = trace.jobs.iter().map(|job| facts::job(&job.description)).collect();
        let seen: Vec<Worker> = workers.iter().map(|worker| worker.seen.clone()).collect();
        let context = facts::context(None, &[], trace.start);
        let question = |workers: Vec<Worker>| Select {
            context: context.clone(),
            job: jobs[0].clone(),
            workers,
        };
        let arrivals = trace.jobs.iter().enumerate();
        Self {
            trace,
            policies,
            now_ms: 0,
            events: arrivals
                .map(|(job, arrived)| Reverse((arrived.at_ms, Event::Arrived { job })))
                .collect(),
            room: question(seen.clone()),
            room_if_free: question(seen),
            changed: vec![true; workers.len()],
            users: Users::of(&trace.jobs),
            results: vec![None; jobs.len()],
            passed_over: BTreeMap::new(),
            workers,
            jobs,
            minute: 0,
        }
    }

    fn run(mut self) -> Vec<JobResult> {
        while let Some(Reverse((at_ms, event))) = self.events.pop() {
            self.set_clock(at_ms);
            match event {
                Event::Arrived { job } => self.arrive(job),
                Event::Ended { worker, slot } => {
                    self.workers[worker].end(slot, self.now_ms);
                    self.workers[worker].count(self.now_ms, &self.users);
                    self.changed[worker] = true;
                    self.fill(worker);
                }
                Event::LookAgain { worker } => self.look_again(worker),
            }
        }
        let never = || JobResult::Refused("it was never started".to_owned());
        self.results.into_iter().map(|result| result.unwrap_or_else(never)).collect()
    }

    fn set_clock(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        let minute = now_ms / 60_000;
        if minute != self.minute {
            self.minute = minute;
            let properties = self.local_time().properties();
            self.room.context.properties.clone_from(&properties);
            self.room_if_free.context.properties = properties;
        }
    }

    fn local_time(&self) -> LocalTime {
        self.trace.start.after_ms(self.now_ms)
    }

    /// A job arrives: it starts, waits or is refused.
    fn arrive(&mut self, job: usize) {
        self.update_room();
        for choice in self.rank(job) {
            if self.workers[choice.index].is_free() && self.is_admitted(job, choice.index) {
                let estimate_ms = self.estimate_ms(job, &self.workers[choice.index].offer());
                self.start(job, choice.index, estimate_ms);
                return;
            }
        }
        match self.place_to_wait(job) {
            Ok(worker) => {
                let estimate_ms = self.estimate_ms(job, &self.workers[worker].as_if_free());
                let waiting = Waiting { job, since_ms: self.now_ms, estimate_ms };
                self.workers[worker].waiting.push_back(waiting);
                // A slot is free that the job does not fit now.
                self.schedule_look(worker);
            }
            Err(why) => self.results[job] = Some(JobResult::Refused(why)),
        }
    }

    /// The workers that the job is offered to.
    fn rank(&mut self, job: usize) -> Vec<Choice> {
        if !self.workers.iter().any(SimulatedWorker::is_free) {
            // Whoever is asked would say no.
            return Vec::new();
        }
        self.room.job.clone_from(&self.jobs[job]);
        compose::rank(&self.policies.points.selection, &mut self.room).ranking
    }

    /// The worker on which the job should start first, of those that would take it.
    fn place_to_wait(&mut self, job: usize) -> Result<usize, String> {
        self.room_if_free.job.clone_from(&self.jobs[job]);
        let selection = compose::rank(&self.policies.points.selection, &mut self.room_if_free);
        let ranked = selection.ranking.iter().map(|choice| choice.index);
        let mut candidates: Vec<(u64, usize)> = ranked
            .filter(|worker| self.workers[*worker].is_open())
            .map(|worker| (self.workers[worker].expected_start_ms(self.now_ms), worker))
            .collect();
        // Stable: among equals the ranking decides.
        candidates.sort_by_key(|(start_ms, _)| *start_ms);
        let mut why = selection.left_out.into_iter().next().map(|out| out.reason);
        for (_, worker) in candidates {
            match self.check(job, self.workers[worker].as_if_free()) {
                Verdict::Yes => return Ok(worker),
                Verdict::No(reasons) => {
                    why = reasons.into_iter().next().map(|reason| reason.message)
                }
            }
        }
        Err(why.unwrap_or_else(|| "no worker is ranked".to_owned()))
    }

    /// Brings what clients see up to date.
    fn update_room(&mut self) {
        for (index, worker) in self.workers.iter_mut().enumerate() {
            self.changed[index] |= worker.count_if_due(self.now_ms, &self.users);
            if std::mem::take(&mut self.changed[index]) {
                self.room.workers[index].clone_from(&worker.seen);
                self.room_if_free.workers[index] = worker.as_if_free();
            }
        }
    }

    fn is_admitted(&self, job: usize, worker: usize) -> bool {
        self.check(job, self.workers[worker].offer()) == Verdict::Yes
    }

    fn check(&self, job: usize, worker: Worker) -> Verdict {
        let question = Check { context: self.context(), job: self.jobs[job].clone(), worker };
        compose::admit(&self.policies.points.compatibility, question)
    }

    fn estimate_ms(&self, job: usize, worker: &Worker) -> u64 {
        let (context, job) = (self.context(), self.jobs[job].clone());
        let question = EstimateDuration { context, job, worker: worker.clone() };
        let points = &self.policies.points;
        let otherwise = WhenNobodyAnswers::NoAnswer;
        let estimate =
            ask_until_answered(&points.estimate, question, Option::is_some, otherwise).answered;
        let minutes = estimate.and_then(|estimate| Some(estimate.answer?.minutes));
        minutes.map_or(UNKNOWN_MS, |minutes| (minutes * 60_000.0).round() as u64)
    }

    fn context(&self) -> Context {
        self.room.context.clone()
    }

    fn start(&mut self, job: usize, worker: usize, estimate_ms: u64) {
        let now_ms = self.now_ms;
        let host = &mut self.workers[worker];
        let running =
            SimulatedRun { job, since_ms: now_ms, expected_ms: now_ms.saturating_add(estimate_ms) };
        let Some(slot) = host.start(running) else { return };
        self.changed[worker] = true;
        for waiting in host.waiting.iter().filter(|waiting| waiting.job < job) {
            self.passed_over.entry(waiting.job).or_insert(now_ms);
        }
        let took_ms = self.trace.jobs[job].duration_ms as f64 / host.trace.speed;
        let end_ms = now_ms.saturating_add((took_ms + 0.5).floor() as u64);
        self.events.push(Reverse((end_ms, Event::Ended { worker, slot })));
        let passed_over_ms = self.passed_over.remove(&job).map_or(0, |since_ms| now_ms - since_ms);
        self.results[job] =
            Some(JobResult::Ran { worker, slot, start_ms: now_ms, end_ms, passed_over_ms });
    }

    /// Starts what waits on a worker, as far as slots are free that fit.
    fn fill(&mut self, worker: usize) {
        while self.workers[worker].is_free() {
            let order = self.order(worker);
            let jobs = &self.workers[worker].waiting;
            let fits = |place: &usize| self.is_admitted(jobs[*place].job, worker);
            let Some(place) = order.into_iter().find(fits) else { break };
            let Some(next) = self.workers[worker].waiting.remove(place) else { break };
            self.start(next.job, worker, next.estimate_ms);
            self.workers[worker].look_again_ms = LOOK_AGAIN_MS;
        }
        self.schedule_look(worker);
    }

    /// The order in which the jobs start that wait at a worker, by their places in its queue.
    fn order(&self, worker: usize) -> Vec<usize> {
        let host = &self.workers[worker];
        let came: Vec<usize> = (0..host.waiting.len()).collect();
        if came.len() < 2 {
            return came;
        }
        let here = |job: usize, since_ms: u64, left_ms: u64, slots| {
            let TraceJob { id, description, .. } = &self.trace.jobs[job];
            JobHere {
                id: id.clone(),
                user: description.user.clone().unwrap_or_else(|| id.clone()),
                description: description.clone(),
                since_s: (self.now_ms - since_ms) / 1000,
                takes_s: Some(left_ms.div_ceil(1000)),
                slots,
            }
        };
        let running = host.running().map(|(slot, job)| {
            here(job.job, job.since_ms, job.expected_ms.saturating_sub(self.now_ms), vec![slot])
        });
        let waiting = host.waiting.iter().map(|waiting| {
            let needs_mib = self.jobs[waiting.job].requirements.min_gpu_memory_mib;
            let slots = host.fitting(needs_mib.unwrap_or(0));
            here(waiting.job, waiting.since_ms, waiting.estimate_ms, slots)
        });
        let line = Line { running: running.collect(), waiting: waiting.collect() };
        let question = OrderLine::new(self.context(), host.seen.clone(), &line);
        match compose::order(&self.policies.points.queueing, question) {
            LineOrder::Failed(_) => came,
            LineOrder::Decided { places, .. } => {
                let mut is_placed = vec![false; came.len()];
                let mut order: Vec<usize> = places.into_iter().map(|place| place.index).collect();
                order.iter().for_each(|place| is_placed[*place] = true);
                order.extend(came.into_iter().filter(|place| !is_placed[*place]));
                order
            }
        }
    }

    /// Has a worker with a free slot ask again about the jobs that wait there.
    fn schedule_look(&mut self, worker: usize) {
        let host = &mut self.workers[worker];
        if host.is_free()
            && !host.waiting.is_empty()
            && !std::mem::replace(&mut host.looks_again, true)
        {
            let at_ms = self.now_ms + host.look_again_ms;
            self.events.push(Reverse((at_ms, Event::LookAgain { worker })));
        }
    }

    fn look_again(&mut self, worker: usize) {
        let host = &mut self.workers[worker];
        host.looks_again = false;
        host.look_again_ms = (host.look_again_ms * 2).min(LOOK_AGAIN_LIMIT_MS);
        let now_ms = self.now_ms;
        let is_idle = host.is_idle();
        let gives_up = |waiting: &Waiting| is_idle && now_ms - waiting.since_ms > PATIENCE_MS;
        for late in host.waiting.iter().filter(|waiting| gives_up(waiting)) {
            let why = "it waited for eight days, and the worker never took it".to_owned();
            self.results[late.job] = Some(JobResult::Refused(why));
        }
        host.waiting.retain(|waiting| !gives_up(waiting));
        self.fill(worker);
    }
}
