//! The queue of a worker in random histories.

use super::*;
use crate::ids::PeerId;
use crate::worker::{QueueEvent, Refused, Slot, WorkerEvent, WorkerState};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use web_time::{Duration, Instant};

const LIMITS: QueueLimits = QueueLimits { jobs: 4, bytes: 100, jobs_per_user: 3 };
/// The GPU memory of the slots, in MiB.
const SLOTS_MIB: [u64; 3] = [8, 16, 24];

fn job(number: u32) -> JobId {
    JobId::new(format!("j{number}")).unwrap()
}

fn peer(number: u8) -> PeerId {
    PeerId::new(format!("p{number}")).unwrap()
}

/// What happens in a history.
#[derive(Debug, Clone)]
enum Step {
    /// A client asks for a place.
    Ask(u8),
    /// A client names its job.
    Name {
        peer: u8,
        user: u8,
        bytes: u64,
    },
    /// A client that has a place hands its job over.
    Submit {
        peer: u8,
        user: u8,
        needs_mib: u64,
        bytes: u64,
    },
    /// A client without a queued job takes a slot directly, and starts its job.
    Direct(u8),
    /// A client goes away before it has handed its job over.
    Leave(u8),
    Cancel(prop::sample::Index),
    JobEnds(prop::sample::Index),
    /// The worker is killed and starts again.
    Restart,
    Hold(prop::sample::Index),
    Release(prop::sample::Index),
    Front(prop::sample::Index),
    SlotsUsable(Vec<bool>),
    BeginMaintenance,
    EndMaintenance,
    TimePasses(u8),
}

/// What the policy does when it is asked.
#[derive(Debug, Clone)]
enum Policy {
    /// It fails.
    Fails,
    /// It answers: with the jobs in this order, some left out, one that nobody knows.
    Answers(Vec<prop::sample::Index>),
    /// It answers for a line that has changed meanwhile.
    Late,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0..6u8).prop_map(Step::Ask),
        1 => (0..6u8, 0..3u8, 0..60u64)
            .prop_map(|(peer, user, bytes)| Step::Name { peer, user, bytes }),
        6 => (0..6u8, 0..3u8, prop::sample::select(vec![0, 8, 16, 24, 99]), 0..60u64).prop_map(
            |(peer, user, needs_mib, bytes)| Step::Submit { peer, user, needs_mib, bytes }
        ),
        2 => (0..6u8).prop_map(Step::Direct),
        1 => (0..6u8).prop_map(Step::Leave),
        2 => index().prop_map(Step::Cancel),
        5 => index().prop_map(Step::JobEnds),
        1 => Just(Step::Restart),
        1 => index().prop_map(Step::Hold),
        2 => index().prop_map(Step::Release),
        1 => index().prop_map(Step::Front),
        1 => prop::collection::vec(any::<bool>(), 3).prop_map(Step::SlotsUsable),
        1 => Just(Step::BeginMaintenance),
        2 => Just(Step::EndMaintenance),
        1 => (0..20u8).prop_map(Step::TimePasses),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        1 => Just(Policy::Fails),
        3 => prop::collection::vec(any::<prop::sample::Index>(), 0..6).prop_map(Policy::Answers),
        1 => Just(Policy::Late),
    ]
}

/// What a job's folder says.
#[derive(Debug, Clone, PartialEq)]
enum OnDisk {
    Queued(WaitingJob),
    Running(usize),
    Over,
}

/// A worker with its disk.
struct World {
    state: WorkerState,
    disk: BTreeMap<JobId, OnDisk>,
    /// Every start of a job.
    starts: Vec<JobId>,
    drained: bool,
    usable: Vec<bool>,
    start: Instant,
    clock_ms: u64,
    next_job: u32,
    policies: Vec<Policy>,
    /// How the order that holds now came about.
    failed: bool,
}

impl World {
    fn new(policies: Vec<Policy>) -> Self {
        let mut world = Self {
            state: WorkerState::new(SLOTS_MIB.len()),
            disk: BTreeMap::new(),
            starts: Vec::new(),
            drained: false,
            usable: vec![true; SLOTS_MIB.len()],
            start: Instant::now(),
            clock_ms: 1,
            next_job: 0,
            policies,
            failed: false,
        };
        world.boot();
        world
    }

