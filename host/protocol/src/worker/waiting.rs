//! The jobs that wait for a slot of the worker, and the places of those that are still arriving.

use super::{Refused, Slot, WorkerState};
use crate::ids::{JobId, PeerId};
use crate::job::QueueEntry;
use crate::queue::{Order, Queue, Rule, WaitingJob};
use web_time::Instant;

/// What happens to the queue of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueEvent {
    /// `peer` reserves a place in the queue until `until`. If it has one, or a slot, nothing changes.
    NewPlace {
        /// The peer.
        peer: PeerId,
        /// When the reservation expires.
        until: Instant,
    },
    /// The holder of a place names its job.
    PlaceNamed {
        /// The peer with the place.
        peer: PeerId,
        /// Whose job it is.
        user: String,
        /// The size of its package, in bytes.
        package_bytes: u64,
    },
    /// `peer` has handed over its job, which now waits in the queue.
    JobQueued {
        /// The peer with the place.
        peer: PeerId,
        /// Its job.
        waiting: WaitingJob,
    },
    /// The worker has started and found a job that waits.
    JobFound {
        /// The job.
        waiting: WaitingJob,
    },
    /// A job that waits is withdrawn.
    Withdrawn {
        /// The job.
        job: JobId,
    },
    /// The operator has decided about a job that waits: its folder says this now.
    Changed {
        /// The job.
        job: JobId,
        /// What its folder says.
        entry: QueueEntry,
    },
    /// The order of the queue. One that is out of date changes only what is shown.
    Ordered(Order),
}

/// A place in the queue that a peer holds until it has handed over its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueuePlace {
    pub(crate) peer: PeerId,
    pub(crate) until: Instant,
    /// Whose job it is, and the bytes of its package, once the peer has named the job.
    user: Option<String>,
    package_bytes: u64,
}

impl WorkerState {
    /// The slots in which a job can run that needs this much GPU memory, whether or not they are free.
    pub fn fitting(&self, needs_mib: u64) -> Vec<usize> {
        let fits = |slot: &usize| self.usable[*slot] && self.has_memory(*slot, needs_mib);
        (0..self.slots.len()).filter(fits).collect()
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The jobs that wait, in the order in which they start, each with the rule that gave it its place.
    pub fn start_order(&self) -> Vec<(&WaitingJob, Rule)> {
        let mut line = self.queue.start_order();
        for (waiting, rule) in &mut line {
            let needs_mib = waiting.needs_mib;
            if *rule != Rule::Held && self.fitting(needs_mib).is_empty() {
                *rule = Rule::NoSlot { needs_mib };
            }
        }
        line
    }

    /// Moves jobs from the queue to free slots that fit them, in order, and returns them with their slots.
    /// Nothing starts in maintenance, nor while the order is out of date.
    pub fn start_waiting(&mut self) -> Vec<(JobId, usize)> {
        let mut started = Vec::new();
        if self.maintenance || self.queue.wants_order() {
            return started;
        }
        let line = self.queue.start_order();
        let ready = line.into_iter().filter(|(waiting, _)| !waiting.entry.is_held);
        let ready: Vec<_> = ready.map(|(w, _)| (w.job.clone(), w.needs_mib)).collect();
        for (job, needs_mib) in ready {
            let fits = |slot: &usize| self.is_vacant(*slot) && self.has_memory(*slot, needs_mib);
            let Some(slot) = self.order.iter().copied().find(fits) else { continue };
            self.slots[slot] = Slot::Running { job: job.clone() };
            self.queue.leave(&job);
            started.push((job, slot));
        }
        started
    }

    /// Whether `peer` holds a place in the queue.
    pub fn holds_place(&self, peer: &PeerId) -> bool {
        self.places.iter().any(|place| place.peer == *peer)
    }

    /// Refuses if a peer without a reservation could not reserve a place in the queue now.
    pub fn check_queue(&self) -> Result<(), Refused> {
        if self.maintenance {
            return Err(Refused::Maintenance);
        }
        let bytes = self.places.iter().map(|place| place.package_bytes).sum();
        Ok(self.queue.check_room(self.places.len(), bytes)?)
    }

    /// Applies an event to the queue. A refused event changes nothing.
    pub(crate) fn apply_to_queue(&mut self, event: QueueEvent) -> Result<(), Refused> {
        match event {
            QueueEvent::NewPlace { peer, until } => {
                if self.place_of(&peer).is_none() && self.reserved_for(&peer).is_none() {
                    self.check_queue()?;
                    self.places.push(QueuePlace { peer, until, user: None, package_bytes: 0 });
                }
            }
            QueueEvent::PlaceNamed { peer, user, package_bytes } => {
                self.name_place(&peer, user, package_bytes)?;
            }
            QueueEvent::JobQueued { peer, waiting } => self.enter(&peer, waiting)?,
            QueueEvent::JobFound { waiting } => {
                self.check_is_new(&waiting.job)?;
                self.queue.enter(waiting);
            }
            QueueEvent::Withdrawn { job } => {
                self.queue.leave(&job).ok_or(Refused::UnknownJob)?;
            }
            QueueEvent::Changed { job, entry } => match self.queue.change(&job, entry) {
                true => {}
                false => return Err(Refused::UnknownJob),
            },
            QueueEvent::Ordered(order) => self.queue.set_order(order),
        }
        Ok(())
    }

    pub(crate) fn place_of(&self, peer: &PeerId) -> Option<usize> {
        self.places.iter().position(|place| place.peer == *peer)
    }

    /// The place of `peer` is for a job of `user`, if there is room for it.
    fn name_place(&mut self, peer: &PeerId, user: String, bytes: u64) -> Result<(), Refused> {
        let own = self.place_of(peer).ok_or(Refused::NotReserved)?;
        let others = || self.places.iter().enumerate().filter(|(at, _)| *at != own);
        let of_user = others().filter(|(_, place)| place.user.as_ref() == Some(&user)).count();
        self.queue.check_user(&user, of_user)?;
        let all_bytes = others().map(|(_, place)| place.package_bytes).sum::<u64>();
        self.queue.check_room(self.places.len() - 1, all_bytes.saturating_add(bytes))?;
        self.places[own].user = Some(user);
        self.places[own].package_bytes = bytes;
        Ok(())
    }

    /// The job of `peer` takes its place in the queue.
    fn enter(&mut self, peer: &PeerId, waiting: WaitingJob) -> Result<(), Refused> {
        self.check_is_new(&waiting.job)?;
        self.name_place(peer, waiting.user.clone(), waiting.entry.package_bytes)?;
        self.places.retain(|place| place.peer != *peer);
        self.queue.enter(waiting);
        Ok(())
    }
}
