//! The slots of a worker: who waits for one, which job runs in one.
//!
//! A job is admitted, not a connection. Time comes in as an argument.

use crate::ids::{JobId, PeerId};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How long a slot waits for the peer it was promised to: to send its offer, then to connect.
pub const RESERVATION: Duration = Duration::from_secs(15);

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
    /// A running job that the worker found again when it started: it takes a free slot.
    JobFound {
        /// The job.
        job: JobId,
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
    /// The peer holds no reservation.
    #[error("no slot is reserved for this peer (its reservation may have ended)")]
    NotReserved,
    /// No such job runs here.
    #[error("no such job runs here")]
    UnknownJob,
}

/// All slots of a worker, and whether it takes new jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerState {
    slots: Vec<Slot>,
    maintenance: bool,
}

impl WorkerState {
    /// A worker with `slots` free slots (at least one).
    pub fn new(slots: usize) -> Self {
        Self { slots: vec![Slot::Free; slots.max(1)], maintenance: false }
    }

    /// The slots, by index.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How many slots are free.
    pub fn free(&self) -> usize {
        self.slots.iter().filter(|slot| **slot == Slot::Free).count()
    }

    /// What discovery should see.
    pub fn status(&self) -> WorkerStatus {
        if self.maintenance {
            WorkerStatus::Maintenance
        } else if self.free() > 0 {
            WorkerStatus::Available
        } else if self.slots.iter().any(|slot| matches!(slot, Slot::Reserved { .. })) {
            WorkerStatus::Reserved
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
                self.slots[slot] = Slot::Running { job };
            }
            WorkerEvent::JobFound { job } => {
                let free = self.position(|slot| *slot == Slot::Free);
                let slot = free.ok_or(Refused::NoSlot(self.status()))?;
                self.slots[slot] = Slot::Running { job };
            }
            WorkerEvent::JobEnded { job } => {
                let slot = self.slot_of(&job).ok_or(Refused::UnknownJob)?;
                self.slots[slot] = Slot::Free;
            }
            WorkerEvent::PeerGone { peer } => {
                if let Some(slot) = self.reserved_for(&peer) {
                    self.slots[slot] = Slot::Free;
                }
            }
            WorkerEvent::Tick { now } => {
                for slot in &mut self.slots {
                    if matches!(slot, Slot::Reserved { until, .. } if *until <= now) {
                        *slot = Slot::Free;
                    }
                }
            }
            WorkerEvent::Drain => self.maintenance = true,
            WorkerEvent::Resume => self.maintenance = false,
        }
        Ok(self.status())
    }

    fn reserve(&mut self, peer: PeerId, until: Instant) -> Result<(), Refused> {
        let own = self.reserved_for(&peer);
        if own.is_none() && self.maintenance {
            return Err(Refused::Maintenance);
        }
        let slot = own
            .or_else(|| self.position(|slot| *slot == Slot::Free))
            .ok_or(Refused::NoSlot(self.status()))?;
        self.slots[slot] = Slot::Reserved { peer, until };
        Ok(())
    }

    fn reserved_for(&self, peer: &PeerId) -> Option<usize> {
        self.position(|slot| matches!(slot, Slot::Reserved { peer: holder, .. } if holder == peer))
    }

    fn position(&self, wanted: impl Fn(&Slot) -> bool) -> Option<usize> {
        self.slots.iter().position(wanted)
    }
}
