//! The slots of a worker: which peer has reserved one, and which job runs in one.
//!
//! A worker admits jobs, not connections. Time is an argument.
//!
//! A worker may restart with fewer slots than it has running jobs. The surplus jobs wait, and take the
//! slots that become free before any new job does.
//!
//! Jobs whose clients wait for a slot stand in a [`Queue`]. A client that hands one over holds a place in
//! it, as it would hold a slot. No new job gets a slot that fits a job of the queue.

use crate::ids::{JobId, PeerId};
use crate::queue::{Queue, QueueLimits, QueueRefused, WaitingJob};
use serde::{Deserialize, Serialize};
use web_time::{Duration, Instant};

#[cfg(test)]
mod tests;
mod waiting;

pub use waiting::QueueEvent;
use waiting::QueuePlace;

/// How long a reservation lasts until the peer sends its offer, which takes it a second or two.
pub const OFFER_WITHIN: Duration = Duration::from_secs(8);
/// How long it then lasts until the peer connects.
pub const RESERVATION: Duration = Duration::from_secs(15);
/// How long it then lasts until the peer sends its first frame.
pub const FIRST_FRAME: Duration = Duration::from_secs(30);

/// A place in which one job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// No peer and no job has it.
    Free,
    /// A peer has it, and has not handed over its job yet.
    Reserved {
        /// The peer that has reserved it.
        peer: PeerId,
        /// When the reservation expires.
        until: Instant,
    },
    /// A job runs in it.
    Running {
        /// The job.
        job: JobId,
    },
}

/// The `status` property of a worker, which discovery shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerStatus {
    /// The worker takes a new job.
    Available,
    /// No slot is open for a new job, and at least one is reserved.
    Reserved,
    /// No slot is open for a new job, and none is reserved.
    Busy,
    /// The worker takes no new jobs for now: its operator, its disk or its GPUs do not allow it.
    Maintenance,
    /// A status that this program does not know.
    #[serde(other)]
    Unknown,
}

impl WorkerStatus {
    /// The status as it is sent.
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
    /// `peer` reserves a slot until `until`. If it has one already, nothing changes: asking again does not
    /// make a reservation last longer.
    NewJob {
        /// The peer.
        peer: PeerId,
        /// When the reservation expires.
        until: Instant,
    },
    /// Something happens to the queue.
    Queue(QueueEvent),
    /// `peer` has come closer to handing over its job. Its reservation lasts until `until`.
    Renewed {
        /// The peer with the reservation.
        peer: PeerId,
        /// When the reservation expires.
        until: Instant,
    },
    /// `peer` has handed over its job, which now runs in the reserved slot.
    JobStarted {
        /// The peer with the reservation.
        peer: PeerId,
        /// Its job.
        job: JobId,
    },
    /// The worker has started and found a job that still runs. The job takes its own slot, or else a
    /// free one, or else the next one that becomes free.
    JobFound {
        /// The job.
        job: JobId,
        /// The slot in which it ran, if the worker still has that slot.
        slot: Option<usize>,
    },
    /// The job has ended, with any outcome.
    JobEnded {
        /// The job.
        job: JobId,
    },
    /// The peer has given up or left: its reservation ends. Its running job continues.
    PeerGone {
        /// The peer.
        peer: PeerId,
    },
    /// Time has passed: reservations that expire by `now` end.
    Tick {
        /// The current time.
        now: Instant,
    },
    /// Which slots can run a job. A slot whose GPU is lost cannot. The list may be longer than before,
    /// which adds slots; slots beyond its end cannot run a job.
    SlotsUsable {
        /// For each slot, by index.
        usable: Vec<bool>,
    },
    /// The memory of the largest GPU of each slot, in MiB.
    SlotMemory {
        /// For each slot, by index.
        mib: Vec<u64>,
    },
    /// From now on, the worker takes no new jobs.
    BeginMaintenance,
    /// It takes new jobs again.
    EndMaintenance,
}

impl From<QueueEvent> for WorkerEvent {
    fn from(event: QueueEvent) -> Self {
        Self::Queue(event)
    }
}

/// Why an event was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No slot is free.
    #[error("no slot is free (the worker is {})", .0.as_str())]
    NoSlot(WorkerStatus),
    /// The worker is in maintenance.
    #[error("the worker is in maintenance and takes no new jobs")]
    Maintenance,
    /// No slot can run a job, although nothing runs.
    #[error("no slot of the worker can run a job at the moment")]
    OutOfService,
    /// The job cannot wait here.
    #[error(transparent)]
    Queue(#[from] QueueRefused),
    /// The peer holds no reservation.
    #[error("no slot is reserved for this peer; its reservation may have expired")]
    NotReserved,
    /// The job does not run here.
    #[error("no such job runs here")]
    UnknownJob,
    /// The job already runs here.
    #[error("the job already runs here")]
    AlreadyRuns,
}

