//! The faults that rounds draw from, each with the phase of the job that it strikes.

use crate::plan::{Blow, Executor, FaultKind, Phase, Victim};
use support::Machine;

/// A fault, and when it strikes.
type Card = (FaultKind, Phase);

/// Phases that a fault may strike at any point.
const ALONG: [Phase; 3] = [Phase::Upload, Phase::Training, Phase::Download];
/// What may strike a job wherever it runs.
const ANYWHERE: [FaultKind; 5] = [
    FaultKind::Kill(Victim::Worker),
    FaultKind::Kill(Victim::Client),
    FaultKind::Kill(Victim::Server),
    FaultKind::Cut(Machine::Worker, 3),
    FaultKind::Cut(Machine::Client, 3),
];

/// The faults that take little time.
pub fn short(executor: Executor) -> Vec<Card> {
    let mut deck: Vec<_> =
        ANYWHERE.into_iter().flat_map(|kind| ALONG.map(|phase| (kind, phase))).collect();
    deck.extend([
        (FaultKind::Kill(Victim::Trainer), Phase::Training),
        (FaultKind::Kill(Victim::RunJob), Phase::Training),
        (FaultKind::Kill(Victim::WorkersMachine), Phase::Upload),
        (FaultKind::Kill(Victim::WorkersMachine), Phase::Training),
        (FaultKind::FullDisk(Machine::Worker), Phase::Upload),
        (FaultKind::FullDisk(Machine::Worker), Phase::Training),
        (FaultKind::FullDisk(Machine::Client), Phase::Training),
        (FaultKind::FullDisk(Machine::Client), Phase::Download),
    ]);
    deck.extend(ANYWHERE.map(|kind| (kind, Phase::Waiting)));
    deck.extend([
        (FaultKind::Kill(Victim::WorkersMachine), Phase::Waiting),
        (FaultKind::FullDisk(Machine::Worker), Phase::Waiting),
    ]);
    for phase in [Phase::Connecting, Phase::End] {
        let victims = [Victim::Worker, Victim::Client, Victim::Server];
        deck.extend(victims.map(|victim| (FaultKind::Kill(victim), phase)));
    }
    for phase in [Phase::Waiting, Phase::Training, Phase::End] {
        let daemons = [Blow::Slurmd, Blow::Slurmctld];
        deck.extend(daemons.map(|blow| (FaultKind::Cluster(blow), phase)));
    }
    deck.extend([
        (FaultKind::Cluster(Blow::Node), Phase::Training),
        (FaultKind::Cluster(Blow::Scancel), Phase::Waiting),
        (FaultKind::Cluster(Blow::Scancel), Phase::Training),
    ]);
    deck.retain(|(kind, _)| befalls(*kind, executor));
    deck
}

/// Whether a fault is one of jobs that run there.
fn befalls(kind: FaultKind, executor: Executor) -> bool {
    match kind {
        FaultKind::Cluster(_) => executor == Executor::Slurm,
        // The jobs are elsewhere.
        FaultKind::Kill(Victim::WorkersMachine) | FaultKind::FullDisk(_) => {
            executor == Executor::Machine
        }
        _ => true,
    }
}

/// The faults that last long.
pub fn long() -> Vec<Card> {
    let anywhere = [
        FaultKind::Freeze(Victim::Worker),
        FaultKind::Freeze(Victim::Client),
        FaultKind::Cut(Machine::Worker, 40),
        FaultKind::Cut(Machine::Client, 40),
    ];
    let mut deck: Vec<_> =
        anywhere.into_iter().flat_map(|kind| ALONG.map(|phase| (kind, phase))).collect();
    let in_training = [Victim::Server, Victim::Trainer, Victim::RunJob];
    deck.extend(in_training.map(|victim| (FaultKind::Freeze(victim), Phase::Training)));
    deck
}
