//! The slots of a worker: who waits for one, which job runs in one.
//!
//! A job is admitted, not a connection. Time comes in as an argument.
//!
//! A worker that comes back with fewer slots than jobs still run keeps the others in mind: they
//! take the slots that become free, and nobody else gets one before.

use crate::ids::{JobId, PeerId};
use serde::{Deserialize, Serialize};
use web_time::{Duration, Instant};

/// How long a slot waits for the peer it was promised to: to send its offer, then to connect.
pub const RESERVATION: Duration = Duration::from_secs(15);
/// How long it then waits for that peer's first words.
pub const FIRST_FRAME: Duration = Duration::from_secs(30);

/// A place in which one job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// Nobody's.
    Free,
    /// Promised to a peer that has not handed over its job yet.
    Reserved {
        /// To whom.
        peer: PeerId,
        /// When the promise ends by itself.
        until: Instant,
    },
    /// A job runs in it.
    Running {
        /// Which one.
        job: JobId,
    },
}

/// What discovery sees: the `status` property of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerStatus {
    /// A new job would be taken.
    Available,
    /// No slot is free, and at least one is promised rather than running.
    Reserved,
    /// A job runs in every slot.
    Busy,
    /// No new jobs until the operator says so.
    Maintenance,
    /// A word of a newer or older program.
    #[serde(other)]
    Unknown,
}

impl WorkerStatus {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Reserved => "reserved",
            Self::Busy => "busy",
            Self::Maintenance => "maintenance",
            Self::Unknown => "unknown",
        }
    }
}

/// What happens to a worker's slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// `peer` asks for a slot, until `until`. Its own reservation is renewed rather than doubled.
    NewJob {
        /// Who asks.
        peer: PeerId,
        /// When the reservation ends by itself.
        until: Instant,
    },
    /// The job of `peer` was handed over: its reserved slot now runs `job`.
    JobStarted {
        /// Who held the reservation.
        peer: PeerId,
        /// What runs now.
        job: JobId,
    },
    /// A running job that the worker found again when it started: it takes its own slot, else a
    /// free one, else the next that becomes free.
    JobFound {
        /// The job.
        job: JobId,
        /// The slot it ran in, as far as there still is such a one.
        slot: Option<usize>,
    },
    /// The job is over, whatever its outcome.
    JobEnded {
        /// The job.
        job: JobId,
    },
    /// The peer gave up, or is gone for good: its reservation ends. A running job is not touched.
    PeerGone {
        /// Who.
        peer: PeerId,
    },
    /// Time passed: reservations that ended before `now` are freed.
    Tick {
        /// The present.
        now: Instant,
    },
    /// Which slots can run a job, in their order: one whose GPU is lost cannot. Slots that are named
    /// here and are not there yet are made; those that are not named cannot.
    SlotsUsable {
        /// By slot.
        usable: Vec<bool>,
    },
    /// Take no new jobs.
    Drain,
    /// Take new jobs again.
    Resume,
}

/// Why a worker did not do what an event asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Every slot is taken.
    #[error("every slot is taken (the worker is {})", .0.as_str())]
    NoSlot(WorkerStatus),
    /// The operator wants no new jobs here.
    #[error("the worker is in maintenance and takes no new jobs")]
    Maintenance,
    /// Nothing runs, and yet no slot can run a job.
    #[error("no slot of the worker can run a job at the moment")]
    OutOfService,
    /// The peer holds no reservation.
    #[error("no slot is reserved for this peer (its reservation may have ended)")]
    NotReserved,
    /// No such job runs here.
    #[error("no such job runs here")]
    UnknownJob,
    /// The job has its slot already.
    #[error("the job runs here already")]
    AlreadyRuns,
}

/// All slots of a worker, and whether it takes new jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerState {
    slots: Vec<Slot>,
    /// Which of them can run a job.
    usable: Vec<bool>,
    /// The slots in the order in which they are taken.
    order: Vec<usize>,
    /// Jobs that were found and have no slot yet, in their order. None while a slot is free.
    surplus: Vec<JobId>,
    maintenance: bool,
}

impl WorkerState {
    /// A worker with `slots` free slots (at least one).
    pub fn new(slots: usize) -> Self {
        let slots = vec![Slot::Free; slots.max(1)];
        let usable = vec![true; slots.len()];
        let order = (0..slots.len()).collect();
        Self { slots, usable, order, surplus: Vec::new(), maintenance: false }
    }

    /// Takes the slots in this order from now on; slots that it does not name come last.
    pub fn preferring(mut self, order: Vec<usize>) -> Self {
        self.prefer(&order);
        self
    }