/// All slots of a worker, and whether it takes new jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerState {
    slots: Vec<Slot>,
    /// Whether each can run a job.
    usable: Vec<bool>,
    /// The slots, in the order in which they are used.
    order: Vec<usize>,
    /// Jobs that were found and have no slot yet, in order. Empty while a slot is free.
    surplus: Vec<JobId>,
    /// The GPU memory of each slot, in MiB. A slot that is missing fits any job.
    memory_mib: Vec<u64>,
    queue: Queue,
    places: Vec<QueuePlace>,
    maintenance: bool,
}

impl WorkerState {
    /// A worker with `slots` free slots (at least one).
    pub fn new(slots: usize) -> Self {
        let slots = vec![Slot::Free; slots.max(1)];
        let usable = vec![true; slots.len()];
        let order = (0..slots.len()).collect();
        let limits = QueueLimits { jobs: 0, bytes: 0, jobs_per_user: 0 };
        Self {
            slots,
            usable,
            order,
            surplus: Vec::new(),
            memory_mib: Vec::new(),
            queue: Queue::new(limits),
            places: Vec::new(),
            maintenance: false,
        }
    }

    /// Lets this much wait for a slot.
    pub fn with_queue(self, limits: QueueLimits) -> Self {
        Self { queue: Queue::new(limits), ..self }
    }

    /// Uses the slots in this order from now on. Slots that are missing in `order` come last.
    pub fn preferring(mut self, order: Vec<usize>) -> Self {
        self.prefer(&order);
        self
    }

    /// Uses the slots in this order from now on. Slots that are missing in `order` come last.
    pub fn prefer(&mut self, order: &[usize]) {
        self.order.sort_by_key(|slot| {
            order.iter().position(|other| other == slot).unwrap_or(order.len())
        });
    }

    /// The slots, by index.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How many slots a new job could have now: vacant, usable, and not waited for by the queue.
    pub fn open_slots(&self) -> usize {
        (0..self.slots.len()).filter(|slot| self.is_open(*slot)).count()
    }

    /// How many slots run a job, or can run one.
    pub fn in_service(&self) -> usize {
        let slots = self.slots.iter().zip(&self.usable);
        slots.filter(|(slot, usable)| **usable || matches!(slot, Slot::Running { .. })).count()
    }

    /// Whether a new job can have this slot: no job of the queue waits for it.
    pub fn is_open(&self, slot: usize) -> bool {
        let is_waited_for = |waiting: &WaitingJob| {
            !waiting.entry.is_held && self.has_memory(slot, waiting.needs_mib)
        };
        self.is_vacant(slot) && !self.queue.jobs().iter().any(is_waited_for)
    }

    /// Whether a job can start in this slot.
    fn is_vacant(&self, slot: usize) -> bool {
        self.slots.get(slot) == Some(&Slot::Free) && self.usable[slot]
    }

    fn has_memory(&self, slot: usize, needs_mib: u64) -> bool {
        self.memory_mib.get(slot).is_none_or(|mib| *mib >= needs_mib)
    }

    /// Whether `peer` holds a slot.
    pub fn holds_slot(&self, peer: &PeerId) -> bool {
        self.reserved_for(peer).is_some()
    }

    /// Whether `job` runs here, in a slot or found without one.
    pub fn runs(&self, job: &JobId) -> bool {
        self.slot_of(job).is_some() || self.surplus.contains(job)
    }

    /// All running jobs.
    pub fn jobs(&self) -> impl Iterator<Item = &JobId> {
        let running = self.slots.iter().filter_map(|slot| match slot {
            Slot::Running { job } => Some(job),
            _ => None,
        });
        running.chain(&self.surplus)
    }