    /// A worker that has just started, with what the disk has.
    fn boot(&mut self) {
        self.state = WorkerState::new(SLOTS_MIB.len()).with_queue(LIMITS);
        self.drained = false;
        let usable = self.usable.clone();
        self.state.apply(WorkerEvent::SlotMemory { mib: SLOTS_MIB.to_vec() }).unwrap();
        self.state.apply(WorkerEvent::SlotsUsable { usable }).unwrap();
        for (job, state) in self.disk.clone() {
            let event = match state {
                OnDisk::Queued(waiting) => QueueEvent::JobFound { waiting }.into(),
                OnDisk::Running(slot) => WorkerEvent::JobFound { job, slot: Some(slot) },
                OnDisk::Over => continue,
            };
            self.state.apply(event).unwrap();
        }
    }

    /// A job of the line.
    fn waiting(&self, index: prop::sample::Index) -> Option<WaitingJob> {
        let jobs = self.state.queue().jobs();
        (!jobs.is_empty()).then(|| index.get(jobs).clone())
    }

    fn decide(&mut self, index: prop::sample::Index, change: impl Fn(&mut QueueEntry)) {
        if let Some(mut waiting) = self.waiting(index) {
            change(&mut waiting.entry);
            // The disk first, as the worker does.
            self.disk.insert(waiting.job.clone(), OnDisk::Queued(waiting.clone()));
            let event = QueueEvent::Changed { job: waiting.job, entry: waiting.entry };
            self.state.apply(event).unwrap();
        }
    }

    fn step(&mut self, step: Step) {
        let until = self.start + Duration::from_millis(self.clock_ms) + Duration::from_secs(10);
        match step {
            Step::Ask(number) => {
                let _ = self.state.apply(QueueEvent::NewPlace { peer: peer(number), until });
            }
            Step::Name { peer: number, user, bytes } => {
                let (peer, user) = (peer(number), format!("u{user}"));
                let named = QueueEvent::PlaceNamed { peer, user, package_bytes: bytes };
                let _ = self.state.apply(named);
            }
            Step::Submit { peer: number, user, needs_mib, bytes } => {
                self.submit(peer(number), format!("u{user}"), needs_mib, bytes);
            }
            Step::Direct(number) => self.start_directly(peer(number), until),
            Step::Leave(number) => {
                self.state.apply(WorkerEvent::PeerGone { peer: peer(number) }).unwrap();
            }
            Step::Cancel(index) => {
                if let Some(waiting) = self.waiting(index) {
                    self.disk.insert(waiting.job.clone(), OnDisk::Over);
                    self.state.apply(QueueEvent::Withdrawn { job: waiting.job }).unwrap();
                }
            }
            Step::JobEnds(index) => {
                let running: Vec<JobId> = self.state.jobs().cloned().collect();
                if !running.is_empty() {
                    let job = index.get(&running).clone();
                    self.disk.insert(job.clone(), OnDisk::Over);
                    self.state.apply(WorkerEvent::JobEnded { job }).unwrap();
                }
            }
            Step::Restart => self.boot(),
            Step::Hold(index) => self.decide(index, |entry| entry.is_held = true),
            Step::Release(index) => self.decide(index, |entry| entry.is_held = false),
            Step::Front(index) => {
                let now_ms = self.clock_ms;
                self.decide(index, |entry| entry.front_ms = Some(now_ms));
            }
            Step::SlotsUsable(usable) => {
                self.usable.clone_from(&usable);
                self.state.apply(WorkerEvent::SlotsUsable { usable }).unwrap();
            }
            Step::BeginMaintenance => {
                self.drained = true;
                self.state.apply(WorkerEvent::BeginMaintenance).unwrap();
            }
            Step::EndMaintenance => {
                self.drained = false;
                self.state.apply(WorkerEvent::EndMaintenance).unwrap();
            }
            Step::TimePasses(seconds) => {
                self.clock_ms += u64::from(seconds) * 1000;
                let now = self.start + Duration::from_millis(self.clock_ms);
                self.state.apply(WorkerEvent::Tick { now }).unwrap();
            }
        }
        self.clock_ms += 1;
    }

    /// The package of `peer` is complete: its job takes the slot or the place that the peer holds.
    fn submit(&mut self, peer: PeerId, user: String, needs_mib: u64, package_bytes: u64) {
        let job = job(self.next_job);
        let entry = QueueEntry { since_ms: self.clock_ms, package_bytes, ..QueueEntry::default() };
        let waiting = WaitingJob { job: job.clone(), user, needs_mib, entry };
        let entered = self.state.apply(QueueEvent::JobQueued { peer, waiting: waiting.clone() });
        if entered.is_ok() {
            self.next_job += 1;
            self.disk.insert(job, OnDisk::Queued(waiting));
        }
    }

