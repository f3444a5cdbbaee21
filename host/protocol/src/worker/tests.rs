//! The slots under chosen and under random events.

use super::*;
use proptest::prelude::*;

fn peer(number: u8) -> PeerId {
    PeerId::new(format!("p{number}")).unwrap()
}

fn job(number: u8) -> JobId {
    JobId::new(format!("j{number}")).unwrap()
}

#[test]
fn a_slot_is_reserved_then_running_then_free_again() {
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
fn a_reservation_expires_on_time() {
    let (now, mut state) = (Instant::now(), WorkerState::new(1));
    let until = now + RESERVATION;
    state.apply(WorkerEvent::NewJob { peer: peer(1), until }).unwrap();
    assert_eq!(state.next_deadline(), Some(until));
    assert_eq!(state.apply(WorkerEvent::Tick { now }), Ok(WorkerStatus::Reserved));
    assert_eq!(state.apply(WorkerEvent::Tick { now: until }), Ok(WorkerStatus::Available));
    assert_eq!(state.next_deadline(), None);
}

#[test]
fn each_step_of_a_peer_extends_its_reservation_and_asking_again_does_not() {
    let (start, mut state) = (Instant::now(), WorkerState::new(1));
    let reserve = |from: Instant, wait| WorkerEvent::NewJob { peer: peer(1), until: from + wait };
    // The offer came, then the connection, and then only questions.
    state.apply(reserve(start, RESERVATION)).unwrap();
    let connected = start + Duration::from_secs(10);
    let until = connected + FIRST_FRAME;
    state.apply(WorkerEvent::Renewed { peer: peer(1), until }).unwrap();
    state.apply(reserve(connected, Duration::from_secs(3600))).unwrap();
    assert_eq!(state.expired(until), [peer(1)]);
    let stranger = WorkerEvent::Renewed { peer: peer(2), until };
    assert_eq!(state.apply(stranger), Err(Refused::NotReserved));
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
fn maintenance_takes_no_new_jobs_and_honours_reservations() {
    let (now, mut state) = (Instant::now(), WorkerState::new(2));
    let until = now + RESERVATION;
    state.apply(WorkerEvent::NewJob { peer: peer(1), until }).unwrap();
    assert_eq!(state.apply(WorkerEvent::BeginMaintenance), Ok(WorkerStatus::Maintenance));
    let new = WorkerEvent::NewJob { peer: peer(2), until };
    assert_eq!(state.apply(new.clone()), Err(Refused::Maintenance));
    assert!(state.apply(WorkerEvent::JobStarted { peer: peer(1), job: job(1) }).is_ok());
    state.apply(WorkerEvent::EndMaintenance).unwrap();
    assert!(state.apply(new).is_ok());
}

fn event(start: Instant) -> impl Strategy<Value = WorkerEvent> {
    let later = move |seconds: u8| start + Duration::from_secs(seconds.into());
    prop_oneof![
        (0..4u8, any::<u8>()).prop_map(move |(number, seconds)| WorkerEvent::NewJob {
            peer: peer(number),
            until: later(seconds)
        }),
        (0..4u8, any::<u8>()).prop_map(move |(number, seconds)| WorkerEvent::Renewed {
            peer: peer(number),
            until: later(seconds)
        }),
        (0..4u8, 0..4u8).prop_map(|(p, j)| WorkerEvent::JobStarted { peer: peer(p), job: job(j) }),
        (0..6u8, prop::option::of(0..5usize))
            .prop_map(|(number, slot)| WorkerEvent::JobFound { job: job(number), slot }),
        (0..6u8).prop_map(|number| WorkerEvent::JobEnded { job: job(number) }),
        (0..4u8).prop_map(|number| WorkerEvent::PeerGone { peer: peer(number) }),
        any::<u8>().prop_map(move |seconds| WorkerEvent::Tick { now: later(seconds) }),
        prop::collection::vec(any::<bool>(), 0..5)
            .prop_map(|usable| WorkerEvent::SlotsUsable { usable }),
        Just(WorkerEvent::BeginMaintenance),
        Just(WorkerEvent::EndMaintenance),
    ]
}

#[test]
fn a_slot_whose_gpu_is_lost_takes_no_job_while_the_others_do() {
    let (now, mut state) = (Instant::now(), WorkerState::new(2));
    let usable = |first, second| WorkerEvent::SlotsUsable { usable: vec![first, second] };
    let until = now + RESERVATION;
    let new = |number| WorkerEvent::NewJob { peer: peer(number), until };
    assert_eq!(state.apply(usable(false, true)), Ok(WorkerStatus::Available));
    assert_eq!((state.open_slots(), state.in_service(), state.is_open(0)), (1, 1, false));
    assert_eq!(state.apply(new(1)), Ok(WorkerStatus::Reserved));
    assert_eq!(state.reserved_for(&peer(1)), Some(1));
    // The reservation moves to the usable slot. Without one, the job cannot start.
    assert_eq!(state.apply(usable(true, false)), Ok(WorkerStatus::Reserved));
    assert_eq!(state.reserved_for(&peer(1)), Some(0));
    state.apply(usable(false, false)).unwrap();
    let start = WorkerEvent::JobStarted { peer: peer(1), job: job(1) };
    assert_eq!(state.apply(start.clone()), Err(Refused::OutOfService));
    state.apply(usable(true, false)).unwrap();
    assert_eq!(state.apply(start), Ok(WorkerStatus::Busy));
    // The running job continues. After it, no peer gets a slot that cannot run anything.
    assert_eq!(state.apply(usable(false, false)), Ok(WorkerStatus::Busy));
    let ended = state.apply(WorkerEvent::JobEnded { job: job(1) });
    assert_eq!(ended, Ok(WorkerStatus::Maintenance));
    assert_eq!(state.apply(new(2)), Err(Refused::OutOfService));
    assert!(state.is_idle());
    assert_eq!(state.apply(usable(true, true)), Ok(WorkerStatus::Available));
}

#[test]
fn gpus_that_are_found_later_add_slots() {
    let mut state = WorkerState::new(1);
    state.apply(WorkerEvent::SlotsUsable { usable: vec![false] }).unwrap();
    let found = |number| WorkerEvent::JobFound { job: job(number), slot: None };
    state.apply(found(1)).unwrap();
    state.apply(found(2)).unwrap();
    let grown = state.apply(WorkerEvent::SlotsUsable { usable: vec![true; 3] });
    assert_eq!((grown, state.open_slots()), (Ok(WorkerStatus::Available), 1));
    assert_eq!(state.slot_of(&job(2)), Some(1));
}

#[test]
fn slots_are_used_in_the_preferred_order() {
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
fn jobs_that_are_found_take_their_slots_and_surplus_jobs_wait() {
    let mut state = WorkerState::new(2);
    let found = |number, slot| WorkerEvent::JobFound { job: job(number), slot };
    assert_eq!(state.apply(found(1, Some(1))), Ok(WorkerStatus::Available));
    assert_eq!((state.slot_of(&job(1)), state.open_slots()), (Some(1), 1));
    assert_eq!(state.apply(found(1, Some(0))), Err(Refused::AlreadyRuns));
    // If its slot is gone or taken, it gets another.
    assert_eq!(state.apply(found(2, Some(7))), Ok(WorkerStatus::Busy));
    assert_eq!(state.apply(found(3, Some(1))), Ok(WorkerStatus::Busy));
    assert_eq!((state.slot_of(&job(3)), state.runs(&job(3))), (None, true));
    // A slot that becomes free goes to the job that waits, not to a new one.
    assert_eq!(state.apply(WorkerEvent::JobEnded { job: job(1) }), Ok(WorkerStatus::Busy));
    assert_eq!(state.slot_of(&job(3)), Some(1));
    assert_eq!(state.apply(WorkerEvent::JobEnded { job: job(2) }), Ok(WorkerStatus::Available));
}

proptest! {
    /// After any events in any order, the status matches the slots, a refused event changes nothing,
    /// no peer holds two reservations, no job starts without a slot or runs twice, no slot is added
    /// or lost, and every job is present exactly once until it ends.
    #[test]
    fn slots_stay_consistent(
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
                WorkerStatus::Available => prop_assert!(state.open_slots() > 0),
                WorkerStatus::Reserved | WorkerStatus::Busy => prop_assert_eq!(state.open_slots(), 0),
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
