//! Who holds the reserved slots, and which holders have to give way to others.
//!
//! A reservation lasts as long as its holder comes closer to handing over a job: it connects, names its
//! job, and then sends bytes that can be verified. Asking again does not help. A holder of which no byte
//! has been verified gives way to a caller of better standing (see [`Standing`]).

use crate::worker::USER_CHARS;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::standing::{Caller, Standing};
use sleap_rtc_protocol::text::{Printable, duration};
use sleap_rtc_protocol::worker::{FIRST_FRAME, RESERVATION};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a package may bring nothing that can be verified: a piece takes this long at 12 kB/s. What
/// the worker has of it already is checked in this time as well.
const PROGRESS: Duration = Duration::from_secs(180);
/// How long a complete package may be checked, or be copied from shared storage.
const CHECKING: Duration = Duration::from_secs(1800);
/// How often a holder may lose its connection without further verified bytes.
const MAX_LOSSES: u32 = 3;
/// How long a new holder cannot be displaced.
const DISPLACEMENT_GRACE: Duration = Duration::from_secs(2);
/// To release a reservation within this time is not a fault, and neither is it to lose one to somebody else
/// after an offer: a machine may be too busy to connect sooner.
const RELEASED_SOON: Duration = Duration::from_secs(10);

/// How a peer comes closer to handing over its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HandoverStep {
    /// Its offer has arrived.
    Offered,
    /// It has connected.
    Connected,
    /// The worker itself is not ready for its job yet.
    Delayed,
    /// It has named its job, and its user.
    Introduced(Option<String>),
    /// Bytes of its package have been verified.
    Received,
    /// Its package is complete.
    Complete,
    /// Its connection is lost, and it may continue over another one within this time.
    Lost(Duration),
}

/// How far a peer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Asked,
    Offered,
    Connected,
    Introduced,
    /// Bytes have been verified.
    Sending,
}

/// The holder of a reservation.
#[derive(Debug, Clone)]
struct Holder {
    caller: Caller,
    user: Option<Printable>,
    since: Instant,
    stage: Reached,
    /// How often it has lost its connection since its last verified bytes.
    losses: u32,
}

/// How a reservation ends without a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its holder gives it back.
    Released,
    /// Its holder is gone, or has done nothing for too long.
    Lapsed,
    /// Its holder was connected, and sent nothing of use for too long.
    Stalled,
    /// Somebody of better standing has it now.
    Displaced,
}

/// All holders of reservations, and what is remembered of earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    holders: HashMap<PeerId, Holder>,
    standing: Standing,
}

impl Reservations {
    /// Whether `peer` holds a reservation.
    pub(crate) fn holds(&self, peer: &PeerId) -> bool {
        self.holders.contains_key(peer)
    }

    /// Refuses a caller that has recently let reservations lapse. An address from which others have may
    /// hold half of the worker's `slots` with holders that have sent nothing yet, and at least one.
    pub(crate) fn check(&self, caller: &Caller, slots: usize, now: Instant) -> Result<(), Refusal> {
        if let Some(wait) = self.standing.must_wait(&caller.peer, now) {
            let text = format!(
                "you have reserved a slot and handed over no job; Worker is currently busy with others: \
                 ask again in {} s",
                wait.as_secs() + 1
            );
            return Err(Refusal::new(RefusalCode::Busy, text));
        }
        let shares_address = |holder: &&Holder| {
            holder.stage < Reached::Sending && holder.caller.address == caller.address
        };
        let beside: Vec<&Holder> = self.holders.values().filter(shares_address).collect();
        let is_faulty = self.standing.rank(caller, now).has_faulty_address();
        let gives_way = |holder: &&Holder| self.gives_way(holder, caller, now);
        if !is_faulty || beside.len() < (slots / 2).max(1) || beside.iter().any(gives_way) {
            return Ok(());
        }
        let names: Vec<&str> = beside.iter().map(|holder| holder.name()).collect();
        let text = format!(
            "Worker is currently busy: it is reserved for {} at your address, from which reservations \
             have lapsed; try again later",
            names.join(", ")
        );
        Err(Refusal::new(RefusalCode::Busy, text))
    }

    /// The holder that has to give way to `caller`: the one of the worst standing among those that hold what
    /// is wanted.
    pub(crate) fn displaceable(
        &self,
        caller: &Caller,
        is_wanted: impl Fn(&PeerId) -> bool,
        now: Instant,
    ) -> Option<PeerId> {
        let holders = self.holders.values().filter(|holder| is_wanted(&holder.caller.peer));
        let holders = holders.filter(|holder| self.gives_way(holder, caller, now));
        let worst = holders.max_by_key(|holder| self.standing.rank(&holder.caller, now));
        worst.map(|holder| holder.caller.peer.clone())
    }