    fn start_directly(&mut self, peer: PeerId, until: Instant) {
        let reserved = self.state.apply(WorkerEvent::NewJob { peer: peer.clone(), until });
        let job = job(self.next_job);
        if reserved.is_ok()
            && self.state.apply(WorkerEvent::JobStarted { peer, job: job.clone() }).is_ok()
        {
            self.next_job += 1;
            self.started(job);
        }
    }

    fn started(&mut self, job: JobId) {
        let slot = self.state.slot_of(&job).expect("it has a slot");
        self.disk.insert(job.clone(), OnDisk::Running(slot));
        self.starts.push(job);
    }

    /// Asks the policy until the order is up to date, and starts what may start.
    fn settle(&mut self) {
        while self.state.queue().wants_order() {
            let jobs = self.state.queue().jobs();
            let mut revision = self.state.queue().revision();
            let policy = self.policies.pop().unwrap_or(Policy::Fails);
            let (by, places) = match policy {
                Policy::Fails => (OrderedBy::Failed("it panicked".into()), Vec::new()),
                Policy::Answers(order) => {
                    let pick = |i: &prop::sample::Index| (i.get(jobs).job.clone(), "why".into());
                    let mut places: Vec<(JobId, String)> = order.iter().map(pick).collect();
                    places.push((job(u32::MAX), "nobody".into()));
                    (OrderedBy::Plugin("p".into()), places)
                }
                Policy::Late => {
                    revision -= 1;
                    (OrderedBy::Plugin("p".into()), Vec::new())
                }
            };
            self.failed = matches!(by, OrderedBy::Failed(_));
            self.state.apply(QueueEvent::Ordered(Order { revision, by, places })).unwrap();
            if self.state.queue().wants_order() {
                assert_eq!(self.state.start_waiting(), [], "started by an order of yesterday");
            }
        }
        for (job, slot) in self.state.start_waiting() {
            assert_eq!(self.state.slot_of(&job), Some(slot));
            self.started(job);
        }
    }

    fn check(&self) {
        // Never two starts.
        let once: BTreeSet<&JobId> = self.starts.iter().collect();
        assert_eq!(once.len(), self.starts.len(), "a job started twice");
        // Never a lost job: each is where its folder says.
        let waiting: Vec<&JobId> = self.state.queue().jobs().iter().map(|w| &w.job).collect();
        for (job, on_disk) in &self.disk {
            let waits = waiting.iter().filter(|other| **other == job).count();
            match on_disk {
                OnDisk::Queued(_) => assert_eq!((waits, self.state.runs(job)), (1, false)),
                OnDisk::Running(_) => assert_eq!((waits, self.state.runs(job)), (0, true)),
                OnDisk::Over => assert_eq!((waits, self.state.runs(job)), (0, false)),
            }
        }
        assert!(waiting.iter().all(|job| self.disk.contains_key(*job)), "a job from nowhere");
        self.check_slots();
        self.check_rules();
    }

    /// Never an idle slot beside a job that fits it, and none that goes to others.
    fn check_slots(&self) {
        for waiting in self.state.queue().jobs() {
            if waiting.entry.is_held || self.drained {
                continue;
            }
            for slot in self.state.fitting(waiting.needs_mib) {
                assert_ne!(self.state.slots()[slot], Slot::Free, "{waiting:?} fits slot {slot}");
                assert!(!self.state.is_open(slot));
            }
        }
        for (slot, content) in self.state.slots().iter().enumerate() {
            if let Slot::Running { job } = content
                && let Some(OnDisk::Running(at)) = self.disk.get(job)
            {
                assert!(*at == slot || !self.usable[*at] || self.starts.contains(job));
            }
        }
    }