    /// Takes the slots in this order from now on; slots that it does not name come last.
    pub fn prefer(&mut self, order: &[usize]) {
        self.order.sort_by_key(|slot| {
            order.iter().position(|other| other == slot).unwrap_or(order.len())
        });
    }

    /// The slots, by index.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How many slots are free and can run a job.
    pub fn free(&self) -> usize {
        (0..self.slots.len()).filter(|slot| self.is_open(*slot)).count()
    }

    /// How many slots can run a job, or run one.
    pub fn in_service(&self) -> usize {
        let slots = self.slots.iter().zip(&self.usable);
        slots.filter(|(slot, usable)| **usable || matches!(slot, Slot::Running { .. })).count()
    }

    /// Whether a new job could have this slot.
    pub fn is_open(&self, slot: usize) -> bool {
        self.slots.get(slot) == Some(&Slot::Free) && self.usable[slot]
    }

    /// Whether `job` runs here, in a slot or waiting for one.
    pub fn runs(&self, job: &JobId) -> bool {
        self.slot_of(job).is_some() || self.surplus.contains(job)
    }

    /// Every running job.
    pub fn jobs(&self) -> impl Iterator<Item = &JobId> {
        let running = self.slots.iter().filter_map(|slot| match slot {
            Slot::Running { job } => Some(job),
            _ => None,
        });
        running.chain(&self.surplus)
    }