    fn gives_way(&self, holder: &Holder, caller: &Caller, now: Instant) -> bool {
        let rank = |caller| self.standing.rank(caller, now);
        let has_had_time = now.saturating_duration_since(holder.since) >= DISPLACEMENT_GRACE;
        holder.stage < Reached::Sending && has_had_time && rank(caller) < rank(&holder.caller)
    }

    /// `caller` has a reservation now. Returns when it expires.
    pub(crate) fn begin(&mut self, caller: &Caller, user: Option<&str>, now: Instant) {
        let caller = caller.clone();
        let user = user.map(|user| Printable::line(user, USER_CHARS));
        let holder =
            Holder { caller: caller.clone(), user, since: now, stage: Reached::Asked, losses: 0 };
        self.holders.insert(caller.peer, holder);
    }

    /// `peer` has made a step. Returns until when its reservation lasts, if it lasts longer than before.
    pub(crate) fn step(
        &mut self,
        peer: &PeerId,
        step: HandoverStep,
        now: Instant,
    ) -> Option<Instant> {
        let holder = self.holders.get_mut(peer)?;
        let mut reach = |stage: Reached| {
            let is_new = stage > holder.stage;
            holder.stage = holder.stage.max(stage);
            is_new
        };
        let wait = match step {
            HandoverStep::Offered => reach(Reached::Offered).then_some(RESERVATION),
            HandoverStep::Connected => reach(Reached::Connected).then_some(FIRST_FRAME),
            // A holder that sends has more time already.
            HandoverStep::Delayed => (holder.stage < Reached::Sending).then_some(FIRST_FRAME),
            HandoverStep::Introduced(user) => {
                let is_new = reach(Reached::Introduced);
                holder.user = user.map(|user| Printable::line(&user, USER_CHARS));
                is_new.then_some(PROGRESS)
            }
            HandoverStep::Received => {
                reach(Reached::Sending);
                holder.losses = 0;
                Some(PROGRESS)
            }
            HandoverStep::Complete => {
                reach(Reached::Sending);
                Some(CHECKING)
            }
            HandoverStep::Lost(within) => {
                holder.losses += 1;
                (holder.losses <= MAX_LOSSES).then_some(within + PROGRESS)
            }
        };
        wait.map(|wait| now + wait)
    }

    /// The job of `peer` has started.
    pub(crate) fn started(&mut self, peer: &PeerId) {
        self.holders.remove(peer);
    }

    /// The reservation of `peer` has ended without a job. Counts a fault if the holder is to blame.
    pub(crate) fn end(&mut self, peer: &PeerId, ending: Ending, now: Instant) {
        let Some(holder) = self.holders.remove(peer) else { return };
        let held = now.saturating_duration_since(holder.since);
        let is_fault = match ending {
            Ending::Released => held > RELEASED_SOON && holder.stage < Reached::Sending,
            Ending::Lapsed => holder.stage < Reached::Sending,
            Ending::Displaced => held > RELEASED_SOON || holder.stage < Reached::Offered,
            Ending::Stalled => true,
        };
        if is_fault {
            self.standing.fault(&holder.caller, now);
        }
    }

    /// Who holds reservations, for people.
    pub(crate) fn holders(&self, now: Instant) -> Vec<String> {
        let mut holders: Vec<&Holder> = self.holders.values().collect();
        holders.sort_by_key(|holder| holder.since);
        let said = |holder: &&Holder| {
            let doing = match holder.stage {
                Reached::Asked | Reached::Offered => "is connecting",
                Reached::Connected | Reached::Introduced => "has connected",
                Reached::Sending => "is sending a package",
            };
            let since = now.saturating_duration_since(holder.since);
            format!("{} {doing} (for {})", holder.name(), duration(since.as_secs_f64()))
        };
        holders.iter().map(said).collect()
    }
}

