//! Grants slots and places in the queue, and writes the refusals.

use super::Coordinator;
use super::reservations::{Ending, Step};
use super::shares::ago;
use crate::worker::running::Running;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::standing::Caller;
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_protocol::worker::{OFFER_WITHIN, QueueEvent, Refused, WorkerEvent};
use std::time::{Duration, Instant};
use tracing::info;

/// The most running jobs and reservations that a refusal names.
const NAMED_OCCUPANTS: usize = 4;
/// The most characters of a user's name in a refusal.
const USER_CHARS: usize = 40;

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

    pub(crate) fn step(&mut self, peer: &PeerId, step: Step) {
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
        if self.state.free() == 0
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
            Err(Refused::NoSlot(_)) if may_wait => self.state.check_line(),
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

    pub(crate) fn no_slot(&self, refused: Refused) -> Refusal {
        let status = self.state.status().as_str();
        match refused {
            Refused::Maintenance => {
                let text = match &self.storage_problem {
                    Some(problem) => format!("the worker takes no new jobs: {problem}"),
                    None => format!("the worker takes no new jobs (status {status})"),
                };
                Refusal::new(RefusalCode::Maintenance, text)
            }
            Refused::OutOfService => self.context.out_of_service(),
            Refused::Line(refused) => {
                let occupants = self.occupants(Instant::now());
                let text =
                    format!("Worker is currently busy (status: {status}{occupants}): {refused}");
                Refusal::new(RefusalCode::Busy, text)
            }
            _ => {
                let occupants = self.occupants(Instant::now());
                let text = format!(
                    "Worker is currently busy (status: {status}{occupants}). Use --room-id and --token to \
                     find available workers in the room, or try again later."
                );
                Refusal::new(RefusalCode::Busy, text)
            }
        }
    }

    /// Who has the slots and since when, so that people can talk to each other.
    fn occupants(&self, now: Instant) -> String {
        let now_ms = sleap_rtc_base::clock::now_ms();
        let running = Running::seen(&self.running).into_iter().map(|job| {
            let user = job.user.as_deref().unwrap_or(job.owner.as_str());
            let since = ago(Duration::from_millis(now_ms.saturating_sub(job.since_ms)));
            format!("{} runs a job (for {since})", Printable::line(user, USER_CHARS))
        });
        let all: Vec<String> = running.chain(self.reservations.holders(now)).collect();
        let shown = &all[..all.len().min(NAMED_OCCUPANTS)];
        match (shown.is_empty(), all.len() - shown.len()) {
            (true, _) => String::new(),
            (false, 0) => format!("; {}", shown.join(", ")),
            (false, more) => format!("; {}, and {more} more", shown.join(", ")),
        }
    }
}
