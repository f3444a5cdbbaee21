//! Grants slots and places in the queue.

use super::Coordinator;
use super::reservations::{Ending, HandoverStep};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::Refusal;
use sleap_rtc_protocol::standing::Caller;
use sleap_rtc_protocol::worker::{OFFER_WITHIN, QueueEvent, Refused, WorkerEvent};
use std::time::Instant;
use tracing::info;

impl Coordinator {
    /// Ends the reservations that have expired, and the connections that had them.
    pub(crate) fn expire(&mut self, now: Instant) {
        for peer in self.state.expired(now) {
            info!(%peer, "the reservation has expired");
            self.end_reservation(&peer, Ending::Lapsed);
        }
        let _ = self.apply(WorkerEvent::Tick { now });
    }

    /// Ends a reservation without a job, and the connection over which its package arrives.
    pub(crate) fn end_reservation(&mut self, peer: &PeerId, ending: Ending) {
        if !self.reservations.holds(peer) {
            return;
        }
        self.reservations.end(peer, ending, Instant::now());
        if let Some(connection) = self.new_jobs.get(peer).filter(|c| c.job.is_none()) {
            connection.cancel.cancel();
        }
        let _ = self.apply(WorkerEvent::PeerGone { peer: peer.clone() });
    }

    pub(crate) fn step(&mut self, peer: &PeerId, step: HandoverStep) {
        if let Some(until) = self.reservations.step(peer, step, Instant::now()) {
            let _ = self.apply(WorkerEvent::Renewed { peer: peer.clone(), until });
        }
    }

    /// Reserves a slot for `caller`, unless it has one: a free one, or that of a holder of worse standing
    /// that has sent nothing yet. If its job may wait and no slot is free, reserves a place in the queue.
    pub(crate) fn reserve(
        &mut self,
        caller: &Caller,
        user: Option<&str>,
        may_wait: bool,
    ) -> Result<(), Refusal> {
        let now = Instant::now();
        self.expire(now);
        self.may_reserve(caller, may_wait, now)?;
        if self.reservations.holds(&caller.peer) {
            return Ok(());
        }
        if self.state.open_slots() == 0
            && !may_wait
            && let Some(holder) = self.displaceable(caller, now)
        {
            info!(peer = %holder, by = %caller.peer, "the reservation goes to a peer of better standing");
            self.end_reservation(&holder, Ending::Displaced);
        }
        let (peer, until) = (caller.peer.clone(), now + OFFER_WITHIN);
        let new = WorkerEvent::NewJob { peer: peer.clone(), until };
        let reserved = match self.apply(new) {
            Err(Refused::NoSlot(_)) if may_wait => self.apply(QueueEvent::NewPlace { peer, until }),
            reserved => reserved,
        };
        reserved.map_err(|refused| self.no_slot(refused))?;
        self.reservations.begin(caller, user, now);
        info!(peer = %caller.peer, "a slot or a place in the queue is reserved");
        Ok(())
    }

    /// Refuses a caller that could not reserve a slot now, nor a place in the queue if its job may wait.
    pub(crate) fn may_reserve(
        &self,
        caller: &Caller,
        may_wait: bool,
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.reservations.holds(&caller.peer) {
            return Ok(());
        }
        let room = match self.state.check_room() {
            Err(Refused::NoSlot(_)) if may_wait => self.state.check_queue(),
            Err(Refused::NoSlot(_)) if self.displaceable(caller, now).is_some() => Ok(()),
            room => room,
        };
        room.map_err(|refused| self.no_slot(refused))?;
        self.reservations.check(caller, self.state.slots().len(), now)
    }

    /// The holder of a slot that has to give way to `caller`.
    fn displaceable(&self, caller: &Caller, now: Instant) -> Option<PeerId> {
        self.reservations.displaceable(caller, |peer| self.state.holds_slot(peer), now)
    }
}