impl Holder {
    fn name(&self) -> &str {
        let user = self.user.as_ref().map(Printable::as_str);
        user.filter(|user| !user.is_empty()).unwrap_or(self.caller.peer.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::ids::AddressTag;

    fn any(_: &PeerId) -> bool {
        true
    }

    fn caller(peer: &str, address: &str) -> Caller {
        let address = Some(AddressTag::new(address).unwrap());
        Caller { peer: PeerId::new(peer).unwrap(), address }
    }

    #[test]
    fn a_step_counts_once_and_only_verified_bytes_count_again() {
        let (mut reservations, now) = (Reservations::default(), Instant::now());
        let ada = caller("ada", "here");
        reservations.begin(&ada, None, now);
        let mut step = |step| reservations.step(&ada.peer, step, now).map(|until| until - now);
        for (step_made, wait) in [
            (HandoverStep::Offered, Some(RESERVATION)),
            (HandoverStep::Offered, None),
            (HandoverStep::Connected, Some(FIRST_FRAME)),
            (HandoverStep::Offered, None),
            (HandoverStep::Connected, None),
            (HandoverStep::Delayed, Some(FIRST_FRAME)),
            (HandoverStep::Delayed, Some(FIRST_FRAME)),
            (HandoverStep::Introduced(None), Some(PROGRESS)),
            (HandoverStep::Introduced(None), None),
            (HandoverStep::Received, Some(PROGRESS)),
            (HandoverStep::Received, Some(PROGRESS)),
            (HandoverStep::Lost(RESERVATION), Some(RESERVATION + PROGRESS)),
            (HandoverStep::Lost(RESERVATION), Some(RESERVATION + PROGRESS)),
            (HandoverStep::Lost(RESERVATION), Some(RESERVATION + PROGRESS)),
            (HandoverStep::Lost(RESERVATION), None),
            (HandoverStep::Received, Some(PROGRESS)),
            (HandoverStep::Lost(RESERVATION), Some(RESERVATION + PROGRESS)),
            (HandoverStep::Complete, Some(CHECKING)),
            (HandoverStep::Delayed, None),
        ] {
            assert_eq!(step(step_made.clone()), wait, "{step_made:?}");
        }
        assert_eq!(reservations.step(&caller("bob", "x").peer, HandoverStep::Received, now), None);
    }

    #[test]
    fn a_holder_that_sends_nothing_gives_way_to_a_caller_of_better_standing() {
        let (mut reservations, start) = (Reservations::default(), Instant::now());
        let (mallory, trudy) = (caller("mallory", "there"), caller("trudy", "there"));
        let (ada, bob) = (caller("ada", "here"), caller("bob", "here"));
        // At first nobody is known to be better than anybody else.
        reservations.begin(&mallory, None, start);
        let later = start + DISPLACEMENT_GRACE;
        assert_eq!(reservations.displaceable(&ada, any, later), None);
        reservations.end(&mallory.peer, Ending::Lapsed, later);
        assert!(reservations.check(&mallory, 1, later).unwrap_err().message.contains("in 16 s"));
        // Another name at the address is served while nobody better asks.
        assert!(reservations.check(&trudy, 1, later).is_ok());
        reservations.begin(&trudy, None, later);
        let oscar = caller("oscar", "there");
        assert!(reservations.check(&oscar, 2, later).is_err(), "one at a time");
        assert!(reservations.check(&oscar, 4, later).is_ok());
        assert_eq!(reservations.displaceable(&ada, any, later), None, "it has just begun");
        let later = later + DISPLACEMENT_GRACE;
        assert_eq!(reservations.displaceable(&ada, any, later), Some(trudy.peer.clone()));
        reservations.end(&trudy.peer, Ending::Displaced, later);
        reservations.begin(&ada, Some("Ada"), later);
        assert_eq!(reservations.displaceable(&bob, any, later + DISPLACEMENT_GRACE), None);
        assert_eq!(reservations.displaceable(&mallory, any, later + DISPLACEMENT_GRACE), None);
        assert_eq!(
            reservations.holders(later + DISPLACEMENT_GRACE),
            ["Ada is connecting (for 2 s)"]
        );
    }

    #[test]
    fn a_holder_that_sends_keeps_its_slot() {
        let (mut reservations, start) = (Reservations::default(), Instant::now());
        let mallory = caller("mallory", "there");
        reservations.begin(&mallory, None, start);
        reservations.step(&mallory.peer, HandoverStep::Received, start);
        reservations.end(&mallory.peer, Ending::Stalled, start);
        let later = start + Duration::from_secs(60);
        reservations.begin(&mallory, None, later);
        reservations.step(&mallory.peer, HandoverStep::Received, later);
        assert_eq!(
            reservations.displaceable(&caller("ada", "here"), any, later + DISPLACEMENT_GRACE),
            None
        );
    }

    #[test]
    fn who_gives_a_slot_back_soon_or_loses_it_while_connecting_commits_no_fault() {
        let (soon, late) = (RELEASED_SOON, RELEASED_SOON * 2);
        for (offers, ending, held, is_fault) in [
            (false, Ending::Released, soon, false),
            (false, Ending::Released, late, true),
            (false, Ending::Displaced, soon, true),
            (true, Ending::Displaced, soon, false),
            (true, Ending::Displaced, late, true),
        ] {
            let (mut reservations, start) = (Reservations::default(), Instant::now());
            let ada = caller("ada", "here");
            reservations.begin(&ada, None, start);
            if offers {
                reservations.step(&ada.peer, HandoverStep::Offered, start);
            }
            reservations.end(&ada.peer, ending, start + held);
            let is_counted = reservations.standing.rank(&ada, start + held).has_faulty_address();
            assert_eq!(is_counted, is_fault, "{offers} {ending:?} {held:?}");
        }
    }
}
