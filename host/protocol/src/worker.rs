//! The slots of a worker: which peer has reserved one, and which job runs in one.
//!
//! A worker admits jobs, not connections. Time is an argument.
//!
//! A worker may restart with fewer slots than it has running jobs. The surplus jobs wait, and take the
//! slots that become free before any new job does.

use crate::ids::{JobId, PeerId};
use serde::{Deserialize, Serialize};
use web_time::{Duration, Instant};

#[cfg(test)]
mod tests;

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
    /// No slot is free, and at least one is reserved.
    Reserved,
    /// A job runs in every slot.
    Busy,
    /// The worker takes no new jobs until its operator allows it.
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
    /// Take no new jobs.
    Drain,
    /// Take new jobs again.
    Resume,
}

/// Why an event was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No slot is free.
    #[error("no slot is free (the worker is {})", .0.as_str())]
    NoSlot(WorkerStatus),
    /// The operator allows no new jobs.
    #[error("the worker is in maintenance and takes no new jobs")]
    Maintenance,
    /// No slot can run a job, although nothing runs.
    #[error("no slot of the worker can run a job at the moment")]
    OutOfService,
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

    /// How many slots are free and can run a job.
    pub fn free(&self) -> usize {
        (0..self.slots.len()).filter(|slot| self.is_open(*slot)).count()
    }

    /// How many slots run a job, or can run one.
    pub fn in_service(&self) -> usize {
        let slots = self.slots.iter().zip(&self.usable);
        slots.filter(|(slot, usable)| **usable || matches!(slot, Slot::Running { .. })).count()
    }

    /// Whether a new job can have this slot.
    pub fn is_open(&self, slot: usize) -> bool {
        self.slots.get(slot) == Some(&Slot::Free) && self.usable[slot]
    }

    /// Whether `job` runs here, in a slot or waiting for one.
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

    /// When the next reservation expires.
    pub fn next_deadline(&self) -> Option<Instant> {
        let until = |slot: &Slot| match slot {
            Slot::Reserved { until, .. } => Some(*until),
            _ => None,
        };
        self.slots.iter().filter_map(until).min()
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
        self.slots.iter().filter_map(peer).collect()
    }

    /// Applies `event` and returns the status after it. A refused event changes nothing.
    pub fn apply(&mut self, event: WorkerEvent) -> Result<WorkerStatus, Refused> {
        match event {
            WorkerEvent::NewJob { peer, until } => self.reserve(peer, until)?,
            WorkerEvent::Renewed { peer, until } => {
                let slot = self.reserved_for(&peer).ok_or(Refused::NotReserved)?;
                self.slots[slot] = Slot::Reserved { peer, until };
            }
            WorkerEvent::JobStarted { peer, job } => {
                let slot = self.reserved_for(&peer).ok_or(Refused::NotReserved)?;
                self.check_is_new(&job)?;
                if !self.usable[slot] {
                    return Err(Refused::OutOfService);
                }
                self.slots[slot] = Slot::Running { job };
            }
            WorkerEvent::JobFound { job, slot } => {
                self.check_is_new(&job)?;
                let own = slot.filter(|slot| self.slots.get(*slot) == Some(&Slot::Free));
                match own.or_else(|| self.position(|slot| *slot == Slot::Free)) {
                    Some(slot) => self.slots[slot] = Slot::Running { job },
                    None => self.surplus.push(job),
                }
            }
            WorkerEvent::JobEnded { job } => match self.slot_of(&job) {
                Some(slot) => self.release(slot),
                None => {
                    let waiting = self.surplus.iter().position(|other| *other == job);
                    self.surplus.remove(waiting.ok_or(Refused::UnknownJob)?);
                }
            },
            WorkerEvent::PeerGone { peer } => {
                if let Some(slot) = self.reserved_for(&peer) {
                    self.release(slot);
                }
            }
            WorkerEvent::Tick { now } => {
                let over =
                    |slot: &Slot| matches!(slot, Slot::Reserved { until, .. } if *until <= now);
                while let Some(slot) = self.position(over) {
                    self.release(slot);
                }
            }
            WorkerEvent::SlotsUsable { usable } => self.set_usable(&usable),
            WorkerEvent::Drain => self.maintenance = true,
            WorkerEvent::Resume => self.maintenance = false,
        }
        Ok(self.status())
    }

    fn check_is_new(&self, job: &JobId) -> Result<(), Refused> {
        if self.runs(job) { Err(Refused::AlreadyRuns) } else { Ok(()) }
    }

    /// Frees a slot, or gives it to the next job that waits.
    fn release(&mut self, slot: usize) {
        self.slots[slot] = match self.surplus.is_empty() {
            true => Slot::Free,
            false => Slot::Running { job: self.surplus.remove(0) },
        };
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