    /// Whether no job runs and no slot is reserved.
    pub fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| *slot == Slot::Free)
    }

    /// The status that discovery shows.
    pub fn status(&self) -> WorkerStatus {
        if self.maintenance {
            WorkerStatus::Maintenance
        } else if self.open_slots() > 0 {
            WorkerStatus::Available
        } else if self.slots.iter().any(|slot| matches!(slot, Slot::Reserved { .. })) {
            WorkerStatus::Reserved
        } else if self.in_service() == 0 {
            WorkerStatus::Maintenance
        } else {
            WorkerStatus::Busy
        }
    }

    /// The index of the slot in which `job` runs.
    pub fn slot_of(&self, job: &JobId) -> Option<usize> {
        self.position(|slot| matches!(slot, Slot::Running { job: running } if running == job))
    }

    /// When the next reservation expires.
    pub fn next_deadline(&self) -> Option<Instant> {
        let until = |slot: &Slot| match slot {
            Slot::Reserved { until, .. } => Some(*until),
            _ => None,
        };
        let places = self.places.iter().map(|place| place.until);
        self.slots.iter().filter_map(until).chain(places).min()
    }

    /// Refuses if a peer without a reservation could not reserve a slot now.
    pub fn check_room(&self) -> Result<(), Refused> {
        self.slot_for_new_job().map(drop)
    }

    /// The peers whose reservations have expired by `now`. The next [`WorkerEvent::Tick`] ends them.
    pub fn expired(&self, now: Instant) -> Vec<PeerId> {
        let peer = |slot: &Slot| match slot {
            Slot::Reserved { peer, until } if *until <= now => Some(peer.clone()),
            _ => None,
        };
        let places = self.places.iter().filter(|place| place.until <= now);
        let slots = self.slots.iter().filter_map(peer);
        slots.chain(places.map(|place| place.peer.clone())).collect()
    }

    /// Applies `event` and returns the status after it. A refused event changes nothing.
    pub fn apply(&mut self, event: impl Into<WorkerEvent>) -> Result<WorkerStatus, Refused> {
        match event.into() {
            WorkerEvent::NewJob { peer, until } => self.reserve(peer, until)?,
            WorkerEvent::Renewed { peer, until } => match self.place_of(&peer) {
                Some(place) => self.places[place].until = until,
                None => {
                    let slot = self.reserved_for(&peer).ok_or(Refused::NotReserved)?;
                    self.slots[slot] = Slot::Reserved { peer, until };
                }
            },
            WorkerEvent::Queue(event) => self.apply_to_queue(event)?,
            WorkerEvent::JobStarted { peer, job } => {
                let slot = self.reserved_for(&peer).ok_or(Refused::NotReserved)?;
                self.check_is_new(&job)?;
                if !self.usable[slot] {
                    return Err(Refused::OutOfService);
                }
                self.slots[slot] = Slot::Running { job };
                self.queue.touch();
            }
            WorkerEvent::JobFound { job, slot } => {
                self.check_is_new(&job)?;
                let own = slot.filter(|slot| self.slots.get(*slot) == Some(&Slot::Free));
                match own.or_else(|| self.position(|slot| *slot == Slot::Free)) {
                    Some(slot) => self.slots[slot] = Slot::Running { job },
                    None => self.surplus.push(job),
                }
                self.queue.touch();
            }
            WorkerEvent::JobEnded { job } => self.end(&job)?,
            WorkerEvent::PeerGone { peer } => {
                self.places.retain(|place| place.peer != peer);
                if let Some(slot) = self.reserved_for(&peer) {
                    self.release(slot);
                }
            }
            WorkerEvent::Tick { now } => {
                self.places.retain(|place| place.until > now);
                let over =
                    |slot: &Slot| matches!(slot, Slot::Reserved { until, .. } if *until <= now);
                while let Some(slot) = self.position(over) {
                    self.release(slot);
                }
            }
            WorkerEvent::SlotsUsable { usable } => self.set_usable(&usable),
            WorkerEvent::SlotMemory { mib } => {
                if self.memory_mib != mib {
                    self.memory_mib = mib;
                    self.queue.touch();
                }
            }
            WorkerEvent::BeginMaintenance => self.maintenance = true,
            WorkerEvent::EndMaintenance => self.maintenance = false,
        }
        Ok(self.status())
    }

    fn check_is_new(&self, job: &JobId) -> Result<(), Refused> {
        let is_known = self.runs(job) || self.queue.get(job).is_some();
        if is_known { Err(Refused::AlreadyRuns) } else { Ok(()) }
    }

    /// `job` has ended.
    fn end(&mut self, job: &JobId) -> Result<(), Refused> {
        match self.slot_of(job) {
            Some(slot) => self.release(slot),
            None => {
                let waiting = self.surplus.iter().position(|other| other == job);
                self.surplus.remove(waiting.ok_or(Refused::UnknownJob)?);
            }
        }
        self.queue.touch();
        Ok(())
    }

    /// Frees a slot, or gives it to a surplus job (see the module).
    fn release(&mut self, slot: usize) {
        self.slots[slot] = self.next_occupant();
    }

    /// What a slot without a job holds next: the first surplus job, or nothing.
    fn next_occupant(&mut self) -> Slot {
        match self.surplus.is_empty() {
            true => Slot::Free,
            false => Slot::Running { job: self.surplus.remove(0) },
        }
    }

    fn reserve(&mut self, peer: PeerId, until: Instant) -> Result<(), Refused> {
        if self.reserved_for(&peer).is_none() {
            let slot = self.slot_for_new_job()?;
            self.slots[slot] = Slot::Reserved { peer, until };
        }
        Ok(())
    }

    fn slot_for_new_job(&self) -> Result<usize, Refused> {
        if self.maintenance {
            return Err(Refused::Maintenance);
        }
        self.open_slot().ok_or(match self.status() {
            WorkerStatus::Maintenance => Refused::OutOfService,
            status => Refused::NoSlot(status),
        })
    }

    /// Moves the reservation of a slot that can no longer run a job to one that can.
    fn set_usable(&mut self, usable: &[bool]) {
        for slot in self.slots.len()..usable.len() {
            self.order.push(slot);
            let occupant = self.next_occupant();
            self.slots.push(occupant);
        }
        let usable: Vec<bool> = (0..self.slots.len())
            .map(|slot| usable.get(slot).copied().unwrap_or_default())
            .collect();
        if self.usable != usable {
            self.usable = usable;
            self.queue.touch();
        }
        for slot in 0..self.slots.len() {
            if !self.usable[slot]
                && matches!(self.slots[slot], Slot::Reserved { .. })
                && let Some(vacant) = self.order.iter().copied().find(|slot| self.is_vacant(*slot))
            {
                self.slots.swap(slot, vacant);
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