    /// Whether nothing runs and nothing is promised.
    pub fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| *slot == Slot::Free)
    }

    /// What discovery should see.
    pub fn status(&self) -> WorkerStatus {
        if self.maintenance {
            WorkerStatus::Maintenance
        } else if self.free() > 0 {
            WorkerStatus::Available
        } else if self.slots.iter().any(|slot| matches!(slot, Slot::Reserved { .. })) {
            WorkerStatus::Reserved
        } else if self.is_idle() {
            WorkerStatus::Maintenance
        } else {
            WorkerStatus::Busy
        }
    }

    /// The index of the slot in which `job` runs.
    pub fn slot_of(&self, job: &JobId) -> Option<usize> {
        self.position(|slot| matches!(slot, Slot::Running { job: running } if running == job))
    }

    /// When the next reservation ends by itself.
    pub fn next_deadline(&self) -> Option<Instant> {
        let until = |slot: &Slot| match slot {
            Slot::Reserved { until, .. } => Some(*until),
            _ => None,
        };
        self.slots.iter().filter_map(until).min()
    }

    /// Applies `event` and returns the status after it. A refused event changes nothing.
    pub fn apply(&mut self, event: WorkerEvent) -> Result<WorkerStatus, Refused> {
        match event {
            WorkerEvent::NewJob { peer, until } => self.reserve(peer, until)?,
            WorkerEvent::JobStarted { peer, job } => {
                let slot = self.reserved_for(&peer).ok_or(Refused::NotReserved)?;
                self.refuse_twice(&job)?;
                if !self.usable[slot] {
                    return Err(Refused::OutOfService);
                }
                self.slots[slot] = Slot::Running { job };
            }
            WorkerEvent::JobFound { job, slot } => {
                self.refuse_twice(&job)?;
                let own = slot.filter(|slot| self.slots.get(*slot) == Some(&Slot::Free));
                match own.or_else(|| self.position(|slot| *slot == Slot::Free)) {
                    Some(slot) => self.slots[slot] = Slot::Running { job },
                    None => self.surplus.push(job),
                }
            }
            WorkerEvent::JobEnded { job } => match self.slot_of(&job) {
                Some(slot) => self.free_up(slot),
                None => {
                    let waiting = self.surplus.iter().position(|other| *other == job);
                    self.surplus.remove(waiting.ok_or(Refused::UnknownJob)?);
                }
            },
            WorkerEvent::PeerGone { peer } => {
                if let Some(slot) = self.reserved_for(&peer) {
                    self.free_up(slot);
                }
            }
            WorkerEvent::Tick { now } => {
                let over =
                    |slot: &Slot| matches!(slot, Slot::Reserved { until, .. } if *until <= now);
                while let Some(slot) = self.position(over) {
                    self.free_up(slot);
                }
            }
            WorkerEvent::SlotsUsable { usable } => self.set_usable(&usable),
            WorkerEvent::Drain => self.maintenance = true,
            WorkerEvent::Resume => self.maintenance = false,
        }
        Ok(self.status())
    }

    fn refuse_twice(&self, job: &JobId) -> Result<(), Refused> {
        if self.runs(job) { Err(Refused::AlreadyRuns) } else { Ok(()) }
    }

    /// Nobody's any more, or at once the next found job's.
    fn free_up(&mut self, slot: usize) {
        self.slots[slot] = match self.surplus.is_empty() {
            true => Slot::Free,
            false => Slot::Running { job: self.surplus.remove(0) },
        };
    }

    fn reserve(&mut self, peer: PeerId, until: Instant) -> Result<(), Refused> {
        let own = self.reserved_for(&peer);
        if own.is_none() && self.maintenance {
            return Err(Refused::Maintenance);
        }
        let slot = own.or_else(|| self.open_slot()).ok_or(match self.status() {
            WorkerStatus::Maintenance => Refused::OutOfService,
            status => Refused::NoSlot(status),
        })?;
        self.slots[slot] = Slot::Reserved { peer, until };
        Ok(())
    }

    /// A promise of a slot that cannot run a job any more moves to one that can.
    fn set_usable(&mut self, usable: &[bool]) {
        for slot in self.slots.len()..usable.len() {
            self.order.push(slot);
            self.slots.push(match self.surplus.is_empty() {
                true => Slot::Free,
                false => Slot::Running { job: self.surplus.remove(0) },
            });
        }
        self.usable = (0..self.slots.len())
            .map(|slot| usable.get(slot).copied().unwrap_or_default())
            .collect();
        for slot in 0..self.slots.len() {
            if !self.usable[slot]
                && matches!(self.slots[slot], Slot::Reserved { .. })
                && let Some(open) = self.open_slot()
            {
                self.slots.swap(slot, open);
            }
        }
    }

    fn open_slot(&self) -> Option<usize> {
        self.order.iter().copied().find(|slot| self.is_open(*slot))
    }

    fn reserved_for(&self, peer: &PeerId) -> Option<usize> {
        self.position(|slot| matches!(slot, Slot::Reserved { peer: holder, .. } if holder == peer))
    }

    fn position(&self, wanted: impl Fn(&Slot) -> bool) -> Option<usize> {
        self.order.iter().copied().find(|slot| wanted(&self.slots[*slot]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(number: u8) -> PeerId {
        PeerId::new(format!("p{number}")).unwrap()
    }

    fn job(number: u8) -> JobId {
        JobId::new(format!("j{number}")).unwrap()
    }

    #[test]
    fn a_slot_goes_from_free_over_reserved_and_running_to_free() {
        let (now, mut state) = (Instant::now(), WorkerState::new(1));
        let until = now + RESERVATION;
        let mut step = |event| state.apply(event);
        assert_eq!(step(WorkerEvent::NewJob { peer: peer(1), until }), Ok(WorkerStatus::Reserved));
        let refused = Err(Refused::NoSlot(WorkerStatus::Reserved));
        assert_eq!(step(WorkerEvent::NewJob { peer: peer(2), until }), refused);
        let started = WorkerEvent::JobStarted { peer: peer(1), job: job(1) };
        assert_eq!(step(started.clone()), Ok(WorkerStatus::Busy));
        assert_eq!(step(started), Err(Refused::NotReserved));
        assert_eq!(step(WorkerEvent::PeerGone { peer: peer(1) }), Ok(WorkerStatus::Busy));
        assert_eq!(step(WorkerEvent::JobEnded { job: job(1) }), Ok(WorkerStatus::Available));
    }

    #[test]
    fn a_reservation_ends_by_itself_and_not_before() {
        let (now, mut state) = (Instant::now(), WorkerState::new(1));
        let until = now + RESERVATION;
        state.apply(WorkerEvent::NewJob { peer: peer(1), until }).unwrap();
        assert_eq!(state.next_deadline(), Some(until));
        assert_eq!(state.apply(WorkerEvent::Tick { now }), Ok(WorkerStatus::Reserved));
        assert_eq!(state.apply(WorkerEvent::Tick { now: until }), Ok(WorkerStatus::Available));
        assert_eq!(state.next_deadline(), None);
    }

    #[test]
    fn each_sign_of_life_gives_a_reservation_its_own_time() {
        let (start, mut state) = (Instant::now(), WorkerState::new(1));
        let reserve =
            |from: Instant, wait| WorkerEvent::NewJob { peer: peer(1), until: from + wait };
        // The offer came, then the connection, then no word.
        state.apply(reserve(start, RESERVATION)).unwrap();
        let connected = start + Duration::from_secs(10);
        state.apply(reserve(connected, FIRST_FRAME)).unwrap();
        let just_before = connected + FIRST_FRAME - Duration::from_millis(1);
        for (now, status) in [
            (start + RESERVATION, WorkerStatus::Reserved),
            (just_before, WorkerStatus::Reserved),
            (connected + FIRST_FRAME, WorkerStatus::Available),
        ] {
            assert_eq!(state.apply(WorkerEvent::Tick { now }), Ok(status));
        }
        assert_eq!(state.next_deadline(), None);
    }

    #[test]
    fn maintenance_takes_no_new_jobs_and_keeps_promises() {
        let (now, mut state) = (Instant::now(), WorkerState::new(2));
        let until = now + RESERVATION;
        state.apply(WorkerEvent::NewJob { peer: peer(1), until }).unwrap();
        assert_eq!(state.apply(WorkerEvent::Drain), Ok(WorkerStatus::Maintenance));
        let new = WorkerEvent::NewJob { peer: peer(2), until };
        assert_eq!(state.apply(new.clone()), Err(Refused::Maintenance));
        assert!(state.apply(WorkerEvent::JobStarted { peer: peer(1), job: job(1) }).is_ok());
        state.apply(WorkerEvent::Resume).unwrap();
        assert!(state.apply(new).is_ok());
    }

    fn event(start: Instant) -> impl Strategy<Value = WorkerEvent> {
        let later = move |seconds: u8| start + Duration::from_secs(seconds.into());
        prop_oneof![
            (0..4u8, any::<u8>()).prop_map(move |(number, seconds)| WorkerEvent::NewJob {
                peer: peer(number),
                until: later(seconds)
            }),
            (0..4u8, 0..4u8)
                .prop_map(|(p, j)| WorkerEvent::JobStarted { peer: peer(p), job: job(j) }),
            (0..6u8, prop::option::of(0..5usize))
                .prop_map(|(number, slot)| WorkerEvent::JobFound { job: job(number), slot }),
            (0..6u8).prop_map(|number| WorkerEvent::JobEnded { job: job(number) }),
            (0..4u8).prop_map(|number| WorkerEvent::PeerGone { peer: peer(number) }),
            any::<u8>().prop_map(move |seconds| WorkerEvent::Tick { now: later(seconds) }),
            prop::collection::vec(any::<bool>(), 0..5)
                .prop_map(|usable| WorkerEvent::SlotsUsable { usable }),
            Just(WorkerEvent::Drain),
            Just(WorkerEvent::Resume),
        ]
    }

    #[test]
    fn a_slot_whose_gpu_is_lost_takes_no_job_while_the_others_do() {
        let (now, mut state) = (Instant::now(), WorkerState::new(2));
        let usable = |first, second| WorkerEvent::SlotsUsable { usable: vec![first, second] };
        let until = now + RESERVATION;
        let new = |number| WorkerEvent::NewJob { peer: peer(number), until };
        assert_eq!(state.apply(usable(false, true)), Ok(WorkerStatus::Available));
        assert_eq!((state.free(), state.in_service(), state.is_open(0)), (1, 1, false));
        assert_eq!(state.apply(new(1)), Ok(WorkerStatus::Reserved));
        assert_eq!(state.reserved_for(&peer(1)), Some(1));
        // The promise moves to the slot that is usable; without one there is nothing to start in.
        assert_eq!(state.apply(usable(true, false)), Ok(WorkerStatus::Reserved));
        assert_eq!(state.reserved_for(&peer(1)), Some(0));
        state.apply(usable(false, false)).unwrap();
        let start = WorkerEvent::JobStarted { peer: peer(1), job: job(1) };
        assert_eq!(state.apply(start.clone()), Err(Refused::OutOfService));
        state.apply(usable(true, false)).unwrap();
        assert_eq!(state.apply(start), Ok(WorkerStatus::Busy));
        // What runs goes on; afterwards nobody gets a slot that cannot run anything.
        assert_eq!(state.apply(usable(false, false)), Ok(WorkerStatus::Busy));
        let ended = state.apply(WorkerEvent::JobEnded { job: job(1) });
        assert_eq!(ended, Ok(WorkerStatus::Maintenance));
        assert_eq!(state.apply(new(2)), Err(Refused::OutOfService));
        assert!(state.is_idle());
        assert_eq!(state.apply(usable(true, true)), Ok(WorkerStatus::Available));
    }

    #[test]
    fn slots_of_gpus_that_are_found_later_are_made() {
        let mut state = WorkerState::new(1);
        state.apply(WorkerEvent::SlotsUsable { usable: vec![false] }).unwrap();
        let found = |number| WorkerEvent::JobFound { job: job(number), slot: None };
        state.apply(found(1)).unwrap();
        state.apply(found(2)).unwrap();
        let grown = state.apply(WorkerEvent::SlotsUsable { usable: vec![true; 3] });
        assert_eq!((grown, state.free()), (Ok(WorkerStatus::Available), 1));
        assert_eq!(state.slot_of(&job(2)), Some(1));
    }

    #[test]
    fn slots_are_taken_in_the_order_that_is_preferred() {
        let mut state = WorkerState::new(3).preferring(vec![2, 7, 0]);
        let until = Instant::now() + RESERVATION;
        let taken: Vec<_> = (0..3)
            .map(|number| {
                state.apply(WorkerEvent::NewJob { peer: peer(number), until }).unwrap();
                state.reserved_for(&peer(number)).unwrap()
            })
            .collect();
        assert_eq!(taken, [2, 0, 1]);
    }

    #[test]
    fn jobs_that_are_found_have_their_slots_and_the_others_wait() {
        let mut state = WorkerState::new(2);
        let found = |number, slot| WorkerEvent::JobFound { job: job(number), slot };
        assert_eq!(state.apply(found(1, Some(1))), Ok(WorkerStatus::Available));
        assert_eq!((state.slot_of(&job(1)), state.free()), (Some(1), 1));
        assert_eq!(state.apply(found(1, Some(0))), Err(Refused::AlreadyRuns));
        // Its slot is gone, or taken: any other will do.
        assert_eq!(state.apply(found(2, Some(7))), Ok(WorkerStatus::Busy));
        assert_eq!(state.apply(found(3, Some(1))), Ok(WorkerStatus::Busy));
        assert_eq!((state.slot_of(&job(3)), state.runs(&job(3))), (None, true));
        // A slot that becomes free goes to the job that waits, not to a newcomer.
        assert_eq!(state.apply(WorkerEvent::JobEnded { job: job(1) }), Ok(WorkerStatus::Busy));
        assert_eq!(state.slot_of(&job(3)), Some(1));
        assert_eq!(state.apply(WorkerEvent::JobEnded { job: job(2) }), Ok(WorkerStatus::Available));
    }

    proptest! {
        /// Whatever happens in whatever order: the status tells the slots, a refusal changes
        /// nothing, nobody holds two reservations, no job starts without a slot or runs twice, no
        /// slot is made or lost, and every job is there until it ends, exactly once.
        #[test]
        fn the_slots_stay_honest(
            slots in 1..4usize,
            events in prop::collection::vec(event(Instant::now()), 0..80),
        ) {
            let mut state = WorkerState::new(slots);
            let mut jobs: Vec<JobId> = Vec::new();
            let mut slots = slots;
            for event in events {
                let before = state.clone();
                let applied = state.apply(event.clone());
                if let WorkerEvent::SlotsUsable { usable } = &event {
                    slots = slots.max(usable.len());
                }
                match (&applied, event) {
                    (Err(_), _) => prop_assert_eq!(&state, &before),
                    (Ok(_), WorkerEvent::JobStarted { job, .. }) => {
                        prop_assert!(state.slot_of(&job).is_some(), "started without a slot");
                        jobs.push(job);
                    }
                    (Ok(_), WorkerEvent::JobFound { job, .. }) => jobs.push(job),
                    (Ok(_), WorkerEvent::JobEnded { job }) => {
                        prop_assert!(jobs.contains(&job), "a job ended that did not run");
                        jobs.retain(|running| *running != job);
                    }
                    _ => {}
                }
                let mut running: Vec<JobId> = state.jobs().cloned().collect();
                running.sort();
                jobs.sort();
                prop_assert_eq!(&running, &jobs);
                prop_assert_eq!(state.slots().len(), slots);
                let in_slots = jobs.iter().filter(|job| state.slot_of(job).is_some()).count();
                let is_free = state.slots().contains(&Slot::Free);
                prop_assert!(in_slots == jobs.len() || !is_free);
                match state.status() {
                    WorkerStatus::Available => prop_assert!(state.free() > 0),
                    WorkerStatus::Reserved | WorkerStatus::Busy => prop_assert_eq!(state.free(), 0),
                    _ => {}
                }
                for number in 0..4 {
                    let held = state.slots().iter().filter(
                        |slot| matches!(slot, Slot::Reserved { peer: p, .. } if *p == peer(number)),
                    );
                    prop_assert!(held.count() <= 1);
                }
            }
        }
    }
}