    /// Every place names the rule that gave it.
    fn check_rules(&self) {
        let line = self.state.start_order();
        assert_eq!(line.len(), self.state.queue().jobs().len());
        let group = |rule: &Rule| match rule {
            Rule::Front => Some(0),
            Rule::Policy { .. } => Some(1),
            Rule::LeftOut { .. } | Rule::Failed { .. } => Some(2),
            Rule::Held => Some(3),
            Rule::NoSlot { .. } => None,
            Rule::New => panic!("the order is up to date"),
        };
        let groups: Vec<u8> = line.iter().filter_map(|(_, rule)| group(rule)).collect();
        assert!(groups.is_sorted(), "{line:?}");
        for (waiting, rule) in &line {
            let is_fronted = waiting.entry.front_ms.is_some();
            match rule {
                Rule::Held => assert!(waiting.entry.is_held),
                Rule::Front => assert!(is_fronted && !waiting.entry.is_held),
                Rule::NoSlot { needs_mib } => {
                    assert!(self.state.fitting(*needs_mib).is_empty());
                }
                Rule::Failed { .. } => assert!(self.failed && !is_fronted),
                _ => assert!(!self.failed && !is_fronted && !waiting.entry.is_held),
            }
            assert!(!rule.reason().message.is_empty());
        }
        if self.failed {
            let by_age = line.iter().filter(|(_, rule)| matches!(rule, Rule::Failed { .. }));
            assert!(by_age.map(|(waiting, _)| waiting.entry.since_ms).is_sorted());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// In any history: no job starts twice, none is lost, no slot is idle beside a job that fits it, and
    /// every place names the rule that was applied.
    #[test]
    fn the_line_keeps_its_promises(
        steps in prop::collection::vec(step(), 0..40),
        policies in prop::collection::vec(policy(), 0..20),
    ) {
        let mut world = World::new(policies);
        for step in steps {
            world.step(step);
            world.settle();
            world.check();
        }
    }
}

#[test]
fn the_line_is_bounded_and_says_by_what() {
    let mut state = WorkerState::new(1).with_queue(LIMITS);
    let until = Instant::now() + Duration::from_secs(10);
    let mut ask = |number| state.apply(QueueEvent::NewPlace { peer: peer(number), until });
    assert!((0..4).all(|number| ask(number).is_ok()));
    assert_eq!(ask(4), Err(Refused::Queue(QueueRefused::Full(4))));
    assert!(ask(0).is_ok(), "who has a place keeps it");
    let mut name = |number, user: &str, package_bytes| {
        let user = user.to_owned();
        state.apply(QueueEvent::PlaceNamed { peer: peer(number), user, package_bytes })
    };
    assert!(name(0, "ada", 60).is_ok());
    assert_eq!(name(1, "ben", 50), Err(Refused::Queue(QueueRefused::Bytes(100))));
    assert!(name(1, "ada", 30).is_ok() && name(2, "ada", 10).is_ok());
    assert_eq!(name(3, "ada", 0), Err(Refused::Queue(QueueRefused::User(3))));
    let mut none = WorkerState::new(1);
    let refused = none.apply(QueueEvent::NewPlace { peer: peer(0), until });
    assert_eq!(refused, Err(Refused::Queue(QueueRefused::NoQueue)));
}

#[test]
fn a_job_takes_the_first_slot_that_fits_and_lets_none_pass() {
    let mut state = WorkerState::new(2).with_queue(LIMITS);
    state.apply(WorkerEvent::SlotMemory { mib: vec![8, 24] }).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    for number in 0..2 {
        state.apply(WorkerEvent::NewJob { peer: peer(number), until }).unwrap();
        let started =
            WorkerEvent::JobStarted { peer: peer(number), job: job(u32::from(number) + 10) };
        state.apply(started).unwrap();
    }
    for (number, needs_mib) in [(0, 16), (1, 0)] {
        state.apply(QueueEvent::NewPlace { peer: peer(number), until }).unwrap();
        let entry = QueueEntry { since_ms: number.into(), ..QueueEntry::default() };
        let (job, user) = (job(number.into()), "ada".to_owned());
        let waiting = WaitingJob { job, user, needs_mib, entry };
        state.apply(QueueEvent::JobQueued { peer: peer(number), waiting }).unwrap();
    }
    state.apply(WorkerEvent::JobEnded { job: job(10) }).unwrap();
    // Nobody else gets the slot while the order is asked for.
    assert_eq!(state.open_slots(), 0);
    assert!(state.apply(WorkerEvent::NewJob { peer: peer(5), until }).is_err());
    let order = |state: &WorkerState| Order {
        revision: state.queue().revision(),
        by: OrderedBy::Plugin("fifo".into()),
        places: vec![(job(0), "it came first".into()), (job(1), "it came second".into())],
    };
    state.apply(QueueEvent::Ordered(order(&state))).unwrap();
    // The first does not fit the small slot, so the second has it.
    assert_eq!(state.start_waiting(), [(job(1), 0)]);
    state.apply(WorkerEvent::JobEnded { job: job(11) }).unwrap();
    state.apply(QueueEvent::Ordered(order(&state))).unwrap();
    assert_eq!(state.start_waiting(), [(job(0), 1)]);
}
